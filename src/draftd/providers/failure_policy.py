"""The failure policy: the only place that decides what an error means for its request and its model.

Two pure functions: ``judge`` decides what happens to the request, ``reaction`` what the fleet does about the model.
``outcome_of`` turns a verdict into the outcome to settle. ``RULES`` holds what an error class implies besides its kind.

Invariants: an error of kind ``hold`` spends no attempt, unless the model has answered another request in the meantime or the row
was given back ``MAX_GIVEN_BACK`` times; an error without a model never puts one on hold.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from draftd.backoff import Uniform, full_jitter_s, retry_delay_s
from draftd.errors import (
    BudgetExceeded,
    ContextTooLong,
    ImageUnreadable,
    Kind,
    ModelMisconfigured,
    ModelRateLimited,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
    NoRoomNow,
    NothingOpen,
    NothingToReplyTo,
    OutputInvalid,
    RequestError,
)
from draftd.queue.outcome import Fail, GiveBack, Retry
from draftd.request import Claim

MAX_GIVEN_BACK = 10
"""A row given back this often counts as the cause of its failures (section 3 of the contract)."""
BURSTS_UNTIL_HOLD = 3
"""After this many bursts of rate limits without a success in between, throttling has not helped."""
TRANSIENT_S = 5.0
"""A call that took longer than this to fail met an outage: repeating it would waste the attempt's time."""
REPEAT_DELAY_S = (0.2, 1.0)
"""Minimum and maximum delay before a call is repeated: enough for a transient failure, short enough for a waiting person."""
MAX_GIVE_BACK_DELAY_S = 10.0
SHORTEST_ANSWER_S = 1.0
"""A row that expires this soon after the next day's budget begins will not be answered either. Covers the error of two clocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What an error class implies besides its kind."""

    is_transient: bool = False
    """The call may succeed if repeated at once, which is cheaper than giving the row back."""
    allows_fallback: bool = False
    """Another model may succeed."""
    model_responded: bool = False
    """The model responded, so its hold ends, whatever the response was."""


RULES: Mapping[type[RequestError], Rule] = {
    ModelRateLimited: Rule(allows_fallback=True),
    ModelUnavailable: Rule(allows_fallback=True, is_transient=True),
    ModelMisconfigured: Rule(allows_fallback=True),
    ModelTimeout: Rule(allows_fallback=True),
    ModelRefused: Rule(allows_fallback=True, model_responded=True),
    ImageUnreadable: Rule(allows_fallback=True, model_responded=True),
    ContextTooLong: Rule(allows_fallback=True, model_responded=True),
    OutputInvalid: Rule(model_responded=True),
    NothingToReplyTo: Rule(model_responded=True),
    NothingOpen: Rule(model_responded=True),
}
_NO_RULE = Rule()


class ModelState(Enum):
    """What the fleet knows about a model after an error."""

    UNKNOWN = "unknown"
    """The error says nothing about the model, or the database did not answer in time."""
    THROTTLED = "throttled"
    """Its concurrency is reduced."""
    HELD = "held"
    """It is on hold: no daemon claims for it until a probe succeeds."""
    WORKING = "working"
    """It has answered another request since the failing call began: this request is at fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known besides the error and the claim."""

    can_repeat: bool = False
    """Tries and time allow repeating the call within this attempt."""
    failed_after_s: float = 0.0
    """Duration of the failed call, in seconds."""
    has_next_model: bool = False
    """The agent has another model that can be called within this attempt."""
    has_held_model: bool = False
    """One of the agent's models is on hold, so a refusal by the others is not final."""
    model: ModelState = ModelState.UNKNOWN
    """State of the model that the error came from."""
    expires_in_s: float | None = None
    """Seconds until the request expires; None if it never does."""


NO_FACTS = Facts()


class Action(Enum):
    """What to do with a request after an error."""

    REPEAT_CALL = "repeat_call"
    """Repeat the call within this attempt."""
    NEXT_MODEL = "ask_next"
    """Call the agent's next model within this attempt."""
    RETRY = "retry"
    """Return the row to pending; the attempt is spent."""
    GIVE_BACK = "give_back"
    """Return the row to pending; the attempt is not spent."""
    FAIL = "fail"
    """End the request as failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to do, and after how many seconds."""

    action: Action
    delay_s: float = 0.0


class Reaction(Enum):
    """What the fleet does about a model after an error."""

    NONE = "none"
    END_HOLD = "end_hold"
    THROTTLE = "throttle"
    HOLD = "hold"


def judge(error: RequestError, claim: Claim, facts: Facts = NO_FACTS, *, draw: Uniform = random.uniform) -> Verdict:
    """Decide what happens to a request after an error.

    Args:
        error: what went wrong.
        claim: the request's claim: its attempts, its probe and how often it was given back.
        facts: what else is known; by default nothing more can be done within the attempt.
        draw: source of the jitter.
    """
    if isinstance(error, BudgetExceeded | NoRoomNow):
        return _judge_not_reserved(error, facts)
    rule = RULES.get(type(error), _NO_RULE)
    if rule.is_transient and facts.can_repeat and _may_be_transient(error, claim, facts):
        return Verdict(action=Action.REPEAT_CALL, delay_s=draw(*REPEAT_DELAY_S))
    if rule.allows_fallback and facts.has_next_model:
        return Verdict(action=Action.NEXT_MODEL)
    if _is_model_fault(error, claim, facts):
        return Verdict(action=Action.GIVE_BACK, delay_s=_give_back_delay_s(error, claim, facts, draw))
    if error.kind is Kind.FINAL and not (rule.allows_fallback and facts.has_held_model):
        return Verdict(action=Action.FAIL)
    return Verdict(action=Action.RETRY, delay_s=retry_delay_s(claim.attempt, error.retry_after_s, draw=draw))


def _judge_not_reserved(error: BudgetExceeded | NoRoomNow, facts: Facts) -> Verdict:
    """Decide what happens to a request whose call was not made: it waits, unless it expires before the next day's budget.

    The models have nothing to do with it: none goes on hold, and another one is not called instead.
    """
    delay_s = error.retry_after_s
    if isinstance(error, BudgetExceeded) and (
        delay_s is None or (facts.expires_in_s is not None and facts.expires_in_s <= delay_s + SHORTEST_ANSWER_S)
    ):
        return Verdict(action=Action.FAIL)
    return Verdict(action=Action.GIVE_BACK, delay_s=delay_s or 0.0)


def _may_be_transient(error: RequestError, claim: Claim, facts: Facts) -> bool:
    """Return whether a repeated call may succeed: the error came quickly and without a Retry-After.

    A probe makes one call only, because the fleet waits for its result.
    """
    return facts.failed_after_s <= TRANSIENT_S and not error.retry_after_s and claim.probe != error.model


def _is_model_fault(error: RequestError, claim: Claim, facts: Facts) -> bool:
    is_hold = error.kind is Kind.HOLD and error.model is not None
    return is_hold and facts.model is not ModelState.WORKING and not is_given_back_too_often(claim)


def is_given_back_too_often(claim: Claim) -> bool:
    """Return whether a row has been given back so often that it counts as the cause."""
    return claim.given_back >= MAX_GIVEN_BACK


def _give_back_delay_s(error: RequestError, claim: Claim, facts: Facts, draw: Uniform) -> float:
    """Return how long a row that is given back waits, in seconds.

    Under a hold, the hold itself makes rows wait. A row that was given back before waits a little longer, in case it is the
    cause. Without a hold, only this delay keeps the row from being called again at once.
    """
    if facts.model is not ModelState.HELD:
        return retry_delay_s(claim.given_back + 1, error.retry_after_s, draw=draw)
    return full_jitter_s(claim.given_back, cap_s=MAX_GIVE_BACK_DELAY_S, draw=draw) if claim.given_back else 0.0


def reaction(error: RequestError, claim: Claim, *, model: str, is_throttled: bool = False) -> Reaction:
    """Decide what the fleet does about a model after an error.

    Args:
        error: what went wrong.
        claim: the request's claim.
        model: the model that was called.
        is_throttled: whether throttling has been tried and has not helped.
    """
    if RULES.get(type(error), _NO_RULE).model_responded:
        return Reaction.END_HOLD
    if error.kind is not Kind.HOLD:
        return Reaction.NONE
    is_probe = claim.probe == model
    if isinstance(error, ModelRateLimited) and not (error.is_quota or is_probe or is_throttled):
        return Reaction.THROTTLE
    # A failed probe must extend the pause even if its row will be retried; otherwise the next probe would follow at once.
    return Reaction.HOLD if is_probe or not is_given_back_too_often(claim) else Reaction.NONE


def outcome_of(error: RequestError, verdict: Verdict) -> Retry | GiveBack | Fail:
    """Return the outcome to settle when an attempt ends with an error."""
    if isinstance(error, NoRoomNow):
        # Nothing went wrong: the row waits, and says nothing of it.
        return GiveBack(delay_s=verdict.delay_s)
    code, message, told, details = error.code, error.message, error.told, error.details
    if verdict.action is Action.FAIL:
        return Fail(code=code, message=message, told=told, model=error.model, details=details)
    if verdict.action is Action.GIVE_BACK:
        return GiveBack(
            code=code, message=message, told=told, delay_s=verdict.delay_s, model=error.model or "", details=details
        )
    return Retry(code=code, message=message, told=told, delay_s=verdict.delay_s, model=error.model, details=details)
