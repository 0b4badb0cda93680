"""Facts in a text: numbers, amounts, dates, times, phone numbers, e-mail addresses, handles and links.

Owns what counts as a fact. ``facts`` decides whether a source supports one. Invariant: the work grows linearly with the text, so
every pattern is anchored and bounded.
"""

import re
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Final

from draftd.reply import fact_addresses, fact_dates, fact_numbers, fact_times, fact_words, number_words
from draftd.reply.fact import Fact, FactKind, Meanings, plain
from draftd.reply.number_words import Rewritten

MAX_FACTS: Final = 200
"""No real reply has this many facts, minor ones included; what follows is not read."""
MAX_SOURCE_FACTS: Final = 1_000
"""The same for sources, which may be a whole thread."""


def may_speak(words: AbstractSet[str], language: str) -> bool:
    """Return whether words of a text make it worth reading in a language that is not its own."""
    return not words.isdisjoint(fact_times.CLOCK_WORDS.get(language, ())) or number_words.any_number(words, language)


def find(text: str, language: str, *, own: bool = True, is_source: bool = False) -> list[Fact]:
    """Return the facts of a text in order.

    Args:
        text: as written.
        language: two letters; decides how number words and times of day are read.
        own: whether the text is in this language; if not, words that mean something else in another language are ignored.
        is_source: reads generously: "both" is a 2, and a number may be an hour.
    """
    return _Search(text, language, own=own, is_source=is_source).facts()


class _Search:
    """One pass over a text; each scanner takes what the ones before it left."""

    def __init__(self, text: str, language: str, *, own: bool, is_source: bool) -> None:
        self._written, self._language, self._is_source = text, language, is_source
        self._found: list[Fact] = []
        self._abbreviated_months = fact_words.MONTH_ABBREVIATIONS.get(language, {})
        self._abbreviated_weekdays = fact_words.WEEKDAY_ABBREVIATIONS.get(language, {})
        lower = self._without_addresses(plain(text))
        self._rewritten: Rewritten = number_words.rewrite(lower, language, own=own, counts=is_source)
        self._limit = MAX_SOURCE_FACTS if is_source else MAX_FACTS
        last = next(islice(_DIGIT_RUN.finditer(self._rewritten.text), self._limit, None), None)
        self.text = self._rewritten.text[: last.start()] if last else self._rewritten.text
        self._taken = bytearray(len(self.text))

    def facts(self) -> list[Fact]:
        """Return what all scanners find."""
        has_digits = _DIGIT_RUN.search(self.text) is not None
        for scanner in (
            self._phones, self._dates, self._japanese_dates, self._words, self._times, self._amounts, self._durations,
            self._days_only, self._numbers
        ) if has_digits else (self._japanese_dates, self._words, self._durations):  # fmt: skip
            if len(self._found) < self._limit:
                scanner()
        return sorted(self._found, key=lambda fact: fact.start)

    def _without_addresses(self, lower: str) -> str:
        for kind, start, end in fact_addresses.addresses(lower):
            value = lower[start:end]
            self._found.append(Fact(start=start, end=end, kind=kind, meanings=frozenset({(kind.value, value)})))
            lower = f"{lower[:start]}{'|' * (end - start)}{lower[end:]}"
            if len(self._found) >= MAX_FACTS:
                break
        return lower

    def _add(self, start: int, end: int, kind: FactKind, meanings: Meanings, *, is_minor: bool = False) -> None:
        if self._taken.find(1, start, end) >= 0:
            return
        self._taken[start:end] = b"\1" * (end - start)
        first, last = self._rewritten.original(start, end)
        in_digits = kind in {FactKind.NUMBER, FactKind.AMOUNT} and not self._rewritten.in_words(start, end)
        self._found.append(
            Fact(start=first, end=last, kind=kind, meanings=frozenset(meanings), is_minor=is_minor, in_digits=in_digits)
        )

    def _phones(self) -> None:
        for match in fact_addresses.PHONE.finditer(self.text):
            if fact_addresses.is_phone(match.group(), self.text[match.end() : match.end() + 6]):
                self._add(*match.span(), FactKind.PHONE, {("phone", match.group())})

    def _dates(self) -> None:
        for match in fact_dates.ISO.finditer(self.text):
            self._add(*match.span(), FactKind.DATE, fact_dates.dated(int(match[3]), int(match[2]), match[1]))
        for match in fact_dates.NUMERIC_DATE.finditer(self.text):
            one, other, year = int(match[1]), int(match[3]), match[4] or ""
            meanings = fact_dates.dated(one, other, year) | (
                fact_dates.dated(other, one, year) if match[2] == "/" or self._language == "en" else set()
            )
            if not meanings or match.group() in {"24/7", "7/24"}:
                continue
            certain = year or match[2] == "/" or (match.group().endswith(".") and self.text[match.end() :][:1] != "\n")
            if match[2] == "." and not year:
                meanings |= fact_numbers.quantity(f"{match[1]}.{match[3]}") | fact_times.clock(one, other)
                certain = (match.group().endswith(".") and one > 0 and self._language in {"de", "tr"}) or False
                if not certain and not self._is_source:
                    continue
            if match[2] == "-" and not year:
                continue
            if certain or self._is_source:
                self._add(*match.span(), FactKind.DATE, meanings)

    def _japanese_dates(self) -> None:
        if self._language != "ja" and "日" not in self.text and "曜" not in self.text:
            return
        for match in fact_dates.JAPANESE_DATE.finditer(self.text):
            month, day = int(match[1] or 0), int(match[2] or 0)
            if month and day:
                self._add(*match.span(), FactKind.DATE, fact_dates.dated(day, month, ""))
            elif month:
                self._add(*match.span(), FactKind.DATE, {("month", str(month))})
            else:
                self._add(*match.span(), FactKind.DATE, {("day", str(day))})
        for match in fact_dates.JAPANESE_WEEKDAY.finditer(self.text):
            number = fact_words.JAPANESE_WEEKDAYS.index(match[1] or match[2]) + 1
            self._add(*match.span(), FactKind.DATE, {("weekday", str(number))})

    def _words(self) -> None:
        tries = 0
        for match in _WORD.finditer(self.text):
            if len(self._found) >= self._limit or tries > self._limit:
                return
            if match.group()[:3] in _STARTS:
                tries += self._word(match)
        for phrases, minutes in ((fact_words.NOON_PHRASES, 720), (fact_words.MIDNIGHT_PHRASES, 0)):
            for phrase in phrases:
                if (at := self.text.find(phrase)) >= 0:
                    self._add(at, at + len(phrase), FactKind.TIME, {("time", str(minutes))})

    def _word(self, match: re.Match[str]) -> bool:
        """Add what a word states; return whether it was the name of a month, which costs most."""
        word = match.group()
        full = fact_dates.month(word)
        month = full or self._abbreviated_months.get(word)
        if month is not None:
            self._month(match, month, full=full is not None)
        weekday = fact_dates.weekday(word) or self._abbreviated_weekdays.get(word)
        if weekday is not None and self._is_weekday(match):
            self._add(*match.span(), FactKind.DATE, {("weekday", str(weekday))})
        elif word in fact_words.NOON or word in fact_words.MIDNIGHT:
            if self._is_source or word not in fact_dates.VAGUE:
                self._noon(match)
        elif word in fact_dates.WEEKS and (number := fact_dates.AFTER_WEEK.match(self.text, match.end())):
            self._add(match.start(), number.end(), FactKind.DATE, {("week", number[1]), ("number", number[1])})
        return month is not None

    def _noon(self, match: re.Match[str]) -> None:
        at = 720 if match.group() in fact_words.NOON else 0
        half = fact_dates.AND_HALF.match(self.text, match.end())
        self._add(
            match.start(), half.end() if half else match.end(), FactKind.TIME, {("time", str(at + 30 if half else at))}
        )

    def _month(self, match: re.Match[str], month: int, *, full: bool) -> None:
        before = fact_dates.DAY_BEFORE.search(self.text, max(0, match.start() - 24), match.start())
        if before and not full and self._rewritten.in_words(*before.span(2)):
            before = None
        year = fact_dates.YEAR_AFTER.match(self.text, match.end())
        if before:
            end = year.end() if year else match.end()
            meanings = fact_dates.dated(int(before[2]), month, year[1] if year else "")
            if meanings:
                if before[1]:
                    self._add(
                        before.start(1), before.end(1), FactKind.DATE, fact_dates.dated(int(before[1]), month, "")
                    )
                self._add(before.start(2), end, FactKind.DATE, meanings)
                return
        after = fact_dates.DAY_AFTER.match(self.text, match.end())
        if after and fact_dates.dated(int(after[1]), month, ""):
            self._add(match.start(), after.end(), FactKind.DATE, fact_dates.dated(int(after[1]), month, after[2] or ""))
            if until := fact_dates.UNTIL_DAY.match(self.text, after.end()):
                self._add(*until.span(1), FactKind.DATE, fact_dates.dated(int(until[1]), month, ""))
            return
        named = full and (
            self._is_source
            or match.group() not in fact_words.AMBIGUOUS_MONTHS
            or fact_dates.MONTH_PREPOSITION.search(self.text, max(0, match.start() - 10), match.start()) is not None
        )
        if named or year:
            self._add(match.start(), year.end() if year else match.end(), FactKind.DATE, {("month", str(month))})

    def _is_weekday(self, match: re.Match[str]) -> bool:
        word = match.group()
        if word in fact_words.WEEKDAYS:
            if word not in fact_words.ORDINAL_WEEKDAYS or self._language != "pt":
                return word not in fact_words.ORDINAL_WEEKDAYS or self._is_source
            return self._is_source or not fact_dates.PORTUGUESE_ORDINAL.match(self.text, match.end())
        if word in self._abbreviated_weekdays:
            if self._is_source and len(word) > 2:
                return True
            return fact_dates.ABBREVIATED.match(self.text, match.end()) is not None
        return True

    def _times(self) -> None:
        for pattern, read in fact_times.clocks(self._language):
            for match in pattern.finditer(self.text):
                if (meanings := read(match, self.text)) is not None:
                    self._add(match.start(), match.end(), FactKind.TIME, meanings)
        if not self._is_source:
            bare = fact_times.BARE_HOURS.get(self._language)
            for match in bare.finditer(self.text) if bare else ():
                if self._is_bare(match.end(1)) and int(match[1]) <= 24:
                    whole = match.start(1) if match.start(1) - match.start() > 4 else match.start()
                    self._add(
                        whole, match.end(1), FactKind.TIME, fact_times.clock(int(match[1]), 0) | {("number", match[1])}
                    )

    def _is_bare(self, end: int) -> bool:
        unit = _UNIT.match(self.text, end)
        return not (unit and (unit[1] in fact_words.UNITS or unit[1] in fact_words.CURRENCIES))

    def _amounts(self) -> None:
        for pattern in (fact_numbers.AMOUNT_BEFORE, fact_numbers.AMOUNT_AFTER):
            for match in pattern.finditer(self.text):
                code, groups = fact_words.CURRENCIES[match["currency"]], match.groupdict()
                digits = match["number"] + (f".{cents}" if (cents := groups.get("cents")) else "")
                codes = {code, *(fact_numbers.SAME_SIGN.get(code, ()) if self._is_source else ())}
                amounts: Meanings = {
                    ("amount", value, each) for value in fact_numbers.values(digits, match["scale"]) for each in codes
                }
                self._add(*match.span(), FactKind.AMOUNT, amounts)

    def _durations(self) -> None:
        for match in _PART_OF_HOUR.finditer(self.text) if self._is_source else ():
            self._add(*match.span(), FactKind.NUMBER, {("unit", "30" if match["half"] else "15", "minute")})

    def _days_only(self) -> None:
        pattern = fact_dates.DAY_ONLY.get(self._language)
        for match in pattern.finditer(self.text) if pattern else ():
            if 1 <= int(match[1]) <= 31 and self._is_bare(match.end()) and not self._rewritten.in_words(*match.span(1)):
                self._add(*match.span(1), FactKind.DATE, {("day", match[1]), ("number", match[1])})

    def _numbers(self) -> None:
        for match in fact_numbers.NUMBER.finditer(self.text):
            start, end = match.span()
            if self._taken.find(1, start, end) >= 0:
                continue
            self._number(match)

    def _number(self, match: re.Match[str]) -> None:
        start, end = match.span()
        token = match["number"]
        words = self._rewritten.in_words(start, end)
        if not words and (code := _CODE.match(self.text, self._code_start(start))) and code.end() > start:
            written = code.group().rstrip("-/._")
            if not _is_measure(written) and re.search(r"[a-z]|[-/_]|\d\.\d+\.", written):
                self._code(code.start(), code.start() + len(written), written)
                return
        scale = match["scale"]
        unit_match = _UNIT.match(self.text, end)
        unit = fact_words.UNITS.get(unit_match[1]) if unit_match else None
        if unit is None and self.text[start - 1 : start] == "%":
            unit, start = "percent", start - 1
        meanings: Meanings = set()
        for value in fact_numbers.values(token, scale):
            meanings.add(("unit", value, unit) if unit else ("number", value))
        follows = unit_match[1] if unit_match else ""
        if (
            unit is None
            and scale is None
            and token.isdigit()
            and int(token[:3]) <= 24
            and len(token) <= 2
            and not follows.isalpha()
        ):
            meanings |= fact_times.clock(int(token), 0)
        if unit is None and len(token) <= 2 and token.isdigit() and self._is_source:
            meanings |= fact_times.clock(int(token), 0) if int(token) <= 24 else set()
        if ranged := fact_numbers.RANGE.match(self.text, end):
            meanings |= {("number", value) for value in fact_numbers.values(token, ranged[1])}
        if self._is_source and words and (part := fact_numbers.CENTS.match(self.text, end)):
            meanings.add(("number", f"{token}.{part[1]}".rstrip("0")))
        minor = not self._is_source and self._is_minor(match, unit, follows, words=words)
        is_year = unit is None and len(token) == 4 and token[:2] in {"19", "20"} and scale is None
        stop = (
            unit_match.end(1)
            if unit_match and unit and not minor
            else match.end("scale")
            if scale
            else match.end("number")
        )
        self._add(start, stop, FactKind.DATE if is_year and not words else FactKind.NUMBER, meanings, is_minor=minor)

    def _code_start(self, start: int) -> int:
        before = _CODE_BEFORE.search(self.text, max(0, start - 24), start)
        return before.start() if before else start

    def _code(self, start: int, end: int, code: str) -> None:
        if self._taken.find(1, start, end) >= 0:
            return
        digits = sum(map(str.isdigit, code))
        has_letters = any(map(str.isalpha, code))
        meanings: Meanings = {("code", code)}
        if self._is_source:
            meanings |= {("code", part) for part in re.split(r"[-/._]", code)} | {
                ("number", fact_numbers.without_zeros(part)) for part in re.findall(r"\d+", code)
            }
        is_minor = (has_letters and digits < 3 and not re.fullmatch(r"q[1-4]", code)) or code in _IDIOMS
        self._add(start, end, FactKind.NUMBER, meanings, is_minor=is_minor)

    def _is_minor(self, match: re.Match[str], unit: str | None, follows: str, *, words: bool) -> bool:
        number, text = match["number"], self.text
        if (number == "100" and unit == "percent") or text[match.start() - 5 : match.start()] in {"yüzde", "üzde "}:
            return number == "100"
        if follows in fact_words.SMALL_THINGS and len(number) == 1:
            return True
        if not words and _EMOTICON.search(text, max(0, match.start() - 2), match.end() + 1):
            return True
        if not words:
            return self._is_list_number(match) or (number in {"1", "0"} and unit != "percent" and not match["scale"])
        small = (
            {"1", "0"}
            if unit
            or _OF_US.match(text, match.end())
            or _ALL_OF.search(text, max(0, match.start() - 12), match.start())
            else {"0", "1", "2", "3"}
        )
        magnitude = number in {"100", "1000", "1000000"} and unit in {None, "time"}
        return number in small or magnitude or self._is_other_word(match, unit)

    def _is_other_word(self, match: re.Match[str], unit: str | None) -> bool:
        first, last = self._rewritten.original(*match.span("number"))
        written = plain(self._written[first:last])
        return written in _OTHER_WORDS and unit is None

    def _is_list_number(self, match: re.Match[str]) -> bool:
        start, end = match.span("number")
        line = self.text[max(0, start - 4) : start]
        at_start = start == 0 or (line.rpartition("\n")[2].strip(" *-(") == "" and ("\n" in line or start <= 3))
        marked = self.text[end : end + 2].strip()[:1] in {".", ")", ":", "️", "⃣"} and len(match["number"]) <= 2
        keycap = self.text[end : end + 1] in {"️", "⃣"}
        inline = (
            self.text[end : end + 1] == ")"
            and self.text[start - 1 : start] in {"", " ", "(", "\n"}
            and len(match["number"]) == 1
        )
        return (at_start and marked) or keycap or inline


def _is_measure(token: str) -> bool:
    """Return whether a token is a number with its unit, such as ``350g``, and no code."""
    measure = _MEASURE.fullmatch(token)
    return measure is not None and measure[1] in fact_words.UNITS


_MEASURE: Final = re.compile(r"\d{1,9}(?:[.,]\d{1,3})?([a-z]{1,4})")
_STARTS: Final = frozenset(
    word[:3]
    for words in (
        fact_words.MONTHS, fact_words.WEEKDAYS, fact_words.NOON, fact_words.MIDNIGHT, fact_dates.WEEKS,
        *fact_words.MONTH_ABBREVIATIONS.values(), *fact_words.WEEKDAY_ABBREVIATIONS.values(),
    )
    for word in words
)  # fmt: skip
_DIGIT_RUN: Final = re.compile(r"\d+")
_WORD: Final = re.compile(r"[^\W\d_]{2,24}")
_UNIT: Final = re.compile(
    r" ?-?(%|円|分ほど|分間?|時間|日間|週間|か月|ヶ月|ヵ月|カ月|年間|回|度|枚|ページ|人|名|泊|"
    r"滴|個|本|冊|か所|ヶ所|台|点|杯|件|階|つ|キロ|インチ|[^\W\d_]{1,16})"
)
_CODE: Final = re.compile(r"[#]?[a-z0-9]{1,24}(?:[-/._][a-z0-9]{1,24}){0,6}")
_CODE_BEFORE: Final = re.compile(r"[a-z0-9][a-z0-9./_-]{0,23}$")
_OF_US: Final = re.compile(r" (?:of (?:us|you|them)|von uns|d'entre nous|di noi|de nosotros|de nós|kişi)")
_ALL_OF: Final = re.compile(
    r"(?:\ball(?: the)?|\bzu|\btous les|\btoutes les|\blos|\blas|\bos|\btutti e|\btutte e|\bà|\bin|\bem) $"
)
_PART_OF_HOUR: Final = re.compile(
    r"(?P<half>half (?:an |1 )?hour|halbe(?:n|s)? stunde|demi-heure|media hora|meia hora|mezz'ora|yarim saat)"
    r"|quarter of an hour|viertelstunde|quart d'heure|cuarto de hora|quarto d'ora"
)
_EMOTICON: Final = re.compile(r"[:;=<x][-']?3(?!\d)|(?<![\d])8[-']?\)")
_IDIOMS: Final = frozenset({"24/7", "7/24", "24h/24", "24/24", "50/50", "1/1"})
_OTHER_WORDS: Final = frozenset(
    {"sei", "neuf", "acht", "alti", "bin", "yüz", "mil", "mille", "cent", "once", "on", "elf", "kirk", "pair", "grand"}
)
