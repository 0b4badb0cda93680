"""Phone numbers in a text. ``known`` compares them."""

import re
from typing import Final

from draftd.reply.facts import dates
from draftd.reply.facts.fact import FactKind
from draftd.reply.facts.search import Search


def scan(search: Search) -> None:
    """Add the phone numbers of a text."""
    for match in search.matches(_PHONE):
        if _is_phone(match.group(), search.text[match.end() : match.end() + 6]):
            search.add(match.span(), FactKind.PHONE, {("phone", match.group())})


def _is_phone(candidate: str, follows: str) -> bool:
    """Return whether digits and separators are a phone number rather than a date, an amount or a list of numbers."""
    digits = re.sub(r"\D", "", candidate)
    if not 7 <= len(digits) <= 15 or dates.ISO.match(candidate) or dates.NUMERIC_DATE.match(candidate):
        return False
    if _HOURS.fullmatch(candidate) or _CURRENCY.match(follows):
        return False
    if candidate[0] in "+(" or candidate.startswith("00"):
        return True
    groups = re.split(r"\D+", candidate.strip())
    if candidate[0] == "0":
        return len(digits) >= 8
    is_thousands = len(groups) > 1 and all(len(group) == 3 for group in groups[1:]) and len(groups[0]) < 3
    return (
        9 <= len(digits) <= 11
        and len(groups) >= 2
        and not is_thousands
        and "/" not in candidate
        and len(groups[0]) <= 5
    )


_PHONE: Final = re.compile(
    r"(?<![a-z0-9_.,/+:#-])(?:\+|00)?\(?\d{1,12}\)?(?:(?: |-|\.|/|\) ?)\(?\d{1,9}\)?){0,7}(?![a-z0-9_%])"
)
_HOURS: Final = re.compile(r"\d{1,2}[.]\d{2} ?- ?\d{1,2}[.]\d{2}")
_CURRENCY: Final = re.compile(r" ?(?:€|\$|£|₺|tl\b|eur|r\$|円|km)")
