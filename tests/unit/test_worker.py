"""The claim loops: what they do with attempts that end in unusual ways."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, cast
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from draftd.daemon.worker import Worker
from draftd.errors import LeaseLost
from draftd.queue.attempts import AttemptWriter
from draftd.queue.claims import Claims
from draftd.queue.leases import Leases
from draftd.queue.outcome import Done, Draft, Fail, GiveBack, Outcome, Retry
from draftd.queue.settlements import NotSettledYet, Settled, Settler, Trail
from draftd.reply.drafter import AttemptResult, Drafter
from draftd.request import Claim
from draftd.telemetry.metrics import Metrics
from draftd.telemetry.tracing import HeldTrace
from tables import per_row

FINISHED = AttemptResult(Fail(code="expired", message=""), Trail())
Run = Callable[[Claim], Awaitable[AttemptResult]]


def make_claim(request_id: UUID | None = None, lease_token: int = 1) -> Claim:
    return Claim(
        id=request_id or uuid.uuid4(),
        agent="a",
        requester_id="",
        attempt=1,
        lease_token=lease_token,
        attempt_s=60,
        image_bytes=0,
    )


class Rig:
    """A worker whose claims, drafter and settler are under the test's control."""

    def __init__(self, run: Run) -> None:
        self.queue: asyncio.Queue[Claim | None] = asyncio.Queue()
        self.settled: list[tuple[int, Outcome]] = []
        self.lost: set[int] = set()
        self.settles_as = Settled("failed", "expired")
        self.metrics = Metrics()
        self.waited_for: list[int] = []
        self.usage_written = asyncio.Event()
        self.usage_written.set()
        self.usage_refused = asyncio.Event()
        self.accepts = asyncio.Event()
        self.accepts.set()
        self.draft = run
        self.leases = Leases()
        self.worker = Worker(
            claims=cast("Claims", self),
            drafter=cast("Drafter", self),
            settler=cast("Settler", self),
            writer=cast("AttemptWriter", self),
            leases=self.leases,
            metrics=self.metrics,
            concurrency=2,
        )

    async def next(self, *, after: Claim | None = None) -> Claim | None:  # noqa: ARG002 - as Claims has it
        claim = await self.queue.get()
        if claim is None:
            self.queue.put_nowait(None)
        else:
            self.leases.add(claim.id, claim.lease_token, agent=claim.agent)
        return claim

    async def wait_until_recorded(self, claim: Claim, *, retry_refusals: bool) -> bool:
        self.waited_for.append(claim.lease_token)
        if self.usage_refused.is_set() and not retry_refusals:
            return False
        await self.usage_written.wait()
        return True

    async def settle(self, claim: Claim, outcome: Outcome, _trail: Trail, *, retry_refusals: bool) -> Settled:
        if claim.lease_token in self.lost:
            raise LeaseLost
        if not retry_refusals and not self.accepts.is_set():
            raise NotSettledYet
        await self.accepts.wait()
        self.settled.append((claim.lease_token, outcome))
        return self.settles_as


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until a condition holds."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")


class Gate:
    """Attempts that wait until they are let go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.begun: list[int] = []
        self.ended: list[Any] = []

    async def __call__(self, claim: Claim) -> AttemptResult:
        self.begun.append(claim.lease_token)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.ended.append(claim.lease_token)
            raise
        return FINISHED


async def test_the_same_row_can_be_held_twice_and_only_the_older_claim_is_aborted() -> None:
    gate = Gate()
    rig = Rig(gate)
    request_id = uuid.uuid4()
    working = asyncio.create_task(rig.worker.run())
    rig.lost = {5}
    for token in (5, 6):
        rig.queue.put_nowait(make_claim(request_id, token))
    await until(lambda: gate.begun == [5, 6])
    rig.worker.abort_lost({(request_id, 5)})
    await until(lambda: rig.worker.in_flight == 1)
    assert gate.ended == [5]
    assert rig.leases.snapshot() == {(request_id, 6)}
    gate.go.set()
    rig.queue.put_nowait(None)
    await working
    assert rig.settled == [(6, FINISHED[0])]
    assert not rig.leases.snapshot()


async def test_a_shutdown_gives_the_attempt_back() -> None:
    rig = Rig(Gate())
    working = asyncio.create_task(rig.worker.run())
    rig.queue.put_nowait(make_claim())
    rig.queue.put_nowait(None)
    await until(lambda: rig.worker.in_flight == 1)
    rig.worker.abort_all()
    await working
    assert rig.settled == [(1, GiveBack())]


@per_row(("lost", "spans"), [(set(), ["span"]), ({1}, [])], ids=["stored", "lost"])
async def test_an_attempts_trace_is_sent_if_its_outcome_is_stored(lost: set[int], spans: list[str]) -> None:
    sent: list[str] = []

    async def traced(_claim: Claim) -> AttemptResult:
        trace = HeldTrace.current()
        assert trace is not None
        trace.hold(lambda: sent.append("span"))
        return FINISHED

    rig = Rig(traced)
    rig.lost = lost
    rig.accepts.clear()
    working = asyncio.create_task(rig.worker.run())
    rig.queue.put_nowait(make_claim())
    rig.queue.put_nowait(None)
    await until(lambda: rig.waited_for != [])
    assert not sent
    rig.accepts.set()
    await working
    assert sent == spans


async def test_a_cancellation_from_within_is_no_free_give_back() -> None:
    async def cancelled(_claim: Claim) -> AttemptResult:
        raise asyncio.CancelledError

    rig = Rig(cancelled)
    rig.queue.put_nowait(make_claim())
    rig.queue.put_nowait(None)
    await rig.worker.run()
    ((_, outcome),) = rig.settled
    assert isinstance(outcome, Retry)
    assert outcome.code == "internal_error"


async def test_attempts_end_with_a_worker_that_is_cancelled() -> None:
    gate = Gate()
    rig = Rig(gate)
    working = asyncio.create_task(rig.worker.run())
    rig.queue.put_nowait(make_claim())
    await until(lambda: gate.begun == [1])
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    await until(lambda: gate.ended == [1])
    assert rig.worker.in_flight == 0


async def test_an_outcome_waits_for_the_usage_that_it_sums_up() -> None:
    rig = Rig(Gate())
    rig.usage_written.clear()
    working = asyncio.create_task(rig.worker.run())
    rig.queue.put_nowait(make_claim())
    rig.queue.put_nowait(None)
    await until(lambda: rig.worker.in_flight == 1)
    rig.worker.abort_all()
    await until(lambda: rig.waited_for == [1])
    assert not rig.settled
    assert len(rig.leases.snapshot()) == 1, "it is renewed until it is settled"
    rig.usage_written.set()
    await working
    assert rig.settled == [(1, GiveBack())]


async def finished(_claim: Claim) -> AttemptResult:
    return FINISHED


async def test_an_outcome_that_is_refused_for_now_keeps_its_lease_and_frees_its_loop() -> None:
    rig = Rig(finished)
    rig.accepts.clear()
    working = asyncio.create_task(rig.worker.run())
    for token in (1, 2, 3):
        rig.queue.put_nowait(make_claim(lease_token=token))
    await until(lambda: rig.worker.in_flight == 3)
    assert len(rig.leases) == 3
    assert rig.settled == []
    rig.accepts.set()
    rig.queue.put_nowait(None)
    await working
    assert sorted(token for token, _ in rig.settled) == [1, 2, 3]
    assert (rig.worker.in_flight, len(rig.leases)) == (0, 0)


async def test_an_outcome_whose_usage_is_refused_for_now_frees_its_loop() -> None:
    rig = Rig(finished)
    rig.usage_refused.set()
    rig.usage_written.clear()
    working = asyncio.create_task(rig.worker.run())
    for token in (1, 2):
        rig.queue.put_nowait(make_claim(lease_token=token))
    await until(lambda: rig.waited_for == [1, 2, 1, 2])
    rig.usage_refused.clear()
    rig.queue.put_nowait(make_claim(lease_token=3))
    await until(lambda: rig.waited_for[4:] == [3])
    assert rig.settled == []
    rig.usage_written.set()
    rig.queue.put_nowait(None)
    await working
    assert sorted(token for token, _ in rig.settled) == [1, 2, 3]


async def test_no_more_outcomes_wait_than_twice_the_loops() -> None:
    rig = Rig(finished)
    rig.accepts.clear()
    working = asyncio.create_task(rig.worker.run())
    for token in range(10):
        rig.queue.put_nowait(make_claim(lease_token=token))
    await until(lambda: rig.worker.in_flight == 4)
    for _ in range(100):
        await asyncio.sleep(0)
    assert rig.worker.in_flight == 4
    rig.accepts.set()
    rig.queue.put_nowait(None)
    await working
    assert len(rig.settled) == 10


async def test_an_attempt_whose_lease_is_refused_ends_as_an_internal_error() -> None:
    gate = Gate()
    rig = Rig(gate)
    claim = make_claim()
    working = asyncio.create_task(rig.worker.run())
    rig.queue.put_nowait(claim)
    await until(lambda: gate.begun == [1])
    rig.worker.abort_refused({claim.key})
    rig.queue.put_nowait(None)
    await working
    ((_, outcome),) = rig.settled
    assert isinstance(outcome, Fail)
    assert outcome.code == "internal_error"


async def test_a_draft_that_is_refused_is_reported_as_the_error_it_became() -> None:
    async def drafted(_claim: Claim) -> AttemptResult:
        return AttemptResult(
            Done(draft=Draft(result={"platform": "x"}, reading=[]), model="m", prompt_version="1"), Trail()
        )

    rig = Rig(drafted)
    rig.settles_as = Settled("failed", "internal_error")
    rig.queue.put_nowait(make_claim())
    rig.queue.put_nowait(None)
    with capture_logs() as logs:
        await rig.worker.run()
    (told,) = [one for one in logs if one["event"] == "settled"]
    assert (told["status"], told["code"], "model" in told) == ("failed", "internal_error", False)
    counted = {"status": "failed", "code": "internal_error"}
    assert rig.metrics.registry.get_sample_value("draftd_requests_total", counted) == 1


async def test_a_cancelled_request_is_not_counted_as_a_lost_lease() -> None:
    rig = Rig(Gate())
    claim = make_claim()
    working = asyncio.create_task(rig.worker.run())
    rig.queue.put_nowait(claim)
    rig.queue.put_nowait(None)
    await until(lambda: rig.worker.in_flight == 1)
    rig.worker.abort_cancelled({claim.key})
    with capture_logs() as logs:
        await working
    assert [(one["event"], one["log_level"]) for one in logs] == [("request cancelled", "info")]
    assert rig.metrics.registry.get_sample_value("draftd_lease_lost_total") == 0
