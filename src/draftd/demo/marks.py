"""Marks the facts of a reply that stand in no source; the demo's page and the evaluation's report show them."""

import re
from collections.abc import Iterable

_LETTER_OR_DIGIT = "0-9A-Za-z\u00c0-\u024f"
"""Not those of scripts that write words without spaces: there, a neighbour may belong to another word."""


def split(text: str, quotes: Iterable[str]) -> list[tuple[str, bool]]:
    """Split a text into parts, each with whether it is one of the quotes.

    A quote counts only as a whole: ``4`` is not marked within ``14:00`` or ``4,250``.
    """
    present = sorted({quote for quote in quotes if quote and quote in text}, key=len, reverse=True)
    if not present:
        return [(text, False)]
    parts = re.split(f"({'|'.join(_whole(quote, text) for quote in present)})", text)
    return [(part, number % 2 == 1) for number, part in enumerate(parts) if part]


def _whole(quote: str, text: str) -> str:
    """Return an expression for a quote as a whole, or for any occurrence if none stands by itself."""
    literal = re.escape(quote)
    before = f"(?<![{_LETTER_OR_DIGIT}])" if re.match(f"[{_LETTER_OR_DIGIT}]", quote) else ""
    before += r"(?<!\d[.,:])" if quote[0].isdigit() else ""
    after = f"(?![{_LETTER_OR_DIGIT}])" if re.match(f"[{_LETTER_OR_DIGIT}]", quote[-1]) else ""
    after += r"(?![.,:]\d)" if quote[-1].isdigit() else ""
    return before + literal + after if re.search(before + literal + after, text) else literal
