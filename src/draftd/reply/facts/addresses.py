"""E-mail addresses, handles and links in a text."""

import re
from collections.abc import Iterator
from typing import Final

from draftd.reply import links
from draftd.reply.facts.fact import FactKind

MAX_SIGNS: Final = 400
"""How many ``@`` are looked at."""


def addresses(lower: str) -> Iterator[tuple[FactKind, int, int]]:
    """Yield e-mail addresses, handles and links with their start and end, without overlaps.

    Args:
        lower: a text in lower case.
    """
    taken = 0
    spans = [(match.start(), match.end(), FactKind.LINK) for match in links.spans(lower)]
    spans += _with_sign(lower)
    spans += [(match.start(), match.end(), FactKind.HANDLE) for match in _REDDIT.finditer(lower)]
    for start, end, kind in sorted(spans, key=lambda span: (span[0], -span[1])):
        if start >= taken:
            taken = end
            yield kind, start, end


def _with_sign(lower: str) -> Iterator[tuple[int, int, FactKind]]:
    position = lower.find("@")
    tries = 0
    while position >= 0 and tries < MAX_SIGNS:
        tries += 1
        local = _LOCAL_PART.search(lower, max(0, position - 64), position)
        domain = _DOMAIN.match(lower, position + 1)
        if local and domain:
            yield local.start(), domain.end(), FactKind.EMAIL
        elif not local and (name := _HANDLE.match(lower, position + 1)) and name.group() not in _EVERYBODY:
            yield position, name.end(), FactKind.HANDLE
        position = lower.find("@", position + 1)


_EVERYBODY: Final = frozenset({"all", "here", "channel", "everyone", "todos", "alle"})
_LOCAL_PART: Final = re.compile(r"[\w.+%-]{1,64}$", re.ASCII)
_DOMAIN: Final = re.compile(r"(?:[\w-]{1,63}\.){1,6}[a-z]{2,24}(?![\w-])", re.ASCII)
# Without spaces between words, as in Japanese, an address begins and ends at the first letter that is not ASCII.
# A time follows the sign as well: "@ 5pm", "@18:30".
_HANDLE: Final = re.compile(r"(?!\d{1,2}(?:[:.]\d\d)?(?:[ap]m|h|uhr)?(?![\w-]))\w(?:[\w.-]{0,38}\w)?")
_REDDIT: Final = re.compile(r"(?<![\w/.])/?[ur]/\w{3,24}")
