"""A fact of a text, and the form in which texts are searched for facts."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

Meanings = set[tuple[str, ...]]
"""What a fact may mean: ``("number", "4250")``, ``("time", "840")`` in minutes, ``("date", "3", "17")``."""


class FactKind(StrEnum):
    """What kind of fact a quote states (section 2 of the contract)."""

    NUMBER = "number"
    AMOUNT = "amount"
    DATE = "date"
    TIME = "time"
    PHONE = "phone"
    EMAIL = "email"
    HANDLE = "handle"
    LINK = "link"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A fact and its possible meanings.

    Attributes:
        start: first character in the text as written.
        end: one after the last.
        kind: what it is most likely.
        meanings: such as ``("number", "4250")``; a source that has one of them is a source of the fact.
        is_minor: whether it states too little to need a source, such as a list number or "two things".
    """

    start: int
    end: int
    kind: FactKind
    meanings: frozenset[tuple[str, ...]]
    is_minor: bool = False


_ONE_TO_ONE: Final = str.maketrans(
    "０１２３４５６７８９：．，／％＠－（）＃￥＋〜～\u00a0\u202f\u2009\u2007\u2011\u2010\u2012\u2013\u2014\u2212’‘ʼ٠١٢٣٤٥٦٧٨٩İıＡＰＭ",
    "0123456789:.,/%@-()#¥+--    ------'''0123456789iiAPM",
)


def plain(text: str) -> str:
    """Return a text of the same length in lower case, with one form for digits, spaces, dashes and apostrophes."""
    mapped = text.translate(_ONE_TO_ONE)
    lower = mapped.lower()
    return (
        lower
        if len(lower) == len(mapped)
        else "".join(low if len(low := char.lower()) == 1 else char for char in mapped)
    )
