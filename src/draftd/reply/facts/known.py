"""What a set of sources states, and which facts that supports.

Owns which forms say the same: a number and the same one with a unit, a weekday and its date, 90 minutes and an hour and a half.
"""

import re
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Final

import phonenumbers

from draftd.reply import links
from draftd.reply.facts import days
from draftd.reply.facts.fact import Fact, FactKind, Meanings
from draftd.reply.facts.meanings import measured

MAX_PHONES: Final = 20
"""Phone numbers are compared in pairs; no real text has this many."""
NEAR_PERCENT: Final = 5
"""How far a number that is called rounded may be from the one it stands for."""
NEAR_MINUTES: Final = 10
"""The same for a time."""
_JOINTS: Final = re.compile(r"[ _/-]|(?<=[a-z])(?=\d)|(?<=\d)(?=[a-z])")
_BETWEEN_GROUPS: Final = re.compile(r"(?<=[a-z0-9])[ -](?=[a-z0-9])")


def _is_near(rounded: str, known: str) -> bool:
    return abs(float(known) - float(rounded)) * 100 <= NEAR_PERCENT * float(rounded)


@dataclass(frozen=True, kw_only=True)
class Known:
    """What sources state."""

    plain: str
    """All of them, in the form in which texts are searched."""
    stated: frozenset[tuple[str, ...]]
    """What they mean."""
    named: frozenset[tuple[str, ...]]
    """Days that they name by dates that they show."""
    today: tuple[date, ...]
    """The days that it may be today; empty if unknown."""
    _found: dict[Fact, bool] = field(default_factory=dict, init=False, repr=False, compare=False)

    def supports(self, fact: Fact) -> bool:
        """Return whether one of a fact's meanings is stated."""
        if fact not in self._found:
            self._found[fact] = self._supports(fact)
        return self._found[fact]

    def _supports(self, fact: Fact) -> bool:
        match fact.kind:
            case FactKind.PHONE:
                return self._has_phone(next(iter(fact.meanings))[1])
            case FactKind.LINK:
                return links.occurs_in(next(iter(fact.meanings))[1], self._shown)
            case FactKind.HANDLE:
                return self._has_name(next(iter(fact.meanings))[1])
            case FactKind.EMAIL:
                return bool(fact.meanings & self.stated)
        return any(meaning in self._meanings or self._implies(meaning) for meaning in fact.meanings)

    def _implies(self, meaning: tuple[str, ...]) -> bool:
        """Return whether the sources state a meaning with more or less beside it: a number with a unit, a date with its year."""
        match meaning:
            case ("number", value):
                stated = value in self._numbers or self._is_this_year(value)
            case ("unit", value, unit):
                stated = ("number", value) in self._meanings or not self._measured.isdisjoint(measured(value, unit))
            case ("amount", value, _):
                stated = ("number", value) in self._meanings
            case ("near", *exact):
                stated = self._has_near(*exact)
            case ("near time", minutes):
                stated = self._has_near_time(int(minutes))
            case ("long code", code):
                stated = code in self._compact
            case ("pair", one, other):
                stated = one in self._numbers and other in self._numbers
            case ("code", code):
                stated = self._has_code(code) or self._has_code(code.lstrip("#v"))
            case _:
                stated = self._implies_day(meaning)
        return stated

    def _implies_day(self, meaning: tuple[str, ...]) -> bool:
        match meaning:
            case ("date", month, day, year):
                return ("date", month, day) in self._dates and self._fits_year(month, day, year)
            case ("date", month, day):
                near = ("day", day) in self._meanings and self._is_near(month)
                return ("date", month, day) in self._dates or near
            case ("day", day):
                return day in self._days
            case ("month", month):
                return month in self._months
            case ("month", month, year):
                return month in self._months and (year in self._numbers or self._is_around(year))
        return False

    @cached_property
    def _shown(self) -> str:
        return links.plain(self.plain)

    @cached_property
    def _meanings(self) -> Meanings:
        stated = {*self.stated, *self.named}
        if self.today:
            dates = [meaning for meaning in stated if meaning[0] == "date"]
            stated |= days.from_today(self.stated, self.today)
            stated |= {("weekday", str(days.nearest(self.today[0], meaning).isoweekday())) for meaning in dates}
        return stated | {
            ("number", meaning[-1]) for meaning in stated if meaning[0] in {"date", "month"} and len(meaning[-1]) == 4
        }

    @cached_property
    def _numbers(self) -> set[str]:
        return {meaning[1] for meaning in self._meanings if meaning[0] in {"unit", "amount", "number"}}

    @cached_property
    def _measured(self) -> Meanings:
        return {each for meaning in self.stated if meaning[0] == "unit" for each in measured(meaning[1], meaning[2])}

    @cached_property
    def _dates(self) -> Meanings:
        return {meaning[:3] for meaning in self._meanings if meaning[0] == "date"}

    @cached_property
    def _days(self) -> set[str]:
        return {date[2] for date in self._dates} | {meaning[1] for meaning in self._meanings if meaning[0] == "day"}

    @cached_property
    def _months(self) -> set[str]:
        return {meaning[1] for meaning in self._meanings if meaning[0] in {"date", "month"}}

    @cached_property
    def _compact(self) -> str:
        """The sources without gaps in long numbers."""
        return _BETWEEN_GROUPS.sub("", self.plain)

    @cached_property
    def _phones(self) -> list[str]:
        return [meaning[1] for meaning in sorted(self.stated) if meaning[0] == "phone"][:MAX_PHONES]

    def _fits_year(self, month: str, day: str, year: str) -> bool:
        years = {
            found[3]
            for found in self._meanings
            if found[0] == "date" and len(found) == 4 and found[1:3] == (month, day)
        }
        return year in years if years else year in self._numbers or self._is_around(year)

    def _is_around(self, year: str) -> bool:
        return not self.today or any(abs(day.year - int(year)) <= 1 for day in self.today)

    def _is_this_year(self, value: str) -> bool:
        return any(value == str(day.year) for day in self.today)

    def _is_near(self, month: str) -> bool:
        return not self.today or any((int(month) - day.month) % 12 <= 1 for day in self.today)

    def _has_near(self, kind: str, value: str, unit: str = "") -> bool:
        """Return whether a number is stated that a rounded one may stand for, with the same unit or with none."""
        if kind == "number":
            return any(_is_near(value, number) for number in self._numbers)
        like = {("number", value), (kind, value, unit), *measured(value, unit)}
        return any(
            _is_near(each[1], known[1])
            for known in self._meanings | self._measured
            for each in like
            if (known[0], *known[2:]) == (each[0], *each[2:])
        )

    def _has_near_time(self, minutes: int) -> bool:
        times = [int(meaning[1]) for meaning in self._meanings if meaning[0] == "time"]
        return any(abs(time - minutes) <= NEAR_MINUTES for time in times)

    def _has_code(self, code: str) -> bool:
        # "BA431" is "BA 431", "A-9921" is "A 9921", and "7b" is "7 b"; but "3.21" is not "321".
        parts = [re.escape(part) for part in _JOINTS.split(code)]
        return re.search(rf"(?<![a-z0-9])(?:v(?=\d))?{'[ ._/-]?'.join(parts)}(?![a-z0-9])", self.plain) is not None

    def _has_name(self, handle: str) -> bool:
        name = handle.lstrip("@/")
        return name in self.plain and re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-]|\.\w)", self.plain) is not None

    def _has_phone(self, phone: str) -> bool:
        digits = re.sub(r"\D", "", phone)
        return (
            digits in self._compact
            or any(re.sub(r"\D", "", known) == digits for known in self._phones)
            or any(
                phonenumbers.is_number_match(phone, known) >= phonenumbers.MatchType.SHORT_NSN_MATCH
                for known in self._phones
            )
        )
