"""Times of day in a text: how eight languages say them."""

import re
from collections.abc import Callable
from functools import cache
from typing import Final

from draftd.reply.facts import vocabulary
from draftd.reply.facts.fact import FactKind, Meanings
from draftd.reply.facts.meanings import clock, dated, quantity
from draftd.reply.facts.search import Search


def scan(search: Search) -> None:
    """Add the times of day that are written as times, and in a reply bare hours: "at 8"."""
    for pattern, read in _clocks(search.language):
        for match in search.matches(pattern):
            if (meanings := read(match)) is not None:
                search.add(match.span(), FactKind.TIME, _rounded(search, match.span(), meanings))
    for match in search.matches(_SPOKEN):
        if search.in_words(*match.span(1)) and search.in_words(*match.span(2)):
            meanings = _rounded(search, match.span(), clock(int(match[1]), int(match[2])))
            if search.is_source:
                meanings |= {("number", match[1]), ("number", match[2])}
            search.add(match.span(), FactKind.TIME, meanings)
    bare = None if search.is_source else _BARE_HOURS.get(search.language)
    for match in search.matches(bare) if bare else ():
        unit, _ = search.unit_at(match.end(1))
        if 0 < int(match[1]) <= 24 and unit not in vocabulary.UNITS and unit not in vocabulary.CURRENCIES:
            start = match.start(1) if match.start(1) - match.start() > 4 else match.start()
            meanings = clock(int(match[1]), 0) | {("number", match[1])}
            search.add((start, match.end(1)), FactKind.TIME, _rounded(search, match.span(1), meanings))


def scan_phrases(search: Search) -> None:
    """Add noon and midnight where they are two words, or Japanese."""
    for phrases, at in ((vocabulary.NOON_PHRASES, 720), (vocabulary.MIDNIGHT_PHRASES, 0)):
        for phrase in phrases:
            if (start := search.text.find(phrase)) >= 0:
                _add_noon(search, (start, start + len(phrase)), at)


def add_named(search: Search, match: re.Match[str]) -> None:
    """Add noon or midnight if a word names it."""
    word = match.group()
    if word in vocabulary.MIDNIGHT or (word in vocabulary.NOON and (search.is_source or word not in vocabulary.VAGUE)):
        _add_noon(search, match.span(), 720 if word in vocabulary.NOON else 0)


def _add_noon(search: Search, span: tuple[int, int], at: int) -> None:
    start, end = span
    if half := _AND_HALF.match(search.text, end):
        end, at = half.end(), at + 30
    search.add((start, end), FactKind.TIME, {("time", str(at))})


def may_be_hour(search: Search, start: int, end: int) -> bool:
    """Return whether a bare number may be an hour: after "between", before "and 4"."""
    return (
        _TIME_PREPOSITION.search(search.text, max(0, start - 12), start) is not None
        or _FROM_HOUR.search(search.text, max(0, start - 16), start) is not None
        or _UNTIL_HOUR.match(search.text, end) is not None
        or not (follows := search.unit_at(end)[0])
        or follows in _AFTER_HOUR
    )


def is_hour(text: str, start: int, end: int) -> bool:
    """Return whether a number is an hour: a preposition of times is before it, and nothing that it counts after it."""
    follows = _WORD_AFTER.match(text, end)
    return _TIME_PREPOSITION.search(text, max(0, start - 12), start) is not None and (
        follows is None or follows[1] in _AFTER_HOUR | _RANGE_WORDS
    )


def _rounded(search: Search, span: tuple[int, int], meanings: Meanings) -> Meanings:
    """Return what a time means, and what it may stand for if it is called rounded: "around seven"."""
    if not search.is_rounded(*span, vocabulary.NEAR_TIME):
        return meanings
    return meanings | {("near time", meaning[1]) for meaning in meanings if meaning[0] == "time"}


_Read = Callable[[re.Match[str]], Meanings | None]


def _read_plain(match: re.Match[str]) -> Meanings | None:
    """Read ``14:30``, ``2 pm``, ``14h30``."""
    groups = match.groupdict()
    hour, minute = int(groups["h"]), int(groups.get("m") or 0)
    if groups.get("hours") and (
        hour > 24 or (not groups.get("m") and _DURATION.search(match.string, max(0, match.start() - 14), match.start()))
    ):
        return None
    half = (groups.get("half") or "").strip()[:1] or ("a" if groups["h"][0] == "0" else "")
    found = clock(hour, minute, half)
    is_written_as_long = groups.get("m") and (groups.get("long") or groups.get("hours"))
    if found and (is_written_as_long or (minute and not half and ":" in match.group())):
        # "1 h 20" and "2:14" may be how long it takes.
        found.add(("unit", str(60 * hour + minute), "minute"))
    if groups.get("dot"):
        found |= quantity(f"{hour}.{groups['m']}") | dated(hour, minute, "")
    return found or None


def _read_shifted(match: re.Match[str]) -> Meanings | None:
    """Read "half past six", "Viertel vor elf", "onze heures moins le quart"."""
    groups = match.groupdict()
    by, hour = groups.get("by") or "", int(groups["h"])
    minutes = int(by) if by.isdigit() else _PARTS.get(by, 0)
    is_before, counts_to_next = groups.get("until") is not None, groups.get("next") is not None
    if (is_before or counts_to_next) and not 0 < hour <= 24:
        return None
    at = 60 * hour - minutes if is_before else 60 * (hour - 1) + minutes if counts_to_next else 60 * hour + minutes
    meanings = clock(at // 60 or (12 if hour == 1 else 0), at % 60)
    if minutes == 30 and not counts_to_next:
        meanings |= {("number", f"{hour}.5"), ("unit", f"{hour}.5", "hour")}
    return meanings or None


def _read_japanese(match: re.Match[str]) -> Meanings | None:
    half = match["half"] or ""
    name = "a" if half.startswith(("午前", "朝")) else "p" if half.startswith(("午後", "夜", "夕")) else ""
    return clock(int(match["h"]), 30 if match["by"] else int(match["m"] or 0), name) or None


# The lookbehind follows the first digit: a pattern that begins with a digit is searched for much faster.
_H: Final = r"(?P<h>\d(?<![\d.,:/$€£+]\d)\d?)(?!\d)"
_DURATION: Final = re.compile(
    r"(?:^|\b)(?:dans|sous|en|em|pendant|durante|por|depuis|within|in|innerhalb von|binnen|entro|tra|fra|per|há|hace|toutes les|"
    r"cada|de|les|moins de|plus de|environ|unos|umas|circa|ungefähr|etwa|für|for) $"
)
_PARTS: Final = {
    part: minutes
    for minutes, parts in {
        15: "quarter|a quarter|viertel|et quart|le quart|quart|cuarto|y cuarto|e un quarto|un quarto|1 quarto|e 1 quarto|quarto|"
        "çeyrek",
        30: "half|halb|et demi|et demie|y media|e mezza|e mezzo|e meia|buçuk|buçukta|buçuğa|buçuktan|半",
        45: "dreiviertel|e tre quarti|e 3 quarti",
    }.items()
    for part in parts.split("|")
}

_PLAIN_CLOCKS: Final = (
    rf"{_H}(?:[.:](?P<m>\d{{2}}))?(?P<half> ?a\.m\b\.?|am\b| ?p\.?m\b\.?)",
    rf"{_H}[:](?P<m>[0-5]\d)(?![\d:])(?: ?uhr\b|(?P<long> ?h\b))?",
    rf"{_H}(?P<dot>\.)(?P<m>[0-5]\d) ?(?:uhr\b|h\b)",
    rf"{_H} ?(?P<long>h) ?(?P<m>[0-5]\d)(?!\d)",
)
_IN_THE_MORNING: Final = rf"{_H}(?:[.:](?P<m>\d\d))? (?P<half>am)\b"
"""In German, "drei am Bahnhof" is no time in the morning."""
_OF_LANGUAGE: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "en": (
        (r"\b(?P<by>half)(?P<past> past)? (?P<h>\d{1,2})(?![\d:%/]|[.,]\d)(?! (?:hour|day|of|million|thousand|dozen))", "+"),
        (r"\b(?P<by>a quarter|quarter|\d{1,2}) (?:past|after) (?P<h>\d{1,2})(?![\d:]|\.\d)", "+"),
        (r"\b(?P<by>a quarter|quarter) (?P<until>to|of|before) (?P<h>\d{1,2})(?![\d:]|\.\d)", "+"),
        (r"\b(?P<by>5|10|20|25) (?P<until>to) (?P<h>\d{1,2})(?=[.,!?]|$)", "+"),
        (rf"{_H} ?o'clock", "="),
    ),
    "de": (
        (rf"{_H}(?:[.:](?P<m>\d\d))? (?P<half>am)\b(?! [^\W\d_])", "="),
        (r"\b(?P<by>halb|dreiviertel|viertel)(?P<next>) ?(?P<h>\d{1,2})(?![\d:]|[.,]\d)", "+"),
        (r"\b(?P<by>viertel|\d{1,2}) nach (?P<h>\d{1,2})(?![\d:]|\.\d)", "+"),
        (r"\b(?P<by>viertel|5|10|20) (?P<until>vor) (?P<h>\d{1,2})(?![\d:]|\.\d)", "+"),
        (rf"{_H} ?uhr(?: (?P<m>[0-5]?\d))?\b", "="),
    ),
    "fr": (
        (rf"{_H} ?h(?:eures?)? (?P<by>et quart|et demie?)", "+"),
        (rf"{_H} ?h(?:eures?)? (?P<until>moins) (?P<by>le quart|5|10|20|25)", "+"),
        (rf"{_H} ?(?P<hours>h|heures?)\b(?! ?/ ?24)(?! (?:avant|après|plus tard)\b)(?: (?P<m>[0-5]\d)(?!\d))?", "="),
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
        (r"\b(?P<by>5|10|15|20|25|quarto) (?P<until>para|pras?)(?: as)? (?P<h>\d{1,2})", "+"),
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


_BARE_HOURS: Final = {
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

_TIME_PREPOSITION: Final = re.compile(
    r"\b(?:at|by|until|till|around|before|after|past|between|from|to|um|ab|gegen|bis|vor|nach|zwischen|von|vers|avant|après|dès|"
    r"entre|las|la|às|as|das|pelas|le|alle|dalle|saat) $|(?:l'|à |jusqu'à )$"
)
_AFTER_HOUR: Final = frozenset(
    word
    for words in (
        "for is if works then today tomorrow tonight",
        "für ist passt geht da bin heute morgen",
        "pour est demain",
        "para es está mañana é amanhã per è va domani",
        "için olur uygun yarin",
    )
    for word in words.split()
)
"""Words after a bare hour, but not after a count."""
_RANGE_WORDS: Final = frozenset(
    ["and", "or", "to", "und", "oder", "bis", "et", "ou", "à", "y", "o", "a", "e", "às", "ve"]
)
"""Words between two hours."""
_WORD_AFTER: Final = re.compile(r" ?-?([^\W\d_]{1,24})")
_AND: Final = (
    r" ?(?:-|to|and|until|till|or|bis|und|oder|à|et|ou|a|y|o|e|alle|às|ve|veya|ile) ?(?:las |les |le |as |às )?"
)
_UNTIL_HOUR: Final = re.compile(rf"{_AND}\d{{1,2}}(?!\d)")
_FROM_HOUR: Final = re.compile(rf"(?<!\d)\d{{1,2}}(?:[.:]\d\d)?{_AND}$")
_SPOKEN: Final = re.compile(r"(?<![\d.,:])(1?\d|2[0-4])(?:-| e | y | )([0-5]\d)(?!\d|[.,:]\d|[ -]?(?:%|€|euro))")
"""``six thirty``; only words are read so."""
_AND_HALF: Final = re.compile(r" (?:et demie?|y media|e mezzo|e meia)")

CLOCK_WORDS: Final = {
    "en": {"half", "quarter", "past"}
    | vocabulary.MONTH_ABBREVIATIONS["en"].keys()
    | vocabulary.WEEKDAY_ABBREVIATIONS["en"].keys(),
    "de": {"halb", "viertel", "dreiviertel"} | vocabulary.MONTH_ABBREVIATIONS["de"].keys(),
    "fr": {"quart", "demi", "demie"} | vocabulary.MONTH_ABBREVIATIONS["fr"].keys(),
    "es": {"media", "cuarto"} | vocabulary.MONTH_ABBREVIATIONS["es"].keys(),
    "pt": {"meia"} | vocabulary.MONTH_ABBREVIATIONS["pt"].keys() | vocabulary.ORDINAL_WEEKDAYS,
    "it": {"mezza", "mezzo", "quarto"} | vocabulary.MONTH_ABBREVIATIONS["it"].keys(),
    "tr": {"buçuk", "buçukta", "çeyrek"} | vocabulary.MONTH_ABBREVIATIONS["tr"].keys(),
}


@cache
def _clocks(language: str) -> list[tuple[re.Pattern[str], _Read]]:
    """Return the patterns of times in a language, and how a match of each is read."""
    readers: dict[str, _Read] = {"+": _read_shifted, "=": _read_plain, "j": _read_japanese}
    own = (
        _OF_LANGUAGE.get(language, ())
        if language == "de"
        else (*_OF_LANGUAGE.get(language, ()), (_IN_THE_MORNING, "="))
    )
    return [(re.compile(pattern), readers[kind]) for pattern, kind in own] + [
        (re.compile(pattern), _read_plain) for pattern in _PLAIN_CLOCKS
    ]
