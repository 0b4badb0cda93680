"""What a written number, date or time may mean: ``4.250`` is 4250 or 4.25, "at 8" is 8:00 or 20:00, 90 minutes are 1.5 hours."""

import re
from decimal import Decimal
from typing import Final

from draftd.reply.facts.fact import Meanings

MOST_DIGITS: Final = 15
"""A longer number is the number of a thing, and is never converted."""


def dated(day: int, month: int, year: str) -> Meanings:
    """Return a day of a month as a meaning; none if there is no such day.

    Args:
        day: from 1.
        month: from 1.
        year: two or four digits; empty if it is not named.
    """
    if not (1 <= day <= 31 and 1 <= month <= 12):
        return set()
    full = f"20{year}" if len(year) == 2 else year
    return {("date", str(month), str(day), full) if full else ("date", str(month), str(day))}


def clock(hour: int, minute: int, half: str = "") -> Meanings:
    """Return a time of day as meanings, in minutes after midnight; ``half`` is ``a`` or ``p`` if it was named."""
    if hour > 24 or minute > 59:
        return set()
    if half and hour <= 12:
        return {("time", str((hour % 12 + (12 if half == "p" else 0)) * 60 + minute))}
    hours = {hour % 24} if hour > 12 or hour == 0 else {hour, (hour + 12) % 24}
    return {("time", str(each * 60 + minute)) for each in hours}


def quantity(digits: str) -> Meanings:
    """Return the meanings of a bare number."""
    return {("number", value) for value in values(digits, None)}


def values(digits: str, scale: str | None) -> set[str]:
    """Return what a number may be worth: ``4.250`` is 4250 or 4.25."""
    power = _SCALES.get((scale or "").strip(" ."), 0)
    groups = re.split(r"[.,' ]", digits)
    marks = re.findall(r"[.,' ]", digits)
    readings = set()
    if all(len(group) == 3 for group in groups[1:]) and len(groups[0]) <= 3:
        readings.add(("".join(groups), ""))
    if (
        len(groups) > 1
        and marks[-1] in ".,"
        and groups[-1] != "000"
        and (len(groups) == 2 or all(len(group) == 3 for group in groups[1:-1]))
    ):
        readings.add(("".join(groups[:-1]), groups[-1]))
    if not readings:
        readings.add(("".join(groups), ""))
    return {_scaled(whole, part, power) for whole, part in readings}


def without_zeros(digits: str) -> str:
    """Return digits without leading zeros."""
    return digits.lstrip("0") or "0"


def measured(value: str, unit: str) -> Meanings:
    """Return a number with a unit in the smallest unit of its kind, so that 90 minutes are 1.5 hours; none for other units.

    Args:
        value: the number, with a point before decimals.
        unit: such as ``hour``; see ``vocabulary.UNITS``.
    """
    if len(value) > MOST_DIGITS or unit not in _KINDS:
        return set()
    kind, factors = _KINDS[unit]
    number = Decimal(_DAYS.get(value, value) if unit == "day" else value)
    return {(kind, f"{(number * factor).normalize():f}") for factor in factors}


def _scaled(whole: str, part: str, power: int) -> str:
    if power:
        part = part.rstrip("0") if len(part) > power else part.ljust(power, "0")
        whole, part = whole + part[:power], part[power:]
    part = part.rstrip("0")
    whole = without_zeros(whole)
    return f"{whole}.{part}" if part else whole


_SCALES: Final = {
    "k": 3, "tsd": 3, "tausend": 3, "thousand": 3, "grand": 3, "mille": 3, "mila": 3, "mil": 3, "bin": 3, "1000": 3, "t": 3,
    "mio": 6, "mn": 6, "m": 6, "million": 6, "millionen": 6, "millions": 6, "millones": 6, "milhões": 6, "milioni": 6,
    "milyon": 6, "1000000": 6, "bn": 9, "mrd": 9, "billion": 9, "万": 4, "億": 8, "千": 3,
}  # fmt: skip
_IN_SMALLEST: Final[dict[str, dict[str, tuple[int, ...]]]] = {
    "duration": {"minute": (1,), "hour": (60,), "day": (1_440,), "week": (10_080,)},
    "months": {"month": (1,), "year": (12,)},
    "length": {"millimetre": (1,), "centimetre": (10,), "metre": (1_000,), "km": (1_000_000,)},
    "weight": {"gram": (1,), "kg": (1_000,)},
    "volume": {"millilitre": (1,), "centilitre": (10,), "decilitre": (100,), "litre": (1_000,)},
    "data": {"megabyte": (1,), "gigabyte": (1_000, 1_024), "terabyte": (1_000_000, 1_048_576)},
}
_KINDS: Final = {unit: (kind, factors) for kind, units in _IN_SMALLEST.items() for unit, factors in units.items()}
_DAYS: Final = {"8": "7", "15": "14"}
"""A week and two weeks, as some count them: "acht Tage", "quinze jours"."""
