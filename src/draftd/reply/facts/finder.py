"""Facts in a text: numbers, amounts, dates, times, phone numbers, e-mail addresses, handles and links.

Owns the order in which the scanners take a text. Invariant: the work grows linearly with the text, so every pattern is anchored
and bounded.
"""

import re
from typing import Final

from draftd.reply.facts import dates, figures, phones, times, vocabulary
from draftd.reply.facts.fact import Fact
from draftd.reply.facts.search import Search


def find(text: str, language: str, *, own: bool = True, is_source: bool = False) -> list[Fact]:
    """Return the facts of a text in order.

    Args:
        text: as written.
        language: two letters; decides how number words and times of day are read.
        own: whether the text is in this language; if not, words that mean something else in another language are ignored.
        is_source: reads generously: "both" is a 2, and a number may be an hour.
    """
    search = Search.begin(text, language, own=own, is_source=is_source)
    for scan in _SCANNERS if search.has_digits else _SCANNERS_WITHOUT_DIGITS:
        if not search.is_full:
            scan(search)
    return sorted(search.found, key=lambda fact: fact.start)


def _scan_words(search: Search) -> None:
    months_seen = 0
    for match in search.matches(_WORD):
        if months_seen > search.limit:
            return
        start = match.group()[:3]
        if start in dates.STARTS:
            months_seen += dates.add_named(search, match)
        if start in _NOON_STARTS:
            times.add_named(search, match)


_WORD: Final = re.compile(r"[^\W\d_]{2,24}")
_NOON_STARTS: Final = frozenset(word[:3] for word in vocabulary.NOON | vocabulary.MIDNIGHT)
_SCANNERS: Final = (
    phones.scan,
    dates.scan_digits,
    dates.scan_japanese,
    _scan_words,
    times.scan_phrases,
    figures.scan_hours_and_minutes,
    times.scan,
    figures.scan_amounts,
    figures.scan_durations,
    figures.scan_stars,
    dates.scan_days,
    figures.scan_numbers,
)
_SCANNERS_WITHOUT_DIGITS: Final = (
    dates.scan_japanese,
    _scan_words,
    times.scan_phrases,
    figures.scan_durations,
    figures.scan_stars,
)
