"""How much of everything is measured."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Sizes of one run."""

    rounds: int
    """Of every figure; draftd and Pillow alternate within a round, and medians are shown."""
    pictures: int
    """Of each sample, one after the other, in a round of CPU time."""
    stream: int
    """How many in a round of the gain by a second core."""
    crowd: int
    """How many in a round with many in flight."""


FULL = Plan(rounds=5, pictures=4, stream=20, crowd=16)
QUICK = Plan(rounds=2, pictures=2, stream=12, crowd=16)
