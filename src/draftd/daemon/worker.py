"""The worker: N claim loops.

A claim loop takes a claimed row, runs the attempt in a separate task, and settles its outcome. The separate task can be aborted
(lease lost, request cancelled, end of the shutdown's grace period) while the loop goes on to settle. The attempt's trace is sent
once its outcome is stored: an attempt whose request was deleted leaves nothing outside the database.
"""

import asyncio
import time
from dataclasses import dataclass
from enum import Enum
from typing import Any

import structlog

from draftd.errors import InternalError, LeaseLost, RequestCancelled, RowRefused
from draftd.providers.failure_policy import judge, outcome_of
from draftd.queue.attempts import AttemptWriter
from draftd.queue.claims import Claims
from draftd.queue.leases import LeaseKey, Leases
from draftd.queue.outcome import Done, GiveBack, Outcome
from draftd.queue.settlements import NotSettledYet, Settled, Settler, Trail
from draftd.reply.drafter import AttemptResult, Drafter
from draftd.request import Claim
from draftd.telemetry.metrics import Metrics
from draftd.telemetry.tracing import HeldTrace

log = structlog.get_logger(__name__)


class Abort(Enum):
    """Why a running attempt is aborted."""

    LEASE_LOST = "lease_lost"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    SHUTDOWN = "shutdown"


@dataclass(slots=True)
class _Running:
    claim: Claim
    task: "asyncio.Task[AttemptResult]"
    began: float
    trace: HeldTrace
    abort: Abort | None = None


class Worker:
    """Runs claimed requests, ``concurrency`` at a time.

    Args:
        claims: where claimed rows come from.
        drafter: turns a claim into an outcome.
        settler: writes outcomes.
        writer: writes usage, which settlements wait for.
        leases: the leases of this process.
        metrics: counts outcomes.
        concurrency: the number of claim loops.
    """

    def __init__(
        self,
        *,
        claims: Claims,
        drafter: Drafter,
        settler: Settler,
        writer: AttemptWriter,
        leases: Leases,
        metrics: Metrics,
        concurrency: int,
    ) -> None:
        self._claims = claims
        self._drafter = drafter
        self._settler = settler
        self._writer = writer
        self._leases = leases
        self._metrics = metrics
        self._concurrency = concurrency
        self._running: dict[LeaseKey, _Running] = {}
        self._loops: asyncio.TaskGroup | None = None
        self._waiting = 0

    @property
    def in_flight(self) -> int:
        """The number of running attempts."""
        return len(self._running)

    async def run(self) -> None:
        """Run the claim loops until claiming stops and every attempt is settled."""
        async with asyncio.TaskGroup() as loops:
            self._loops = loops
            for number in range(self._concurrency):
                loops.create_task(self._loop(), name=f"claim-loop-{number}")

    def abort_lost(self, lost: set[LeaseKey]) -> None:
        """Abort the attempts that lost their leases."""
        for held in lost & self._running.keys():
            self._abort(self._running[held], Abort.LEASE_LOST)

    def abort_cancelled(self, cancelled: set[LeaseKey]) -> None:
        """Abort the attempts whose requests were cancelled."""
        for held in cancelled & self._running.keys():
            self._abort(self._running[held], Abort.CANCELLED)

    def abort_refused(self, refused: set[LeaseKey]) -> None:
        """Abort the attempts whose leases the server refuses to renew."""
        for held in refused & self._running.keys():
            self._abort(self._running[held], Abort.REFUSED)

    def abort_all(self) -> None:
        """Abort every attempt; each gives its row back without counting the attempt."""
        for running in self._running.values():
            self._abort(running, Abort.SHUTDOWN)

    async def _loop(self) -> None:
        claim: Claim | None = None
        while (claim := await self._claims.next(after=claim)) is not None:
            await self._work(claim)

    async def _work(self, claim: Claim) -> None:
        trace = HeldTrace()
        task = asyncio.create_task(self._drafter.draft(claim), name=f"attempt-{claim.id}", context=trace.context())
        running = _Running(claim, task, time.monotonic(), trace)
        self._running[claim.key] = running
        self._metrics.in_flight(len(self._running))
        is_over = True
        try:
            # Unlike awaiting the task, this does not cancel the attempt when the loop is cancelled.
            await asyncio.wait({task})
            is_over = await self._settle(running, retry_refusals=self._waiting >= self._concurrency)
        finally:
            # It is still running only if this loop was cancelled because another part of the daemon died.
            task.cancel()
            if is_over:
                self._forget(running)
        if not is_over and self._loops is not None:
            # Keep trying to settle in the background: other rows must make progress, if only to show whose fault the refusal is.
            self._waiting += 1
            self._loops.create_task(self._settle_later(running), name=f"settlement-{claim.id}")

    async def _settle_later(self, running: _Running) -> None:
        try:
            await self._settle(running, retry_refusals=True)
        finally:
            self._waiting -= 1
            self._forget(running)

    def _forget(self, running: _Running) -> None:
        del self._running[running.claim.key]
        self._leases.drop(*running.claim.key)
        self._metrics.in_flight(len(self._running))

    async def _settle(self, running: _Running, *, retry_refusals: bool) -> bool:
        """Settle an attempt's outcome; return whether that is done, which it always is with ``retry_refusals``."""
        claim = running.claim
        if not await self._writer.wait_until_recorded(claim, retry_refusals=retry_refusals):
            return False
        try:
            outcome, trail = _result(running)
            settled = await self._settler.settle(claim, outcome, trail, retry_refusals=retry_refusals)
        except RequestCancelled:
            log.info("request cancelled", request_id=claim.id, attempt=claim.attempt)
            return True
        except LeaseLost:
            self._metrics.lease_lost()
            log.warning("lease lost", request_id=claim.id, attempt=claim.attempt)
            return True
        except NotSettledYet:
            return False
        running.trace.send()
        self._report(running, outcome, settled)
        return True

    def _abort(self, running: _Running, reason: Abort) -> None:
        # A finished attempt is being settled: its outcome counts, subject to the fence.
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
    """Return the result of an ended attempt.

    Raises:
        LeaseLost: it was aborted because it lost its lease, or its client cancelled the request.
    """
    if not running.task.cancelled():
        return running.task.result()
    match running.abort:
        case Abort.LEASE_LOST:
            raise LeaseLost
        case Abort.CANCELLED:
            raise RequestCancelled
        case Abort.SHUTDOWN:
            return AttemptResult(GiveBack(), Trail())
        case Abort.REFUSED:
            error: InternalError = RowRefused("the database refused to renew this request")
        case None:
            # Not cancelled by the worker. Giving the row back without counting the attempt could repeat this for ever.
            error = InternalError("the attempt was cancelled from within")
    return AttemptResult(outcome_of(error, judge(error, running.claim)), Trail())
