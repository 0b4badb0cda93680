"""The daemon's life cycle: start, background tasks, watchdog and shutdown.

Owns when the parts run and stop; ``composition`` creates them. Invariant: a background task that dies stops the daemon with an
error, because a half-dead daemon must not look alive.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from draftd.daemon.heartbeat import Heartbeat
from draftd.daemon.systemd import SystemdNotifier
from draftd.daemon.worker import Worker
from draftd.providers.holds import Holds
from draftd.providers.llm import Llm
from draftd.providers.models import Models
from draftd.queue.attempts import AttemptWriter
from draftd.queue.claims import Claims
from draftd.queue.settlements import Settler
from draftd.telemetry.metrics import Metrics
from draftd.telemetry.tracing import Tracing

log = structlog.get_logger(__name__)

TICK_S = 1.0
RELEASE_TIME_S = 10.0
"""How long aborted attempts may take to give their rows back; after that, their leases expire."""
FLUSH_TIME_S = 5.0
FIRST_BEAT_S = 5.0
"""How long a start waits for the heartbeat's connection; without it nothing is claimed."""


@dataclass(kw_only=True)
class Daemon:
    """The parts of a running daemon."""

    claims: Claims
    worker: Worker
    heartbeat: Heartbeat
    settler: Settler
    writer: AttemptWriter
    models: Models
    holds: Holds
    llm: Llm
    tracing: Tracing
    metrics: Metrics
    notifier: SystemdNotifier
    grace_s: float
    background_tasks: list[Callable[[], Awaitable[None]]]
    """Each runs until the daemon stops."""
    closers: list[Callable[[], Awaitable[None]]]
    """Called at the very end, in this order."""
    heartbeat_died: "asyncio.Future[None]"

    async def run(self, stop: asyncio.Event, *, started: Callable[[], None]) -> None:
        """Work until ``stop`` is set or the claims stop (``--drain``), then shut down.

        If ``stop`` is set already, by a signal during the start, nothing is claimed and readiness is not reported.

        Args:
            stop: ends the work.
            started: called after the first beat: every connection is open by then, unless the database has just gone away.

        Raises:
            ExceptionGroup: a part died.
        """
        first_beat = self.heartbeat.start(asyncio.get_running_loop())
        try:
            await self._wait_for_first_beat(first_beat, stop)
            if not stop.is_set():
                if not self.heartbeat_died.done():
                    started()
                    self.notifier.ready()
                await self._work(stop)
        finally:
            await self._leave()

    async def _wait_for_first_beat(self, first_beat: "asyncio.Future[None]", stop: asyncio.Event) -> None:
        stopping = asyncio.create_task(stop.wait())
        first: list[asyncio.Future[Any]] = [first_beat, self.heartbeat_died, stopping]
        await asyncio.wait(first, timeout=FIRST_BEAT_S, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()

    async def _work(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            background = [group.create_task(_forever(task)) for task in self.background_tasks]
            background.append(group.create_task(self._tick()))
            background.append(group.create_task(_wait(self.heartbeat_died)))
            claiming = group.create_task(self.claims.run())
            working = group.create_task(self.worker.run())
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            await self._drain(working, claiming)
            for task in background:
                task.cancel()

    # The shutdown. First, claiming stops: the loops that wait for work end, and the fleet and the supervisor are notified.
    # Attempts in flight then have the grace period to finish. Those still running after it are cancelled, and each gives its row
    # back without counting the attempt, so that another daemon can claim it at once. Pending settlements and usage are written.
    # The heartbeat reports this worker as stopped only then: until that moment it renews, so that no reaper takes a row that is
    # being settled. Traces are flushed for a bounded time. A second signal ends the process at once; the reaper takes what it
    # held when the leases expire.
    async def _drain(self, working: "asyncio.Task[None]", claiming: "asyncio.Task[None]") -> None:
        self.notifier.stopping()
        self.notifier.status("draining")
        self.claims.stop()
        self.heartbeat.set_state("draining")
        if self.worker.in_flight:
            log.info("waiting for attempts in flight", in_flight=self.worker.in_flight, grace_s=self.grace_s)
        await asyncio.wait([working], timeout=self.grace_s)
        self.worker.abort_all()
        await asyncio.wait([working, claiming], timeout=RELEASE_TIME_S)
        for task in (working, claiming):
            if not task.done():
                task.cancel()
        if self.worker.in_flight:
            log.error("left rows; their leases will expire", in_flight=self.worker.in_flight)

    async def _leave(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_TIME_S):
                await self.writer.flush()
                await self.settler.flush()
        self.heartbeat.set_state("stopped")
        await asyncio.to_thread(self.heartbeat.join, FLUSH_TIME_S)
        await asyncio.to_thread(self.tracing.shutdown, time_s=FLUSH_TIME_S)
        await asyncio.to_thread(self.metrics.close)
        await self.llm.aclose()
        for close in self.closers:
            await close()
        log.info("stopped")

    async def _tick(self) -> None:
        """Show the heartbeat and the supervisor that the event loop is alive."""
        interval_s = min(TICK_S, (self.notifier.watchdog_s or TICK_S * 2) / 2)
        shown = ""
        while True:
            self.heartbeat.tick()
            self.notifier.alive()
            held = "".join(f"; {model} on hold: {code}" for model, code in self.holds.codes().items())
            status = f"{self.worker.in_flight} in flight{held}"
            if status != shown:
                self.notifier.status(status)
                shown = status
            await asyncio.sleep(interval_s)


async def _forever(task: Callable[[], Awaitable[None]]) -> None:
    await task()
    raise RuntimeError(f"a background task ended unexpectedly: {task}")


async def _wait(future: "asyncio.Future[None]") -> None:
    await future
