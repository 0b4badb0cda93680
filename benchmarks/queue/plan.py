"""How much of everything is measured."""

from dataclasses import dataclass
from enum import StrEnum


class Figure(StrEnum):
    """What can be measured."""

    DRAIN = "drain"
    PICKUP = "pickup"
    SLEEPING = "sleeping"
    IDLE = "idle"
    RECOVERY = "recovery"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Sizes of one run."""

    drain_rounds: int
    """Contenders alternate within a round, and medians are shown."""
    drain_requests: int
    """In each round; the fastest need about a second, and one slow commit should not decide."""
    pickup_rounds: int
    pickup_requests: int
    """In each round."""
    sleeping_rounds: int
    sleeping_s: float
    """Of each round with 1,000 in flight."""
    idle_s: float
    crashes: int
    """Of each kind."""
    patience_s: float
    """How long a recovery is waited for."""


FULL = Plan(
    drain_rounds=7,
    drain_requests=10_000,
    pickup_rounds=10,
    pickup_requests=300,
    sleeping_rounds=3,
    sleeping_s=10.0,
    idle_s=60.0,
    crashes=3,
    patience_s=120.0,
)
QUICK = Plan(
    drain_rounds=3,
    drain_requests=1000,
    pickup_rounds=3,
    pickup_requests=60,
    sleeping_rounds=1,
    sleeping_s=5.0,
    idle_s=20.0,
    crashes=1,
    patience_s=60.0,
)
