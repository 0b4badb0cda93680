"""Dates: how eight languages write them, and the months and weekdays among their words."""

import re
from typing import Final

from draftd.reply import fact_words
from draftd.reply.fact import Meanings


def dated(day: int, month: int, year: str) -> Meanings:
    """Return a day of a month as a meaning; none if there is no such day."""
    if not (1 <= day <= 31 and 1 <= month <= 12):
        return set()
    full = f"20{year}" if len(year) == 2 else year
    return {("date", str(month), str(day), full) if full else ("date", str(month), str(day))}


def month(word: str) -> int | None:
    """Return the month that a word names in any of the languages, from 1."""
    month = fact_words.MONTHS.get(word)
    if month is None and word[:3] in _STEMS and (match := _MONTH_WITH_CASE.fullmatch(word)):
        return fact_words.MONTHS[match[1]]
    return month


def weekday(word: str) -> int | None:
    """Return the weekday that a word names in any of the languages, Monday as 1."""
    number = fact_words.WEEKDAYS.get(word)
    if number is None and word[:3] in _STEMS and (match := _WEEKDAY_WITH_ENDING.fullmatch(word)):
        return fact_words.WEEKDAYS[match[1]]
    return number


ISO: Final = re.compile(r"(?<!\d)(\d{4})-(\d{2})-(\d{2})(?!\d)")
NUMERIC_DATE: Final = re.compile(
    r"(?<![a-z0-9_./:,-])(\d{1,2})([./-])(\d{1,2})(?:\2(\d{4}|\d{2})(?!\d)|\.(?!\d))?(?![\d/]|[.:,-]\d|[a-z])"
)
DAY_ONLY: Final = {
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
    "tr": re.compile(r"\bayin (\d{1,2})(?=')"),
}
JAPANESE_DATE: Final = re.compile(
    r"(?<!\d)(?:(\d{1,2})月)?(?:(?<=月)|(?<!月)(?=\d))(?:(\d{1,2})日(?!間|で|以|\d|に\d))|(?<!\d)(\d{1,2})月(?!\d)"
)
JAPANESE_WEEKDAY: Final = re.compile(
    r"(?:来週の?|今週の?|再来週の?)?([月火水木金土日])曜日?|(?<=\()([月火水木金土日])(?=\))"
)
_MONTH_WITH_CASE: Final = re.compile(
    rf"({'|'.join(sorted(fact_words.MONTHS, key=len, reverse=True))})(?:[dt][ae]n?|y?[aeiuü]|n?[iuü]n)"
)
_STEMS: Final = frozenset(word[:3] for word in (*fact_words.MONTHS, *fact_words.WEEKDAYS))
_WEEKDAY_WITH_ENDING: Final = re.compile(
    rf"({'|'.join(sorted(fact_words.WEEKDAYS, key=len, reverse=True))})(?:{fact_words.WEEKDAY_ENDINGS})"
)
DAY_BEFORE: Final = re.compile(
    r"(?<![\d.,:])(?:(\d{1,2})(?:\.|º|°|er)? ?(?:-|bis|to|au|al|a|e|et|und|and|y|ile) ?)?"
    r"(\d{1,2})(?:\.|st|nd|rd|th|º|°|er|ª)? ?(?:de |di |d'|of |do )?$"
)
YEAR_AFTER: Final = re.compile(r",? (?:de |del )?((?:19|20)\d{2})(?![\d:.])")
DAY_AFTER: Final = re.compile(
    r"\.? (?:the )?(\d{1,2})(?:st|nd|rd|th)?(?![\d:.]\d|\d| ?(?:am|pm|uhr|h)\b)(?:,? ((?:19|20)\d{2})(?!\d))?"
)
UNTIL_DAY: Final = re.compile(r" ?(?:-|to|and|through) ?(\d{1,2})(?:st|nd|rd|th)?(?![\d:]|\.\d| ?[ap]m)")
MONTH_PREPOSITION: Final = re.compile(r"\b(?:in|by|until|till|since|of|from|next|last|early|late|mid|this|for)[ -]$")
PORTUGUESE_ORDINAL: Final = re.compile(
    r" (?:opção|vez|coisa|parte|pergunta|dose|via|mão|temporada|edição|versão|metade|chance|tentativa|reunião|categoria|fase)"
)
ABBREVIATED: Final = re.compile(r"\.?,? ?(?:\d{1,2}[.:h/]|\d{1,2} ?(?:h\b|uhr|am|pm))")
WEEKS: Final = frozenset({"kw", "week", "semaine", "semana", "settimana", "woche", "hafta"})
AFTER_WEEK: Final = re.compile(r" (\d{1,2})(?![\d:]|\.\d)")
VAGUE: Final = frozenset({"mittag", "öğlen", "öğlende"})
AND_HALF: Final = re.compile(r" (?:et demie?|y media|e mezzo|e meia)")
