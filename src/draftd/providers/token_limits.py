"""Limits in tokens, as the texts of providers name them: how much fits into a window, how much a model can write."""

import re

# How a text names the window that a request does not fit into.
_WINDOWS = (
    re.compile(r"maximum (?:context|model|input|sequence)[ _]length (?:is|of)(?: only)? ([\d,]+)", re.IGNORECASE),
    re.compile(
        r"maximum model length of ([\d,]+)|max_model_len[^\d]{0,20}([\d,]+)|n_ctx\W{1,4}([\d,]+)", re.IGNORECASE
    ),
    re.compile(r"context (?:size|length|window|limit)(?: is| of|:)?[^\d]{0,12}([\d,]+)", re.IGNORECASE),
    re.compile(
        r"limit is ([\d,]+)|> ([\d,]+) maximum|must be <= ([\d,]+)|maximum(?: of| is)? ([\d,]+) tokens", re.IGNORECASE
    ),
)
_COUNTS_OUTPUT = re.compile(r"completion|output|max_(?:new_|completion_)?tokens|generat", re.IGNORECASE)
_CEILINGS = (
    re.compile(r"at most ([\d,]+) (?:completion|output)|max_\w*tokens: [\d,]+ > ([\d,]+)", re.IGNORECASE),
    re.compile(
        r"(?:less than or equal to|<=|at most|maximum (?:value|allowed)?(?: is| of)?|limit of"
        r"|range of \w+ (?:should be|is)? ?\[\d+, ?) ?`?([\d,]+)",
        re.IGNORECASE,
    ),
)


def window_of(words: str) -> int | None:
    """Return how many tokens fit into the model's window, as a text names it."""
    return _number(_WINDOWS, words)


def counts_output(words: str) -> bool:
    """Return whether a text counts the tokens of the answer with those of the request."""
    return bool(_COUNTS_OUTPUT.search(words))


def ceiling_of(words: str) -> int | None:
    """Return how many output tokens a model can write, as a text names it."""
    return _number(_CEILINGS, words)


def _number(patterns: tuple[re.Pattern[str], ...], words: str) -> int | None:
    for pattern in patterns:
        if match := pattern.search(words):
            digits = next((group for group in match.groups() if group), "").replace(",", "")
            if digits.isdecimal() and int(digits[:9]) > 0:
                return int(digits[:9])
    return None
