"""Numbers and amounts in digits: how they are written, and what each form may be worth."""

import re
from typing import Final

from draftd.reply import fact_words
from draftd.reply.fact import Meanings


def without_zeros(digits: str) -> str:
    """Return digits without leading zeros."""
    return digits.lstrip("0") or "0"


_SCALES: Final = {
    "k": 3, "tsd": 3, "tausend": 3, "thousand": 3, "grand": 3, "mille": 3, "mila": 3, "mil": 3, "bin": 3, "1000": 3, "t": 3,
    "mio": 6, "mn": 6, "million": 6, "millionen": 6, "millions": 6, "millones": 6, "milhões": 6, "milioni": 6,
    "milyon": 6, "1000000": 6, "bn": 9, "mrd": 9, "billion": 9, "万": 4, "億": 8, "千": 3,
}  # fmt: skip
_SCALE: Final = (
    r"(?P<scale> ?(?:mio|mrd|tsd|tausend|thousand|grand|mille|mila|millionen|millions?|millones|milhões|milioni|milyon|"
    r"billion|1000000|1000|万|億|千)\.?(?![a-zà-ÿ0-9])|(?:k|mn|bn)(?![a-zà-ÿ0-9])"
    r"| ?t(?=km)| ?k(?= ?[€$£])| (?:mil|bin)(?![a-zà-ÿ]))?"
)
_DIGITS: Final = r"\d(?<![\d]\d)(?:\d{0,2}(?: \d{3}){1,4}(?!\d)(?:[.,]\d{1,2}(?!\d))?|\d*+(?:[.,']\d++){0,6})"


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


def _scaled(whole: str, part: str, power: int) -> str:
    if power:
        part = part.rstrip("0") if len(part) > power else part.ljust(power, "0")
        whole, part = whole + part[:power], part[power:]
    part = part.rstrip("0")
    whole = whole.lstrip("0") or "0"
    return f"{whole}.{part}" if part else whole


def quantity(digits: str) -> Meanings:
    """Return the meanings of a bare number."""
    return {("number", value) for value in values(digits, None)}


RANGE: Final = re.compile(rf" ?[-/] ?\d[\d.,]{{0,9}}{_SCALE}")
CENTS: Final = re.compile(r" (?:e|y|et|und|and) (\d{2})(?![\d.,:])")
NUMBER: Final = re.compile(rf"(?P<number>{_DIGITS}){_SCALE}")
_SYMBOLS: Final = r"r\$|us\$|€|\$|£|¥|₺|₹"
_NAMES: Final = "|".join(
    sorted(
        (re.escape(word) for word in fact_words.CURRENCIES if word[0].isalpha() and "$" not in word),
        key=len,
        reverse=True,
    )
)
_DOLLARS: Final = ("USD", "MXN", "ARS", "COP", "CLP", "$")
SAME_SIGN: Final = dict.fromkeys(_DOLLARS[:-1], ("$",)) | {"$": _DOLLARS}
"""A source in dollars or pesos supports the bare sign, and the sign any of them; but dollars do not support pesos."""
AMOUNT_BEFORE: Final = re.compile(
    rf"(?P<currency>[r€$£¥₺₹euscbtjgf](?:(?<=[€$£¥₺₹])|(?<=r)\$|(?<=u)s\$|(?<=e)ur|(?<=u)sd|"
    r"(?<=g)bp|(?<=c)hf|(?<=b)rl|(?<=t)ry|(?<=j)py|(?<=t)l|(?<=f)r\.)) ?"
    rf"(?P<number>{_DIGITS}){_SCALE}"
)
AMOUNT_AFTER: Final = re.compile(
    rf"(?P<number>{_DIGITS}){_SCALE} ?(?:de )?(?P<currency>{_SYMBOLS}|円|(?:{_NAMES})(?![a-zà-ÿ]))"
    rf"(?: (?:e |y |et |und )?(?P<cents>\d{{2}})(?![\d:]|[.,]\d))?"
)
