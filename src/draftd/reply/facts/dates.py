"""Dates in a text: how eight languages write them, and the months, weekdays and weeks among its words."""

import re
from functools import cache
from typing import Final

from draftd.reply.facts import vocabulary
from draftd.reply.facts.fact import FactKind
from draftd.reply.facts.meanings import clock, dated, quantity
from draftd.reply.facts.search import Search


def scan_digits(search: Search) -> None:
    """Add the dates in digits."""
    for match in search.matches(ISO):
        search.add(match.span(), FactKind.DATE, dated(int(match[3]), int(match[2]), match[1]))
    for match in search.matches(_MONTH_OF_YEAR):
        search.add(match.span(), FactKind.DATE, {("month", str(int(match[1])), match[2])})
    for match in search.matches(NUMERIC_DATE):
        _numeric(search, match)


def scan_japanese(search: Search) -> None:
    """Add dates such as ``3月17日``, and weekdays such as ``火曜日``."""
    if search.language != "ja" and "日" not in search.text and "曜" not in search.text:
        return
    for match in search.matches(_JAPANESE_DATE):
        month, day = int(match[1] or match[4] or 0), int(match[2] or match[3] or 0)
        if month and day:
            search.add(match.span(), FactKind.DATE, dated(day, month, ""))
        elif month:
            search.add(match.span(), FactKind.DATE, {("month", str(month))})
        else:
            search.add(match.span(), FactKind.DATE, {("day", str(day)), ("number", str(day))})
    for match in search.matches(_JAPANESE_WEEKDAY):
        if match[3] and not search.is_source:
            continue
        number = vocabulary.JAPANESE_WEEKDAYS.index(match[1] or match[2] or match[3]) + 1
        search.add(match.span(), FactKind.DATE, {("weekday", str(number))})


def scan_days(search: Search) -> None:
    """Add days without their month: "on the 5th", "am 5. und 6."."""
    pattern = _DAY_ONLY.get(search.language)
    for match in search.matches(pattern) if pattern else ():
        if _day(search, match.span(match.lastindex or 1)) and (also := _AND_DAY.match(search.text, match.end())):
            _day(search, also.span(1))


def add_named(search: Search, match: re.Match[str]) -> bool:
    """Add the month, the weekday or the week that a word names; return whether it was a month, which costs most."""
    word = match.group()
    full = _month(word, search.language)
    month = full or vocabulary.MONTH_ABBREVIATIONS.get(search.language, {}).get(word)
    if month is not None:
        _add_month(search, match, month, full=full is not None)
    abbreviated = vocabulary.WEEKDAY_ABBREVIATIONS.get(search.language, {})
    weekday = _weekday(word, search.language) or abbreviated.get(word)
    if weekday is not None and _is_weekday(search, match, is_short=word in abbreviated):
        search.add(match.span(), FactKind.DATE, {("weekday", str(weekday))})
    elif word in vocabulary.WEEKS and (number := _AFTER_WEEK.match(search.text, match.end())):
        search.add((match.start(), number.end()), FactKind.DATE, {("week", number[1]), ("number", number[1])})
    return month is not None


def _day(search: Search, span: tuple[int, int]) -> bool:
    day = search.text[slice(*span)]
    unit, _ = search.unit_at(span[1])
    if not 1 <= int(day) <= 31 or unit in vocabulary.UNITS or unit in vocabulary.CURRENCIES or search.in_words(*span):
        return False
    search.add(span, FactKind.DATE, {("day", day), ("number", day)})
    return True


def _numeric(search: Search, match: re.Match[str]) -> None:
    one, other, year, mark = int(match[1]), int(match[3]), match[4] or "", match[2]
    meanings = dated(one, other, year)
    if mark == "/" or search.language == "en":
        meanings |= dated(other, one, year)
    if (
        not meanings
        or match.group().rstrip(".") in vocabulary.ALWAYS
        or (mark == "-" and _is_in_row(search.text, match))
    ):
        return
    certain = bool(year) or mark == "/" or (match.group().endswith(".") and search.text[match.end() :][:1] != "\n")
    if not year and mark == ".":
        meanings |= quantity(f"{match[1]}.{match[3]}") | clock(one, other)
        certain = match.group().endswith(".") and one > 0 and search.language in {"de", "tr"}
    elif not year and mark == "/":
        meanings.add(("pair", str(one), str(other)))
        if other > MONTHS >= one:
            meanings.add(("month", str(one), f"20{other}"))
    elif not year:
        # "17-03" is a date, but "10-12" may be hours or people.
        certain = match[3][0] == "0"
    if certain or (search.is_source and mark != "-"):
        search.add(match.span(), FactKind.DATE, meanings)


def _is_in_row(text: str, match: re.Match[str]) -> bool:
    """Return whether numbers are joined by more dashes than a date has."""
    return text[match.start() - 1 : match.start()] == "-" or text[match.end() : match.end() + 1] == "-"


def _month(word: str, language: str) -> int | None:
    """Return the month that a word names in any of the languages, from 1."""
    month = vocabulary.MONTHS.get(word)
    if month is None and language == "tr" and word[:3] in _STEMS and (match := _MONTH_WITH_CASE.fullmatch(word)):
        return vocabulary.MONTHS[match[1]]
    return month


def _weekday(word: str, language: str) -> int | None:
    """Return the weekday that a word names in any of the languages, Monday as 1."""
    number = vocabulary.WEEKDAYS.get(word)
    if number is None and word[:3] in _STEMS and (match := _ending(language).fullmatch(word)):
        return vocabulary.WEEKDAYS[match[1]]
    return number


@cache
def _ending(language: str) -> re.Pattern[str]:
    names = "|".join(sorted(vocabulary.WEEKDAYS, key=len, reverse=True))
    return re.compile(rf"({names})(?:{vocabulary.WEEKDAY_ENDINGS['tr' if language == 'tr' else 'de']})")


def _add_month(search: Search, match: re.Match[str], month: int, *, full: bool) -> None:
    year = _YEAR_AFTER.match(search.text, match.end())
    if _add_day_before(search, match, month, year, full=full) or _add_day_after(search, match, month):
        return
    named = full and (
        search.is_source
        or match.group() not in vocabulary.AMBIGUOUS_MONTHS
        or _MONTH_PREPOSITION.search(search.text, max(0, match.start() - 10), match.start()) is not None
    )
    if year:
        search.add((match.start(), year.end()), FactKind.DATE, {("month", str(month), year[1])})
    elif named:
        search.add(match.span(), FactKind.DATE, {("month", str(month))})


def _add_day_before(
    search: Search, match: re.Match[str], month: int, year: re.Match[str] | None, *, full: bool
) -> bool:
    """Add ``17 March 2026``, and both days of ``17 to 19 March``; return whether it is one."""
    before = _DAY_BEFORE.search(search.text, max(0, match.start() - 24), match.start())
    if before is None or (search.in_words(*before.span(2)) and (not full or _ends_sentence(search, before.end(2)))):
        return False
    meanings = dated(int(before[2]), month, year[1] if year else "")
    if meanings:
        if before[1]:
            search.add(before.span(1), FactKind.DATE, dated(int(before[1]), month, ""))
            _add_days_in_list(search, before.start(1), month)
        search.add((before.start(2), year.end() if year else match.end()), FactKind.DATE, meanings)
    return bool(meanings)


def _ends_sentence(search: Search, end: int) -> bool:
    """Return whether a full stop follows: after a number in words it ends a sentence, as in "this one. May I …"."""
    return search.text[end : end + 1] == "."


def _add_days_in_list(search: Search, end: int, month: int) -> None:
    """Add ``7`` and ``14`` of "7, 14 and 21 January"."""
    for _ in range(MOST_DAYS_IN_LIST):
        day = _DAY_IN_LIST.search(search.text, max(0, end - 8), end)
        if day is None:
            return
        search.add(day.span(1), FactKind.DATE, dated(int(day[1]), month, ""))
        end = day.start(1)


def _add_day_after(search: Search, match: re.Match[str], month: int) -> bool:
    """Add ``March 17th, 2026``, and both days of ``March 17-19``; return whether it is one."""
    after = _DAY_AFTER.match(search.text, match.end())
    if after is None or not dated(int(after[1]), month, ""):
        return False
    search.add((match.start(), after.end()), FactKind.DATE, dated(int(after[1]), month, after[2] or ""))
    if until := _UNTIL_DAY.match(search.text, after.end()):
        search.add(until.span(1), FactKind.DATE, dated(int(until[1]), month, ""))
    return True


def _is_weekday(search: Search, match: re.Match[str], *, is_short: bool) -> bool:
    word = match.group()
    if word in vocabulary.ORDINAL_WEEKDAYS:
        if search.language != "pt":
            return search.is_source
        return search.is_source or not _PORTUGUESE_ORDINAL.match(search.text, match.end())
    if word == "so" and _SO_ABOUT.match(search.text, match.end()):
        return False
    if is_short and word not in vocabulary.WEEKDAYS:
        if search.is_source and (
            len(word) > 2 or _BEFORE_WEEKDAY.search(search.text, max(0, match.start() - 12), match.start())
        ):
            return True
        return _ABBREVIATED.match(search.text, match.end()) is not None
    return True


MONTHS: Final = 12
MOST_DAYS_IN_LIST: Final = 6
_DAY_IN_LIST: Final = re.compile(r"(?<![\d.,:])(\d{1,2})(?:\.|st|nd|rd|th|º|°|er)?, ?$")
ISO: Final = re.compile(r"(?<!\d)(\d{4})-(\d{2})-(\d{2})(?!\d)")
NUMERIC_DATE: Final = re.compile(
    r"(?<![a-z0-9_./:,])(\d{1,2})([./-])(\d{1,2})(?:\2(\d{4}|\d{2})(?!\d)|\.(?!\d))?(?![\d/]|[.:,]\d|[a-z])"
)
_MONTH_OF_YEAR: Final = re.compile(r"(?<![\d./:,-])(0\d|1[0-2])[/.-]((?:19|20)\d{2})(?![\d/]|[.:,-]\d)")
_DAY_ONLY: Final = {
    "en": re.compile(
        r"\bthe (\d{1,2})(?=(?:st|nd|rd|th)\b(?! (?:time|place|one|floor|option|edition|person|attempt|try|century)))"
    ),
    "de": re.compile(
        r"\b(?:am|der|den|dem|zum|vom|bis) (\d{1,2})(?=\.(?!\d)(?! (?:stock|mal|platz|klasse|tag|woche|auflage)))"
    ),
    "fr": re.compile(r"\b(?:le|au|du) (\d{1,2})(?![\d:%/]|[.,]\d|h\b| h\b)"),
    "es": re.compile(r"\b(?:el|al|del|día) (\d{1,2})(?![\d:%/]|[.,]\d)"),
    "pt": re.compile(r"\b(?:dia|dias) (\d{1,2})(?![\d:%/]|[.,]\d)"),
    "it": re.compile(r"\b(?:il|al|dal|del) (\d{1,2})(?![\d:%/]|[.,]\d)"),
    "tr": re.compile(r"(?:\bayin (\d{1,2})(?=')|(?<!\d)(\d{1,2})(?='s?[iuü]n(?:d[ae]n?|[ae])\b))"),
}
_AND_DAY: Final = re.compile(
    r"(?:st|nd|rd|th|\.)? ?(?:und|oder|and|or|et|ou|y|e|o|bis|to|au|al|-) ?(?:the |den |dem |le |el |il |zum )?"
    r"(\d{1,2})(?!\d|[.,:]\d|[%h/]| ?(?:uhr|h|am|pm)\b)"
)
_JAPANESE_DATE: Final = re.compile(
    r"(?<!\d)(\d{1,2})月(\d{1,2})日|(?<![\d月])(\d{1,2})日(?!間|以|\d|に\d|で(?!す))|(?<!\d)(\d{1,2})月(?!\d)"
)
_JAPANESE_WEEKDAY: Final = re.compile(
    r"(?:来週の?|今週の?|再来週の?)?([月火水木金土日])曜日?|(?<=\()([月火水木金土日])(?=\))|(?<![^\W_])([月火水木金土日])"
    r"(?=[ ・、-]|\d{1,2}[:時])"
)
_MONTH_WITH_CASE: Final = re.compile(
    rf"({'|'.join(sorted(vocabulary.MONTHS, key=len, reverse=True))})(?:[dt][ae]n?|y?[aeiuü]|n?[iuü]n)"
)
_STEMS: Final = frozenset(word[:3] for word in (*vocabulary.MONTHS, *vocabulary.WEEKDAYS))
STARTS: Final = _STEMS | frozenset(
    word[:3]
    for each in (vocabulary.WEEKS, *vocabulary.MONTH_ABBREVIATIONS.values(), *vocabulary.WEEKDAY_ABBREVIATIONS.values())
    for word in each
)
"""How the words that name a date begin."""
_DAY_BEFORE: Final = re.compile(
    r"(?<![\d.,:])(?:(\d{1,2})(?:\.|º|°|er|st|nd|rd|th)? ?"
    r"(?:-|bis|to|au|al|a|e|et|und|and|y|ile|or|oder|ou|o|u|ve|veya|ya da) ?)?"
    r"(\d{1,2})(?:\.|st|nd|rd|th|º|°|er|ª)? ?(?:de |di |d'|of |do )?$"
)
_YEAR_AFTER: Final = re.compile(r",? (?:de |del )?((?:19|20)\d{2})(?![\d:.])")
_DAY_AFTER: Final = re.compile(
    r"\.? (?:the )?(\d{1,2})(?:st|nd|rd|th)?(?![\d:.]\d|[\d)]| ?(?:am|pm|uhr|h)\b)(?:,? ((?:19|20)\d{2})(?!\d))?"
)
_UNTIL_DAY: Final = re.compile(r" ?(?:-|to|and|through) ?(\d{1,2})(?:st|nd|rd|th)?(?![\d:]|\.\d| ?[ap]m)")
_MONTH_PREPOSITION: Final = re.compile(r"\b(?:in|by|until|till|since|of|from|next|last|early|late|mid|this|for)[ -]$")
_PORTUGUESE_ORDINAL: Final = re.compile(
    r" (?:opção|vez|coisa|parte|pergunta|dose|via|mão|temporada|edição|versão|metade|chance|tentativa|reunião|categoria|fase)"
)
_BEFORE_WEEKDAY: Final = re.compile(r"\b(?:am|bis|vom|jeden|diesen|kommenden|nächsten) $")
_ABBREVIATED: Final = re.compile(
    r"\.?,? ?(?:ab |um |von |gegen |bis |at |from |à |alle |a las |às )?(?:\d{1,2}[.:h/]|\d{1,2} ?(?:h\b|uhr|am|pm))"
)
_SO_ABOUT: Final = re.compile(r" (?:gegen|um|ab)\b")
"""In German, "so gegen 19 Uhr" is about seven, on any day."""
_AFTER_WEEK: Final = re.compile(r" (\d{1,2})(?![\d:]|\.\d)")
