"""Facts of a reply that no source has.

A made-up price or date is what hurts most after sending. Sources are the caller's: what was read, the context, the requester's
facts. Invariant: a source is read once in each language, however often replies are looked up, since a reply that waits for its
source is looked up again with every line that is read.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from draftd.reply.facts import days, finder, languages, weight
from draftd.reply.facts.fact import Fact, FactKind, plain
from draftd.reply.facts.known import Known
from draftd.reply.facts.weight import Weight

MAX_SOURCE_CHARS: Final = 100_000
"""Text dense with facts takes about 1 ms per 1,000 characters and language."""
_JOINTS: Final = frozenset({"", "den", "the", "le"})

Stated = frozenset[tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsupported:
    """A fact without a source.

    Attributes:
        quote: verbatim from the reply.
        kind: what it states.
        weight: what it would cost if it were wrong.
    """

    quote: str
    kind: FactKind
    weight: Weight = Weight.FULL


class Witness:
    """Looks up the facts of the replies to one request.

    Args:
        asked_at: when the request was made, for "tomorrow" and for the weekday of a date; None if unknown.
    """

    def __init__(self, asked_at: datetime | None = None) -> None:
        self._days: tuple[date, ...] = days.possible_days(asked_at) if asked_at else ()
        self._facts: dict[tuple[str, str], list[Fact]] = {}
        self._plain: dict[str, str] = {}
        self._stated: dict[tuple[str, str, bool], tuple[Stated, Stated]] = {}
        self._known: dict[tuple[str, tuple[str, ...]], list[Known]] = {}

    def unsupported(self, text: str, sources: Iterable[str], *, language: str) -> list[Unsupported]:
        """Return the facts of a reply that none of the sources has, in the reply's order, each once.

        Args:
            text: the reply.
            sources: texts whose facts are true, in any of the known languages, the most relevant first.
            language: BCP 47 tag of the reply. Number words and times of day are read in English, German, French, Spanish,
                Portuguese, Italian, Turkish and Japanese; of other languages digits only.
        """
        spoken = language.partition("-")[0].lower()
        if (text, spoken) not in self._facts:
            self._facts[text, spoken] = finder.find(text, spoken)
        facts = [fact for fact in self._facts[text, spoken] if not fact.is_minor]
        if not facts:
            return []
        for known in self._known_from(_bounded(sources), spoken):
            facts = [fact for fact in facts if not known.supports(fact)]
            if not facts:
                return []
        return self._quotes(text, spoken, facts)

    def _quotes(self, text: str, spoken: str, facts: Sequence[Fact]) -> list[Unsupported]:
        plain_text, found = plain(text), dict[tuple[str, FactKind], set[Weight]]()
        beside = [fact for fact in self._facts[text, spoken] if fact not in facts]
        facts = [fact for fact in facts if not weight.is_sum(plain_text, fact, beside)]
        weight_of = weight.of(plain_text, spoken, facts)
        for run in _merged(text, facts):
            quote = text[run[0].start : run[-1].end], run[0].kind
            found.setdefault(quote, set()).update(weight_of[fact] for fact in run)
        return [
            Unsupported(quote=quote, kind=kind, weight=weight.heaviest(weights))
            for (quote, kind), weights in found.items()
        ]

    def _known_from(self, sources: tuple[str, ...], spoken: str) -> Iterator[Known]:
        """Yield what the sources state, read in the reply's language, and then in all that they may be in."""
        if (spoken, sources) not in self._known:
            self._known = {(spoken, sources): []}
        known = self._known[spoken, sources]
        yield from known
        if not known:
            known.append(self._union(sources, spoken, is_whole=False))
            yield known[0]
        if len(known) == 1:
            known.append(self._union(sources, spoken, is_whole=True))
            yield known[1]

    def _union(self, sources: tuple[str, ...], spoken: str, *, is_whole: bool) -> Known:
        read = [each for source in sources for each in self._readings(source, spoken, is_whole=is_whole)]
        return Known(
            plain="\n".join(map(self._plain_of, sources)),
            stated=frozenset().union(*(stated for stated, _ in read)),
            named=frozenset().union(*(named for _, named in read)),
            today=self._days,
        )

    def _readings(self, source: str, spoken: str, *, is_whole: bool) -> Iterator[tuple[Stated, Stated]]:
        yield self._read(source, spoken, own=True)
        if is_whole:
            plain = self._plain_of(source)
            shown = languages.spoken_in(plain)
            for language in languages.LANGUAGES:
                if language != spoken and (language in shown or languages.may_have_facts_in(plain, language)):
                    yield self._read(source, language, own=language in shown)

    def _read(self, source: str, language: str, *, own: bool) -> tuple[Stated, Stated]:
        """Return what one source states, read in one language, and which days it names by a date that it shows."""
        key = source, language, own
        if key not in self._stated:
            found = finder.find(source, language, own=own, is_source=True)
            stated = days.named(self._plain_of(source)).union(*(fact.meanings for fact in found))
            self._stated[key] = frozenset(stated), frozenset(days.from_shown(stated, self._days))
        return self._stated[key]

    def _plain_of(self, source: str) -> str:
        if source not in self._plain:
            self._plain[source] = plain(source)
        return self._plain[source]


def _bounded(sources: Iterable[str]) -> tuple[str, ...]:
    """Return the sources, each once, up to ``MAX_SOURCE_CHARS`` in all."""
    left, kept = MAX_SOURCE_CHARS, []
    for source in dict.fromkeys(sources):
        kept.append(source[:left])
        left -= len(source)
        if left <= 0:
            break
    return tuple(kept)


def _merged(text: str, facts: Iterable[Fact]) -> list[list[Fact]]:
    """Return the facts in runs, a weekday and the date beside it as one."""
    runs: list[list[Fact]] = []
    for fact in facts:
        if (
            runs
            and runs[-1][-1].kind is fact.kind is FactKind.DATE
            and text[runs[-1][-1].end : fact.start].strip(" ,.（(") in _JOINTS
        ):
            runs[-1].append(fact)
        else:
            runs.append([fact])
    return runs
