"""Whether an evaluation is worse than an earlier one, by a rule that chance alone hardly trips.

Every measure (each label, each failure, send-ready replies) is compared case by case, over the cases that both evaluations have
and nobody has edited in between. A case counts as better or worse when more or fewer of its checks or replies pass; cases that
stayed the same say nothing. If nothing had changed, better and worse would be equally likely, so the probability of at least so
many worse ones is that of a fair coin (one-sided sign test). The evaluation is worse if that probability is below 5 %, divided by
the number of measures (Bonferroni), for any measure: at 15 measures, 9 cases worse and none better, or 11 worse and 1 better.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from draftd.errors import UsageError
from draftd.evals.criteria import Failure
from draftd.evals.figures import at_least
from draftd.evals.labels import LABELS
from draftd.evals.results import CaseResult, Results

LEVEL = 0.05
"""How often an unchanged evaluation is called worse, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How one measure has changed since the baseline."""

    measure: str
    worse: int
    """Cases."""
    better: int
    compared: int
    p: float
    """How likely chance alone makes so many cases worse."""
    is_worse: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """An evaluation against its baseline."""

    changes: tuple[Change, ...]
    cases: int
    """Cases that both have."""
    note: str = ""
    """What could not be compared."""

    @property
    def is_worse(self) -> bool:
        """Whether any measure is worse."""
        return any(change.is_worse for change in self.changes)


def compare(now: Results, before: Results) -> Comparison:
    """Compare an evaluation with an earlier one.

    Raises:
        UsageError: they have no case in common.
    """
    earlier = {case.n: case for case in before.cases}
    pairs = [(case, earlier[case.n]) for case in now.cases if case.n in earlier]
    pairs = [(one, other) for one, other in pairs if one.sha256 == other.sha256]
    if not pairs:
        raise UsageError("the baseline has no case in common with this evaluation")
    same_judge = now.setup.judge == before.setup.judge
    measures = _MEASURES if same_judge else {name: _MEASURES[name] for name in LABELS}
    counted = {name: _count(measure, pairs) for name, measure in measures.items()}
    compared = {name: count for name, count in counted.items() if sum(count)}
    note = "" if same_judge else "the baseline had another judge, so only the labels are compared"
    changes = tuple(_change(name, *count, level=LEVEL / len(compared)) for name, count in compared.items())
    return Comparison(changes=changes, cases=len(pairs), note=note)


def _change(measure: str, worse: int, better: int, same: int, *, level: float) -> Change:
    p = at_least(worse, worse + better)
    compared = worse + better + same
    return Change(measure=measure, worse=worse, better=better, compared=compared, p=p, is_worse=p < level)


def _count(
    measure: Callable[[CaseResult], int | None], pairs: list[tuple[CaseResult, CaseResult]]
) -> tuple[int, int, int]:
    """Return how many cases became worse, became better and stayed the same."""
    worse = better = same = 0
    for now, before in pairs:
        one, other = measure(now), measure(before)
        if one is not None and other is not None:
            worse, better, same = worse + (one < other), better + (one > other), same + (one == other)
    return worse, better, same


def _label(name: str) -> Callable[[CaseResult], int | None]:
    return lambda case: case.checks.get(name)


def _passing(failure: Failure) -> Callable[[CaseResult], int | None]:
    """Return a function that counts the replies to a case that do not fail so; more is better."""

    def count(case: CaseResult) -> int | None:
        if case.verdict is None or failure not in case.verdict.failures:
            return None
        return len(case.verdict.reasons) - len(case.verdict.failures[failure])

    return count


_MEASURES: Mapping[str, Callable[[CaseResult], int | None]] = {
    **{name: _label(name) for name in LABELS},
    **{failure.value: _passing(failure) for failure in Failure},
}
