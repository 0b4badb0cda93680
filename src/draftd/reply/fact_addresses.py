"""E-mail addresses, handles, links and phone numbers in a text."""

import re
from collections.abc import Iterator
from typing import Final

from draftd.reply import fact_dates, links
from draftd.reply.fact import FactKind

MAX_SIGNS: Final = 400
"""How many ``@`` are looked at."""


def is_phone(candidate: str, follows: str) -> bool:
    """Return whether digits and separators are a phone number rather than a date, an amount or a list of numbers."""
    digits = re.sub(r"\D", "", candidate)
    if not 7 <= len(digits) <= 15 or fact_dates.ISO.match(candidate) or fact_dates.NUMERIC_DATE.match(candidate):
        return False
    if _HOURS.fullmatch(candidate):
        return False
    if re.match(r" ?(?:€|\$|£|₺|tl\b|eur|r\$|円|km)", follows):
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


def addresses(lower: str) -> Iterator[tuple[FactKind, int, int]]:
    """Yield e-mail addresses, handles and links with their start and end, without overlaps."""
    taken = 0
    spans = [(match.start(), match.end(), FactKind.LINK) for match in links.spans(lower)]
    position = lower.find("@")
    tries = 0
    while position >= 0 and tries < MAX_SIGNS:
        tries += 1
        local = _LOCAL_PART.search(lower, max(0, position - 64), position)
        domain = _DOMAIN.match(lower, position + 1)
        if local and domain:
            spans.append((local.start(), domain.end(), FactKind.EMAIL))
        elif not local and (name := _HANDLE.match(lower, position + 1)) and name.group() not in _EVERYBODY:
            spans.append((position, name.end(), FactKind.HANDLE))
        position = lower.find("@", position + 1)
    spans += [(match.start(), match.end(), FactKind.HANDLE) for match in _REDDIT.finditer(lower)]
    for start, end, kind in sorted(spans, key=lambda span: (span[0], -span[1])):
        if start >= taken:
            taken = end
            yield kind, start, end


_EVERYBODY: Final = frozenset({"all", "here", "channel", "everyone", "todos", "alle"})
_LOCAL_PART: Final = re.compile(r"[\w.+%-]{1,64}$")
_DOMAIN: Final = re.compile(r"(?:[\w-]{1,63}\.){1,6}[a-z]{2,24}(?![\w-])")
_HANDLE: Final = re.compile(r"\w(?:[\w.-]{0,38}\w)?")
_REDDIT: Final = re.compile(r"(?<![\w/.])/?[ur]/\w{3,24}")
PHONE: Final = re.compile(
    r"(?<![a-z0-9_.,/+:#-])(?:\+|00)?\(?\d{1,12}\)?(?:(?: |-|\.|/|\) ?)\(?\d{1,9}\)?){0,7}(?![a-z0-9_%])"
)
_HOURS: Final = re.compile(r"\d{1,2}[.]\d{2} ?- ?\d{1,2}[.]\d{2}")
