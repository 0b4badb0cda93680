"""What a failure means: retry, give back, fail, ask another model. Decided here and nowhere else.

Two pure functions answer the two questions that an error raises: ``judge``, what becomes of the request, and ``reaction``, what
the fleet does about the model. ``outcome_of`` turns a verdict into the outcome that is settled. What errors of one class have
in common beside their kind stands in ``RULES``.

Invariants: an error of the kind ``hold`` spends no attempt, unless another request was answered by the same model meanwhile or
the row was given back ``MAX_GIVEN_BACK`` times; an error that is none of a model never holds one.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from draftd.backoff import Uniform, full_jitter_s, retry_delay_s
from draftd.errors import (
    ContextTooLong,
    ImageUnreadable,
    Kind,
    ModelMisconfigured,
    ModelRateLimited,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
    NothingOpen,
    NothingToReplyTo,
    OutputInvalid,
    RequestError,
)
from draftd.queue.outcome import Fail, Hold, Retry
from draftd.request import Claim

MAX_GIVEN_BACK = 10
"""A row that was given back so often is itself the reason, as far as it is concerned (section 3 of the contract)."""
BURSTS_UNTIL_HOLD = 3
"""After so many bursts of rate limits without a success between them, fewer calls at a time do not help."""
HICCUP_S = 5.0
"""A call that failed later than this after its start met an outage: a repeat would spend the attempt's time on it."""
REPEAT_WAIT_S = (0.2, 1.0)
"""Between two tries of one call: a provider's hiccup is over by then, and the requester still waits."""
LONGEST_STEP_ASIDE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What errors of one class have in common beside their kind."""

    may_pass_at_once: bool = False
    """Repeating the call is cheaper than giving the row back and preparing its pictures again."""
    another_may_do: bool = False
    """Another model may give an answer."""
    was_answered: bool = False
    """The model is well, whatever it said: a hold of it ends."""


RULES: Mapping[type[RequestError], Rule] = {
    ModelRateLimited: Rule(another_may_do=True),
    ModelUnavailable: Rule(another_may_do=True, may_pass_at_once=True),
    ModelMisconfigured: Rule(another_may_do=True),
    ModelTimeout: Rule(another_may_do=True),
    ModelRefused: Rule(another_may_do=True, was_answered=True),
    ImageUnreadable: Rule(another_may_do=True, was_answered=True),
    ContextTooLong: Rule(another_may_do=True, was_answered=True),
    OutputInvalid: Rule(was_answered=True),
    NothingToReplyTo: Rule(was_answered=True),
    NothingOpen: Rule(was_answered=True),
}
_NO_RULE = Rule()


class ModelState(Enum):
    """What the fleet has found out about a model after an error."""

    UNKNOWN = "unknown"
    """Nobody was asked, or the database did not answer in time."""
    THROTTLED = "throttled"
    """It gets fewer calls at a time."""
    HELD = "held"
    """It is on hold: nobody claims for it until a probe succeeds."""
    WORKING = "working"
    """It has answered another request since the failing call began: the fault is this request's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known beside the error and the claim."""

    can_repeat: bool = False
    """The same call may be made once more within this attempt, as far as tries and time go."""
    failed_after_s: float = 0.0
    """How long the failed call took, in seconds."""
    can_ask_next: bool = False
    """The agent has another model that can be asked within this attempt."""
    is_one_left_out: bool = False
    """A model of the agent is on hold: what the others say is not the last word."""
    model: ModelState = ModelState.UNKNOWN
    """How the model is that the error came from."""


NOTHING_KNOWN = Facts()


class Action(Enum):
    """What is done next with a request whose attempt met an error."""

    REPEAT_CALL = "repeat_call"
    """Make the same call again, within this attempt."""
    ASK_NEXT = "ask_next"
    """Ask the agent's next model, within this attempt."""
    RETRY = "retry"
    """Back to pending, the attempt spent."""
    GIVE_BACK = "give_back"
    """Back to pending, the attempt unspent."""
    FAIL = "fail"
    """Failed at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is done next, and after how many seconds."""

    action: Action
    delay_s: float = 0.0


class Reaction(Enum):
    """What the fleet does about a model after an error."""

    NONE = "none"
    END_HOLD = "end_hold"
    THROTTLE = "throttle"
    HOLD = "hold"


def judge(
    error: RequestError, claim: Claim, facts: Facts = NOTHING_KNOWN, *, draw: Uniform = random.uniform
) -> Verdict:
    """Decide what becomes of a request after an error.

    Args:
        error: what went wrong.
        claim: whose attempt it was: its probe, and how often the row was tried and given back.
        facts: what else is known; without any, nothing more can be done within the attempt.
        draw: where the jitter of delays comes from.
    """
    rule = RULES.get(type(error), _NO_RULE)
    if rule.may_pass_at_once and facts.can_repeat and _is_hiccup(error, claim, facts):
        return Verdict(action=Action.REPEAT_CALL, delay_s=draw(*REPEAT_WAIT_S))
    if rule.another_may_do and facts.can_ask_next:
        return Verdict(action=Action.ASK_NEXT)
    if _is_the_models_fault(error, claim, facts):
        return Verdict(action=Action.GIVE_BACK, delay_s=_give_back_delay_s(error, claim, facts, draw))
    if error.kind is Kind.FINAL and not (rule.another_may_do and facts.is_one_left_out):
        return Verdict(action=Action.FAIL)
    return Verdict(action=Action.RETRY, delay_s=retry_delay_s(claim.attempt, error.retry_after_s, draw=draw))


def _is_hiccup(error: RequestError, claim: Claim, facts: Facts) -> bool:
    """Return whether an error may be over in a moment: it came soon, and the provider does not ask for more time.

    A probe is one call: the fleet waits for what it says, and many of them must not add up.
    """
    return facts.failed_after_s <= HICCUP_S and not error.retry_after_s and claim.probe != error.model


def _is_the_models_fault(error: RequestError, claim: Claim, facts: Facts) -> bool:
    is_hold = error.kind is Kind.HOLD and error.model is not None
    return is_hold and facts.model is not ModelState.WORKING and not is_spent(claim)


def is_spent(claim: Claim) -> bool:
    """Return whether a row has come back so often that it is itself the reason."""
    return claim.given_back >= MAX_GIVEN_BACK


def _give_back_delay_s(error: RequestError, claim: Claim, facts: Facts, draw: Uniform) -> float:
    """Return how long a row waits that is given back.

    A hold does the waiting, and after it every row counts. A row that has come back before steps aside a little, in case it is
    itself the reason. Without a hold nothing else keeps it from being asked again at once.
    """
    if facts.model is not ModelState.HELD:
        return retry_delay_s(claim.given_back + 1, error.retry_after_s, draw=draw)
    return full_jitter_s(claim.given_back, cap_s=LONGEST_STEP_ASIDE_S, draw=draw) if claim.given_back else 0.0


def reaction(error: RequestError, claim: Claim, *, model: str, is_throttled: bool = False) -> Reaction:
    """Decide what the fleet does about a model after an error.

    Args:
        error: what went wrong.
        claim: whose attempt it was.
        model: the model that was asked.
        is_throttled: whether fewer calls at a time have not helped.
    """
    if RULES.get(type(error), _NO_RULE).was_answered:
        return Reaction.END_HOLD
    if error.kind is not Kind.HOLD:
        return Reaction.NONE
    is_probe = claim.probe == model
    if isinstance(error, ModelRateLimited) and not (error.is_quota or is_probe or is_throttled):
        return Reaction.THROTTLE
    # A probe that will be retried has failed, too: without its pause the next one would follow at once.
    return Reaction.HOLD if is_probe or not is_spent(claim) else Reaction.NONE


_OUTCOMES: Mapping[Action, Callable[[RequestError, float], Retry | Hold | Fail]] = {
    Action.RETRY: lambda error, delay_s: Retry(
        code=error.code, message=error.message, delay_s=delay_s, model=error.model, details=error.details
    ),
    Action.GIVE_BACK: lambda error, delay_s: Hold(
        code=error.code, message=error.message, delay_s=delay_s, model=error.model or "", details=error.details
    ),
    Action.FAIL: lambda error, _: Fail(
        code=error.code, message=error.message, model=error.model, details=error.details
    ),
}


def outcome_of(error: RequestError, verdict: Verdict) -> Retry | Hold | Fail:
    """Return what is settled when an attempt ends with an error."""
    return _OUTCOMES[verdict.action](error, verdict.delay_s)
