"""One try at one request, and how its steps share its time.

Invariant: an attempt is over ``MARGIN_S`` before its deadline in the database, so that it ends with its own code and not with
the reaper's.
"""

import time
from dataclasses import dataclass, field
from typing import Self

from draftd.providers.holds import PATIENCE_S
from draftd.request import Claim

NET_S = 2.0
"""How long after the steps' own end the net under them is: each step must have the time to end with its own code."""
KEEP_S = 1.5
"""How long an attempt may wait for kept pictures to be read and, at its end, to be written."""
SETTLE_S = 0.5
MARGIN_S = NET_S + KEEP_S + PATIENCE_S + SETTLE_S
"""All that may come after an attempt's own time: the net, its pictures, the return of its probe, its settlement."""
SHORTEST_CALL_S = 2.0
"""A model call that has less time than this is not begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try at one request."""

    claim: Claim
    began: float
    """On the monotonic clock, in seconds."""
    ends_at: float
    """Likewise."""
    trace_id: str | None = None
    max_tokens: dict[str, int] = field(default_factory=dict)
    """How many output tokens each model needs for this request, by its name, as far as answers were cut off."""

    @classmethod
    def begin(cls, claim: Claim, *, trace_id: str | None = None) -> Self:
        """Begin an attempt at a request that was claimed just now."""
        now = time.monotonic()
        return cls(claim=claim, began=now, ends_at=now + claim.attempt_s - MARGIN_S, trace_id=trace_id)

    def time_left_s(self) -> float:
        """Return the seconds until this attempt must be over; never negative."""
        return max(0.0, self.ends_at - time.monotonic())

    def can_ask(self, *, after_s: float = 0.0) -> bool:
        """Return whether a model call can still begin after that many seconds."""
        return self.time_left_s() - after_s >= SHORTEST_CALL_S

    def time_for_images_s(self) -> float:
        """Return the seconds that are left if a model is to be asked, too; never negative."""
        return max(0.0, self.time_left_s() - SHORTEST_CALL_S)

    def has_expired(self) -> bool:
        """Return whether the request's ``expires_at`` has passed: a draft is worth nothing any more."""
        expires_in_s = self.claim.expires_in_s
        return expires_in_s is not None and time.monotonic() - self.began >= expires_in_s
