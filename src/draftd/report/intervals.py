"""Shares with their 95 % confidence intervals, and differences between two shares.

Wilson's score interval, which is right for few observations and for shares near 0 and 1, and Newcombe's interval for the
difference of two such shares (Newcombe 1998, method 10).
"""

import math
from dataclasses import dataclass

Z = 1.959964
"""Of the normal distribution, for 95 %."""


@dataclass(frozen=True, slots=True)
class Share:
    """How many of how many."""

    count: int
    of: int

    @property
    def value(self) -> float | None:
        """The share, from 0 to 1; None of nothing."""
        return self.count / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The lower and upper limit of the 95 % confidence interval; None of nothing."""
        if not self.of:
            return None
        share, n = self.count / self.of, self.of
        middle = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
        half = Z / (1 + Z * Z / n) * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True, slots=True)
class Difference:
    """By how much one share is larger than another."""

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the 95 % confidence interval leaves out 0."""
        return self.low > 0 or self.high < 0


def difference(newer: Share, older: Share) -> Difference | None:
    """Return by how much ``newer`` is larger than ``older``; None if either is of nothing."""
    if newer.value is None or older.value is None or newer.interval is None or older.interval is None:
        return None
    by = newer.value - older.value
    down = math.hypot(newer.value - newer.interval[0], older.interval[1] - older.value)
    up = math.hypot(newer.interval[1] - newer.value, older.value - older.interval[0])
    return Difference(by, by - down, by + up)
