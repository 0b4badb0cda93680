"""How long to wait before another try: full-jitter exponential backoff.

Full jitter (a uniform draw between zero and the exponential bound) spreads the tries of many workers best; see Marc Brooker,
"Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

import random
from typing import Protocol

BASE_S = 2.0
CAP_S = 300.0
LONGEST_RETRY_AFTER_S = 3600.0
"""However long a provider asks for, nothing waits longer than this for it."""


class Uniform(Protocol):
    """A source of uniform draws, such as ``random.uniform``."""

    def __call__(self, low: float, high: float, /) -> float:
        """Draw from [low, high]."""
        ...


def full_jitter_s(
    attempt: int, *, base_s: float = BASE_S, cap_s: float = CAP_S, draw: Uniform = random.uniform
) -> float:
    """Return the delay after the ``attempt``-th try (from 1), in seconds between 0 and ``min(cap_s, base_s * 2 ** attempt)``."""
    # 2 ** 60 is far beyond any cap: the bound keeps a large attempt from making a float overflow.
    return draw(0.0, min(cap_s, base_s * 2 ** min(attempt, 60)))


def retry_delay_s(attempt: int, retry_after_s: float | None = None, *, draw: Uniform = random.uniform) -> float:
    """Return the delay for a row's retry: the jittered one, and never before the provider's Retry-After.

    Args:
        attempt: attempts spent so far, from 1.
        retry_after_s: what the provider asked for, in seconds; ``LONGEST_RETRY_AFTER_S`` at most.
        draw: where the jitter comes from.
    """
    delay_s = full_jitter_s(attempt, draw=draw)
    return delay_s if retry_after_s is None else max(delay_s, min(retry_after_s, LONGEST_RETRY_AFTER_S))
