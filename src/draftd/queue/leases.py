"""Leases: which rows this process holds, and the statements that renew them.

Claims add to ``Leases``, the worker removes from it, the heartbeat's thread reads it. ``RENEW_AND_BEAT`` is the heartbeat's one
statement; ``RENEW`` and ``BEAT`` are its halves, for when the worker's row is refused or locked. ``reaping`` owns expired leases.
"""

from collections.abc import Collection
from uuid import UUID

from draftd.db.statements import statements
from draftd.errors import LeaseLost, RequestCancelled

_SQL = statements(__name__)
RENEW_AND_BEAT, RENEW, BEAT = _SQL["renew_and_beat"], _SQL["renew"], _SQL["beat"]

BEATS_PER_LEASE = 3

HELD = "held"
"""The standing of a row that its claim still holds; otherwise its standing is its status."""

LeaseKey = tuple[UUID, int]
"""The id and lease token of a claimed row. One process can hold two leases of a row: the first attempt may not know yet that it
lost the row while the next one is already running."""


def lost(standing: str | None) -> LeaseLost:
    """Return the error for a lost row, by its status; None means that the row is gone."""
    return RequestCancelled() if standing == "cancelled" else LeaseLost()


class Leases:
    """The leases that this process holds.

    Only the event loop writes; ``snapshot`` may be called from the heartbeat's thread (copying a dict is atomic under the GIL).
    """

    def __init__(self) -> None:
        self._held: dict[LeaseKey, str] = {}

    def add(self, request_id: UUID, lease_token: int, *, agent: str) -> None:
        """Add a claimed row."""
        self._held[request_id, lease_token] = agent

    def drop(self, request_id: UUID, lease_token: int) -> None:
        """Remove a lease; a newer lease of the same row stays."""
        self._held.pop((request_id, lease_token), None)

    def snapshot(self) -> set[LeaseKey]:
        """Return a copy of the current leases."""
        return set(self._held.copy())

    def count(self, agents: Collection[str]) -> int:
        """Return how many rows of these agents are held."""
        return sum(agent in agents for agent in self._held.values())

    def __len__(self) -> int:
        return len(self._held)
