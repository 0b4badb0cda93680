"""Numbers in words: rewrite them as digits ("half past eleven" as "half past 11"), and keep where each came from.

Everything that looks for facts then reads digits alone. Invariant: the work grows linearly with the text.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from draftd.reply.facts import number_tables

_WORD: Final = re.compile(r"[^\W\d_]+")
_MAX_WORD: Final = 48
"""Letters; a longer word is no number."""

_CONNECTORS: Final = {"en": "and", "fr": "et", "es": "y", "pt": "e"}
_MULTIPLIERS: Final = {
    "hundred",
    "cent",
    "cents",
    "yüz",
    "thousand",
    "grand",
    "mille",
    "mil",
    "bin",
} | number_tables.MILLIONS
_COMPOUND_LANGUAGES: Final = frozenset({"de", "it"})
_ELSEWHERE: Final = frozenset({
    "once", "on", "bin", "due", "sei", "sept", "cent", "cents", "six", "neuf", "mil", "acht", "elf", "tre", "une", "un", "una",
    "uno", "um", "uma", "ein", "eine", "dix", "mille", "grand", "pair", "paar", "alti", "cem", "sete", "seis", "onze", "kirk",
    "million", "ten", "one", "nine", "zero",
})  # fmt: skip
"""Number words that are everyday words of another language; read only in a text's own language."""
_BEFORE_HOURS: Final = frozenset({"halb", "viertel", "dreiviertel", "half", "saat"})
"""A number follows these, whatever else its word means."""
_TURKISH_CASES: Final = re.compile(
    r"(?P<stem>.+?)(?P<case>[dt][ae]n?|n?[iuü]n|y?[aeiuü]|[dt][ae]ki|l[iuü]k|[iuü]?m[iuü]z)"
)
_TURKISH_WORDS: Final = frozenset(
    {"one", "ona", "onu", "onun", "onda", "ondan", "bine", "biri", "birde", "birden", "bire"}
)
"""They begin no number, though they look like one with a case ending."""
TENS: Final = 10
"""What may follow twenty, thirty, …: a number below this."""
_KANJI: Final = dict(zip("〇一二三四五六七八九", range(10), strict=True))
_KANJI_RUN: Final = re.compile(
    r"(?<![第数何\d〇一二三四五六七八九十百千万億])(?=[\d.,]{0,12}[〇一二三四五六七八九十百千万億])(?P<run>\d{0,9}(?:[.,]\d{1,9})?[〇一二三四五六七八九十百千万億\d]{1,12})"
    r"(?=円|人|名|日|時|分|月|年|枚|回|滴|個|本|冊|件|台|か所|ヶ所|か月|ヶ月|ヵ月|カ月|歳|階|泊|杯|点|週間|ページ|キロ|インチ|％|%|割|番|つ|営業日|から)"
)
_NOT_NUMBERS: Final = re.compile(
    r"(?:(?<=お)二人|二人とも|二つとも|十分(?!前|後|ほど|くらい|ぐらい|間(?!に合)|で着)|一(?:番|人|回|日|度|つ|本|件|名|緒|時)|万が一)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewritten:
    """A text with its number words as digits.

    Attributes:
        text: the rewritten text.
        pieces: what was rewritten, in order: start and end in ``text``, start and end in the original.
    """

    text: str
    pieces: list[tuple[int, int, int, int]] = field(default_factory=list)

    def original(self, start: int, end: int) -> tuple[int, int]:
        """Return where a span of ``text`` stands in the original; a partly covered piece counts whole."""
        return self._mapped(start, 0), self._mapped(end, 1)

    def in_words(self, start: int, end: int) -> bool:
        """Return whether a span of ``text`` holds a number that was written in words."""
        at = bisect_right(self.pieces, (end - 1, len(self.text) + 1, 0, 0)) - 1
        return at >= 0 and self.pieces[at][1] > start

    def _mapped(self, position: int, end: int) -> int:
        at = bisect_right(self.pieces, (position - end, len(self.text) + 1, 0, 0)) - 1
        if at < 0:
            return position
        _, new_end, old_start, old_end = self.pieces[at]
        if position - end < new_end:
            return old_end if end else old_start
        return old_end + position - new_end


def rewrite(text: str, language: str, *, own: bool, counts: bool) -> Rewritten:
    """Rewrite number words as digits.

    Args:
        text: in lower case.
        language: two letters; a text in a language that is not known stays unchanged.
        own: whether the text is in that language; otherwise words that also mean something else are left alone.
        counts: whether words such as "both" are numbers too.
    """
    found = _japanese(text) if language == "ja" else _spoken(text, language, own=own, counts=counts)
    parts, pieces, old, new = [], [], 0, 0
    for start, end, digits in found:
        kept = text[old:start]
        parts += [kept, digits]
        new += len(kept)
        pieces.append((new, new + len(digits), start, end))
        new, old = new + len(digits), end
    return Rewritten(text="".join([*parts, text[old:]]), pieces=pieces)


def any_number(words: Iterable[str], language: str) -> bool:
    """Return whether one of the words is a number in a language, and nothing else elsewhere."""
    table = number_tables.table(language, False)
    return bool(table) and any(_value(word, language, table, own=False)[0] is not None for word in words)


def _japanese(text: str) -> Iterator[tuple[int, int, str]]:
    for match in _KANJI_RUN.finditer(text):
        if not _NOT_NUMBERS.match(text, match.start()):
            yield match.start("run"), match.end("run"), _kanji_value(match["run"])


def _kanji_value(run: str) -> str:
    total = section = 0
    digits = ""
    for char in run:
        if char.isdigit() or char in ".,":
            digits += char if char != "," else ""
        elif char in _KANJI:
            digits += str(_KANJI[char])
        else:
            scale = {"十": 10, "百": 100, "千": 1000, "万": 10_000, "億": 100_000_000}[char]
            if scale >= 10_000:
                total += round((section + float(digits or (0 if section else 1))) * scale)
                section = 0
            else:
                section += round(float(digits or 1) * scale)
            digits = ""
    value = total + section + float(digits or 0)
    return str(int(value)) if value == int(value) else str(value)


@dataclass(slots=True)
class _Sum:
    """A number that is being read word by word."""

    total: int = 0
    current: int = 0
    room: int = 10**9
    """The next word must be smaller."""
    last: int = 0

    def add(self, value: int, word: str, language: str) -> bool:
        """Add a word's value; return whether the word continues the number."""
        if word in _MULTIPLIERS:
            return self._multiply(value)
        if value == 20 and language == "fr" and self.last == 4:
            self.current, self.room, self.last = self.current + 76, 20, 80
            return True
        if not 0 < value < self.room:
            return False
        self.current, self.last, self.room = self.current + value, value, _room(value, language)
        return True

    def _multiply(self, value: int) -> bool:
        if value == 100:
            if self.current and not (0 < self.current < 20 and self.room <= 10):
                return False
            self.current, self.room = (self.current or 1) * 100, 100
        else:
            if value >= self.room and self.room <= 1000 and not self.current:
                return False
            self.total, self.current, self.room = self.total + (self.current or 1) * value, 0, value
        self.last = value
        return True

    @property
    def value(self) -> int:
        return self.total + self.current


def _room(value: int, language: str) -> int:
    if value >= 100:
        return 100 if value < 1000 else 1000
    if language == "fr" and value == 60:
        return 20
    if value >= 20 or (value == 10 and language in {"tr", "fr"}):
        return 10 if value % 10 == 0 else 1
    return 1


def _spoken(text: str, language: str, *, own: bool, counts: bool) -> Iterator[tuple[int, int, str]]:
    words = number_tables.table(language, counts)
    if not words:
        return
    connector = _CONNECTORS.get(language, "")
    starts = number_tables.starts(language)
    sum_: _Sum | None = None
    start = end = 0
    pending, suffix, previous = False, "", ""
    for match in _WORD.finditer(text):
        word = match.group()
        if sum_ is None and word[:2] not in starts:
            previous = word
            continue
        between = text[end : match.start()] if sum_ else ""
        if sum_ and word == connector and between == " " and not pending:
            pending, end_of_number = True, end
            end = match.end()
            continue
        value, case = _value(word, language, words, own=own or previous in _BEFORE_HOURS)
        if value is None and sum_ and sum_.room == TENS:
            # "seventy-fifth" is 75, in a reply too.
            value = number_tables.ordinals(language).get(word)
        joined = sum_ is not None and value is not None and between in {" ", "-"} and not suffix
        if (
            joined
            and sum_ is not None
            and value is not None
            and _connects(sum_, value, language, pending=pending)
            and sum_.add(value, word, language)
        ):
            end, pending, suffix = match.end(), False, case
            continue
        if sum_:
            yield start, end_of_number if pending else end, f"{sum_.value}{suffix}"
        sum_, pending, suffix = None, False, ""
        before, previous = previous, word
        if value is not None and not (case and word in _TURKISH_WORDS and before != "saat"):
            sum_ = _Sum()
            sum_.add(value, word, language)
            start, end, suffix = match.start(), match.end(), case
    if sum_:
        yield start, end_of_number if pending else end, f"{sum_.value}{suffix}"


def _connects(sum_: _Sum, value: int, language: str, *, pending: bool) -> bool:
    if not pending:
        return not (language in {"es", "pt"} and sum_.room == 10 and value < 10)
    if language == "en":
        return sum_.room >= 100
    if language == "fr":
        return sum_.room in {10, 20} and value in {1, 11}
    return (sum_.room == 10 and value < 10) or (language == "pt" and sum_.room >= 100)


def _value(word: str, language: str, words: dict[str, int], *, own: bool) -> tuple[int | None, str]:
    """Return what a word is worth, and what of it is no number: a Turkish case, ``mal``."""
    if not own and word in _ELSEWHERE:
        return None, ""
    value = words.get(word)
    if value is not None or len(word) > _MAX_WORD:
        return value, ""
    if language == "tr":
        return _turkish(word, words)
    if language in _COMPOUND_LANGUAGES:
        return _compound(word, language, words)
    return None, ""


def _turkish(word: str, words: dict[str, int]) -> tuple[int | None, str]:
    case = _TURKISH_CASES.fullmatch(word)
    if case is None:
        return None, ""
    stem = "dört" if case["stem"] == "dörd" else case["stem"]
    value = words.get(stem)
    return (None, "") if value is None else (value, f"'{case['case']}")


def _compound(word: str, language: str, words: dict[str, int]) -> tuple[int | None, str]:
    if language == "de" and (found := _german(word, words)):
        return found
    for separator in _THOUSANDS[language]:
        head, found_one, tail = word.partition(separator)
        if found_one:
            parts = [words.get(part) if part else default for part, default in ((head, 1), (tail, 0))]
            if parts[0] is not None and parts[1] is not None:
                return parts[0] * 1000 + parts[1], ""
    return None, ""


def _german(word: str, words: dict[str, int]) -> tuple[int, str] | None:
    """Read ``dreimal``, ``zu dritt``, ``anderthalb``, ``zweieinhalb`` and ``zweieinhalbtausend``."""
    if word.endswith("mal") and word[:-3] in words:
        return words[word[:-3]], "mal"
    if word in _GROUPS:
        return _GROUPS[word], ""
    if word.startswith("anderthalb"):
        return (1500, "") if word == "anderthalbtausend" else (1, ".5")
    head, _, tail = word.partition("einhalb")
    if tail == "tausend" and head in words:
        return words[head] * 1000 + 500, ""
    return (words[head], ".5") if word == f"{head}einhalb" and head in words else None


_THOUSANDS: Final = {"de": ("tausend",), "it": ("mila", "mille")}
_GROUPS: Final = {
    "dritt": 3,
    "viert": 4,
    "fünft": 5,
    "sechst": 6,
    "siebt": 7,
    "acht": 8,
    "neunt": 9,
    "zehnt": 10,
    "elft": 11,
    "zwölft": 12,
}
"""Words of "zu dritt"."""
