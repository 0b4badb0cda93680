"""The composition root: builds a daemon from the settings, runs it, and returns its exit code.

Owns which parts there are and how they are wired; does none of the daemon's work itself.
"""

import asyncio
import gc
import os
import signal
import socket
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from draftd import __version__, db
from draftd.daemon.bookkeeper import Bookkeeper
from draftd.daemon.gauges import Gauges
from draftd.daemon.heartbeat import Beat, Heartbeat, Identity
from draftd.daemon.hold_cleaner import HoldCleaner
from draftd.daemon.lifecycle import Daemon
from draftd.daemon.limit_keeper import LimitKeeper
from draftd.daemon.liveness import Liveness
from draftd.daemon.parts import INPUT_BUDGET_BYTES, default_choice, image_headers, image_loader, probe_s, tracing_of
from draftd.daemon.plan import Links, Plan, check_schema, listen_works, open_links
from draftd.daemon.pruner import Pruner
from draftd.daemon.reaper import Reaper
from draftd.daemon.scorer import Scorer
from draftd.daemon.systemd import SystemdNotifier
from draftd.daemon.worker import Worker
from draftd.db import dsn
from draftd.errors import EXIT_TRY_AGAIN, CommandError, ConfigurationError, LeaseLost
from draftd.images import ByteBudget, ImageLoader
from draftd.images.gate import AllowList
from draftd.providers.holds import Holds
from draftd.providers.llm import Llm
from draftd.providers.models import WAITING, Models
from draftd.providers.permits import Permits
from draftd.providers.reservations import Reservations, unpriced_advice
from draftd.providers.throttles import Throttles
from draftd.queue.admission import Admission
from draftd.queue.attempts import AttemptWriter
from draftd.queue.claiming import Claimer, ClaimTerms
from draftd.queue.claims import Claims
from draftd.queue.leases import Leases
from draftd.queue.outcome import GiveBack
from draftd.queue.refused_rows import Quarantine
from draftd.queue.settlements import NotSettledYet, Settler
from draftd.reply import language
from draftd.reply.agents import load_agents, packaged_directory
from draftd.reply.drafter import Drafter
from draftd.reply.fallback import ModelFallback
from draftd.reply.inputs import InputReader
from draftd.reply.kept_pictures import PictureStore
from draftd.reply.metered_call import MeteredCalls
from draftd.request import Claim
from draftd.settings import Settings, environment_value
from draftd.signals import stop_signals
from draftd.streams import exit_at_once
from draftd.telemetry.metrics import Metrics
from draftd.telemetry.tracing import Tracing

log = structlog.get_logger(__name__)

EXIT_DIED = 1


async def serve(settings: Settings, *, concurrency: int, drain: bool) -> int:
    """Run the daemon until a signal, or with ``drain`` until nothing is claimable.

    Returns:
        The exit code: 0; 75 if a drain left rows that wait on a hold; 1 if a task died.

    Raises:
        CommandError: the daemon cannot start.
    """
    stop = _stop_on_signals()
    url = settings.require_database_url()
    # Report invalid settings now rather than after litellm's import.
    AllowList.parse(settings.allow_private_image_hosts)
    image_headers(settings)
    Permits.of(settings, environment_value)
    agents = load_agents(settings.prompts_dir or packaged_directory())
    await check_schema(url)

    async def connected() -> tuple[Plan, Links]:
        listens = await listen_works(settings)
        plan = Plan(settings=settings, agents=agents, concurrency=concurrency, drain=drain, listens=listens)
        return plan, await open_links(plan)

    (plan, links), llm, tracing, _ = await asyncio.gather(
        connected(),
        asyncio.to_thread(Llm.load),
        asyncio.to_thread(tracing_of, settings),
        asyncio.to_thread(language.load),
    )
    try:
        daemon = await build(plan, links, llm, tracing)
    except CommandError:
        await links.close()
        raise
    # What the imports created is never freed. Scanning litellm's 300,000 objects took the collector 0.9 s on a busy machine, and
    # stopped every call and renewal for that time.
    gc.freeze()

    def started() -> None:
        log.info("started", version=__version__, concurrency=concurrency, agents=sorted(agents), listen=plan.listens)

    try:
        await daemon.run(stop, started=started)
    except ExceptionGroup:  # the process boundary: the cause goes to the log, redacted
        log.exception("a daemon task died")
        return EXIT_DIED
    return EXIT_TRY_AGAIN if drain and await _rows_wait(plan.url, daemon.models.held_agents()) else 0


async def _rows_wait(url: dsn.Url, agents: list[str]) -> bool:
    async with db.connected(url) as connection:
        return bool(await (await connection.execute(WAITING.encode(), {"agents": agents})).fetchall())


def _stop_on_signals() -> asyncio.Event:
    """Return an event that the first SIGTERM, SIGINT or SIGHUP sets; a second SIGTERM or SIGINT ends the process at once."""
    stop = asyncio.Event()

    def received(number: signal.Signals) -> None:
        if not stop.is_set():
            log.info("draining", signal=number.name)
            stop.set()
        elif number is not signal.SIGHUP:  # when a terminal closes, its shell and the kernel both send one
            try:
                log.warning("exited at once", signal=number.name)
            finally:
                exit_at_once(128 + number)

    for number in stop_signals():
        asyncio.get_running_loop().add_signal_handler(number, received, number)
    return stop


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """What more than one part uses."""

    plan: Plan
    identity: Identity
    links: Links
    admission: Admission
    leases: Leases
    quarantine: Quarantine
    holds: Holds
    models: Models
    settler: Settler
    writer: AttemptWriter
    reservations: Reservations
    metrics: Metrics
    tracing: Tracing


async def build(plan: Plan, links: Links, llm: Llm, tracing: Tracing) -> Daemon:
    """Wire the parts together, register the worker with a first beat, and listen for health checks.

    Raises:
        ConfigurationError: no agent has a model, or the metrics port is taken.
        DatabaseUnavailable: the first beat failed.
    """
    shared = _shared(plan, links, tracing)
    loader = image_loader(plan.settings)
    claims = _claims(shared)
    worker = Worker(
        claims=claims,
        drafter=_drafter(shared, llm, loader),
        settler=shared.settler,
        writer=shared.writer,
        leases=shared.leases,
        metrics=shared.metrics,
        concurrency=plan.concurrency,
    )
    died: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    heartbeat = await _heartbeat(shared, worker, died)
    await _check_start(shared, heartbeat, llm)
    liveness = Liveness(facts=lambda: {"in_flight": worker.in_flight, "database": links.keeper.state()})
    await liveness.listen()
    return Daemon(
        claims=claims,
        worker=worker,
        heartbeat=heartbeat,
        settler=shared.settler,
        writer=shared.writer,
        models=shared.models,
        holds=shared.holds,
        llm=llm,
        tracing=tracing,
        metrics=shared.metrics,
        notifier=SystemdNotifier(
            address=environment_value("NOTIFY_SOCKET"), watchdog_usec=environment_value("WATCHDOG_USEC")
        ),
        grace_s=plan.settings.shutdown_grace_s,
        background_tasks=_background_tasks(shared),
        closers=[loader.aclose, links.close, liveness.aclose],
        heartbeat_died=died,
    )


def _shared(plan: Plan, links: Links, tracing: Tracing) -> _Shared:
    identity, throttles = _identity(plan), Throttles(link=links.maintenance)
    holds, quarantine = Holds(link=links.maintenance, throttles=throttles, probe_s=probe_s(plan.settings)), Quarantine()
    reservations = Reservations(link=links.maintenance, worker_id=identity.worker_id)
    return _Shared(
        plan=plan,
        identity=identity,
        links=links,
        admission=Admission(link=links.claim),
        leases=Leases(),
        quarantine=quarantine,
        holds=holds,
        models=Models(
            holds=holds,
            throttles=throttles,
            agents=identity.agents,
            default=default_choice(plan.settings),
            permits=Permits.of(plan.settings, environment_value),
            getenv=environment_value,
            is_budget_used_up=lambda: reservations.budgets.fleet_is_used_up,
        ),
        settler=Settler(link=links.settle, quarantine=quarantine),
        writer=AttemptWriter(link=links.settle, quarantine=quarantine),
        reservations=reservations,
        metrics=Metrics(),
        tracing=tracing,
    )


def _drafter(shared: _Shared, llm: Llm, loader: ImageLoader) -> Drafter:
    calls = MeteredCalls(
        llm=llm,
        reservations=shared.reservations,
        writer=shared.writer,
        tracing=shared.tracing,
        metrics=shared.metrics,
        model_timeout_s=shared.plan.settings.model_timeout_s,
    )
    return Drafter(
        agents=shared.plan.agents,
        models=shared.models,
        holds=shared.holds,
        pictures=PictureStore(link=shared.links.read),
        inputs=InputReader(link=shared.links.read, budget=ByteBudget(INPUT_BUDGET_BYTES), loader=loader),
        fallback=ModelFallback(
            calls=calls, models=shared.models, holds=shared.holds, writer=shared.writer, metrics=shared.metrics
        ),
        tracing=shared.tracing,
    )


def _claims(shared: _Shared) -> Claims:
    settings = shared.plan.settings

    async def release(claim: Claim) -> None:
        # If its client has cancelled it, there is nothing to give back. A refused or locked row is left to the reaper.
        with suppress(LeaseLost, NotSettledYet):
            await shared.settler.settle(claim, GiveBack(), retry_refusals=False)
        shared.leases.drop(*claim.key)

    terms = ClaimTerms(
        worker_id=shared.identity.worker_id,
        lease_s=settings.lease_s,
        attempt_s=settings.attempt_timeout_s,
    )
    return Claims(
        link=shared.links.claim,
        claimer=Claimer(link=shared.links.claim, terms=terms, quarantine=shared.quarantine),
        source=shared.models,
        admission=shared.admission,
        leases=shared.leases,
        wakeup=shared.links.wakeup,
        release=release,
        concurrency=shared.plan.concurrency,
        poll_interval_s=shared.plan.poll_interval_s,
        drain=shared.plan.drain,
        ready=shared.links.keeper.is_complete,
    )


async def _heartbeat(shared: _Shared, worker: Worker, died: "asyncio.Future[None]") -> Heartbeat:
    def on_beat(beat: Beat) -> None:
        shared.links.keeper.resume_if_complete()
        worker.abort_lost(beat.lost)
        worker.abort_cancelled(beat.cancelled)
        worker.abort_refused(beat.refused)
        shared.admission.is_needed = beat.has_limits
        has_room_again = shared.reservations.update(beat.budgets)
        if (
            shared.models.update(beat.catalog, beat.holds, beat.throttles, beat.pauses, as_of=beat.began)
            or has_room_again
        ):
            shared.links.wakeup.set()
        shared.metrics.budget(usd_per_day=beat.budgets.fleet_usd, used=beat.budgets.fleet_used)
        shared.metrics.holds(shared.holds.codes().items())

    heartbeat = Heartbeat(
        url=shared.plan.url,
        session=shared.plan.session,
        identity=shared.identity,
        leases=shared.leases,
        quarantine=shared.quarantine,
        lease_s=shared.plan.settings.lease_s,
        on_beat=on_beat,
        on_death=died.set_exception,
        models=shared.models.published,
    )
    on_beat(await heartbeat.first_beat(shared.links.first_beat))
    shared.links.keeper.heartbeat_trouble = lambda: heartbeat.trouble
    return heartbeat


async def _check_start(shared: _Shared, heartbeat: Heartbeat, llm: Llm) -> None:
    """Check what the first beat reported; deregister a worker that may not start."""
    try:
        _check_models(shared.models, shared.identity.agents)
        _check_prices(shared, llm)
        if shared.plan.settings.metrics_port is not None:
            shared.metrics.serve(shared.plan.settings.metrics_host, shared.plan.settings.metrics_port)
    except ConfigurationError:
        # Report the reason even if the database has gone away.
        with suppress(CommandError):
            await heartbeat.deregister()
        raise


def _background_tasks(shared: _Shared) -> list[Callable[[], Awaitable[None]]]:
    settings = shared.plan.settings
    reaper = Reaper(
        link=shared.links.maintenance,
        lease_s=settings.lease_s,
        interval_s=settings.reap_interval_s,
        metrics=shared.metrics,
        quarantine=shared.quarantine,
    )
    bookkeeper = Bookkeeper(
        link=shared.links.maintenance,
        reservations=shared.reservations,
        unpayable_agents=shared.models.unpayable_agents,
        metrics=shared.metrics,
        lease_s=settings.lease_s,
        interval_s=settings.reap_interval_s,
    )
    holds = HoldCleaner(link=shared.links.maintenance, names=shared.models.names, needed=shared.models.are_limited)
    limits = LimitKeeper(
        link=shared.links.maintenance,
        worker_id=shared.identity.worker_id,
        interval_s=settings.reap_interval_s,
        needed=lambda: shared.admission.is_needed,
    )
    tasks: list[Callable[[], Awaitable[None]]] = [
        reaper.run,
        bookkeeper.run,
        shared.links.keeper.run,
        holds.run,
        limits.run,
    ]
    if shared.links.listener is not None:
        tasks.append(shared.links.listener.run)
    if settings.metrics_port is not None:
        tasks.append(Gauges(link=shared.links.maintenance, metrics=shared.metrics).run)
    if shared.tracing.takes_scores:
        tasks.append(Scorer(link=shared.links.maintenance, tracing=shared.tracing).run)
    prunes = db.Link(url=shared.plan.url, name="draftd prune", session=shared.plan.session)
    return [*tasks, Pruner(reads=shared.links.maintenance, link=prunes, quarantine=shared.quarantine).run]


def _identity(plan: Plan) -> Identity:
    return Identity(
        worker_id=uuid.uuid4(),
        hostname=socket.gethostname(),
        pid=os.getpid(),
        version=__version__,
        agents=tuple(sorted(plan.agents)),
        concurrency=plan.concurrency,
        attempt_s=plan.settings.attempt_timeout_s,
    )


def _check_prices(shared: _Shared, llm: Llm) -> None:
    if not shared.reservations.budgets.are_any:
        return
    for target in shared.models.all_targets():
        if not llm.has_known_price(target):
            raise ConfigurationError(f"{target.name}: {unpriced_advice(target.name)}")


def _check_models(models: Models, agents: tuple[str, ...]) -> None:
    without = models.agents_without_model()
    if len(without) == len(agents):
        raise ConfigurationError("no model is configured: set DRAFTD_MODEL, or use `draftd agents set AGENT NAME`")
    for agent in without:
        log.warning("agent has no model", agent=agent)
