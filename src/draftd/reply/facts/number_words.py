"""Numbers in words: rewrite them as digits ("half past eleven" as "half past 11"), and keep where each came from.

Everything that looks for facts then reads digits alone. Invariant: the work grows linearly with the text.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Final

_WORD: Final = re.compile(r"[^\W\d_]+")
_MAX_WORD: Final = 48
"""Letters; a longer word is no number."""

_ONES: Final = {
    "en": "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen",
    "de": "null ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn "
    "achtzehn neunzehn",
    "fr": "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept dix-huit "
    "dix-neuf",
    "es": "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis diecisiete "
    "dieciocho diecinueve",
    "pt": "zero um dois três quatro cinco seis sete oito nove dez onze doze treze catorze quinze dezesseis dezessete dezoito "
    "dezenove",
    "it": "zero uno due tre quattro cinque sei sette otto nove dieci undici dodici tredici quattordici quindici sedici "
    "diciassette diciotto diciannove",
    "tr": "sifir bir iki üç dört beş alti yedi sekiz dokuz on",
}
_TENS: Final = {
    "en": "twenty thirty forty fifty sixty seventy eighty ninety",
    "de": "zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig",
    "fr": "vingt trente quarante cinquante soixante septante huitante nonante",
    "es": "veinte treinta cuarenta cincuenta sesenta setenta ochenta noventa",
    "pt": "vinte trinta quarenta cinquenta sessenta setenta oitenta noventa",
    "it": "venti trenta quaranta cinquanta sessanta settanta ottanta novanta",
    "tr": "yirmi otuz kirk elli altmiş yetmiş seksen doksan",
}
_MORE: Final[dict[str, dict[str, int]]] = {
    "en": {"hundred": 100, "thousand": 1000, "million": 1_000_000, "grand": 1000},
    "de": {"eine": 1, "eins": 1, "zwo": 2, "dreissig": 30, "million": 1_000_000, "millionen": 1_000_000},
    "fr": {"une": 1, "vingts": 20, "cent": 100, "cents": 100, "mille": 1000, "million": 1_000_000, "millions": 1_000_000},
    "es": {"una": 1, "un": 1, "dieciseis": 16, "veintiuno": 21, "veintiún": 21, "veintidós": 22, "veintitrés": 23,
           "veinticuatro": 24, "veinticinco": 25, "veintiséis": 26, "veintisiete": 27, "veintiocho": 28,
           "veintinueve": 29, "cien": 100, "ciento": 100, "doscientos": 200, "doscientas": 200, "trescientos": 300,
           "trescientas": 300, "cuatrocientos": 400, "cuatrocientas": 400, "quinientos": 500, "quinientas": 500,
           "seiscientos": 600, "seiscientas": 600, "setecientos": 700, "ochocientos": 800, "novecientos": 900,
           "mil": 1000, "millón": 1_000_000, "millones": 1_000_000},
    "pt": {"uma": 1, "duas": 2, "quatorze": 14, "dezasseis": 16, "dezassete": 17, "dezanove": 19, "cem": 100,
           "cento": 100, "duzentos": 200, "duzentas": 200, "trezentos": 300, "trezentas": 300, "quatrocentos": 400,
           "quinhentos": 500, "seiscentos": 600, "setecentos": 700, "oitocentos": 800, "novecentos": 900, "mil": 1000,
           "milhão": 1_000_000, "milhões": 1_000_000},
    "it": {"una": 1, "milione": 1_000_000, "milioni": 1_000_000},
    "tr": {"yüz": 100, "bin": 1000, "milyon": 1_000_000},
}  # fmt: skip
_PAIRS: Final = {
    "en": {"both": 2, "couple": 2, "pair": 2, "dozen": 12}, "de": {"beide": 2, "beiden": 2, "paar": 2, "dutzend": 12},
    "fr": {"douzaine": 12, "quinzaine": 15}, "es": {"ambos": 2, "ambas": 2, "docena": 12},
    "pt": {"ambos": 2, "ambas": 2, "dúzia": 12}, "it": {"entrambi": 2, "entrambe": 2, "dozzina": 12},
    "tr": {"ikimiz": 2, "ikisi": 2, "ikimizi": 2, "üçümüz": 3, "düzine": 12},
}  # fmt: skip
"""Words that name a count; they give a source its number, but are no fact in a reply."""
_ORDINALS: Final = {
    "en": "- second third fourth fifth sixth seventh eighth ninth tenth",
    "de": "- zweiter/zweite/zweiten dritter/dritte/dritten vierter/vierte/vierten fünfter/fünfte/fünften",
    "fr": "- deuxième troisième quatrième cinquième sixième",
    "es": "- segundo/segunda tercero/tercer/tercera cuarto/cuarta quinto/quinta sexto/sexta",
    "pt": "- segundo terceiro/terceira quarto quinto sexto",
    "it": "- secondo/seconda terzo/terza quarto/quarta quinto/quinta sesto/sesta",
    "tr": "- ikinci üçüncü dördüncü beşinci altinci",
}
"""Likewise: the third floor is 3 in "3. Stock"."""
_PARTS: Final = frozenset({"-", "cuarto", "quarto", "quarta"})
"""No ordinals here: a quarter of an hour, a weekday."""
_CONNECTORS: Final = {"en": "and", "fr": "et", "es": "y", "pt": "e"}
_MULTIPLIERS: Final = {"hundred", "cent", "cents", "yüz", "thousand", "grand", "mille", "mil", "bin"} | {
    word for words in _MORE.values() for word, value in words.items() if value == 1_000_000
}
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
_KANJI: Final = dict(zip("〇一二三四五六七八九", range(10), strict=True))
_KANJI_RUN: Final = re.compile(
    r"(?<![第数何\d〇一二三四五六七八九十百千万億])(?=[\d.,]{0,12}[〇一二三四五六七八九十百千万億])(?P<run>\d{0,9}(?:[.,]\d{1,9})?[〇一二三四五六七八九十百千万億\d]{1,12})"
    r"(?=円|人|名|日|時|分|月|年|枚|回|滴|個|本|冊|件|台|か所|ヶ所|か月|ヶ月|ヵ月|カ月|歳|階|泊|杯|点|週間|ページ|キロ|インチ|％|%|割|番|つ|営業日|から)"
)
_NOT_NUMBERS: Final = re.compile(
    r"(?:お二人|二人とも|二つとも|十分(?!前|後|ほど|くらい|ぐらい|間(?!に合)|で着)|一(?:番|人|回|日|度|つ|本|件|名|緒|時)|万が一)"
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
    table = _table(language, False)
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
    words = _table(language, counts)
    if not words:
        return
    connector = _CONNECTORS.get(language, "")
    starts = _starts(language)
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
    if language == "de":
        if word.endswith("mal") and word[:-3] in words:
            return words[word[:-3]], "mal"
        if word in _GROUPS:
            return _GROUPS[word], ""
        if word.endswith("einhalb") and word[:-7] in words:
            return words[word[:-7]], ".5"
        for half in ("einhalbtausend", "halbtausend"):
            head = word.removesuffix(half)
            if head != word and (head in words or head == "andert"):
                return (1500 if head == "andert" else words[head] * 1000 + 500), ""
    thousand = {"de": ("tausend",), "it": ("mila", "mille")}[language]
    for separator in thousand:
        head, found, tail = word.partition(separator)
        if found:
            parts = [words.get(part) if part else default for part, default in ((head, 1), (tail, 0))]
            if parts[0] is not None and parts[1] is not None:
                return parts[0] * 1000 + parts[1], ""
    return None, ""


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


@cache
def _table(language: str, counts: bool) -> dict[str, int]:  # noqa: FBT001 - a cached function takes its key by position
    if language not in _ONES:
        return {}
    words = {word: number for number, word in enumerate(_ONES[language].split()) if "-" not in word}
    words |= {word: 10 * number for number, word in enumerate(_TENS[language].split(), 2)}
    if language == "de":
        words |= _german(words)
    if language == "it":
        words |= _italian(words)
    words |= _MORE[language]
    if counts:
        ordinals = {
            word: number for number, each in enumerate(_ORDINALS[language].split(), 1) for word in each.split("/")
        }
        words |= _PAIRS[language] | {word: number for word, number in ordinals.items() if word not in _PARTS}
    return words | {
        plain: value for word, value in words.items() if (plain := _plain(word)) not in words and language != "tr"
    }


@cache
def _starts(language: str) -> frozenset[str]:
    """Return the first two letters of all number words: most words are none, and this is the fastest way to tell."""
    return frozenset(word[:2] for word in _table(language, True)) | {"an"}


def _plain(word: str) -> str:
    return "".join(char for char in unicodedata.normalize("NFD", word) if not unicodedata.combining(char))


def _german(ones: dict[str, int]) -> dict[str, int]:
    units = {word: value for word, value in ones.items() if 0 < value < 10}
    tens = {word: value for word, value in ones.items() if value >= 20}
    below = ones | {f"{one}und{ten}": value + more for one, value in units.items() for ten, more in tens.items()}
    hundreds = {f"{one}hundert": 100 * value for one, value in ones.items() if 0 < value < 20} | {"hundert": 100}
    tails = {word: value for word, value in below.items() if value}
    joined = {
        f"{head}{und}{tail}": value + more
        for head, value in hundreds.items()
        for tail, more in tails.items()
        for und in ("", "und")
    }
    return below | hundreds | joined


def _italian(ones: dict[str, int]) -> dict[str, int]:
    units = {word: value for word, value in ones.items() if 0 < value < 10}
    tens = {word: value for word, value in ones.items() if value >= 20}
    below = dict(ones)
    for ten, value in tens.items():
        for one, more in units.items():
            below[(ten[:-1] if one[0] in "uo" else ten) + one] = value + more
            if one == "tre":
                below[f"{ten}tré"] = value + more
    hundreds = {f"{one}cento": 100 * value for one, value in units.items() if value > 1} | {"cento": 100}
    return (
        below
        | hundreds
        | {f"{head}{tail}": value + more for head, value in hundreds.items() for tail, more in below.items() if more}
    )
