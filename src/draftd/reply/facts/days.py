"""Days that are named by another day: "tomorrow", "Thursday", "next month", Christmas Eve.

The requester's time zone is not known, and a screenshot may be older than the request. So "tomorrow" counts from each day that it
may have been for the requester, and from each date that the same text shows.
"""

import re
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, timedelta
from typing import Final

from draftd.reply.facts import vocabulary
from draftd.reply.facts.fact import Meanings

WEST: Final = timedelta(hours=11)
EAST: Final = timedelta(hours=13)
"""How far local time is behind and ahead of UTC; further away live 12,000 people."""
_WEEKDAY_RANGE: Final = range(-6, 15)
"""The days around today that a weekday may mean."""


def possible_days(asked_at: datetime) -> tuple[date, date]:
    """Return the two days that it may be for a requester in an unknown time zone."""
    at = asked_at.astimezone(UTC)
    return (at - WEST).date(), (at + EAST).date()


def named(plain: str) -> Meanings:
    """Return what a text names by another day: ``("ahead", "1")`` for "tomorrow", likewise months and years, and feasts as dates.

    Args:
        plain: the text in the form in which texts are searched.
    """
    found: Meanings = {("ahead", str(ahead)) for phrase, ahead in vocabulary.PHRASES_AHEAD.items() if phrase in plain}
    found |= {
        ("ahead", str(vocabulary.DAYS_AHEAD[word])) for word in set(_WORD.findall(plain)) & vocabulary.DAYS_AHEAD.keys()
    }
    found |= {("ahead", str(ahead)) for word, ahead in _JAPANESE if word in plain}
    found |= {("months ahead", str(ahead)) for phrase, ahead in vocabulary.MONTHS_AHEAD.items() if phrase in plain}
    found |= {("years ahead", str(ahead)) for phrase, ahead in vocabulary.YEARS_AHEAD.items() if phrase in plain}
    return found | {("date", *map(str, date)) for feast, date in vocabulary.FEASTS.items() if feast in plain}


def from_shown(stated: AbstractSet[tuple[str, ...]], today: Sequence[date]) -> Meanings:
    """Return the days that one text names by a date that it shows: it may be older than the request.

    Args:
        stated: what the text states.
        today: the days that it may be today.
    """
    return _dates(day + timedelta(days=ahead) for day in _shown(stated, today) for ahead in _ahead(stated))


def from_today(stated: AbstractSet[tuple[str, ...]], today: Sequence[date]) -> Meanings:
    """Return the days, months and years that all texts together name by today, and the dates of their weekdays.

    Args:
        stated: what the texts state.
        today: the days that it may be today.
    """
    # A message that shows today's date tells which of them it is.
    known = _shown(stated, today) & set(today) or today
    weekdays = {int(meaning[1]) for meaning in stated if meaning[0] == "weekday"}
    around = {day + timedelta(days=ahead) for day in known for ahead in _WEEKDAY_RANGE} if weekdays else set()
    found = {day for day in around if day.isoweekday() in weekdays}
    found |= {day + timedelta(days=ahead) for day in known for ahead in _ahead(stated)}
    meanings = _dates(found)
    for meaning in stated:
        if meaning[0] == "months ahead":
            meanings |= {("month", str((day.month - 1 + int(meaning[1])) % 12 + 1)) for day in known}
        elif meaning[0] == "years ahead":
            meanings |= {("number", str(day.year + int(meaning[1]))) for day in known}
    return meanings


def nearest(today: date, meaning: tuple[str, ...]) -> date:
    """Return the day that a date without a year means, or with one the day itself.

    Args:
        today: the day of the request.
        meaning: ``("date", month, day)``, perhaps with a year.
    """
    month, day, *year = map(int, meaning[1:])
    candidates = [
        found for each in year or range(today.year - 4, today.year + 5) if (found := _day(each, month, day)) is not None
    ]
    return min(candidates, key=lambda candidate: abs(candidate - today), default=today)


def _day(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None


def _shown(stated: AbstractSet[tuple[str, ...]], today: Sequence[date]) -> set[date]:
    return {nearest(today[0], meaning) for meaning in stated if meaning[0] == "date"} if today else set()


def _ahead(stated: AbstractSet[tuple[str, ...]]) -> list[int]:
    return [int(meaning[1]) for meaning in stated if meaning[0] == "ahead"]


def _dates(found: Iterable[date]) -> Meanings:
    return {
        meaning
        for day in set(found)
        for meaning in (("date", str(day.month), str(day.day)), ("weekday", str(day.isoweekday())))
    }


_WORD: Final = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
_JAPANESE: Final = tuple(
    (word, ahead) for word, ahead in vocabulary.DAYS_AHEAD.items() if not word[0].isascii() and word[0] > "぀"
)
"""Japanese is written without spaces, so its words are searched for."""
