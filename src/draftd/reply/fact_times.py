"""Times of day: how eight languages say them, in minutes after midnight.

A time without a half of the day has two readings: "at 8" is 8:00 or 20:00.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import Final

from draftd.reply import fact_words
from draftd.reply.fact import Meanings
from draftd.reply.fact_dates import dated
from draftd.reply.fact_numbers import quantity


def clock(hour: int, minute: int, half: str = "") -> Meanings:
    """Return a time of day as meanings; ``half`` is ``a`` or ``p`` if it was named."""
    if hour > 24 or minute > 59:
        return set()
    if half and hour <= 12:
        return {("time", str((hour % 12 + (12 if half == "p" else 0)) * 60 + minute))}
    hours = {hour % 24} if hour > 12 or hour == 0 else {hour, (hour + 12) % 24}
    return {("time", str(each * 60 + minute)) for each in hours}


Read = Callable[[re.Match[str], str], Meanings | None]
# The lookbehind follows the first digit: a pattern that begins with a digit is searched for much faster.
_H: Final = r"(?P<h>\d(?<![\d.,:/$€£+]\d)\d?)(?!\d)"
_DURATION: Final = re.compile(
    r"(?:dans|sous|en|em|pendant|durante|por|depuis|within|in|innerhalb von|binnen|entro|tra|fra|per|há|hace|toutes les|"
    r"cada|de|les|moins de|plus de|environ|unos|umas|circa|ungefähr|etwa|für|for) $"
)


def _read_plain(match: re.Match[str], text: str) -> Meanings | None:
    """Read ``14:30``, ``2 pm``, ``14h30``."""
    groups = match.groupdict()
    hour, minute = int(groups["h"]), int(groups.get("m") or 0)
    if groups.get("hours") and (
        hour > 24 or (not groups.get("m") and _DURATION.search(text, max(0, match.start() - 14), match.start()))
    ):
        return None
    half = (groups.get("half") or "").strip()[:1] or ("a" if groups["h"][0] == "0" else "")
    found = clock(hour, minute, half)
    if groups.get("dot"):
        found |= quantity(f"{hour}.{groups['m']}") | dated(hour, minute, "")
    return found or None


def _read_shifted(match: re.Match[str], text: str) -> Meanings | None:
    """Read "half past six", "Viertel vor elf", "onze heures moins le quart"."""
    del text
    groups = match.groupdict()
    by = groups.get("by") or ""
    minutes = (
        30
        if by in _HALVES
        else 45
        if by in _THREE_QUARTERS
        else 15
        if by in _QUARTERS
        else int(by)
        if by.isdigit()
        else 0
    )
    hour = int(groups["h"])
    if (
        groups.get("until") is not None
        or (by == "dreiviertel" and not groups.get("past"))
        or groups.get("next") is not None
    ):
        if hour == 0 or hour > 24:
            return None
        total = hour * 60 - (60 - minutes if groups.get("next") is not None and by != "dreiviertel" else minutes)
        if by == "dreiviertel":
            total = hour * 60 - 15
        return clock(total // 60 if total >= 60 else 12 if hour == 1 else 0, total % 60) or None
    meanings = clock(hour, minutes)
    if by in _HALVES:
        meanings |= {("number", f"{hour}.5")}
    return meanings or None


_HALVES: Final = frozenset(
    {
        "half",
        "et demi",
        "et demie",
        "y media",
        "e mezza",
        "e mezzo",
        "e meia",
        "buçuk",
        "buçukta",
        "buçuğa",
        "buçuktan",
        "半",
        "halb",
    }
)
_THREE_QUARTERS: Final = frozenset({"dreiviertel", "e tre quarti", "e 3 quarti"})
_QUARTERS: Final = frozenset(
    {
        "quarter",
        "a quarter",
        "viertel",
        "et quart",
        "le quart",
        "quart",
        "cuarto",
        "y cuarto",
        "e un quarto",
        "un quarto",
        "1 quarto",
        "e 1 quarto",
        "çeyrek",
        "quarto",
    }
)

_PLAIN_CLOCKS: Final = (
    rf"{_H}(?:[.:](?P<m>\d{{2}}))? ?(?P<half>a\.?m\b\.?|p\.?m\b\.?)",
    rf"{_H}[:](?P<m>[0-5]\d)(?![\d:])(?: ?uhr\b| ?h\b)?",
    rf"{_H}(?P<dot>\.)(?P<m>[0-5]\d) ?(?:uhr\b|h\b)",
    rf"{_H} ?h ?(?P<m>[0-5]\d)(?!\d)",
)
_OF_LANGUAGE: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "en": (
        (r"\b(?P<by>half)(?P<past> past)? (?P<h>\d{1,2})(?![\d:%/]|[.,]\d)(?! (?:hour|day|of|million|thousand|dozen))", "+"),
        (r"\b(?P<by>a quarter|quarter|\d{1,2}) (?:past|after) (?P<h>\d{1,2})(?![\d:]|\.\d)", "+"),
        (r"\b(?P<by>a quarter|quarter) (?P<until>to|of|before) (?P<h>\d{1,2})(?![\d:]|\.\d)", "+"),
        (r"\b(?P<by>5|10|20|25) (?P<until>to) (?P<h>\d{1,2})(?=[.,!?]|$)", "+"),
        (rf"{_H} ?o'clock", "="),
    ),
    "de": (
        (r"\b(?P<by>halb|dreiviertel)(?P<next>) ?(?P<h>\d{1,2})(?![\d:]|[.,]\d)", "+"),
        (r"\b(?P<by>viertel|\d{1,2}) nach (?P<h>\d{1,2})(?![\d:]|\.\d)", "+"),
        (r"\b(?P<by>viertel|5|10|20) (?P<until>vor) (?P<h>\d{1,2})(?![\d:]|\.\d)", "+"),
        (rf"{_H} ?uhr(?: (?P<m>[0-5]?\d))?\b", "="),
    ),
    "fr": (
        (rf"{_H} ?h(?:eures?)? (?P<by>et quart|et demie?)", "+"),
        (rf"{_H} ?h(?:eures?)? (?P<until>moins) (?P<by>le quart|5|10|20|25)", "+"),
        (rf"{_H} ?(?P<hours>h|heures?)\b(?! ?/ ?24)(?: (?P<m>[0-5]\d)(?!\d))?", "="),
    ),
    "es": (
        (rf"{_H} (?P<by>y media|y cuarto)", "+"),
        (rf"{_H} (?P<until>menos) (?P<by>cuarto|5|10|20|25)", "+"),
        (r"\blas? (?P<h>\d{1,2}) y (?P<by>5|10|20|25)(?!\d)", "+"),
        (r"\blas (?P<h>\d{1,2})(?:[.:](?P<m>\d\d))? ?(?:horas|hs?)\b", "="),
        (rf"{_H} ?(?P<hours>hs?)\b", "="),
    ),
    "pt": (
        (rf"{_H} (?P<by>e meia)", "+"),
        (r"\b(?P<by>5|10|15|20|25|quarto) (?P<until>para) as (?P<h>\d{1,2})", "+"),
        (r"(?:\b(?:às|as|das|à)|\b(?:sáb|sex|seg)\w*) (?P<h>\d{1,2}) e (?P<by>5|10|15|20|25|40|45|50)(?!\d)", "+"),
        (r"\b(?P<h>1?\d) e (?P<by>15|45)(?!\d)", "+"),
        (r"\b(?:às|das|à) (?P<h>\d{1,2}) ?horas?\b", "="),
        (rf"{_H} ?(?P<hours>hs?)\b", "="),
    ),
    "it": (
        (rf"{_H} (?P<by>e mezz[ao]|e un quarto|e 1 quarto|e tre quarti|e 3 quarti)", "+"),
        (rf"{_H} (?P<until>meno) (?P<by>un quarto|1 quarto|5|10|20|25)", "+"),
        (r"\b(?:alle|dalle|le) (?P<h>\d{1,2}) e (?P<by>5|10|15|20|25|40|45|50)(?!\d)", "+"),
        (r"\bore (?P<h>\d{1,2})(?:[.:](?P<m>\d\d))?", "="),
        (r"\b(?:alle|dalle|le|delle) (?P<h>\d{1,2})(?P<dot>\.)(?P<m>\d\d)(?!\d)", "="),
    ),
    "tr": (
        (rf"{_H}'?(?:y?[iuü]|y?[ae]) (?P<by>çeyrek|\d{{1,2}}) (?:geç\w*)", "+"),
        (rf"{_H}'?(?:y?[ae]|y?[iuü]) (?P<by>çeyrek|\d{{1,2}}) (?P<until>kala|var)\w*", "+"),
        (rf"{_H} (?P<by>buçu(?:k|kta|ktan|ğa))\b", "+"),
        (r"\bsaat (?P<h>\d{1,2})(?:[.:](?P<m>\d\d))?", "="),
        (rf"{_H}(?P<dot>\.)(?P<m>[0-5]\d)(?='|-\d| ?(?:gibi|civari|arasi))", "="),
    ),
    "ja": (
        (r"(?P<half>午前|午後|夜の?|夕方の?|朝の?|昼の?)?(?<!\d)(?P<h>\d{1,2})時(?!間)(?:(?P<by>半)|(?P<m>\d{1,2})分)?", "j"),
    ),
}  # fmt: skip


def _read_japanese(match: re.Match[str], text: str) -> Meanings | None:
    del text
    half = match["half"] or ""
    name = "a" if half.startswith(("午前", "朝")) else "p" if half.startswith(("午後", "夜", "夕")) else ""
    return clock(int(match["h"]), 30 if match["by"] else int(match["m"] or 0), name) or None


BARE_HOURS: Final = {
    language: re.compile(pattern)
    for language, pattern in {
        "en": r"\b(?:at|by|until|till|around|before|after) (\d{1,2})(?![\d.,:%/-]\d|\d|[%a-z])"
        r"(?! (?:one|point|least|most|of|or \d))"
        r"(?=$|[.,;!?)\n]| (?:and|or|on|tomorrow|sharp|today|tonight|if|works|is|then|for|in the|at|as|so)\b)",
        "de": r"\b(?:um|ab|gegen|bis) (\d{1,2})(?![\d:%/-]|[.,]\d|[a-z])",
        "es": r"\b(?:a|sobre|hacia|desde|hasta|de|para|antes de|entre|y) (?:las|la) (\d{1,2})(?![\d:%/]|[.,]\d|[a-z])",
        "pt": r"\b(?:às|à|pelas|até às|até as) (\d{1,2})(?![\d:%/]|[.,]\d|[a-z])",
        "it": r"\b(?:alle|dalle|per le|verso le|entro le|prima delle|dopo le|all'|tra le|alla) ?"
        r"(\d{1,2})(?![\d:%/]|[.,]\d|[a-z])",
        "tr": r"(?<![\d.,:])(\d{1,2})(?='[dt][ae]n?\b| gibi\b| civari\b|'[ae] kadar|'y[ae] kadar)",
    }.items()
}

CLOCK_WORDS: Final = {
    "en": {"half", "quarter", "past"}
    | fact_words.MONTH_ABBREVIATIONS["en"].keys()
    | fact_words.WEEKDAY_ABBREVIATIONS["en"].keys(),
    "de": {"halb", "viertel", "dreiviertel"} | fact_words.MONTH_ABBREVIATIONS["de"].keys(),
    "fr": {"quart", "demi", "demie"} | fact_words.MONTH_ABBREVIATIONS["fr"].keys(),
    "es": {"media", "cuarto"} | fact_words.MONTH_ABBREVIATIONS["es"].keys(),
    "pt": {"meia"} | fact_words.MONTH_ABBREVIATIONS["pt"].keys() | fact_words.ORDINAL_WEEKDAYS,
    "it": {"mezza", "mezzo", "quarto"} | fact_words.MONTH_ABBREVIATIONS["it"].keys(),
    "tr": {"buçuk", "buçukta", "çeyrek"} | fact_words.MONTH_ABBREVIATIONS["tr"].keys(),
}


@cache
def clocks(language: str) -> list[tuple[re.Pattern[str], Read]]:
    """Return the patterns of times in a language, and how a match of each is read."""
    readers: dict[str, Read] = {"+": _read_shifted, "=": _read_plain, "j": _read_japanese}
    return [(re.compile(pattern), readers[kind]) for pattern, kind in _OF_LANGUAGE.get(language, ())] + [
        (re.compile(pattern), _read_plain) for pattern in _PLAIN_CLOCKS
    ]
