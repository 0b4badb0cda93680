"""The heartbeat: renews every lease of this process, from its own thread, event loop and connection.

A slow callback on the daemon's event loop must not make the process look dead, so beats do not depend on that loop. But if it has
not ticked for ``LOOP_DEAD_S``, the thread ends the process: renewing would only keep other daemons from doing the work. The
heartbeat is the last part to stop in a shutdown. A beat is one statement: it renews leases, writes this worker's row, and reads
the models' configuration, holds and pauses. Neither a lease that the server refuses to renew nor a refused worker row keeps
other leases from being renewed.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
import structlog
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from draftd import db
from draftd.backoff import Backoff
from draftd.db import dsn
from draftd.db.sqlstate import is_schema_mismatch, told_to_log
from draftd.providers.catalog import Catalog
from draftd.providers.reservations import Budgets
from draftd.queue.leases import BEAT, BEATS_PER_LEASE, RENEW, RENEW_AND_BEAT, LeaseKey, Leases
from draftd.queue.refused_rows import Quarantine, Refusals, execute_in_parts
from draftd.queue.trials import Precondition, Trial
from draftd.sanitize import redact
from draftd.streams import exit_at_once

log = structlog.get_logger(__name__)

LOOP_DEAD_S = 60.0
EXIT_LOOP_DEAD = 1
FINAL_BEAT_TRIES = 3
"""The connection may have been lost unnoticed since the previous beat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who this process is; a fresh id per start."""

    worker_id: UUID
    hostname: str
    pid: int
    version: str
    agents: tuple[str, ...]
    concurrency: int
    attempt_s: float
    """The longest attempt, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """The result of one beat."""

    began: float
    """When it was sent, by ``time.monotonic``; its facts are at least as recent."""
    lost: set[LeaseKey]
    """Leases that are no longer held, except those that a client cancelled."""
    cancelled: set[LeaseKey]
    """Leases whose client cancelled the request."""
    catalog: Catalog
    refused: set[LeaseKey]
    """Leases that cannot be renewed because the server refuses their row."""
    holds: list[dict[str, Any]]
    throttles: list[dict[str, Any]]
    pauses: list[dict[str, Any]]
    has_limits: bool
    """Whether any requester is limited or paused, or any row still waits because of that."""
    budgets: Budgets


class Heartbeat:
    """Renews the leases of this process.

    Args:
        url: the database.
        session: whether connections there are sessions.
        identity: this worker.
        leases: the leases to renew.
        quarantine: the rows that this process leaves alone.
        lease_s: how long a renewal lasts, in seconds; beats are a third of it apart.
        on_beat: called on the daemon's event loop with the result of each beat.
        models: returns by agent and model whether this process can call it, for others to see; called on the thread.
        on_death: called once, on the daemon's event loop, if the thread dies of a defect or ``on_beat`` raises.
    """

    def __init__(
        self,
        *,
        url: dsn.Url,
        session: bool,
        identity: Identity,
        leases: Leases,
        quarantine: Quarantine,
        lease_s: float,
        on_beat: Callable[[Beat], None],
        on_death: Callable[[BaseException], None],
        models: Callable[[], Mapping[str, Mapping[str, bool]]] = dict,
    ) -> None:
        self._url = url
        self._session = session
        self._identity = identity
        self._leases = leases
        self._refusals = Refusals(verb="renew", quarantine=quarantine)
        self._lease_s = lease_s
        self._on_beat = on_beat
        self._on_death = on_death
        self._models = models
        self._is_dead = False
        self._state = "running"
        self._last_tick = time.monotonic()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._own_loop: asyncio.AbstractEventLoop | None = None
        self._now = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._first_received: asyncio.Future[None] | None = None
        self._beat_with_renewals = True
        self._is_beat_refused = False
        self.trouble: str | None = "no heartbeat yet"
        """Why the last beat of the thread did not reach the database; None when it did."""

    async def first_beat(self, link: db.Link | None = None) -> Beat:
        """Beat once on the daemon's loop, before there is anything to renew: write the worker's row, read the configuration.

        Args:
            link: the connection to use, closed afterwards; a new one if None.

        Raises:
            DatabaseUnavailable: the database cannot be reached.
            ConfigurationError: this database user may not beat.
        """
        link = link or self._link()
        try:
            with db.translate_errors(self._url):
                return await self._beat(link, strict=True)
        finally:
            await link.close()

    async def deregister(self) -> None:
        """Beat once as ``stopped``, instead of ``start``.

        Raises:
            CommandError: as in ``first_beat``.
        """
        self._state = "stopped"
        await self.first_beat()

    def start(self, loop: asyncio.AbstractEventLoop) -> "asyncio.Future[None]":
        """Start beating; return a future that is done once the daemon's event loop has received the first beat."""
        self._loop = loop
        self._first_received = loop.create_future()
        self.tick()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()
        return self._first_received

    def tick(self) -> None:
        """Show that the event loop is alive; call it from there every second."""
        self._last_tick = time.monotonic()

    def set_state(self, state: str) -> None:
        """Beat at once with this state: ``draining`` or ``stopped``; after ``stopped`` the thread ends."""
        self._state = state
        if self._own_loop is not None:
            with suppress(RuntimeError):  # closed: the thread has ended
                self._own_loop.call_soon_threadsafe(self._now.set)

    def join(self, at_most_s: float) -> None:
        """Wait for the thread's end."""
        if self._thread is not None:
            self._thread.join(at_most_s)

    def _run(self) -> None:
        try:
            asyncio.run(self._beat_until_stopped())
        except BaseException as error:  # noqa: BLE001  # the thread's boundary: its death must stop the daemon
            self._call_on_loop(self._die, error)

    async def _beat_until_stopped(self) -> None:
        self._own_loop = asyncio.get_running_loop()
        interval_s = self._lease_s / BEATS_PER_LEASE
        link, backoff = self._link(), Backoff(base_s=0.2, cap_s=interval_s)
        try:
            while True:
                # While the database is away, try more often than a renewal is due.
                state, delay_s = self._state, interval_s
                if await self._try_beat(link):
                    backoff.reset()
                else:
                    delay_s = backoff.next_s()
                if state == "stopped" and not 0 < backoff.failures < FINAL_BEAT_TRIES:
                    break
                await self._pause(delay_s)
                self._exit_if_loop_is_dead()
        finally:
            await link.close()

    async def _pause(self, at_most_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                await self._now.wait()
        self._now.clear()

    async def _try_beat(self, link: db.Link) -> bool:
        try:
            beat = await self._beat(link)
        except (*db.LOST, psycopg.Error) as error:
            if isinstance(error, psycopg.Error) and is_schema_mismatch(error):
                raise
            self.trouble = redact(str(error) or type(error).__name__)
            log.warning("heartbeat missed", error=self.trouble)
            return False
        self.trouble = None
        self._call_on_loop(self._receive, beat)
        return True

    async def _beat(self, link: db.Link, *, strict: bool = False) -> Beat:
        began, held = time.monotonic(), list(self._leases.snapshot())
        # After a failed beat, renew on its own first: whatever blocks the worker's row (a lock, say) must not block renewals.
        statement, self._beat_with_renewals = RENEW_AND_BEAT if self._beat_with_renewals else RENEW, False
        refused: set[LeaseKey] = set()
        try:
            rows = [await self._renew(link, held, statement, in_flight=len(held))]
            self._refusals.accepted(rows[0]["renewed"])
        except psycopg.Error as error:
            if is_schema_mismatch(error) or strict:
                raise
            statement = RENEW
            rows, refused = await self._renew_in_parts(link, held, began)
        self._beat_with_renewals = statement == RENEW_AND_BEAT or await self._beat_alone(link, in_flight=len(held))
        lost = {(UUID(request_id), token): status for row in rows for request_id, token, status in row["lost"]}
        cancelled = {held for held, status in lost.items() if status == "cancelled"}
        last = rows[-1]
        return Beat(
            began=began,
            lost=lost.keys() - cancelled,
            cancelled=cancelled,
            refused=refused,
            catalog=Catalog.read(last["agents"], last["models"]),
            holds=last["holds"],
            throttles=last["throttles"],
            pauses=last["pauses"],
            has_limits=last["has_limits"],
            budgets=Budgets.of(last["budgets"]),
        )

    async def _renew_in_parts(
        self, link: db.Link, held: list[LeaseKey], began: float
    ) -> tuple[list[DictRow], set[LeaseKey]]:
        """Renew what can be renewed; return the answers, and the leases whose own row is at fault."""

        async def renew(some: Sequence[LeaseKey]) -> DictRow:
            return await self._renew(link, some, RENEW, in_flight=len(held))

        async def renew_it(execute: db.Execute, another: LeaseKey) -> bool:
            (row,) = await execute(RENEW, self._renewal([another], in_flight=len(held)))
            return bool(row["renewed"])

        parts = await execute_in_parts(held, renew, began=began)
        rows = [row for _, row in parts.answered]
        passed = [row_id for row in rows for row_id in row["renewed"]]
        trial = Trial(before=Precondition.HELD, change=renew_it)
        own = await self._refusals.at_fault(link, parts.refused, passed=passed, trial=trial)
        for one, refusal in parts.refused:
            log.warning("renewal refused", request_id=one[0], sqlstate=refusal.sqlstate)
        return rows or [await renew([])], own

    async def _beat_alone(self, link: db.Link, *, in_flight: int) -> bool:
        """Write this worker's row; return whether the server accepted it. Log only the first refusal in a row."""
        time_s = max(1.0, self._lease_s / BEATS_PER_LEASE / 2)
        try:
            await link.run_within(BEAT, self._renewal([], in_flight=in_flight), time_s=time_s)
        except (*db.LOST, psycopg.Error) as error:
            if isinstance(error, psycopg.Error) and is_schema_mismatch(error):
                raise
            if not self._is_beat_refused:
                log.warning("beat refused", sqlstate=getattr(error, "sqlstate", None), error=told_to_log(error))
            self._is_beat_refused = True
            return False
        self._is_beat_refused = False
        return True

    async def _renew(self, link: db.Link, some: Sequence[LeaseKey], statement: str, *, in_flight: int) -> DictRow:
        (row,) = await link.run(statement, self._renewal(some, in_flight=in_flight))
        return row

    def _renewal(self, some: Sequence[LeaseKey], *, in_flight: int) -> db.Row:
        me = self._identity
        return {
            "ids": [request_id for request_id, _ in some],
            "tokens": [token for _, token in some],
            "lease_s": self._lease_s,
            "worker_id": me.worker_id,
            "hostname": me.hostname,
            "pid": me.pid,
            "version": me.version,
            "state": self._state,
            "agents": list(me.agents),
            "concurrency": me.concurrency,
            "beat_s": self._lease_s / BEATS_PER_LEASE,
            "attempt_s": me.attempt_s,
            "models": Jsonb(self._models()),
            "in_flight": in_flight,
        }

    def _link(self) -> db.Link:
        # Give up after half a lease: that leaves time for a new connection and another beat.
        time_s = max(1.0, self._lease_s / 2 - db.CANCEL_S)
        return db.Link(url=self._url, name="draftd heartbeat", session=self._session, time_s=time_s)

    def _receive(self, beat: Beat) -> None:
        try:
            self._on_beat(beat)
        except Exception as error:  # noqa: BLE001  # the event loop would only log it, and lost leases would go unnoticed
            self._die(error)
            return
        if self._first_received is not None and not self._first_received.done():
            self._first_received.set_result(None)

    def _die(self, error: BaseException) -> None:
        if not self._is_dead:
            self._is_dead = True
            self._on_death(error)

    def _call_on_loop(self, callback: Callable[[Any], None], value: object) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, value)

    def _exit_if_loop_is_dead(self) -> None:
        silent_s = time.monotonic() - self._last_tick
        if silent_s > LOOP_DEAD_S:
            try:
                log.critical("the event loop is dead", silent_s=round(silent_s))
            finally:
                exit_at_once(EXIT_LOOP_DEAD)
