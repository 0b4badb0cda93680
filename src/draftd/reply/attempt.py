"""One attempt at a request, and how its steps share its time.

Invariant: an attempt ends ``MARGIN_S`` before its deadline in the database, so that it ends with its own error code and not the
reaper's.
"""

import time
from dataclasses import dataclass, field
from typing import Self

from draftd.providers.holds import WRITE_WAIT_S
from draftd.request import Claim

BACKSTOP_S = 2.0
"""How long after the attempt's time the backstop ends it: each step must have time to end with its own code."""
KEEP_PICTURES_S = 1.5
"""How long an attempt may wait to read kept pictures and, at its end, to write them."""
SETTLE_S = 0.5
MARGIN_S = BACKSTOP_S + KEEP_PICTURES_S + WRITE_WAIT_S + SETTLE_S
"""Everything that may follow an attempt's own time: the backstop, its pictures, the return of its probe, its settlement."""
MIN_CALL_S = 2.0
"""No model call starts with less time than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt at a request."""

    claim: Claim
    began: float
    """``time.monotonic()``."""
    ends_at: float
    """``time.monotonic()``."""
    trace_id: str | None = None
    max_tokens: dict[str, int] = field(default_factory=dict)
    """How many output tokens each model needs for this request, by its name, as far as answers were cut off."""

    @classmethod
    def begin(cls, claim: Claim, *, trace_id: str | None = None) -> Self:
        """Begin an attempt at a request that has just been claimed."""
        now = time.monotonic()
        return cls(claim=claim, began=now, ends_at=now + claim.attempt_s - MARGIN_S, trace_id=trace_id)

    def time_left_s(self) -> float:
        """Return the seconds left; never negative."""
        return max(0.0, self.ends_at - time.monotonic())

    def can_call(self, *, after_s: float = 0.0) -> bool:
        """Return whether a model call can still start in ``after_s`` seconds."""
        return self.time_left_s() - after_s >= MIN_CALL_S

    def time_for_images_s(self) -> float:
        """Return the seconds left for pictures if a model call is to follow; never negative."""
        return max(0.0, self.time_left_s() - MIN_CALL_S)

    def expires_in_s(self) -> float | None:
        """Return the seconds until the request expires; None if it never does."""
        expires_in_s = self.claim.expires_in_s
        return None if expires_in_s is None else expires_in_s - (time.monotonic() - self.began)

    def has_expired(self) -> bool:
        """Return whether the request's ``expires_at`` has passed, so that a draft is no longer wanted."""
        expires_in_s = self.expires_in_s()
        return expires_in_s is not None and expires_in_s <= 0
