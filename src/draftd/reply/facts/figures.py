"""Numbers in a text: amounts of money, durations, quantities, and numbers that are names, such as ``Q3`` or ``v3.2.1``."""

import re
from functools import cache
from typing import Final, NamedTuple

from draftd.reply.facts import minor, times, vocabulary
from draftd.reply.facts.fact import FactKind, Meanings
from draftd.reply.facts.meanings import clock, values, without_zeros
from draftd.reply.facts.search import Search


def scan_amounts(search: Search) -> None:
    """Add the amounts of money."""
    for pattern in _patterns(search.language).amounts:
        for match in search.matches(pattern):
            code, groups = vocabulary.CURRENCIES[match["currency"]], match.groupdict()
            digits = match["number"] + (f".{cents}" if (cents := groups.get("cents")) else "")
            codes = {code, *(_SAME_SIGN.get(code, ()) if search.is_source else ())}
            search.add(
                match.span(),
                FactKind.AMOUNT,
                _rounded(
                    search,
                    match,
                    {("amount", value, each) for value in values(digits, match["scale"]) for each in codes},
                ),
            )


def scan_durations(search: Search) -> None:
    """Add durations in words: "half an hour" in a source, "2 and a half hours", "1 hour 20"."""
    for match in search.matches(_PART_OF_UNIT) if search.is_source else ():
        search.add(match.span(), FactKind.NUMBER, {_PARTS_OF_UNITS[match.lastgroup or ""]})
    for match in search.matches(_AND_A_HALF):
        value = f"{int(match['number'] or match['count'] or match['bare'])}.5"
        unit = vocabulary.UNITS.get(match["unit"] or match["counted"])
        search.add(match.span(), FactKind.NUMBER, {("unit", value, unit) if unit else ("number", value)})
    for match in search.matches(_JAPANESE_HALF):
        meanings: Meanings = {("number", f"{int(match[1])}.5")}
        if match[2] in vocabulary.UNITS:
            meanings.add(("unit", f"{int(match[1])}.5", vocabulary.UNITS[match[2]]))
        search.add(match.span(), FactKind.NUMBER, meanings)
    for match in search.matches(_HOURS_WITHOUT_UNIT):
        _add_hours(search, match, match[1], match[2])


def scan_hours_and_minutes(search: Search) -> None:
    """Add "1 hour 20 minutes", which is no time of day."""
    for match in search.matches(_HOURS_AND_MINUTES):
        _add_hours(search, match, match[1] or match[3], match[2] or match[4])


def _add_hours(search: Search, match: re.Match[str], hours: str, minutes: str) -> None:
    meanings: Meanings = {("unit", str(60 * int(hours) + int(minutes)), "minute")}
    if search.is_source:
        meanings |= {("unit", without_zeros(hours), "hour"), ("unit", without_zeros(minutes), "minute")}
        meanings |= clock(int(hours), int(minutes))
    search.add(match.span(), FactKind.NUMBER, meanings)


def scan_stars(search: Search) -> None:
    """Add ``★★★★☆`` in a source as a 4."""
    for match in search.matches(_STARS) if search.is_source else ():
        search.add(match.span(), FactKind.NUMBER, {("number", str(len(match.group())))})


def scan_numbers(search: Search) -> None:
    """Add the numbers that nothing else has taken."""
    for match in search.matches(_GROUPED):
        compact = re.sub(r"[ -]", "", match.group())
        if sum(map(str.isdigit, compact)) >= LEAST_GROUPED_DIGITS:
            search.add(match.span(), FactKind.NUMBER, {("long code", compact)})
    for match in search.matches(_QUARTER):
        number = match[1] or match[2] or match[3]
        # "T2" may be a terminal as well.
        may_be_other = search.is_source or match.group().startswith("t")
        search.add(
            match.span(), FactKind.NUMBER, {("quarter", number), *({("number", number)} if may_be_other else ())}
        )
    for match in _patterns(search.language).number.finditer(search.text):
        if not search.is_taken(*match.span()) and not _add_code(search, match):
            _add_number(search, match)


MOST_ROUND_DIGITS: Final = 2
"""A number with more digits than these before its zeros is exact."""
LEAST_GROUPED_DIGITS: Final = 12
"""Fewer digits in groups are single numbers, or a phone number."""
_ROUNDED: Final = frozenset({"number", "unit", "amount"})


class _Unit(NamedTuple):
    """The word after a number."""

    word: str
    end: int
    name: str | None
    """If the word is a unit, its name."""


def _unit(search: Search, match: re.Match[str]) -> _Unit:
    word, end = search.unit_at(match.end())
    name = vocabulary.UNITS.get(word)
    if vocabulary.UNITS_OF.get(word, search.language) != search.language:
        name = None
    return _Unit(word, end, name)


def _add_number(search: Search, match: re.Match[str]) -> None:
    token, scale, unit = match["number"], match["scale"], _unit(search, match)
    start, name = match.start(), unit.name
    if name is None and search.text[start - 1 : start] == "%":
        start, name = start - 1, "percent"
    words = search.in_words(*match.span())
    is_minor = not search.is_source and minor.is_minor(search, match, name, unit.word)
    end = unit.end if unit.name and not is_minor else match.end("scale" if scale else "number")
    is_year = name is None and scale is None and len(token) == 4 and token[:2] in {"19", "20"} and not words
    meanings = _meanings(search, match, name, unit.word)
    search.add((start, end), FactKind.DATE if is_year else FactKind.NUMBER, meanings, is_minor=is_minor)


def _meanings(search: Search, match: re.Match[str], unit: str | None, follows: str) -> Meanings:
    token, scale = match["number"], match["scale"]
    found: Meanings = {("unit", value, unit) if unit else ("number", value) for value in values(token, scale)}
    found |= _with_unit(token, follows)
    if unit is None and scale is None:
        found |= _as_hour(search, match)
    if ranged := _patterns(search.language).range_.match(search.text, match.end()):
        found |= {("number", value) for value in values(token, ranged["scale"])}
    if search.is_source and search.in_words(*match.span()) and (part := _CENTS.match(search.text, match.end())):
        found.add(("number", f"{token}.{part[1]}".rstrip("0")))
    if len(token) == 2 and search.text[match.start() - 1 : match.start()] == "'":
        found |= {("number", f"{century}{token}") for century in (19, 20)}
    return _rounded(search, match, found)


def _with_unit(token: str, unit: str) -> Meanings:
    """Return what a number means by a unit that may mean several, or stands for a part or a multiple of another."""
    found: Meanings = set()
    if unit in _ALSO:
        found |= {("unit", value, _ALSO[unit]) for value in values(token, None)}
    if unit == "m":
        found |= {("number", value) for value in values(token, "m")}
    if unit == "割" and token.isdigit():
        found.add(("unit", without_zeros(f"{token}0"), "percent"))
    if unit in vocabulary.DOZENS and token.isdigit():
        found.add(("number", str(12 * int(token[:3]))))
    if unit in vocabulary.HUNDREDTHS and token.isdigit():
        found |= {("number", value) for value in values(f"0.{token:0>2}", None)}
    return found


def _as_hour(search: Search, match: re.Match[str]) -> Meanings:
    token = match["number"]
    if dotted := _DOTTED_TIME.fullmatch(token):
        return clock(int(dotted[1]), int(dotted[2]))
    if not token.isdigit() or len(token) > len("24"):
        return set()
    is_possible = search.is_source or times.may_be_hour(search, match.start(), match.end())
    return clock(int(token), 0) if is_possible else set()


def _rounded(search: Search, match: re.Match[str], meanings: Meanings) -> Meanings:
    """Return what a number means, and what it may stand for if it is called rounded."""
    if not search.is_rounded(*match.span(), vocabulary.NEAR):
        return meanings
    round_ones = {
        meaning for meaning in meanings if meaning[0] in _ROUNDED and len(meaning[1].strip("0")) <= MOST_ROUND_DIGITS
    }
    return meanings | {("near", *meaning) for meaning in round_ones}


def _add_code(search: Search, match: re.Match[str]) -> bool:
    """Add a number that is part of a name, such as ``Q3``, ``v3.2.1`` or ``A-9921``; return whether it is one."""
    start, end = match.span()
    if search.in_words(start, end):
        return False
    before = _CODE_BEFORE.search(search.text, max(0, start - 24), start)
    code = _CODE.match(search.text, before.start() if before else start)
    if code is None or code.end() <= start:
        return False
    written = code.group().rstrip("-/._")
    if _is_measure(written) or not re.search(r"[a-z]|[-/_#]|\d\.\d+\.", written):
        return False
    span = code.start(), code.start() + len(written)
    if search.is_taken(*span):
        return False
    is_minor = not search.is_source and minor.is_minor_code(written)
    search.add(span, FactKind.NUMBER, _code_meanings(written, is_source=search.is_source), is_minor=is_minor)
    return True


def _code_meanings(code: str, *, is_source: bool) -> Meanings:
    meanings: Meanings = {("code", code)}
    if measure := _NUMBER_WITH_ENDING.fullmatch(code):
        # "#12" is number 12, "1990s" and "1990er" are years, "120fps" is a number with a unit that is not known.
        meanings.add(("number", without_zeros(measure[1])))
    if pair := _PAIR.fullmatch(code):
        meanings.add(("pair", without_zeros(pair[1]), without_zeros(pair[2])))
    if is_source:
        meanings |= {("code", part) for part in re.split(r"[-/._]", code)}
        scales = (None, "k") if code.endswith("k") else (None,)
        numbers = re.findall(r"\d+", code)
        meanings |= {("number", value) for part in numbers for scale in scales for value in values(part, scale)}
        meanings |= {("number", value) for part in re.findall(r"\d+\.\d+", code) for value in values(part, None)}
        if pair:
            meanings |= clock(int(pair[1]), 0) | clock(int(pair[2]), 0)
    return meanings


def _is_measure(token: str) -> bool:
    """Return whether a token is a number with its unit, such as ``350g``, and no code."""
    measure = _MEASURE.fullmatch(token)
    return measure is not None and measure[1] in vocabulary.UNITS


_DIGITS: Final = r"\d(?<![\d]\d)(?:\d{0,2}(?: \d{3}){1,4}(?!\d)(?:[.,]\d{1,2}(?!\d))?|\d*+(?:[.,']\d++){0,6})"
_SCALE: Final = (
    r"(?P<scale> ?(?:mio|mrd|tsd|tausend|thousand|grand|mille|mila|millionen|millions?|millones|milhões|milioni|milyon|"
    r"billion|1000000|1000|万|億|千)\.?(?![a-zà-ÿ0-9])|(?:k|mn|bn)(?![a-zà-ÿ0-9])"
    r"| ?t(?=km)| ?[km](?= ?[€$£])| {word}(?![a-zà-ÿ]))?"
)
_SCALE_WORDS: Final = {"es": "mil", "pt": "mil", "tr": "bin"}
"""Thousands that are everyday words of other languages."""
_CENTS: Final = re.compile(r" (?:e|y|et|und|and) (\d{2})(?![\d.,:])")
_DOTTED_TIME: Final = re.compile(r"(\d{1,2})\.([0-5]\d)")
_ALSO: Final = {"m": "minute", "キロ": "kg"}
"""What short units mean as well; ``2m`` may be two million too."""
_STARS: Final = re.compile(r"[★⭐]{1,5}")
_GROUPED: Final = re.compile(r"(?<![a-z0-9])[a-z]{0,3}\d{2,6}(?:[ -]\d{2,6}){2,8}(?![a-z0-9])")
_QUARTER: Final = re.compile(
    r"(?<![a-z0-9])[qt]([1-4])(?![a-z0-9])"
    r"|(?<!\d)([1-4])(?:st|nd|rd|th|\.|º|°|er|e|eme|ème|o)? ?(?:quarter|quartal|trimestre|trim|tri|çeyrek)(?![a-z])"
    r"|第?([1-4])四半期"
)
_PAIR: Final = re.compile(r"(\d{1,3})[-/](\d{1,3})")
_NUMBER_WITH_ENDING: Final = re.compile(r"#?(\d{1,9})[a-z]{0,4}")
_MEASURE: Final = re.compile(r"\d{1,9}(?:[.,]\d{1,3})?([a-z]{1,4})")
_CODE: Final = re.compile(r"[#]?[a-z0-9]{1,24}(?:[-/._][a-z0-9]{1,24}){0,6}")
_CODE_BEFORE: Final = re.compile(r"(?:#|[a-z0-9][a-z0-9./_-]{0,23})$")

_HOUR_WORDS: Final = r"hours?|stunden?|heures?|horas?|or[ae]|saat"
_MINUTE_WORDS: Final = r"min(?:ut(?:es?|en|os?|i)|s)?|dakika"
_HOURS: Final = rf"(?<![\d.,:])(\d{{1,2}}) ?(?:{_HOUR_WORDS}|hrs?|std\.?|h) ?(?:and |und |et |y |e )?"
_HOURS_AND_MINUTES: Final = re.compile(
    rf"{_HOURS}(\d{{1,2}}) ?(?:{_MINUTE_WORDS})(?![a-z])|(?<![\d.,:])(\d{{1,2}})時間(\d{{1,2}})分"
)
_HOURS_WITHOUT_UNIT: Final = re.compile(rf"{_HOURS}(\d\d)(?<! h \d\d)(?!\d|[.,:]\d| ?[%€$£])")
_HALF_UNITS: Final = (
    r"hours?|days?|weeks?|months?|years?|stunden?|tage?|wochen?|monate?|jahre?|heures?|jours?|semaines?|ans?|horas?|días?|dias?|"
    r"semanas?|años?|anos?|or[ae]|giorn[io]|settiman[ae]|ann[io]|saat|gün|hafta|yil"
)
_HALF_MORE: Final = "(?:and a half|et demie?|y medi[ao]|e mezz[ao]|e mei[ao])"
_AND_A_HALF: Final = re.compile(
    rf"(?<![\d.,:])(?P<number>\d{{1,2}}) {_HALF_MORE} (?P<unit>{_HALF_UNITS})(?![a-zà-ÿ])"
    rf"|(?<![\d.,:])(?P<count>\d{{1,2}}) (?P<counted>{_HALF_UNITS}) {_HALF_MORE}(?![a-zà-ÿ])"
    rf"|(?<![\d.,:])(?P<bare>\d{{1,2}}) {_HALF_MORE}(?![a-zà-ÿ])"
)
_JAPANESE_HALF: Final = re.compile(r"(?<![\d.,:])(\d{1,2})(歳|年|か月|ヶ月|週間|日|キロ)半")
_UNITS_IN_WORDS: Final = {
    "half_hour": ("30", "minute"),
    "quarter_hour": ("15", "minute"),
    "three_quarters": ("45", "minute"),
    "hour_and_half": ("90", "minute"),
    "half_year": ("6", "month"),
    "half_day": ("12", "hour"),
    "half_hour_ja": ("30", "minute"),
    "half_year_ja": ("6", "month"),
    "half_day_ja": ("12", "hour"),
    "fortnight": ("2", "week"),
    "hour": ("1", "hour"),
    "day": ("1", "day"),
    "week": ("1", "week"),
    "month": ("1", "month"),
    "year": ("1", "year"),
    "half": ("50", "percent"),
}
_PARTS_OF_UNITS: Final = {name: ("unit", *part) for name, part in _UNITS_IN_WORDS.items()} | {
    "half_dozen": ("number", "6")
}
_PART_OF_UNIT: Final = re.compile(
    # At the beginning of a word, which is the fastest to tell.
    r"(?<![^\W\d_])(?:(?P<three_quarters>three quarters of an hour|dreiviertelstunde|trois quarts d'heure|3 quarts d'heure|"
    r"3 cuartos de hora|3 quartos de hora|3 quarti d'ora)"
    r"|(?P<hour_and_half>an hour and a half|(?:1 )?heure et demie|(?:1 )?hora y media|(?:1 )?hora e meia|"
    r"(?:1 |un')?ora e mezz[ao])"
    r"|(?P<half_hour>half (?:an |1 )?hour|halbe(?:n|s)? stunde|demi-heure|media hora|meia hora|mezz'ora|mezzora|"
    r"yarim saat)"
    r"|(?P<quarter_hour>quarter of an hour|viertelstunde|quart d'heure|cuarto de hora|quarto d'ora|quarto de hora)"
    r"|(?P<half_year>half a year|halbe[sn]? jahr|medio año|meio ano|mezzo anno|yarim yil)"
    r"|(?P<half_day>half a day|halben tag|demi-journée|medio día|meio dia|mezza giornata|yarim gün)"
    r"|(?P<half_dozen>half (?:a |1 )?(?:dozen|12)|halbes (?:dutzend|12)|demi-douzaine|demi-12|media (?:docena|12)|"
    r"meia (?:dúzia|12)|mezza (?:dozzina|12)|yarim (?:düzine|12))"
    r"|(?P<fortnight>fortnight|quinzaine|quincena|quinzena)"
    r"|an? (?:(?P<hour>hour)|(?P<day>day)|(?P<week>week)|(?P<month>month)|(?P<year>year))\b"
    rf"|(?P<half>(?:{'|'.join(sorted(vocabulary.HALVES))})(?! (?:\d|past))))"
    r"|(?P<half_hour_ja>半時間)|(?P<half_year_ja>半年)|(?P<half_day_ja>半日)"
)

_SYMBOLS: Final = r"r\$|us\$|€|\$|£|¥|₺|₹"
_NAMES: Final = "|".join(
    sorted(
        (re.escape(word) for word in vocabulary.CURRENCIES if word[0].isalpha() and "$" not in word),
        key=len,
        reverse=True,
    )
)
_DOLLARS: Final = ("USD", "MXN", "ARS", "COP", "CLP", "$")
_SAME_SIGN: Final = dict.fromkeys(_DOLLARS[:-1], ("$",)) | {"$": _DOLLARS}
"""A source in dollars or pesos supports the bare sign, and the sign any of them; but dollars do not support pesos."""
_AMOUNT_BEFORE: Final = (
    r"(?P<currency>[r€$£¥₺₹euscbtjgf](?<!\d.)(?:(?<=[€$£¥₺₹])|(?<=r)\$|(?<=u)s\$|(?<=e)ur|(?<=u)sd|"
    r"(?<=g)bp|(?<=c)hf|(?<=b)rl|(?<=t)ry|(?<=j)py|(?<=t)l|(?<=f)r\.)) ?"
)
_AMOUNT_AFTER: Final = (
    rf" ?(?:de )?(?P<currency>{_SYMBOLS}|円|(?:{_NAMES})(?![a-zà-ÿ]))"
    r"(?:(?:(?<=[€$£])| (?:e |y |et |und )?)(?P<cents>\d{2})(?![\d:]|[.,]\d))?"
)


class _Patterns(NamedTuple):
    number: re.Pattern[str]
    amounts: tuple[re.Pattern[str], re.Pattern[str]]
    range_: re.Pattern[str]


@cache
def _patterns(language: str) -> _Patterns:
    scale = _SCALE.replace("{word}", _SCALE_WORDS.get(language, "(?!)"))
    number = rf"(?P<number>{_DIGITS}){scale}"
    return _Patterns(
        number=re.compile(number),
        amounts=(re.compile(_AMOUNT_BEFORE + number), re.compile(number + _AMOUNT_AFTER)),
        range_=re.compile(rf" ?(?:[-/]|to|bis|à|a) ?\d[\d.,]{{0,9}}{scale}"),
    )
