"""The worker: N claim loops, and the drain.

A claim loop takes a claimed row, runs it as a task of its own, and settles what came of it. The task is its own so that it can
be aborted (its lease is lost, a client cancelled it, the grace of a shutdown is over) while the loop lives on to settle.
"""

import asyncio
import time
from dataclasses import dataclass
from enum import Enum
from typing import Any

import structlog

from draftd.errors import InternalError, LeaseLost, RequestCancelled, RowRefused
from draftd.providers.failure_policy import judge, outcome_of
from draftd.queue.attempts import Scribe
from draftd.queue.claims import Claims
from draftd.queue.leases import Held, Leases
from draftd.queue.outcome import Done, Outcome, Release
from draftd.queue.settlements import NotSettledYet, Settled, Settler, Trail
from draftd.reply.drafter import AttemptResult, Drafter
from draftd.request import Claim
from draftd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)


class Abort(Enum):
    """Why a running attempt is ended from outside."""

    LEASE_LOST = "lease_lost"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    SHUTDOWN = "shutdown"


@dataclass(slots=True)
class _Running:
    claim: Claim
    task: "asyncio.Task[AttemptResult]"
    began: float
    abort: Abort | None = None


class Worker:
    """Runs claimed requests, ``concurrency`` at a time.

    Args:
        claims: where claimed rows come from.
        drafter: turns a claim into an outcome.
        settler: writes outcomes.
        scribe: writes usage, which an outcome waits for.
        leases: what this process holds.
        metrics: what is counted.
        concurrency: the number of claim loops.
    """

    def __init__(
        self,
        *,
        claims: Claims,
        drafter: Drafter,
        settler: Settler,
        scribe: Scribe,
        leases: Leases,
        metrics: Metrics,
        concurrency: int,
    ) -> None:
        self._claims = claims
        self._drafter = drafter
        self._settler = settler
        self._scribe = scribe
        self._leases = leases
        self._metrics = metrics
        self._concurrency = concurrency
        self._running: dict[Held, _Running] = {}
        self._loops: asyncio.TaskGroup | None = None
        self._waiting = 0

    @property
    def in_flight(self) -> int:
        """How many attempts run right now."""
        return len(self._running)

    async def run(self) -> None:
        """Run the claim loops until the claims stop and everything in flight is settled."""
        async with asyncio.TaskGroup() as loops:
            self._loops = loops
            for number in range(self._concurrency):
                loops.create_task(self._loop(), name=f"claim-loop-{number}")

    def abort_lost(self, lost: set[Held]) -> None:
        """Abort the attempts whose rows are no longer held."""
        for held in lost & self._running.keys():
            self._abort(self._running[held], Abort.LEASE_LOST)

    def abort_cancelled(self, cancelled: set[Held]) -> None:
        """Abort the attempts whose requests their clients cancelled."""
        for held in cancelled & self._running.keys():
            self._abort(self._running[held], Abort.CANCELLED)

    def abort_refused(self, refused: set[Held]) -> None:
        """End the attempts whose rows the server refuses to renew."""
        for held in refused & self._running.keys():
            self._abort(self._running[held], Abort.REFUSED)

    def abort_all(self) -> None:
        """Abort every attempt; each gives its row back with its attempt unspent."""
        for running in self._running.values():
            self._abort(running, Abort.SHUTDOWN)

    async def _loop(self) -> None:
        while (claim := await self._claims.next()) is not None:
            await self._work(claim)

    async def _work(self, claim: Claim) -> None:
        task = asyncio.create_task(self._drafter.draft(claim), name=f"attempt-{claim.id}")
        running = _Running(claim, task, time.monotonic())
        held = (claim.id, claim.lease_token)
        self._running[held] = running
        self._metrics.in_flight(len(self._running))
        is_over = True
        try:
            # Whoever cancels this wait does not cancel the attempt.
            await asyncio.wait({task})
            is_over = await self._settle(running, waits_out=self._waiting >= self._concurrency)
        finally:
            # Only where this loop itself is cancelled, because another part of the daemon died, does it still run.
            task.cancel()
            if is_over:
                self._forget(running)
        if not is_over and self._loops is not None:
            # The outcome is kept, and tried again beside the loop: other rows must go on, if only to tell whose fault it is.
            self._waiting += 1
            self._loops.create_task(self._settle_later(running), name=f"settlement-{claim.id}")

    async def _settle_later(self, running: _Running) -> None:
        try:
            await self._settle(running, waits_out=True)
        finally:
            self._waiting -= 1
            self._forget(running)

    def _forget(self, running: _Running) -> None:
        held = (running.claim.id, running.claim.lease_token)
        del self._running[held]
        self._leases.drop(*held)
        self._metrics.in_flight(len(self._running))

    async def _settle(self, running: _Running, *, waits_out: bool) -> bool:
        """Settle what came of an attempt; return whether that is over, which without ``waits_out`` it may not be."""
        claim = running.claim
        if not await self._scribe.recorded(claim, waits_out=waits_out):
            return False
        try:
            outcome, trail = _result(running)
            settled = await self._settler.settle(claim, outcome, trail, waits_out=waits_out)
        except RequestCancelled:
            log.info("request cancelled", request_id=claim.id, attempt=claim.attempt)
            return True
        except LeaseLost:
            self._metrics.lease_lost()
            log.warning("lease lost", request_id=claim.id, attempt=claim.attempt)
            return True
        except NotSettledYet:
            return False
        self._report(running, outcome, settled)
        return True

    def _abort(self, running: _Running, reason: Abort) -> None:
        # A finished task is being settled: its outcome counts, and the fence judges it.
        if running.abort is None and not running.task.done():
            running.abort = reason
            running.task.cancel()

    def _report(self, running: _Running, outcome: Outcome, settled: Settled) -> None:
        claim, elapsed_s = running.claim, time.monotonic() - running.began
        facts: dict[str, Any] = {}
        if settled.code is not None:
            facts = {"code": settled.code}
        elif isinstance(outcome, Done):
            facts = {"platform": outcome.draft.result.get("platform"), "model": outcome.model}
        if settled.status in {"completed", "failed"}:
            self._metrics.request_finished(status=settled.status, code=settled.code, elapsed_s=elapsed_s)
        log.info(
            "settled",
            request_id=claim.id,
            attempt=claim.attempt,
            status=settled.status,
            elapsed_s=round(elapsed_s, 2),
            **facts,
        )


def _result(running: _Running) -> AttemptResult:
    """Return what an ended attempt came to.

    Raises:
        LeaseLost: it was aborted because the row is no longer ours, or its client cancelled it.
    """
    if not running.task.cancelled():
        return running.task.result()
    match running.abort:
        case Abort.LEASE_LOST:
            raise LeaseLost
        case Abort.CANCELLED:
            raise RequestCancelled
        case Abort.SHUTDOWN:
            return AttemptResult(Release(), Trail())
        case Abort.REFUSED:
            error: InternalError = RowRefused("the database refused to renew this request")
        case None:
            # Whoever cancelled it, it was not the worker: given back for nothing it would come again at once, for ever.
            error = InternalError("the attempt was cancelled from within")
    return AttemptResult(outcome_of(error, judge(error, running.claim)), Trail())
