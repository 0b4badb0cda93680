"""The words of numbers in eight languages, and what each is worth."""

import unicodedata
from functools import cache
from typing import Final

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
    "it": {"un": 1, "una": 1, "milione": 1_000_000, "milioni": 1_000_000},
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
    "en": "first second third fourth fifth sixth seventh eighth ninth tenth",
    "de": "erster/erste/ersten zweiter/zweite/zweiten dritter/dritte/dritten vierter/vierte/vierten fünfter/fünfte/fünften",
    "fr": "premier/première deuxième troisième quatrième cinquième sixième",
    "es": "primero/primer/primera segundo/segunda tercero/tercer/tercera cuarto/cuarta quinto/quinta sexto/sexta",
    "pt": "primeiro/primeira segundo terceiro/terceira quarto quinto sexto",
    "it": "primo secondo/seconda terzo/terza quarto/quarta quinto/quinta sesto/sesta",
    "tr": "birinci ikinci üçüncü dördüncü beşinci altinci",
}
"""Likewise: the third floor is 3 in "3. Stock"."""
_PARTS: Final = frozenset({"-", "cuarto", "quarto", "quarta"})
"""No ordinals here: a quarter of an hour, a weekday."""
MILLIONS: Final = frozenset(word for words in _MORE.values() for word, value in words.items() if value == 1_000_000)


@cache
def table(language: str, counts: bool) -> dict[str, int]:  # noqa: FBT001 - a cached function takes its key by position
    """Return the number words of a language with their values; empty for an unknown language.

    Args:
        language: two letters.
        counts: whether words such as "both" and ordinals are numbers too.
    """
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
        words |= _PAIRS[language] | ordinals(language)
    return words | {
        plain: value for word, value in words.items() if (plain := _plain(word)) not in words and language != "tr"
    }


@cache
def ordinals(language: str) -> dict[str, int]:
    """Return the ordinals of a known language with their values."""
    numbered = enumerate(_ORDINALS[language].split(), 1)
    return {word: number for number, words in numbered for word in words.split("/") if word not in _PARTS}


@cache
def starts(language: str) -> frozenset[str]:
    """Return the first two letters of all number words: most words are none, and this is the fastest way to tell."""
    return frozenset(word[:2] for word in table(language, True)) | {"an"}


def _plain(word: str) -> str:
    if word.isascii():
        return word
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
