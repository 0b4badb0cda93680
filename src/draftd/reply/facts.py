"""Facts of a reply that no source has.

A made-up price or date is what hurts most after sending. Owns when a source supports a fact; ``fact_finder`` owns what a fact is.
Sources are the caller's: what was read, the context, the requester's facts. Equivalent forms count: 14:00 and 2 pm, 17.03. and
17 March, EUR 4,250 and 4.250 €.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import phonenumbers

from draftd.reply import fact_finder, fact_words, links
from draftd.reply.fact import Fact, FactKind, plain

MAX_PHONES = 20
"""Phone numbers are compared in pairs; no real text has this many."""
MAX_SOURCE_CHARS = 100_000
"""Text dense with facts takes about 1 ms per 1,000 characters and language, on the event loop."""

_WORD = re.compile(r"[^\W\d_]+")
_KANJI = re.compile(r"[月日時曜十百千万]")

__all__ = ["FactKind", "Unsupported", "Witness"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsupported:
    """A fact without a source.

    Attributes:
        quote: verbatim from the reply.
        kind: what it states.
    """

    quote: str
    kind: FactKind


class Witness:
    """Looks up the facts of replies; reads the same sources once, since each reply of an answer has the same.

    Args:
        today: the day on which the request was made, for "tomorrow" and for the weekday of a date; None if unknown.
    """

    def __init__(self, today: date | None = None) -> None:
        self._today = today
        self._sources: _Sources | None = None

    def unsupported(self, text: str, sources: Iterable[str], *, language: str) -> list[Unsupported]:
        """Return the facts of a reply that none of the sources has, in the reply's order, each once.

        Args:
            text: the reply.
            sources: texts whose facts are true, in any of the known languages, the most relevant first.
            language: BCP 47 tag of the reply. Number words and times of day are read in English, German, French, Spanish,
                Portuguese, Italian, Turkish and Japanese; of other languages digits only.
        """
        spoken = language.partition("-")[0].lower()
        facts = [fact for fact in fact_finder.find(text, spoken) if not fact.is_minor]
        if not facts:
            return []
        joined = "\n".join(dict.fromkeys(sources))[:MAX_SOURCE_CHARS]
        if self._sources is None or self._sources.text != joined:
            self._sources = _Sources(joined, self._today)
        for known in self._sources.read_in_turn(spoken):
            facts = [fact for fact in facts if not known.supports(fact)]
            if not facts:
                return []
        quotes = dict.fromkeys((text[start:end], kind) for start, end, kind in _merged(text, facts))
        return [Unsupported(quote=quote, kind=kind) for quote, kind in quotes]


class _Sources:
    """The sources, read in each language when it is needed."""

    def __init__(self, text: str, today: date | None) -> None:
        self.text = text
        self._today = today
        self._words = set(_WORD.findall(plain(text)))
        self._read: dict[tuple[str, bool], _Known] = {}

    def read_in_turn(self, spoken: str) -> Iterator["_Known"]:
        """Yield what the sources state, read in the reply's language first, then in those that they may be in."""
        for read_as in dict.fromkeys((spoken, *fact_words.LANGUAGES)):
            own = read_as == spoken
            if own or self._may_be_in(read_as):
                if (read_as, own) not in self._read:
                    self._read[read_as, own] = _Known(self.text, read_as, own=own, today=self._today)
                yield self._read[read_as, own]

    def _may_be_in(self, language: str) -> bool:
        if language == "ja":
            return _KANJI.search(self.text) is not None
        return fact_finder.may_speak(self._words, language)


def _merged(text: str, facts: Iterable[Fact]) -> list[tuple[int, int, FactKind]]:
    """Return the spans of facts, with a weekday and the date beside it as one."""
    spans: list[tuple[int, int, FactKind]] = []
    for fact in facts:
        if (
            spans
            and spans[-1][2] is fact.kind is FactKind.DATE
            and text[spans[-1][1] : fact.start].strip(" ,.（(") in {"", "den", "the", "le"}
        ):
            spans[-1] = (spans[-1][0], fact.end, fact.kind)
        else:
            spans.append((fact.start, fact.end, fact.kind))
    return spans


class _Known:
    """What the sources state, read in one language."""

    def __init__(self, text: str, language: str, *, own: bool, today: date | None) -> None:
        self._plain = plain(text)
        self._shown = links.plain(self._plain)
        self._today = today
        self._meanings: set[tuple[str, ...]] = set()
        self._phones: list[str] = []
        for fact in fact_finder.find(text, language, own=own, is_source=True):
            if not own and fact.in_digits:
                continue
            self._meanings |= fact.meanings
            if fact.kind is FactKind.PHONE:
                self._phones += [value for _, value in fact.meanings]
        self._add_days()
        self._any = {m[1] for m in self._meanings if m[0] in {"unit", "amount", "number"}}
        self._days = {m[2] for m in self._meanings if m[0] == "date"} | {m[1] for m in self._meanings if m[0] == "day"}
        self._dates = {m[:3] for m in self._meanings if m[0] == "date"}
        self._months = {m[1] for m in self._meanings if m[0] in {"date", "month"}}

    def supports(self, fact: Fact) -> bool:
        """Return whether one of a fact's meanings is stated."""
        match fact.kind:
            case FactKind.PHONE:
                return self._has_phone(next(iter(fact.meanings))[1])
            case FactKind.LINK:
                return links.occurs_in(next(iter(fact.meanings))[1], self._shown)
            case FactKind.HANDLE:
                return self._has_name(next(iter(fact.meanings))[1])
            case FactKind.EMAIL:
                return bool(fact.meanings & self._meanings)
        return any(self._states(meaning) for meaning in fact.meanings)

    def _states(self, meaning: tuple[str, ...]) -> bool:
        return meaning in self._meanings or self._implies(meaning)

    def _implies(self, meaning: tuple[str, ...]) -> bool:
        """Return whether the sources state a meaning with more or less beside it: a number with a unit, a date with its year."""
        match meaning:
            case ("number", value):
                stated = value in self._any or self._is_this_year(value)
            case ("unit" | "amount", value, _):
                stated = ("number", value) in self._meanings
            case ("date", month, day, year):
                stated = ("date", month, day) in self._dates and self._fits_year(month, day, year)
            case ("date", month, day):
                near = ("day", day) in self._meanings and self._is_near(month)
                stated = ("date", month, day) in self._dates or near
            case ("day", day):
                stated = day in self._days
            case ("month", month):
                stated = month in self._months
            case ("code", code):
                stated = self._has_word(code) or self._has_word(code.lstrip("#v"))
            case _:
                stated = False
        return stated

    def _fits_year(self, month: str, day: str, year: str) -> bool:
        years = {m[3] for m in self._meanings if m[0] == "date" and len(m) == 4 and m[1:3] == (month, day)}
        if years:
            return year in years
        return ("number", year) in self._meanings or self._today is None or abs(self._today.year - int(year)) <= 1

    def _is_this_year(self, value: str) -> bool:
        return self._today is not None and value == str(self._today.year)

    def _is_near(self, month: str) -> bool:
        return self._today is None or (int(month) - self._today.month) % 12 <= 1

    def _has_word(self, word: str) -> bool:
        return (
            word in self._plain and re.search(rf"(?<![a-z0-9]){re.escape(word)}(?![a-z0-9])", self._plain) is not None
        )

    def _has_name(self, handle: str) -> bool:
        name = handle.lstrip("@/")
        return (
            name in self._plain and re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-]|\.\w)", self._plain) is not None
        )

    def _has_phone(self, phone: str) -> bool:
        digits = re.sub(r"\D", "", phone)
        for known in self._phones[:MAX_PHONES]:
            if re.sub(r"\D", "", known) == digits:
                return True
        return any(
            phonenumbers.is_number_match(phone, known) >= phonenumbers.MatchType.SHORT_NSN_MATCH
            for known in self._phones[:MAX_PHONES]
        )

    def _add_days(self) -> None:
        """Add the days that the sources name relative to today, and the weekdays of their dates."""
        if self._today is None:
            return
        words = set(re.findall(r"[^\W\d_]+", self._plain))
        days = set()
        if words & fact_words.TODAY or any(word in self._plain for word in ("今日", "今夜", "本日")):
            days.add(self._today)
        if words & fact_words.TOMORROW or any(word in self._plain for word in ("明日", "あした")):
            days.add(self._today + timedelta(days=1))
        if any(phrase in self._plain for phrase in fact_words.AFTER_TOMORROW):
            days.add(self._today + timedelta(days=2))
        for meaning in list(self._meanings):
            if meaning[0] == "weekday":
                days |= {
                    self._today + timedelta(days=ahead)
                    for ahead in range(-6, 15)
                    if (self._today + timedelta(days=ahead)).isoweekday() == int(meaning[1])
                }
            elif meaning[0] == "date":
                named = _nearest(self._today, int(meaning[1]), int(meaning[2]))
                if named:
                    self._meanings.add(("weekday", str(named.isoweekday())))
        for day in days:
            self._meanings |= {("date", str(day.month), str(day.day)), ("weekday", str(day.isoweekday()))}


def _nearest(today: date, month: int, day: int) -> date | None:
    candidates = []
    for year in (today.year - 1, today.year, today.year + 1):
        try:
            candidates.append(date(year, month, day))
        except ValueError:
            continue
    return min(candidates, key=lambda candidate: abs(candidate - today), default=None)
