"""Whether two replies say the same."""

import re
from collections import Counter
from difflib import SequenceMatcher

SAME_FROM = 0.8
"""Two replies with at least this share of common trigrams say the same. A swapped opening or an added word scores 0.81 to 0.96; a
longer reply that quotes the same facts, or begins like the shorter one, 0.16 to 0.64 (``tests/unit/test_answer.py`` has both)."""


IN_ORDER_FROM = 0.8
"""If the requester has given the content, replies say the same only from this ratio of words in the same order on. Eight pairs
that put four to six given points in another order have 0.44 to 0.73; with a swapped opening alone, 0.9 and more."""


def same(one: str, other: str, *, shared: str = "", is_given: bool = False) -> bool:
    """Return whether two replies say the same, regardless of case, punctuation and spacing.

    Args:
        one: a reply.
        other: another.
        shared: a text that both are to contain, and that says nothing about their likeness: what the requester had begun.
        is_given: whether the requester has given the content, so that replies differ in opening, order and sentences alone.
    """
    first, second = _plain(one), _plain(other)
    if first == second:
        return True
    begun = _plain(shared)
    if not begun and 2 * min(len(first), len(second)) < SAME_FROM * (len(first) + len(second)):
        return False  # even if all trigrams of the shorter one were common; most replies of different lengths end here
    a, b = _trigrams(first), _trigrams(second)
    if begun:
        ignored = _trigrams(begun)
        a, b = a - ignored, b - ignored
    is_alike = 2 * (a & b).total() >= SAME_FROM * (a.total() + b.total())
    return is_alike and (not is_given or _in_order(first.split(), second.split()) >= IN_ORDER_FROM)


def _in_order(one: list[str], other: list[str]) -> float:
    return SequenceMatcher(None, one, other, autojunk=False).ratio()


def _plain(text: str) -> str:
    # Otherwise all replies made of symbols alone would be equal.
    return " ".join(re.findall(r"\w+", text.casefold())) or text.strip()


def _trigrams(text: str) -> Counter[str]:
    padded = f" {text} "
    return Counter(padded[start : start + 3] for start in range(len(padded) - 2))
