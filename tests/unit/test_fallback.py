"""The fallback knows a reply format by its interface only: here with one of a single line."""

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from threading import Event
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest

from draftd.errors import (
    BudgetExceeded,
    ModelError,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
    NoRoomNow,
    NothingToReplyTo,
    RequestError,
    Spent,
)
from draftd.providers import failure_policy
from draftd.providers.failure_policy import TRANSIENT_S, ModelState
from draftd.providers.holds import Holds
from draftd.providers.llm import Completion, OnText
from draftd.providers.models import Models
from draftd.providers.target import Target
from draftd.queue.attempts import AttemptWriter
from draftd.queue.outcome import Done, Draft, Fail, GiveBack, Outcome, Retry
from draftd.reply import fallback
from draftd.reply.attempt import MARGIN_S, MIN_CALL_S, Attempt
from draftd.reply.fallback import DEFAULT_MAX_TOKENS, ModelFallback
from draftd.reply.inputs import Inputs, Message
from draftd.reply.metered_call import MeteredCalls
from draftd.reply.progress import Progress
from draftd.reply.reply_format import AnswerRejected, PartialAnswer
from draftd.request import Claim
from draftd.telemetry.metrics import Metrics
from tables import per_row

CLAIM = Claim(
    id=UUID(int=1), agent="poet", requester_id="", attempt=1, lease_token=1, attempt_s=60, image_bytes=0
)  # fmt: skip
NO_LIMITS: Mapping[str, int] = {}
ASKED: Message = {"role": "user", "content": "a line, please"}
FIRST, SECOND = Target(name="first", model="m1"), Target(name="second", model="m2", params={"max_tokens": 300})


class OneLine:
    """A format whose answer is a single line, shown word by word."""

    def __init__(self) -> None:
        self.schema: dict[str, Any] = {"type": "string"}
        self.options_ready = 0
        self.published = ""

    def read(self, text: str, *, is_repaired: bool = False) -> Draft:
        if not text:
            raise NothingToReplyTo
        if "\n" in text:
            raise AnswerRejected(["two lines", "at least"])
        if text.endswith("?") and not is_repaired:
            raise AnswerRejected(["no question"], draft=Draft(result={"line": text}, reading=[]))
        return Draft(result={"line": text}, reading=[])

    def partial(self) -> PartialAnswer:
        return Words(self)

    def published_note(self) -> str:
        return self.published and f"keep {self.published}"

    def repair_request(self, problems: Sequence[str]) -> str:
        return f"not {' and '.join(problems)}"


class CutOff(str):
    """An answer that met its limit of output tokens."""

    __slots__ = ()


class Words:
    """The words of a line that is being written."""

    def __init__(self, line: OneLine) -> None:
        self._line = line
        self.options_ready = 0

    def may_have_more(self, text_so_far: str) -> bool:
        return bool(text_so_far)

    def feed(self, text_so_far: str) -> dict[str, Any] | None:
        self.options_ready = text_so_far.count(" ")
        self._line.published = text_so_far if self.options_ready else ""
        return {"line": text_so_far}


class World:
    """Models that answer what the test says, and what is noted of it."""

    def __init__(self, *answers: str | RequestError) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[int, str, str, list[Message]]] = []
        self.params: list[Any] = []
        self.published: list[dict[str, Any]] = []
        self.succeeded_models: list[str] = []
        self.failures: list[tuple[str, str]] = []
        self.clock = itertools.count(1.0)
        self.ended_at: list[float] = []
        self.began: list[float] = []
        self.state = ModelState.HELD
        self.attempt = Attempt.begin(CLAIM)

    async def call(
        self,
        _attempt: Attempt,
        inputs: Inputs,
        target: Target,
        *,
        number: int,
        name: str,
        on_text: OnText | None = None,
    ) -> Completion:
        self.calls.append((number, name, target.name, inputs.messages))
        self.params.append(target.params)
        answer = self.answers.pop(0)
        self.ended_at.append(next(self.clock))
        if isinstance(answer, RequestError):
            raise answer
        words = answer.split(" ")
        for count in range(1, len(words) + 1) if on_text else ():
            await cast("OnText", on_text)(" ".join(words[:count]))
        return Completion(
            text=answer,
            model=target.name,
            finish_reason="length" if isinstance(answer, CutOff) else "stop",
            spent=Spent(),
            mode="prompt",
            elapsed_s=0.0,
        )

    async def publish(self, _claim: Claim, partial: dict[str, Any]) -> None:
        self.published.append(partial)

    async def succeeded(self, model: str) -> None:
        self.succeeded_models.append(model)

    async def failed(self, error: ModelError, *, model: str, began: float, **_: Any) -> ModelState:
        self.failures.append((model, error.code))
        self.began.append(began)
        return self.state

    def has_held_model(self, _agent: str) -> bool:
        return False

    async def ask(
        self,
        *targets: Target,
        attempt_s: float = CLAIM.attempt_s,
        max_tokens: Mapping[str, int] = NO_LIMITS,
        reply_format: "OneLine | None" = None,
    ) -> Outcome:
        part = ModelFallback(
            calls=cast("MeteredCalls", self),
            models=cast("Models", self),
            holds=cast("Holds", self),
            writer=cast("AttemptWriter", self),
            metrics=Metrics(),
        )
        inputs = Inputs(
            messages=[ASKED],
            reply_format=reply_format or OneLine(),
            prompt_version="1+a",
            params={},
            images=None,
            max_tokens=max_tokens,
        )
        self.attempt = Attempt.begin(replace(CLAIM, attempt_s=attempt_s))
        return await part.run(self.attempt, inputs, targets)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failure_policy, "REPEAT_DELAY_S", (0.0, 0.0))


async def test_a_good_answer_is_shown_while_it_grows_and_becomes_a_draft() -> None:
    world = World("a line indeed")
    outcome = await world.ask(FIRST)
    assert outcome == Done(
        draft=Draft(result={"line": "a line indeed"}, reading=[]), model="first", prompt_version="1+a"
    )
    assert world.published == [{"line": "a line"}, {"line": "a line indeed"}]
    assert world.succeeded_models == ["first"]
    assert world.failures == []


class Waiting(OneLine):
    """Checks no answer, whole or partial, until the event loop has had its turn."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.turns: list[bool] = []
        self._loop = loop

    def wait_for_turn(self) -> None:
        turned = Event()
        self._loop.call_soon_threadsafe(turned.set)
        self.turns.append(turned.wait(timeout=5))

    def read(self, text: str, *, is_repaired: bool = False) -> Draft:
        self.wait_for_turn()
        return super().read(text, is_repaired=is_repaired)

    def partial(self) -> PartialAnswer:
        return WaitingWords(self)


class WaitingWords(Words):
    """The same of a partial answer."""

    def __init__(self, line: Waiting) -> None:
        super().__init__(line)
        self._waiting = line

    def feed(self, text_so_far: str) -> dict[str, Any] | None:
        self._waiting.wait_for_turn()
        return super().feed(text_so_far)


async def test_the_event_loop_gets_its_turn_while_an_answer_is_checked() -> None:
    line = Waiting(asyncio.get_running_loop())
    await World("one\nline", "one").ask(FIRST, reply_format=line)
    assert line.turns == [True] * 3  # the growing answer, the answer, the repaired one


async def test_a_call_that_ends_early_waits_until_its_answer_is_no_longer_checked() -> None:
    began, go_on = asyncio.Event(), Event()
    loop = asyncio.get_running_loop()

    class Slow(Words):
        def feed(self, text_so_far: str) -> dict[str, Any] | None:
            loop.call_soon_threadsafe(began.set)
            go_on.wait(timeout=5)
            return super().feed(text_so_far)

    answer = Slow(OneLine())
    progress = Progress(attempt=Attempt.begin(CLAIM), writer=cast("AttemptWriter", World()), metrics=Metrics())
    call = asyncio.ensure_future(progress.on_text(answer)("a line"))
    await began.wait()
    call.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    assert (call.done(), answer.options_ready) == (False, 0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert answer.options_ready == 1


async def test_a_bad_answer_goes_back_once_with_its_problems() -> None:
    world = World("two\nlines", "one")
    assert isinstance(await world.ask(FIRST), Done)
    (_, _, _, first), (number, name, _, repair) = world.calls
    assert (number, name) == (2, "repair")
    assert repair == [
        *first,
        {"role": "assistant", "content": "two\nlines"},
        {"role": "user", "content": "not two lines and at least"},
    ]


async def test_an_answer_that_stays_bad_is_the_last_word_of_all_models() -> None:
    world = World("two\nlines", "two\nlines")
    outcome = await world.ask(FIRST, SECOND)
    assert isinstance(outcome, Retry)
    assert (outcome.code, outcome.message, outcome.model) == ("output_invalid", "two lines; at least", "first")
    assert world.failures == [("first", "output_invalid")]


async def test_a_repaired_answer_need_not_fulfil_wishes() -> None:
    world = World("really?", "really, really?")
    outcome = await world.ask(FIRST)
    assert isinstance(outcome, Done)
    assert outcome.draft.result == {"line": "really, really?"}


@per_row("second", [ModelUnavailable("down", model="first"), "two\nlines"], ids=["failed", "bad"])
async def test_an_acceptable_answer_is_used_when_its_repair_fails(second: str | ModelError) -> None:
    world = World("really?", second)
    outcome = await world.ask(FIRST)
    assert isinstance(outcome, Done)
    assert outcome.draft.result == {"line": "really?"}
    assert [call[1] for call in world.calls] == ["draft", "repair"]
    assert (world.succeeded_models, world.failures) == (["first"], [])


TOMORROW_S = 3_600.0
NO_BUDGET = BudgetExceeded("no budget", model="first", retry_after_s=TOMORROW_S)
NO_ROOM = NoRoomNow("no room", model="first", retry_after_s=7.0)
WAITS = GiveBack(code="budget_exceeded", message="no budget", model="first", delay_s=TOMORROW_S)


@per_row("refusal", [NO_BUDGET, NO_ROOM])
async def test_an_acceptable_answer_is_used_when_its_repair_is_not_reserved(refusal: RequestError) -> None:
    world = World("really?", refusal)
    outcome = await world.ask(FIRST)
    assert isinstance(outcome, Done)
    assert outcome.draft.result == {"line": "really?"}


async def test_a_call_that_is_not_reserved_gives_the_row_back_and_asks_no_other_model() -> None:
    for refusal, expected in ((NO_BUDGET, WAITS), (NO_ROOM, GiveBack(delay_s=7.0))):
        world = World(refusal)
        assert await world.ask(FIRST, SECOND) == expected
        assert [call[2] for call in world.calls] == ["first"]


async def test_a_paid_answer_whose_repair_finds_no_room_counts_as_an_attempt() -> None:
    outcome = await World("two\nlines", NO_ROOM).ask(FIRST)
    assert isinstance(outcome, Retry)
    assert (outcome.code, outcome.message) == ("output_invalid", "two lines; at least")
    assert await World("two\nlines", NO_BUDGET).ask(FIRST) == WAITS


async def test_a_fallback_without_a_budget_waits_for_one_and_without_room_leaves_the_first_models_outcome() -> None:
    slow = ModelTimeout("slow", model="first")
    assert await World(slow, NO_BUDGET).ask(FIRST, SECOND) == WAITS
    outcome = await World(slow, NO_ROOM).ask(FIRST, SECOND)
    assert isinstance(outcome, Retry)
    assert (outcome.code, outcome.model) == ("model_timeout", "first")


async def test_a_repeated_call_without_room_leaves_the_failure_of_the_first() -> None:
    outcome = await World(ModelUnavailable("down", model="first"), NO_ROOM).ask(FIRST)
    assert isinstance(outcome, GiveBack)
    assert outcome.code == "model_unavailable"


async def test_a_model_that_starts_over_is_told_what_was_published() -> None:
    world = World("one two\nthree", ModelUnavailable("down", model="first"), "uno dos tres")
    await world.ask(FIRST, SECOND)
    assert world.calls[-1][1:3] == ("draft", "second")
    assert world.calls[-1][3] == [{"role": "user", "content": "a line, please\n\nkeep one two\nthree"}]
    assert world.calls[0][3] == [ASKED]


async def test_nothing_to_reply_to_is_an_answer() -> None:
    world = World("")
    assert isinstance(await world.ask(FIRST, SECOND), Fail)
    assert world.failures == [("first", "nothing_to_reply_to")]


async def test_a_call_is_repeated_once_then_the_next_model_is_asked_and_calls_are_counted_through() -> None:
    down = ModelUnavailable("down", model="first")
    world = World(down, down, ModelRefused("no", model="second"))
    assert isinstance(await world.ask(FIRST, SECOND), Fail)
    assert [call[:3] for call in world.calls] == [(1, "draft", "first"), (2, "draft", "first"), (3, "draft", "second")]
    assert world.failures == [("first", "model_unavailable"), ("second", "model_refused")]
    assert world.params == [{"max_tokens": DEFAULT_MAX_TOKENS}] * 2 + [{"max_tokens": 300}]


async def test_a_second_model_shows_nothing_before_it_is_further_than_the_first() -> None:
    world = World("one two\nthree", ModelUnavailable("down", model="first"), "uno dos tres")
    await world.ask(FIRST, SECOND)
    assert world.published == [{"line": "one two\nthree"}, {"line": "uno dos tres"}]


@per_row(("state", "outcome"), [(ModelState.HELD, GiveBack), (ModelState.WORKING, Retry)])
async def test_what_the_fleet_knows_of_the_model_decides(state: ModelState, outcome: type[Outcome]) -> None:
    down = ModelUnavailable("down", model="first")
    world = World(down, down)
    world.state = state
    assert isinstance(await world.ask(FIRST), outcome)


@pytest.mark.parametrize("first", [ModelUnavailable("down", model="first"), "two\nlines"], ids=["repeated", "repaired"])
async def test_a_success_of_another_counts_from_the_end_of_the_first_call(
    monkeypatch: pytest.MonkeyPatch, first: str | ModelError
) -> None:
    world = World(first, ModelUnavailable("down", model="first"))
    monkeypatch.setattr(fallback, "time", SimpleNamespace(monotonic=lambda: next(world.clock)))
    assert isinstance(await world.ask(FIRST), GiveBack)
    (began,), (first_ended, second_ended) = world.began, world.ended_at
    assert first_ended < began < second_ended


async def test_a_call_that_failed_late_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(ModelUnavailable("down", model="first"))
    world.clock = itertools.count(1.0, TRANSIENT_S)
    monkeypatch.setattr(fallback, "time", SimpleNamespace(monotonic=lambda: next(world.clock)))
    outcome = await world.ask(FIRST)
    assert isinstance(outcome, GiveBack)
    assert outcome.code == "model_unavailable"


async def test_without_time_for_another_call_the_error_is_that_of_the_model_that_was_asked() -> None:
    world = World(ModelUnavailable("down", model="first"))
    outcome = await world.ask(FIRST, SECOND, attempt_s=MARGIN_S + MIN_CALL_S - 0.1)
    assert isinstance(outcome, GiveBack)
    assert (outcome.code, outcome.model) == ("model_unavailable", "first")
    assert world.failures == [("first", "model_unavailable")]


CUT = CutOff("a line\nthat")


async def limits_of(world: World, *targets: Target, **given: Any) -> list[int]:
    await world.ask(*targets, **given)
    return [params["max_tokens"] for params in world.params]


async def test_a_model_that_was_cut_off_is_told_what_was_published() -> None:
    world = World(CutOff("one two\nthree"), "uno dos tres")
    await world.ask(FIRST)
    assert [call[3] for call in world.calls] == [
        [ASKED],
        [{"role": "user", "content": "a line, please\n\nkeep one two\nthree"}],
    ]


async def test_an_answer_with_more_room_need_not_fulfil_wishes() -> None:
    outcome = await World(CUT, "really?").ask(FIRST)
    assert isinstance(outcome, Done)
    assert outcome.draft.result == {"line": "really?"}


async def test_what_was_cut_off_gets_twice_the_room_and_later_attempts_begin_with_more() -> None:
    world = World(CUT, CUT)
    assert await limits_of(world, FIRST) == [DEFAULT_MAX_TOKENS, 2 * DEFAULT_MAX_TOKENS]
    assert world.attempt.max_tokens == {"first": 4 * DEFAULT_MAX_TOKENS}


async def test_the_larger_limit_is_kept_although_it_was_an_outage_that_ended_the_attempt() -> None:
    world = World(CUT, ModelUnavailable("gone", model="first"))
    assert await limits_of(world, FIRST) == [DEFAULT_MAX_TOKENS, 2 * DEFAULT_MAX_TOKENS]
    assert world.attempt.max_tokens == {"first": 2 * DEFAULT_MAX_TOKENS}


async def test_a_later_attempt_pays_once_for_reasoning_that_eats_every_budget() -> None:
    world = World(CutOff("\n"))
    outcome = await world.ask(FIRST, max_tokens={"first": 4 * DEFAULT_MAX_TOKENS})
    assert [params["max_tokens"] for params in world.params] == [4 * DEFAULT_MAX_TOKENS]
    assert isinstance(outcome, Retry)
    assert (outcome.code, outcome.model) == ("output_invalid", "first")
    assert outcome.message == (
        "first: the answer was cut off at 16,384 output tokens before its first word: all went into reasoning"
    )


async def test_what_a_row_says_of_a_limit_is_bounded_by_what_is_set() -> None:
    world = World("fine")
    assert await limits_of(world, SECOND, max_tokens={"second": 100_000}) == [4 * 300]


async def test_a_limit_that_another_model_needed_is_not_this_ones() -> None:
    world = World("fine")
    assert await limits_of(world, SECOND, max_tokens={"first": 100_000}) == [300]
