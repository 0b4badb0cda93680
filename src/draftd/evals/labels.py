"""How a result agrees with the labels of its case."""

from draftd.evals.cases import COMPLETED, Case
from draftd.evals.criteria import says_forbidden
from draftd.evals.results import Drafted

FORBIDDEN_WORDS = "forbidden_words"
"""The check that no reply holds words of ``must_not_say``."""
SEEN = ("platform", "content_type", "language", "reply_needed")
"""What a result says about the screenshot that can be labelled."""
LABELS = ("outcome", *SEEN, FORBIDDEN_WORDS)


def wanted(case: Case) -> dict[str, list[str]]:
    """Return the labels of a case: name → the values that are right."""
    labels = {"outcome": list(case.outcome), **{name: list(getattr(case, name)) for name in SEEN}}
    return {name: values for name, values in labels.items() if values}


def checks(case: Case, drafted: Drafted) -> dict[str, bool]:
    """Return which labels the result agrees with; of a request without a result only the outcome is checked."""
    found = {"outcome": drafted.outcome in case.outcomes}
    if drafted.outcome != COMPLETED:
        return found
    for name in SEEN:
        if values := getattr(case, name):
            found[name] = _plain(name, drafted.seen.get(name)) in {_plain(name, value) for value in values}
    if case.must_not_say:
        found[FORBIDDEN_WORDS] = not says_forbidden(case, [reply.text for reply in drafted.replies])
    return found


def _plain(name: str, value: object) -> str:
    """Return a value as it is compared: of a language, only the language itself ("pt-BR" is "pt")."""
    text = str(value).casefold()
    return text.partition("-")[0] if name == "language" else text
