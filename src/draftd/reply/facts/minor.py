"""Numbers of a reply that state too little to need a source: "two things", list numbers, phrases, emoticons."""

import re
from typing import Final

from draftd.reply.facts import vocabulary
from draftd.reply.facts.search import Search


def is_minor(search: Search, match: re.Match[str], unit: str | None, follows: str) -> bool:
    """Return whether a number needs no source.

    Args:
        search: the reply.
        match: the number, with its groups ``number`` and ``scale``.
        unit: the name of its unit, or None.
        follows: the word after it.
    """
    before = search.text[max(0, match.start() - 12) : match.start()]
    is_single = len(match["number"]) == 1
    if (is_single and (follows in vocabulary.SMALL_THINGS or _is_label(before))) or _is_phrase(search.text, match):
        return True
    if unit == "percent" or _YUEZDE.search(before):
        return match["number"] == "100"
    if search.in_words(*match.span()):
        return _is_minor_in_words(search, match, unit, before)
    is_emoticon = _EMOTICON.search(search.text, max(0, match.start() - 2), match.end() + 1) is not None
    is_one_or_none = match["number"] in {"0", "1"} and not match["scale"]
    return is_emoticon or is_one_or_none or _is_list_number(search.text, match)


def _is_minor_in_words(search: Search, match: re.Match[str], unit: str | None, before: str) -> bool:
    number = match["number"]
    if number == "2" and _BOTH.search(before):
        return True
    if (unit == "minute" and int(number) <= MOST_MINUTES) or (unit == "time" and not _is_rate(search, match)):
        return True
    counts_something = unit or _ALL_OF.search(before)
    is_magnitude = number in {"100", "1000", "1000000"} and unit in {None, "time"}
    small = {"0", "1"} if counts_something else {"0", "1", "2"}
    return number in small or is_magnitude or (unit is None and _is_other_word(search, match))


def _is_rate(search: Search, match: re.Match[str]) -> bool:
    """Return whether "three times" says how often: a day, a week."""
    start, (_, end) = match.start(), search.unit_at(match.end())
    after = _RATE_AFTER.match(search.text, end)
    return after is not None or _RATE_BEFORE.search(search.text, max(0, start - 14), start) is not None


def is_minor_code(code: str) -> bool:
    """Return whether a name with a number, such as ``mp3``, needs no source."""
    has_letters = any(map(str.isalpha, code))
    digits = sum(map(str.isdigit, code))
    states_something = _PLACE.fullmatch(code) or _ORDINAL.fullmatch(code)
    return (has_letters and digits < 3 and not states_something) or code in vocabulary.ALWAYS


def _is_label(before: str) -> bool:
    words = before.split()
    return bool(words) and before.endswith(" ") and words[-1] in vocabulary.LABELS


def _is_phrase(text: str, match: re.Match[str]) -> bool:
    start = max(0, match.start() - 12)
    return any(found.end() > match.start() for found in _PHRASE.finditer(text, start, match.end() + 12))


def _is_other_word(search: Search, match: re.Match[str]) -> bool:
    return search.as_written(*match.span("number")) in _OTHER_WORDS


def _is_list_number(text: str, match: re.Match[str]) -> bool:
    start, end = match.span("number")
    line = text[max(0, start - 4) : start]
    at_start = start == 0 or (line.rpartition("\n")[2].strip(" *-(") == "" and ("\n" in line or start <= 3))
    marked = text[end : end + 2].strip()[:1] in {".", ")", ":", "️", "⃣"} and len(match["number"]) <= 2
    is_keycap = text[end : end + 1] in {"️", "⃣"}
    is_inline = (
        text[end : end + 1] == ")" and text[start - 1 : start] in {"", " ", "(", "\n"} and len(match["number"]) == 1
    )
    return (at_start and marked) or is_keycap or is_inline


MOST_MINUTES: Final = 5
"""In words, so few minutes are a moment: "give me two minutes"."""
_RATE_AFTER: Final = re.compile(
    r" (?:a|an|per|each|every|am|pro|in der|im|par|al|a la|por|ao|à|na|no|il|alla|di) "
    r"(?:day|week|month|year|night|hour|tag|woche|monat|jahr|jour|semaine|mois|an|día|dia|semana|mes|mês|año|ano|giorno|settimana|"
    r"mese|anno)\b| (?:daily|täglich)"
)
_RATE_BEFORE: Final = re.compile(r"(?:gün|hafta|ay|yil)[dt][ae] $|[日週月年]に?$|täglich $")
_PLACE: Final = re.compile(r"[a-uwyz]\d\d|(?!1[a-z])\d{1,3}[abcef]")
"""A gate, a seat, the number of a house."""
_ORDINAL: Final = re.compile(r"(?:[4-9]|\d\d)(?:st|nd|rd|th)")
_BOTH: Final = re.compile(
    r"(?:\b1 ?(?:or|oder|ou|o|u|ya da|,)? ?|\blos|\blas|\bos|\bas|\bles|\btous les|\btoutes les|\bi|\ble) ?$"
)
"""What precedes a two that is no count: "los dos", "one or two"."""
_YUEZDE: Final = re.compile(r"y?üzde ?$")
_ALL_OF: Final = re.compile(
    r"(?:\ball(?: the)?|\bzu|\btous les|\btoutes les|\blos|\blas|\bos|\btutti e|\btutte e|\bà|\bin|\bem) $"
)
_EMOTICON: Final = re.compile(r"[:;=<x][-']?3(?!\d|[.,:]\d)|(?<![\d])8[-']?\)")
_PHRASE: Final = re.compile(
    r"\b(?:cloud 9|wolke 7|high 5|4 augen|allen 4en|7 sachen|50[ -]50|9 to 5|catch 22|110 ?%|1 in a 1000000|a 180|"
    r"99 ?%|10 out of 10|2nd to none|a day over \d+|top[ -]?\d{1,3})(?!\d)"
)
_OTHER_WORDS: Final = frozenset(
    {"sei", "neuf", "acht", "alti", "bin", "yüz", "mil", "mille", "cent", "elf", "pair", "grand"}
)
