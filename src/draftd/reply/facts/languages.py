"""Which languages a source may be in, so that its number words are read as what they are: "once" is 11 only in Spanish."""

import re
from typing import Final

from draftd.reply.facts import number_words, times, vocabulary

LANGUAGES: Final = vocabulary.LANGUAGES
SHORT_CHARS: Final = 300
"""A longer text without one everyday word is no prose."""


def spoken_in(plain: str) -> frozenset[str]:
    """Return the languages that a text is in, as far as it shows; of a short text that does not show it, all of them.

    Args:
        plain: in the form in which texts are searched.
    """
    words = set(_WORD.findall(plain))
    shown = {language: len(words & _FUNCTION_WORDS[language]) for language in _FUNCTION_WORDS}
    shown["ja"] = len(set(_KANA.findall(plain)))
    most = max(shown.values())
    if not most:
        if len(plain) > SHORT_CHARS:
            return frozenset()
        return frozenset(LANGUAGES) - ({"ja"} if _KANJI.search(plain) is None else set())
    return frozenset(language for language, count in shown.items() if count * 4 >= most)


def may_have_facts_in(plain: str, language: str) -> bool:
    """Return whether a text in another language has words that state a fact in this one."""
    if language == "ja":
        return _KANJI.search(plain) is not None
    words = set(_WORD.findall(plain))
    return not words.isdisjoint(times.CLOCK_WORDS.get(language, ())) or number_words.any_number(words, language)


_WORD: Final = re.compile(r"[^\W\d_]+")
_KANA: Final = re.compile(r"[ぁ-ヿ]")
_KANJI: Final = re.compile(r"[月日時曜十百千万]")
_FUNCTION_WORDS: Final = {
    language: frozenset(words.split())
    for language, words in {
        "en": "the and you is are of to for that this my your yes with can what have we they works",
        "de": "und ist nicht ich der wir uhr mit auf für kann ja nein zu bitte noch auch dann oder wie wann geht passt",
        "fr": "les est et je tu pour pas avec une oui vous nous dans mais à merci bonjour c'est",
        "es": "el las y sí pero hay yo muy qué hola gracias está vale también",
        "pt": "não você é uma em os às até são oi olá sim mas pra muito meu minha já",
        "it": "il che sono è ciao grazie dalle della gli anche ho ci perché bene sì va",
        "tr": "ve bir bu için evet hayir saat çok yok değil gibi ile daha ama tamam merhaba gün kadar",
    }.items()
}
"""Everyday words that no other of the languages has."""
