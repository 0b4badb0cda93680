"""How long to wait before another try: full-jitter exponential backoff.

Full jitter (a uniform draw between zero and the exponential bound) spreads the tries of many workers best; see Marc Brooker,
"Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

import random
from typing import Protocol

BASE_S = 2.0
CAP_S = 300.0
MAX_RETRY_AFTER_S = 3600.0
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
    # 2 ** 60 is far beyond any cap, and keeps a large attempt from overflowing a float.
    return draw(0.0, min(cap_s, base_s * 2 ** min(attempt, 60)))


def retry_delay_s(attempt: int, retry_after_s: float | None = None, *, draw: Uniform = random.uniform) -> float:
    """Return the delay before a request's retry: jittered, and never less than the provider's Retry-After.

    Args:
        attempt: attempts spent so far, from 1.
        retry_after_s: what the provider asked for, in seconds; counts up to ``MAX_RETRY_AFTER_S``.
        draw: the source of the jitter.
    """
    delay_s = full_jitter_s(attempt, draw=draw)
    return delay_s if retry_after_s is None else max(delay_s, min(retry_after_s, MAX_RETRY_AFTER_S))


class Backoff:
    """The delays between the tries of one actor, which grow with each failure in a row.

    Args:
        base_s: twice this bounds the first delay, in seconds.
        cap_s: bounds every delay, in seconds.
    """

    def __init__(self, *, base_s: float = 0.1, cap_s: float = 5.0) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self.failures = 0
        """In a row."""

    def next_s(self, *, cap_s: float | None = None) -> float:
        """Count a failure; return the delay before the next try, in seconds.

        Args:
            cap_s: bounds this delay instead, in seconds.
        """
        self.failures += 1
        return full_jitter_s(self.failures, base_s=self._base_s, cap_s=self._cap_s if cap_s is None else cap_s)

    def reset(self) -> None:
        """Begin anew after a success."""
        self.failures = 0
