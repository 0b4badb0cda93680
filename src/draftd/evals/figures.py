"""The counts of an evaluation: labels met, failures, replies that could be sent, pairs won."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from draftd.evals.cases import COMPLETED
from draftd.evals.criteria import Failure
from draftd.evals.labels import LABELS
from draftd.evals.results import LENGTHS, CaseResult, Results


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many."""

    ok: int
    of: int

    @property
    def percent(self) -> float:
        """In percent; 0 of 0 is 0."""
        return 100 * self.ok / self.of if self.of else 0.0

    def __str__(self) -> str:
        return f"{self.ok} of {self.of}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """How the blind comparisons came out for the replies under test."""

    won: int
    lost: int
    tied: int

    @property
    def decided(self) -> Share:
        """The share of the decided pairs that were won."""
        return Share(self.won, self.won + self.lost)

    @property
    def chance(self) -> float:
        """How likely chance alone gives the winner at least so many of the decided pairs (two-sided sign test)."""
        return min(1.0, 2 * at_least(max(self.won, self.lost), self.won + self.lost))


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The counts of an evaluation."""

    cases: int
    drafted: int
    """Cases with replies."""
    labels: dict[str, Share]
    judged: int
    """Replies with a verdict."""
    failures: dict[Failure, Share]
    """Failure → failing replies, of those that were asked about; the most frequent first."""
    send_ready: dict[str, Share]
    """Length → replies that could be sent as they are; ``all`` sums them up."""
    pairs: Pairs | None
    one_sided: int
    """Cases that were drafted twice and have replies once, which no pair shows."""
    without_verdict: int
    """Cases that the judge gave no readable answer about."""
    repaired: Share
    """Drafts that took more than one model call."""
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    """Of the replies under test; None if a price is not known."""
    judge_tokens: int
    judge_cost_usd: float | None
    outcomes: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the figures for ``results.json`` and ``--json``."""
        found = asdict(self)
        if self.pairs is not None:
            found["pairs"] |= {"share_of_decided": round(self.pairs.decided.percent / 100, 4), "p": self.pairs.chance}
        return found


def figures(results: Results) -> Figures:
    """Count what an evaluation found."""
    cases = results.cases
    drafts = [case.drafted for case in cases if case.drafted.outcome == COMPLETED]
    called = [case.drafted for case in cases if case.drafted.model_calls]
    judged = [case for case in cases if case.judge_tokens]
    return Figures(
        cases=len(cases),
        drafted=len(drafts),
        labels={name: share for name in LABELS if (share := _label(cases, name)).of},
        judged=sum(len(case.verdict.reasons) for case in cases if case.verdict),
        failures=_failures(cases),
        send_ready=_send_ready(cases),
        pairs=_pairs(cases),
        one_sided=sum(_is_one_sided(case) for case in cases),
        without_verdict=sum(case.judge_error is not None for case in cases),
        repaired=Share(sum(draft.model_calls > 1 for draft in called), len(called)),
        input_tokens=sum(draft.input_tokens or 0 for draft in called),
        output_tokens=sum(draft.output_tokens or 0 for draft in called),
        cost_usd=_sum_if_known(draft.cost_usd for draft in called),
        judge_tokens=sum(case.judge_tokens for case in judged),
        judge_cost_usd=_sum_if_known(case.judge_cost_usd for case in judged),
        outcomes=dict(Counter(case.drafted.outcome for case in cases).most_common()),
    )


def failing(case: CaseResult) -> Iterator[tuple[Failure, str]]:
    """Yield each failure of each reply to a case."""
    if case.verdict is not None:
        for failure, lengths in case.verdict.failures.items():
            for length in lengths:
                yield failure, length


def at_least(count: int, of: int) -> float:
    """Return how likely a fair coin falls on one side at least ``count`` times of so many."""
    return sum(math.comb(of, k) for k in range(count, of + 1)) / float(2**of)


def _is_one_sided(case: CaseResult) -> bool:
    return case.other is not None and (case.drafted.outcome == COMPLETED) is not (case.other.outcome == COMPLETED)


def _sum_if_known(costs: Iterable[float | None]) -> float | None:
    total = 0.0
    for cost in costs:
        if cost is None:
            return None
        total += cost
    return total


def _label(cases: Iterable[CaseResult], name: str) -> Share:
    checked = [case.checks[name] for case in cases if name in case.checks]
    return Share(sum(checked), len(checked))


def _failures(cases: Iterable[CaseResult]) -> dict[Failure, Share]:
    asked: Counter[Failure] = Counter()
    failed: Counter[Failure] = Counter()
    for case in cases:
        if case.verdict is not None:
            asked.update({failure: len(case.verdict.reasons) for failure in case.verdict.failures})
            failed.update(failure for failure, _ in failing(case))
    order = sorted(asked, key=lambda failure: (-failed[failure], list(Failure).index(failure)))
    return {failure: Share(failed[failure], asked[failure]) for failure in order}


def _send_ready(cases: Iterable[CaseResult]) -> dict[str, Share]:
    ready: Counter[str] = Counter()
    judged: Counter[str] = Counter()
    for case in cases:
        if case.verdict is not None:
            not_ready = case.verdict.failures.get(Failure.NOT_SEND_READY, [])
            judged.update(list(case.verdict.reasons))
            ready.update(length for length in case.verdict.reasons if length not in not_ready)
    if not judged:
        return {}
    by_length = {length: Share(ready[length], judged[length]) for length in LENGTHS if judged[length]}
    return by_length | {"all": Share(ready.total(), judged.total())}


def _pairs(cases: Iterable[CaseResult]) -> Pairs | None:
    outcomes = Counter(case.pair.outcome for case in cases if case.pair is not None)
    return Pairs(won=outcomes["won"], lost=outcomes["lost"], tied=outcomes["tied"]) if outcomes else None
