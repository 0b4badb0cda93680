"""What must hold before a model is called, and what is known after it, however the call ends."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

import pytest

from draftd import db
from draftd.errors import BudgetExceeded, Expired, ModelRefused, ModelTimeout, Spent
from draftd.providers.estimate import Estimate
from draftd.providers.llm import Completion, Llm
from draftd.providers.reservations import Budgets, PlannedCall, Reservations
from draftd.providers.target import Target
from draftd.queue.attempts import AttemptWriter, Usage
from draftd.reply.attempt import MARGIN_S, MIN_CALL_S, Attempt
from draftd.reply.inputs import Inputs
from draftd.reply.metered_call import FIRST_WAIT_S, MeteredCalls
from draftd.request import Claim
from draftd.telemetry.metrics import Metrics
from draftd.telemetry.tracing import Tracing
from tables import per_row

CLAIM = Claim(id=UUID(int=1), agent="a", requester_id="r", attempt=2, lease_token=7, attempt_s=120, image_bytes=0)
SPENT = Spent(input_tokens=100, cached_tokens=60, output_tokens=10, cost_usd=Decimal("0.5"))
ANSWER = Completion(text="yes", model="m", finish_reason="stop", spent=SPENT, mode="prompt", elapsed_s=1.0)
INPUTS = Inputs(messages=[], reply_format=cast("Any", ANSWER), prompt_version="1+a", params={}, images=None)
TIMEOUT_S = 60.0


class Door:
    """A model that does what the test says, and a writer that remembers."""

    schema: Any = None

    def __init__(self, act: Callable[[], Completion]) -> None:
        self._act = act
        self.times_s: list[float] = []
        self.recorded: list[tuple[Usage, float]] = []
        self.metrics = Metrics()
        self.reservations = Reservations(link=cast("db.Link", None), worker_id=UUID(int=9))

    async def complete(self, *_: Any, time_s: float, **__: Any) -> Completion:
        self.times_s.append(time_s)
        await asyncio.sleep(0)
        return self._act()

    def estimate(self, *_: Any, **__: Any) -> Estimate:
        usd = Decimal("0.5")
        return Estimate(usd=usd, prompt_usd=usd, output_usd=usd, output_tokens=100, tokens=300)

    def record(self, usage: Usage, *, until: float) -> None:
        self.recorded.append((usage, until))

    async def call(self, attempt: Attempt, *, number: int = 3, has_ceilings: bool = False) -> Completion:
        calls = MeteredCalls(
            llm=cast("Llm", self),
            reservations=self.reservations,
            writer=cast("AttemptWriter", self),
            tracing=Tracing(),
            metrics=self.metrics,
            model_timeout_s=TIMEOUT_S,
        )
        inputs = replace(INPUTS, reply_format=cast("Any", self))
        target = Target(name="m", model="openai/m", has_ceilings=has_ceilings)
        return await calls.call(attempt, inputs, target, number=number, name="draft")


def answers() -> Completion:
    return ANSWER


def refuses() -> Completion:
    raise ModelRefused("no", model="m", spent=SPENT)


def breaks() -> Completion:
    raise KeyError


async def test_an_answered_call_is_recorded_and_counted() -> None:
    door, attempt = Door(answers), Attempt.begin(CLAIM, trace_id="t")
    assert await door.call(attempt) is ANSWER
    ((usage, until),) = door.recorded
    assert replace(usage, elapsed_s=0.0) == Usage(
        request_id=CLAIM.id,
        requester_id="r",
        attempt=2,
        lease_token=7,
        call=3,
        model="m",
        code=None,
        input_tokens=100,
        cached_tokens=60,
        output_tokens=10,
        cost_usd=Decimal("0.5"),
        elapsed_s=0.0,
        trace_id="t",
    )
    assert until == attempt.ends_at
    assert door.metrics.registry.get_sample_value("draftd_cost_usd_total", {"model": "m"}) == 0.5


@per_row(
    ("act", "error", "code", "tokens"),
    [(refuses, ModelRefused, "model_refused", 100), (breaks, KeyError, "aborted", None)],
)
async def test_a_call_that_failed_is_recorded_with_what_it_cost(
    act: Callable[[], Completion], error: type[Exception], code: str, tokens: int | None
) -> None:
    door = Door(act)
    with pytest.raises(error):
        await door.call(Attempt.begin(CLAIM))
    ((usage, _),) = door.recorded
    assert (usage.code, usage.input_tokens) == (code, tokens)


async def test_a_call_that_was_aborted_is_recorded() -> None:
    door = Door(answers)
    calling = asyncio.create_task(door.call(Attempt.begin(CLAIM)))
    await asyncio.sleep(0)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert [usage.code for usage, _ in door.recorded] == ["aborted"]


@per_row(
    ("over", "error"),
    [({"expires_in_s": 0.0}, Expired), ({"attempt_s": MARGIN_S + MIN_CALL_S - 0.1}, ModelTimeout)],
)
async def test_a_call_that_may_not_be_made_is_neither_made_nor_recorded(
    over: dict[str, Any], error: type[Exception]
) -> None:
    door = Door(answers)
    with pytest.raises(error):
        await door.call(Attempt.begin(replace(CLAIM, **over)))
    assert (door.times_s, door.recorded) == ([], [])


async def test_a_call_has_what_is_left_of_the_attempt_and_never_more_than_its_own_limit() -> None:
    door, now = Door(answers), time.monotonic()
    await door.call(Attempt(claim=CLAIM, began=now, ends_at=now + 30))
    await door.call(Attempt(claim=CLAIM, began=now, ends_at=now + 3_000))
    short_s, long_s = door.times_s
    assert 0 < short_s <= 30
    assert long_s == TIMEOUT_S


class Gate(Reservations):
    """Reservations that note what asks, and refuse when told so."""

    def __init__(self, refusal: Exception | None = None) -> None:
        super().__init__(link=cast("db.Link", None), worker_id=UUID(int=9))
        self.asked: list[tuple[PlannedCall, float]] = []
        self.refusal = refusal

    async def reserve(self, planned: PlannedCall, *, time_s: float, wait_s: float) -> None:
        assert time_s > 0
        self.asked.append((planned, wait_s))
        if self.refusal is not None:
            raise self.refusal


def limited(door: Door, refusal: Exception | None = None, **budgets: Any) -> Gate:
    gate = door.reservations = Gate(refusal)
    gate.budgets = Budgets(**budgets)
    return gate


async def test_a_call_is_reserved_when_its_model_has_a_ceiling_or_a_budget_is_set() -> None:
    for ceilings, budgets, count in (
        (False, {}, 0),
        (True, {}, 1),
        (False, {"fleet_usd": Decimal(1)}, 1),
        (False, {"have_requesters": True}, 1),
    ):
        door = Door(answers)
        gate = limited(door, **budgets)
        await door.call(Attempt.begin(CLAIM), has_ceilings=ceilings)
        assert len(gate.asked) == count
    planned, _ = gate.asked[0]
    assert (planned.request_id, planned.requester_id, planned.lease_token) == (CLAIM.id, "r", 7)
    assert (planned.call, planned.model) == (3, "m")
    assert (planned.usd, planned.output_tokens, planned.tokens) == (Decimal("0.5"), 100, 300)


async def test_a_call_that_is_not_reserved_is_neither_made_nor_recorded() -> None:
    door = Door(answers)
    limited(door, BudgetExceeded("no"), fleet_usd=Decimal(1))
    with pytest.raises(BudgetExceeded):
        await door.call(Attempt.begin(CLAIM))
    assert (door.times_s, door.recorded) == ([], [])


async def test_only_the_first_call_of_an_attempt_goes_back_to_the_queue_soon() -> None:
    door, waits = Door(answers), {}
    for number in (1, 2):
        gate = limited(door, fleet_usd=Decimal(1))
        await door.call(Attempt.begin(CLAIM), number=number)
        waits[number] = gate.asked[0][1]
    assert waits[1] == FIRST_WAIT_S
    assert waits[2] == pytest.approx(CLAIM.attempt_s - MARGIN_S - MIN_CALL_S, abs=5)
