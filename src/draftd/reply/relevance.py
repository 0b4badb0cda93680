"""Which of many facts a text touches.

A word counts by its beginning, without accents, so that "studied" finds "study" in any language with spaces; in Chinese and
Japanese two characters count instead. What few facts have counts more, and what many have counts for nothing. Names and meanings
that share no letters are not found ("wedding", "getting married"): docs/drafts.md has the figures.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

STEM_CHARS: Final = 4
"""Of 3 to 6 letters, these found most of the facts in ``tests/data/relevance.json``."""
MIN_WORD_CHARS: Final = 4
"""Shorter words are mostly articles and prepositions. Not to compare them loses "cat", and a list of them for each language."""
RARE_SHARE: Final = 25
"""A word that more than one of so many facts have says nothing about which of them is meant."""
_MIN_RARE: Final = 2
MIN_TOUCH: Final = 1.6
"""Below this score too many texts touch something: docs/drafts.md has both shares."""
_WORD: Final = re.compile(r"\w+")
_UNSPACED: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]{2,}")


def chosen(facts: Sequence[str], text: str, *, max_chars: int) -> list[str]:
    """Return the facts that fit, in their order: those that a text touches before the others, and the first before the last.

    Args:
        facts: statements.
        text: what is known of the conversation; may be empty.
        max_chars: how many characters the facts may have together.
    """
    if sum(map(len, facts)) <= max_chars:
        return list(facts)
    scores = _scores(facts, text)
    ranked = sorted(range(len(facts)), key=lambda place: -scores[place])
    return [facts[place] for place in sorted(_fitting(ranked, facts, max_chars))]


def touched(facts: Sequence[str], text: str, *, max_chars: int) -> list[str]:
    """Return the facts that a text touches, the most touched first, up to ``max_chars`` characters together."""
    scores = _scores(facts, text)
    ranked = [
        place for place in sorted(range(len(facts)), key=lambda place: -scores[place]) if scores[place] >= MIN_TOUCH
    ]
    return [facts[place] for place in _fitting(ranked, facts, max_chars)]


def _fitting(ranked: Iterable[int], facts: Sequence[str], max_chars: int) -> Iterable[int]:
    for place in ranked:
        if len(facts[place]) <= max_chars:
            max_chars -= len(facts[place])
            yield place


def _scores(facts: Sequence[str], text: str) -> list[float]:
    wanted = _stems(text)
    if not wanted:
        return [0.0] * len(facts)
    stems = list(map(_stems, facts))
    counted = Counter(stem for found in stems for stem in found)
    most = max(_MIN_RARE, len(facts) // RARE_SHARE)
    weights = {stem: math.log(1 + len(facts) / count) ** 2 for stem, count in counted.items() if count <= most}
    asked = weights.keys() & wanted
    # Divided, or a long fact would be touched by everything.
    return [
        sum(weights[stem] for stem in asked & found) / math.sqrt(sum(weights.get(stem, 1) for stem in found) or 1)
        for found in stems
    ]


def _stems(text: str) -> set[str]:
    folded = text.casefold()
    if folded.isascii():
        return {word[:STEM_CHARS] for word in _WORD.findall(folded) if len(word) >= MIN_WORD_CHARS}
    decomposed = unicodedata.normalize("NFKD", folded)
    plain = "".join(char for char in decomposed if not unicodedata.combining(char))
    pairs = {run[at : at + 2] for run in _UNSPACED.findall(plain) for at in range(len(run) - 1)}
    words = _WORD.findall(_UNSPACED.sub(" ", plain))
    return pairs | {word[:STEM_CHARS] for word in words if len(word) >= MIN_WORD_CHARS}
