"""What is to be evaluated, and whether that makes sense."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from draftd.errors import UsageError
from draftd.evals.cases import PROFILE, Case, Split
from draftd.evals.results import Results

ABLATIONS: Mapping[str, str] = {"facts": "facts", "voice": "voice_samples", "profile": PROFILE}
"""What an evaluation can go without: word on the command line → what a case then lacks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be evaluated."""

    cases: Sequence[Case]
    agent: str
    model: str
    judge: str | None
    against: Path | None
    without: tuple[str, ...]
    """Words of ``ABLATIONS``."""
    split: Split | None
    concurrency: int
    output: Path
    baseline: Results | None

    @property
    def options_without(self) -> tuple[str, ...]:
        """What the other replies go without: options, or the profile."""
        return tuple(ABLATIONS[word] for word in self.without)

    def has_other(self, case: Case) -> bool:
        """Return whether a case is also drafted otherwise."""
        return self.against is not None or any(map(case.has, self.options_without))


def check(plan: Plan) -> None:
    """Check that a plan makes sense.

    Raises:
        UsageError: it does not; the message says why.
    """
    if plan.judge is not None and _is_same_model(plan.judge, plan.model):
        raise UsageError(f"the judge must not be the model under test ({plan.model})")
    if plan.against is not None and plan.without:
        raise UsageError("--against and --without compare different things; give one of them")
    if (plan.against is not None or plan.without) and plan.judge is None:
        raise UsageError("a comparison needs a judge: --judge MODEL")
    if unknown := [word for word in plan.without if word not in ABLATIONS]:
        raise UsageError(f"--without: {unknown[0]!r} is not one of {', '.join(ABLATIONS)}")
    if plan.without and not any(map(plan.has_other, plan.cases)):
        raise UsageError(f"no case has {' or '.join(plan.options_without)}")


def _is_same_model(one: str, other: str) -> bool:
    """Return whether two names mean the same model; a provider in front, or a gateway, makes no other one of it."""
    return one.rpartition("/")[2].casefold() == other.rpartition("/")[2].casefold()
