"""Passages of the prompt in a model's texts: a screenshot may ask for them, and a model may obey.

Only letters and digits are compared, so that case, spacing, line breaks, punctuation and invisible characters hide nothing.
What is shorter than ``MIN_LETTERS``, translated, reworded or encoded (base64) is not found.
"""

import unicodedata
from functools import lru_cache

from draftd.reply import invisible

MIN_LETTERS = 40
"""About eight words: longer than the greeting or the closing that a prompt may prescribe. Of 1,587 honest replies in ten
languages none shares more than 15 letters in a row with draftd's prompt."""
_BLOCK = MIN_LETTERS // 2


def repeats(prompt: str, *texts: str) -> bool:
    """Return whether texts, read one after the other, have a passage of the prompt."""
    letters = "".join(map(_letters, texts))
    if len(letters) < MIN_LETTERS:
        return False
    passages, pieces = _pieces(prompt, MIN_LETTERS), _pieces(prompt, _BLOCK)
    # A passage has a whole block, wherever it begins; honest texts have none.
    blocks = (start for start in range(0, len(letters), _BLOCK) if letters[start : start + _BLOCK] in pieces)
    return any(
        letters[start : start + MIN_LETTERS] in passages
        for block in blocks
        for start in range(max(0, block - MIN_LETTERS + _BLOCK), block + 1)
    )


@lru_cache(maxsize=16)  # a process has few agents, and a set takes milliseconds to make
def _pieces(prompt: str, size: int) -> frozenset[str]:
    letters = _letters(prompt)
    return frozenset(letters[start : start + size] for start in range(len(letters) - size + 1))


def _letters(text: str) -> str:
    # Accents and letter forms go as well: decomposed, the marks are no letters.
    shown = invisible.without(unicodedata.normalize("NFKD", text))  # some of them are letters
    return "".join(filter(str.isalnum, shown.casefold()))
