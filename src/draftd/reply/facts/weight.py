"""What a wrong fact would cost: whether it is always worth a repair, in some replies, or never.

Decided on the text as written, for facts that no source has; each is marked, whatever its weight. A wrong price, date, time or
address hurts. "After two minutes" in a joke or a number in code does not, and a repair would cost time and often a good reply.
"""

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from draftd.reply.facts import times
from draftd.reply.facts.fact import Fact, FactKind
from draftd.reply.facts.meanings import MOST_DIGITS
from draftd.reply.placeholders import CODE


class Weight(StrEnum):
    """What a wrong fact would cost, the most first."""

    FULL = "full"
    """It is worth a repair."""
    COUNT = "count"
    """A small number in words ("five days"): it binds where something is decided, elsewhere it is often a figure of speech."""
    VERSION = "version"
    """A version number: public knowledge where code is discussed."""
    SLIGHT = "slight"
    """It is never worth a repair: a decade, code, what would have been."""


MOST_IN_WORDS: Final = 12
"""Larger numbers in words were counted or measured."""
_ADDRESSES: Final = frozenset({FactKind.PHONE, FactKind.EMAIL, FactKind.LINK})
_DATED: Final = frozenset({FactKind.NUMBER, FactKind.DATE, FactKind.TIME})
_COUNTED: Final = frozenset({"minute", "hour", "day", "week", "month", "year", "night", "person", "page", "piece"})
"""Units in which people talk loosely; a number in metres or percent was measured."""


def of(text: str, language: str, facts: Iterable[Fact]) -> dict[Fact, Weight]:
    """Return what it would cost if facts were wrong.

    Args:
        text: the reply, in the form in which texts are searched.
        language: two letters.
        facts: facts of the reply.
    """
    code = [match.span() for match in CODE.finditer(text)]
    return {fact: _weight(text, language, fact, code) for fact in facts}


def _weight(text: str, language: str, fact: Fact, code: Iterable[tuple[int, int]]) -> Weight:
    if fact.kind not in _ADDRESSES and any(start < fact.start and fact.end < end for start, end in code):
        return Weight.SLIGHT
    if fact.kind not in _DATED:
        return Weight.FULL
    written = text[fact.start : fact.end]
    if any(map(str.isdigit, written)):
        if _is_decade(text, fact):
            return Weight.SLIGHT
        return Weight.VERSION if fact.kind is FactKind.NUMBER and _VERSION.fullmatch(written) else Weight.FULL
    if _is_unreal(text, fact, language):
        return Weight.SLIGHT
    return Weight.COUNT if fact.kind is FactKind.NUMBER and _is_small_count(text, fact) else Weight.FULL


def heaviest(weights: Iterable[Weight]) -> Weight:
    """Return the weight that costs most."""
    return min(weights, key=list(Weight).index)


def is_sum(text: str, fact: Fact, beside: Iterable[Fact]) -> bool:
    """Return whether a number is the sum of all others in its sentence: "five of us, three adults and two children".

    Args:
        text: the reply, in the form in which texts are searched.
        fact: a fact of the reply.
        beside: the other facts of the reply that have a source or need none.
    """
    start, end = _sentence(text, fact)
    parts = [_count(one) for one in beside if start <= one.start < end and one.kind is FactKind.NUMBER]
    return len(parts) > 1 and _count(fact) == sum(part or 0 for part in parts)


def _sentence(text: str, fact: Fact) -> tuple[int, int]:
    """Return where the sentence of a fact begins and ends."""
    first, last = max(0, fact.start - MOST_SENTENCE), fact.end + MOST_SENTENCE
    start = max(text.rfind(end, first, fact.start) for end in _ENDS) + 1
    return max(start, first), min((at for end in _ENDS if (at := text.find(end, fact.end, last)) >= 0), default=last)


def _count(fact: Fact) -> int | None:
    """Return what a bare number or a number of people is worth; None for all others."""
    values = {value for kind, value, *unit in fact.meanings if kind == "number" or unit == ["person"]}
    value = values.pop() if len(values) == 1 else ""
    return int(value) if value.isdecimal() and len(value) < MOST_DIGITS else None


def _is_decade(text: str, fact: Fact) -> bool:
    before = text[max(0, fact.start - 12) : fact.start]
    return _DECADE.match(text, fact.start) is not None or (
        _DECADE_BEFORE.search(before) is not None and text[fact.start : fact.end].endswith("0")
    )


def _is_small_count(text: str, fact: Fact) -> bool:
    """Return whether a number in words is small, and neither measured nor an hour."""
    counts = [meaning for meaning in fact.meanings if meaning[0] in {"number", "unit"}]
    is_small = all(float(value) <= MOST_IN_WORDS and _COUNTED.issuperset(unit) for _, value, *unit in counts)
    has_unit = any(kind == "unit" for kind, *_ in counts)
    return bool(counts) and is_small and (has_unit or not times.is_hour(text, fact.start, fact.end))


def _is_unreal(text: str, fact: Fact, language: str) -> bool:
    """Return whether the sentence says what would have been, which states nothing."""
    words = _UNREAL.get(language)
    if words is None:
        return False
    start, end = _sentence(text, fact)
    return all(word.search(text, start, end) for word in words)


MOST_SENTENCE: Final = 160
"""How far around a fact its sentence is read."""
_ENDS: Final = (".", "!", "?", "\n", "。")
_VERSION: Final = re.compile(r"v\d{1,4}|v?\d{1,4}(?:\.\d{1,4}){1,3}(?:-?(?:a|b|rc|alpha|beta|dev)\.?\d{0,3})?")
_DECADE: Final = re.compile(r"(?:1[0-9]|20)\d0(?:'?s\b|er(?:n|s|jahren?)?\b|年代|'?l[iea]|'?lar)")
_DECADE_BEFORE: Final = re.compile(r"\b(?:années|años|anos|anni|década de|décadas de) '?$")
_UNREAL: Final = {
    language: tuple(map(re.compile, words))
    for language, words in {
        "en": (
            r"\b(?:would|could|might)(?:n't| \w+)? have\b|(?:would|could|might)'ve\b|'d have\b",
            (
                r"\b(?:if|unless) \w+(?: had|(?:'d|hadn't) (?:\w+ )?(?!need)"
                r"\w*(?:ed|en|wn|ght|one|ept|eft|aid|old|ood|ade|ent|eard))\b"
            ),
        ),
        "de": (r"\bwenn\b", r"\b(?:hätt|wär)\w*.+\b(?:hätt|wär)", r"\b(?:ge|be|ver|er)\w+(?:t|en) (?:hätt|wär)"),
        "fr": (
            r"\bsi\b|\bs'",
            r"\b(?:av|ét)(?:ais|ait|ions|iez|aient) (?:\w+ )?\w+(?:é|i|u|is|it)e?s?\b",
            r"\b(?:au|se)r(?:ais|ait|ions|iez|aient)\b",
        ),
        "es": (r"\bsi\b", r"\bhubi[eé]\w+ \w+[ai]do\b|\bhubi[eé]\w+ \w+(?:to|cho)\b", r"\bhub\w+.+\bhub|\bhabr[íi]a"),
        "pt": (
            r"\bse\b",
            r"\b(?:tiv[eé]ss|foss|fôss)\w+ (?:\w+ )?\w+(?:[ai]d|t)[oa]s?\b",
            r"\b(?:ter|ser)[ií]a|\btinha",
        ),
        "it": (r"\bse\b", r"\b(?:avess|foss)\w+ (?:\w+ )?\w+(?:t|s)[oaie]\b", r"\b(?:avr|sar)(?:e|ei|esti|ebb|emm)"),
    }.items()
}
"""What a sentence that says what would have been has, by language: all of the patterns."""
