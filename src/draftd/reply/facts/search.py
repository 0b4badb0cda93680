"""One pass over a text: what its scanners share.

Each scanner takes what the ones before it left, so the order of the scanners decides what a piece of text states.
"""

import re
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from draftd.reply.facts import addresses, number_words, vocabulary
from draftd.reply.facts.fact import Fact, FactKind, Meanings, plain
from draftd.reply.facts.number_words import Rewritten

MAX_FACTS: Final = 200
"""No real reply has this many facts, minor ones included; what follows is not read."""
MAX_SOURCE_FACTS: Final = 1_000
"""The same for a source, which may be a whole thread."""
_DIGIT_RUN: Final = re.compile(r"\d+")


@dataclass(slots=True, kw_only=True)
class Search:
    """A text that is searched, and what was found so far."""

    written: str
    text: str
    """The text in lower case, with number words as digits and addresses blotted out."""
    language: str
    """Two letters."""
    is_source: bool
    """Whether the text is read generously."""
    limit: int
    rewritten: Rewritten
    found: list[Fact] = field(default_factory=list)
    taken: bytearray = field(default_factory=bytearray)

    @classmethod
    def begin(cls, text: str, language: str, *, own: bool, is_source: bool) -> "Search":
        """Begin a pass: find the addresses, and rewrite number words as digits; see ``finder.find``."""
        lower, found = _without_addresses(plain(text), is_source=is_source)
        rewritten = number_words.rewrite(lower, language, own=own, counts=is_source)
        limit = MAX_SOURCE_FACTS if is_source else MAX_FACTS
        last = next(islice(_DIGIT_RUN.finditer(rewritten.text), limit, None), None)
        kept = rewritten.text[: last.start()] if last else rewritten.text
        return cls(
            written=text,
            text=kept,
            language=language,
            is_source=is_source,
            limit=limit,
            rewritten=rewritten,
            found=found,
            taken=bytearray(len(kept)),
        )

    @property
    def has_digits(self) -> bool:
        """Whether there is any digit, so that most scanners have something to look for."""
        return _DIGIT_RUN.search(self.text) is not None

    @property
    def is_full(self) -> bool:
        """Whether so much was found that nothing more is looked for."""
        return len(self.found) >= self.limit

    def matches(self, pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
        """Yield the matches of a pattern, until enough was found."""
        found, limit = self.found, self.limit
        for match in pattern.finditer(self.text):
            if len(found) >= limit:
                return
            yield match

    def is_taken(self, start: int, end: int) -> bool:
        """Return whether a part of a span belongs to a fact already."""
        return self.taken.find(1, start, end) >= 0

    def add(self, span: tuple[int, int], kind: FactKind, meanings: Meanings, *, is_minor: bool = False) -> None:
        """Add a fact, unless its span belongs to another one."""
        start, end = span
        if self.is_taken(start, end):
            return
        self.taken[start:end] = b"\1" * (end - start)
        first, last = self.rewritten.original(start, end)
        self.found.append(Fact(start=first, end=last, kind=kind, meanings=frozenset(meanings), is_minor=is_minor))

    def in_words(self, start: int, end: int) -> bool:
        """Return whether a span holds a number that was written in words."""
        return self.rewritten.in_words(start, end)

    def is_rounded(self, start: int, end: int, words: AbstractSet[str]) -> bool:
        """Return whether a number of a reply is called rounded: "about 4,000", "yedi gibi".

        Args:
            start: where it begins.
            end: where it ends.
            words: the words that say so before it.
        """
        if self.is_source:
            return False
        before = self.text[max(0, start - 24) : start].split()[-2:]
        return not words.isdisjoint(before) or _OR_SO.match(self.text, end) is not None

    def as_written(self, start: int, end: int) -> str:
        """Return what a span was before number words were rewritten."""
        first, last = self.rewritten.original(start, end)
        return plain(self.written[first:last])

    def unit_at(self, end: int) -> tuple[str, int]:
        """Return the word after a number, which may be a unit, and where it ends."""
        found = _UNIT.match(self.text, end)
        return (found[1], found.end(1)) if found else ("", end)


def _without_addresses(lower: str, *, is_source: bool) -> tuple[str, list[Fact]]:
    """Return a text with its addresses blotted out, and the addresses."""
    found: list[Fact] = []
    pieces, position = [], 0
    for kind, start, end in islice(addresses.addresses(lower), MAX_FACTS):
        value = lower[start:end]
        meanings: Meanings = {(kind.value, value)}
        if is_source:
            # The number of an order may be seen in its link alone.
            meanings |= {("number", digits.lstrip("0") or "0") for digits in _DIGIT_RUN.findall(value)}
        found.append(Fact(start=start, end=end, kind=kind, meanings=frozenset(meanings)))
        pieces += [lower[position:start], "|" * (end - start)]
        position = end
    return "".join([*pieces, lower[position:]]), found


_OR_SO: Final = re.compile(
    r"(?: ?[^\W\d_]{1,12})?? ?(?:or so|oder so|ish\b|gibi|kadar|civari|ごろ|頃|くらい|ぐらい|前後|ほど|"
    r"escasos|más o menos|mais ou menos)"
)
_UNIT: Final = re.compile(rf" ?-?({vocabulary.UNIT_SIGNS}|[^\W\d_]{{1,16}})")
