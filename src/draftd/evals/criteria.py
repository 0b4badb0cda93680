"""What a reply is judged by: criteria that are met or not, each named by how a reply fails it.

A yes or a no is easier to agree on than a grade, and can be counted. Every failure is asked about for each reply, because the
three fail in different ways.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum

from draftd.evals.cases import Case


class Failure(StrEnum):
    """How a reply fails."""

    WRONG_SPEAKER = "wrong_speaker"
    WRONG_TARGET = "wrong_target"
    ASK_UNANSWERED = "ask_unanswered"
    EVASIVE = "evasive"
    INVENTED = "invented"
    UNAUTHORISED_PROMISE = "unauthorised_promise"
    WRONG_LANGUAGE = "wrong_language"
    WRONG_REGISTER = "wrong_register"
    MISSES_GOOD = "misses_good"
    SAYS_FORBIDDEN = "says_forbidden"
    NOT_SEND_READY = "not_send_ready"


TITLES: Mapping[Failure, str] = {
    Failure.WRONG_SPEAKER: "wrong speaker",
    Failure.WRONG_TARGET: "wrong target",
    Failure.ASK_UNANSWERED: "an ask unanswered",
    Failure.EVASIVE: "evasive",
    Failure.INVENTED: "something invented",
    Failure.UNAUTHORISED_PROMISE: "a promise nobody authorised",
    Failure.WRONG_LANGUAGE: "wrong language",
    Failure.WRONG_REGISTER: "wrong register",
    Failure.MISSES_GOOD: "not what a good reply does",
    Failure.SAYS_FORBIDDEN: "says what it must not",
    Failure.NOT_SEND_READY: "not send-ready",
}
"""The names for people."""

QUESTIONS: Mapping[Failure, str] = {
    Failure.WRONG_SPEAKER: "it is not written from the requester's side, or speaks as somebody else",
    Failure.WRONG_TARGET: "it answers another message or person than the one that is meant",
    Failure.ASK_UNANSWERED: (
        "it leaves out something that the message asks, and neither answers it nor says plainly that it is open; `short` has to "
        "answer the main ask only"
    ),
    Failure.EVASIVE: (
        "it talks around what is asked, answers with a question where an answer was possible, or takes no position that the "
        "requester has taken. Where nobody has made a decision, a reply that leaves it open on purpose is evasive only if none "
        "of the other replies decides"
    ),
    Failure.INVENTED: (
        "it states a fact, number, date, name, place, reason, feeling or past act that neither the picture nor the requester "
        "gives; public knowledge that was asked for and is put as a suggestion is not invented"
    ),
    Failure.UNAUTHORISED_PROMISE: (
        "it commits the requester to something (to come, to send, to pay, to do) that the requester has not decided; a reply "
        "that accepts is allowed if another one of the three declines or leaves it open"
    ),
    Failure.WRONG_LANGUAGE: "it is not in the language of the message, or in the one that the requester asks for",
    Failure.WRONG_REGISTER: (
        "its tone does not fit the place and the people: too stiff, too familiar, too long, the wrong form of address, emoji or "
        "phrases that nobody uses there"
    ),
    Failure.MISSES_GOOD: "it does not do what `good_reply` describes",
    Failure.SAYS_FORBIDDEN: "it says something that `must_not_say` names, in these or other words",
    Failure.NOT_SEND_READY: (
        "a reasonable person in the requester's position would change a word before sending it, or not send it; a reply with any "
        "other failure is never send-ready"
    ),
}
"""When a reply fails, for the judge."""


def asked_of(case: Case) -> list[Failure]:
    """Return the failures that a judge is asked about: those that need a label only where the case has it."""
    without = {Failure.MISSES_GOOD: case.good is None, Failure.SAYS_FORBIDDEN: not case.must_not_say}
    return [failure for failure in Failure if not without.get(failure, False)]


def says_forbidden(case: Case, texts: Sequence[str]) -> bool:
    """Return whether a reply holds words that it must not say, without asking a judge."""
    folded = [text.casefold() for text in texts]
    return any(words.casefold() in text for words in case.must_not_say for text in folded)
