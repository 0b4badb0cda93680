"""What an error does to its request and to its model: every class of errors in every situation, as one table."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from uuid import UUID

import pytest

from draftd.backoff import BASE_S, CAP_S
from draftd.errors import (
    BudgetExceeded,
    ContextTooLong,
    Expired,
    ImageBlocked,
    ImageBudgetExhausted,
    ImageFetchFailed,
    ImageGone,
    ImageInvalid,
    ImageNotServed,
    ImageTooLarge,
    ImageUnreadable,
    ImageUnsupported,
    InternalError,
    InvalidRequest,
    Kind,
    ModelError,
    ModelMisconfigured,
    ModelRateLimited,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
    NoModelHere,
    NoRoomNow,
    NothingOpen,
    NothingToReplyTo,
    OutputInvalid,
    RequestError,
    RowRefused,
    WorkerLost,
)
from draftd.providers.failure_policy import (
    MAX_GIVE_BACK_DELAY_S,
    MAX_GIVEN_BACK,
    NO_FACTS,
    REPEAT_DELAY_S,
    TRANSIENT_S,
    Action,
    Facts,
    ModelState,
    Reaction,
    Verdict,
    judge,
    outcome_of,
    reaction,
)
from draftd.queue.outcome import Fail, GiveBack, Outcome, Retry
from draftd.queue.settlements import Trail, settlement
from draftd.request import Claim
from tables import per_row

MODEL = "openai/m"
CLAIM = Claim(
    id=UUID(int=1),
    agent="comment_generator",
    requester_id="r",
    attempt=2,
    lease_token=7,
    attempt_s=120.0,
    image_bytes=0,
)
PROBE = replace(CLAIM, probe=MODEL)
SPENT = replace(CLAIM, given_back=MAX_GIVEN_BACK)
SPENT_PROBE = replace(PROBE, given_back=MAX_GIVEN_BACK)
EITHER = (False, True)


@dataclass(frozen=True)
class Situation:
    """What is known beside the error."""

    claim: Claim = CLAIM
    facts: Facts = NO_FACTS


SITUATIONS = {
    "alone": Situation(),
    "repeat": Situation(facts=Facts(can_repeat=True)),
    "repeat, probe": Situation(PROBE, Facts(can_repeat=True)),
    "next": Situation(facts=Facts(has_next_model=True)),
    "left out": Situation(facts=Facts(has_held_model=True)),
    "throttled": Situation(facts=Facts(model=ModelState.THROTTLED)),
    "held": Situation(facts=Facts(model=ModelState.HELD)),
    "working": Situation(facts=Facts(model=ModelState.WORKING)),
    "spent": Situation(SPENT),
    "spent, held": Situation(SPENT_PROBE, Facts(model=ModelState.HELD)),
}
ACTIONS = {
    "fail": Action.FAIL,
    "retry": Action.RETRY,
    "back": Action.GIVE_BACK,
    "next": Action.NEXT_MODEL,
    "call": Action.REPEAT_CALL,
}
# fmt: off
VERDICTS: dict[type[RequestError], str] = {
    #                    alone  repeat  probe   next    left    throttled held  working spent   spent, held
    InvalidRequest:     "fail   fail    fail    fail    fail    fail    fail    fail    fail    fail",
    Expired:            "fail   fail    fail    fail    fail    fail    fail    fail    fail    fail",
    ImageBlocked:       "fail   fail    fail    fail    fail    fail    fail    fail    fail    fail",
    ImageFetchFailed:   "retry  retry   retry   retry   retry   retry   retry   retry   retry   retry",
    ImageBudgetExhausted:     "retry  retry   retry   retry   retry   retry   retry   retry   retry   retry",
    ImageNotServed:     "fail   fail    fail    fail    fail    fail    fail    fail    fail    fail",
    ImageTooLarge:      "fail   fail    fail    fail    fail    fail    fail    fail    fail    fail",
    ImageInvalid:       "fail   fail    fail    fail    fail    fail    fail    fail    fail    fail",
    ImageUnsupported:   "fail   fail    fail    fail    fail    fail    fail    fail    fail    fail",
    ImageGone:          "fail   fail    fail    fail    fail    fail    fail    fail    fail    fail",
    ModelRateLimited:   "back   back    back    next    back    back    back    retry   retry   retry",
    ModelUnavailable:   "back   call    back    next    back    back    back    retry   retry   retry",
    ModelMisconfigured: "back   back    back    next    back    back    back    retry   retry   retry",
    NoModelHere:        "retry  retry   retry   retry   retry   retry   retry   retry   retry   retry",
    ModelTimeout:       "retry  retry   retry   next    retry   retry   retry   retry   retry   retry",
    ModelRefused:       "fail   fail    fail    next    retry   fail    fail    fail    fail    fail",
    ImageUnreadable:    "fail   fail    fail    next    retry   fail    fail    fail    fail    fail",
    OutputInvalid:      "retry  retry   retry   retry   retry   retry   retry   retry   retry   retry",
    ContextTooLong:     "fail   fail    fail    next    retry   fail    fail    fail    fail    fail",
    NothingToReplyTo:   "fail   fail    fail    fail    fail    fail    fail    fail    fail    fail",
    NothingOpen:        "fail   fail    fail    fail    fail    fail    fail    fail    fail    fail",
    BudgetExceeded:     "fail   fail    fail    fail    fail    fail    fail    fail    fail    fail",
    WorkerLost:         "retry  retry   retry   retry   retry   retry   retry   retry   retry   retry",
    InternalError:      "retry  retry   retry   retry   retry   retry   retry   retry   retry   retry",
    RowRefused:         "fail   fail    fail    fail    fail    fail    fail    fail    fail    fail",
}
REACTIONS: dict[type[RequestError], str] = {
    #                    a row     a probe   throttled spent     spent probe
    ModelRateLimited:   "throttle  hold      hold      throttle  hold",
    ModelUnavailable:   "hold      hold      hold      none      hold",
    ModelMisconfigured: "hold      hold      hold      none      hold",
    ModelRefused:       "end_hold  end_hold  end_hold  end_hold  end_hold",
    ImageUnreadable:    "end_hold  end_hold  end_hold  end_hold  end_hold",
    OutputInvalid:      "end_hold  end_hold  end_hold  end_hold  end_hold",
    ContextTooLong:     "end_hold  end_hold  end_hold  end_hold  end_hold",
    NothingToReplyTo:   "end_hold  end_hold  end_hold  end_hold  end_hold",
    NothingOpen:        "end_hold  end_hold  end_hold  end_hold  end_hold",
}
# fmt: on
NO_REACTION = "none none none none none"


def classes(root: type[RequestError] = RequestError) -> Iterator[type[RequestError]]:
    """Yield every class that an attempt can end with."""
    if root.code:
        yield root
    for child in root.__subclasses__():
        if child.__module__ == RequestError.__module__:  # tests may derive some
            yield from classes(child)


CLASSES = list(classes())


def make(cls: type[RequestError]) -> RequestError:
    return cls("why", model=MODEL if issubclass(cls, ModelError) else None)


def most(_low: float, high: float) -> float:
    """Draw the longest delay."""
    return high


def act(cls: type[RequestError], situation: Situation) -> Action:
    return judge(make(cls), situation.claim, situation.facts).action


def test_no_class_of_errors_is_without_a_verdict() -> None:
    assert set(VERDICTS) == set(CLASSES)


@per_row("cls", CLASSES)
def test_every_error_has_its_verdict_in_every_situation(cls: type[RequestError]) -> None:
    expected = dict(zip(SITUATIONS, VERDICTS[cls].split(), strict=True))
    found = {name: act(cls, situation) for name, situation in SITUATIONS.items()}
    assert found == {name: ACTIONS[word] for name, word in expected.items()}


@pytest.mark.parametrize(
    "claim",
    [CLAIM, *(pytest.param(one, marks=pytest.mark.long) for one in (PROBE, SPENT, SPENT_PROBE))],
    ids=["a row", "a probe", "spent", "spent probe"],
)
@per_row("cls", CLASSES)
def test_no_combination_of_facts_calls_for_what_none_of_them_calls_for(cls: type[RequestError], claim: Claim) -> None:
    for state, repeat, ask, left_out in product(ModelState, EITHER, EITHER, EITHER):
        facts = Facts(can_repeat=repeat, has_next_model=ask, has_held_model=left_out, model=state)
        apart = [
            Facts(model=state),
            Facts(can_repeat=repeat, model=state),
            Facts(has_next_model=ask, model=state),
            Facts(has_held_model=left_out, model=state),
        ]
        assert act(cls, Situation(claim, facts)) in {act(cls, Situation(claim, one)) for one in apart}


@per_row("cls", CLASSES)
def test_the_fleet_reacts_to_what_the_error_says_of_the_model(cls: type[RequestError]) -> None:
    error = make(cls)
    found = [
        reaction(error, claim, model=MODEL, is_throttled=is_throttled)
        for claim, is_throttled in [(CLAIM, False), (PROBE, False), (CLAIM, True), (SPENT, False), (SPENT_PROBE, False)]
    ]
    assert found == [Reaction(word) for word in REACTIONS.get(cls, NO_REACTION).split()]


def test_an_exhausted_quota_holds_at_once() -> None:
    error = ModelRateLimited("402", model=MODEL, is_quota=True)
    assert reaction(error, CLAIM, model=MODEL) is Reaction.HOLD
    assert reaction(error, SPENT, model=MODEL) is Reaction.NONE


def test_only_a_hiccup_is_repeated() -> None:
    down = ModelUnavailable("503", model=MODEL)
    asking_for_time = ModelUnavailable("503", model=MODEL, retry_after_s=20)
    soon, late = (Facts(can_repeat=True, failed_after_s=s) for s in (TRANSIENT_S, TRANSIENT_S + 0.1))
    assert judge(down, CLAIM, soon).action is Action.REPEAT_CALL
    assert judge(down, CLAIM, late).action is Action.GIVE_BACK
    assert judge(asking_for_time, CLAIM, soon).action is Action.GIVE_BACK


def test_a_hold_without_a_model_to_hold_is_a_retry() -> None:
    assert judge(ModelMisconfigured("no model is configured"), CLAIM).action is Action.RETRY


@per_row("cls", CLASSES)
def test_judging_an_error_changes_nothing_of_it(cls: type[RequestError]) -> None:
    error = make(cls)
    before = dict(vars(error))
    for situation in SITUATIONS.values():
        judge(error, situation.claim, situation.facts)
        reaction(error, situation.claim, model=MODEL)
    assert vars(error) == before


# Budgets and ceilings


@per_row(
    ("expires_in_s", "verdict"),
    [
        (None, Verdict(action=Action.GIVE_BACK, delay_s=3_600.0)),
        (3_602.0, Verdict(action=Action.GIVE_BACK, delay_s=3_600.0)),
        (3_600.001, Verdict(action=Action.FAIL)),
        (1.0, Verdict(action=Action.FAIL)),
    ],
)
def test_a_row_waits_for_the_next_days_budget_unless_it_expires_before(
    expires_in_s: float | None, verdict: Verdict
) -> None:
    error = BudgetExceeded("why", model=MODEL, retry_after_s=3_600.0)
    for has_next in EITHER:
        facts = Facts(expires_in_s=expires_in_s, has_next_model=has_next)
        assert judge(error, CLAIM, facts) == verdict
    assert reaction(error, PROBE, model=MODEL) is Reaction.NONE


def test_a_row_without_room_waits_and_says_nothing_of_it() -> None:
    error = NoRoomNow(model=MODEL, retry_after_s=7.0)
    verdict = judge(error, SPENT, Facts(has_next_model=True, expires_in_s=1.0))
    assert outcome_of(error, verdict) == GiveBack(delay_s=7.0)
    assert reaction(error, PROBE, model=MODEL) is Reaction.NONE


# Delays


def delay_s(error: RequestError, claim: Claim = CLAIM, facts: Facts | None = None) -> float:
    return judge(error, claim, facts or Facts(), draw=most).delay_s


def test_the_delay_of_a_retry_grows_with_the_attempts() -> None:
    for attempt in (1, 4, 100):
        assert delay_s(InternalError(), replace(CLAIM, attempt=attempt)) == min(CAP_S, BASE_S * 2.0**attempt)


def test_a_retry_is_not_before_the_providers_word() -> None:
    limited = ModelRateLimited("429", model=MODEL, retry_after_s=1_000)
    verdict = judge(limited, CLAIM, Facts(model=ModelState.WORKING))
    assert verdict == Verdict(action=Action.RETRY, delay_s=1_000)


def test_a_rate_limited_row_waits_by_itself_as_long_as_the_provider_says() -> None:
    limited = ModelRateLimited("429", model=MODEL, retry_after_s=30)
    for state in (ModelState.UNKNOWN, ModelState.THROTTLED):
        verdict = judge(limited, CLAIM, Facts(model=state), draw=lambda low, _high: low)
        assert verdict == Verdict(action=Action.GIVE_BACK, delay_s=30.0)


def test_without_a_hold_the_delay_of_a_row_that_is_given_back_grows_each_time() -> None:
    down = ModelUnavailable("503", model=MODEL)
    for given_back in (0, 3):
        assert delay_s(down, replace(CLAIM, given_back=given_back)) == BASE_S * 2 ** (given_back + 1)


def test_a_row_does_not_wait_beside_the_hold_of_its_model() -> None:
    held = Facts(model=ModelState.HELD)
    assert delay_s(ModelUnavailable("503", model=MODEL, retry_after_s=90), facts=held) == 0.0


def test_a_row_that_came_back_before_steps_aside_after_a_hold() -> None:
    down, held = ModelUnavailable("503", model=MODEL), Facts(model=ModelState.HELD)
    assert delay_s(down, replace(CLAIM, given_back=1), held) == BASE_S * 2
    assert delay_s(down, replace(CLAIM, given_back=9), held) == MAX_GIVE_BACK_DELAY_S


def test_a_call_is_repeated_almost_at_once_and_another_model_asked_at_once() -> None:
    down = ModelUnavailable("503", model=MODEL)
    assert delay_s(down, facts=Facts(can_repeat=True)) == REPEAT_DELAY_S[1]
    assert delay_s(down, facts=Facts(has_next_model=True)) == 0.0


# Outcomes


@per_row(
    ("action", "outcome"),
    [
        (Action.RETRY, Retry(code="model_unavailable", message="why", delay_s=3.0, model=MODEL)),
        (Action.GIVE_BACK, GiveBack(code="model_unavailable", message="why", delay_s=3.0, model=MODEL)),
        (Action.FAIL, Fail(code="model_unavailable", message="why", model=MODEL)),
    ],
)
def test_a_verdict_becomes_its_outcome(action: Action, outcome: Outcome) -> None:
    assert outcome_of(make(ModelUnavailable), Verdict(action=action, delay_s=3.0)) == outcome


@per_row("cls", CLASSES)
def test_every_error_becomes_the_outcome_of_its_kind(cls: type[RequestError]) -> None:
    error = make(cls)
    outcome = outcome_of(error, judge(error, CLAIM))
    assert isinstance(outcome, {Kind.FINAL: Fail, Kind.RETRY: Retry, Kind.HOLD: GiveBack}[cls.kind])
    assert (outcome.code, outcome.message, outcome.model) == (cls.code, "why", error.model)


def test_only_a_hold_and_a_release_give_the_attempt_back() -> None:
    outcomes: list[Outcome] = [
        Retry(code="c", message="m", delay_s=3.0),
        Fail(code="c", message="m"),
        GiveBack(code="c", message="m", model="openai/m", delay_s=2.0),
        GiveBack(),
    ]
    rows = [settlement(CLAIM.key, outcome, Trail()) for outcome in outcomes]
    assert [(row.status, row.give_back, row.delay_s) for row in rows] == [
        ("pending", False, 3.0),
        ("failed", False, 0.0),
        ("pending", True, 2.0),
        ("pending", True, 0.0),
    ]
    assert {(row.id, row.lease_token) for row in rows} == {(CLAIM.id, CLAIM.lease_token)}


@per_row("action", [Action.RETRY, Action.GIVE_BACK, Action.FAIL])
def test_an_outcome_keeps_what_is_known_of_the_error(action: Action) -> None:
    error = ImageFetchFailed("404", details={"picture": 2, "status": 404})
    assert outcome_of(error, Verdict(action=action)).details == {"picture": 2, "status": 404}
