"""Leases: which rows this process holds, and how they are renewed.

``Leases`` is the process's own list: the claims add to it, the worker removes, the heartbeat thread reads.
``RENEW_AND_BEAT`` is the heartbeat's one statement; ``RENEW`` and ``BEAT`` are its halves, for when the worker's row is refused
or locked. Leases that have run out are ``reaping``'s.
"""

from collections.abc import Collection
from uuid import UUID

from draftd.db.statements import statements
from draftd.errors import LeaseLost, RequestCancelled

_SQL = statements(__name__)
RENEW_AND_BEAT, RENEW, BEAT = _SQL["renew_and_beat"], _SQL["renew"], _SQL["beat"]

BEATS_PER_LEASE = 3

HELD = "held"
"""Where a row stands that its claim still holds; else it stands at its status."""

LeaseKey = tuple[UUID, int]
"""A claim of a row: its id and its lease token. One process can hold the same row twice: an attempt may not know yet that it
lost the row, and the next attempt may already be under way."""


def lost(standing: str | None) -> LeaseLost:
    """Return what to raise for a row that its claim does not hold any more, by its status; None if it is gone."""
    return RequestCancelled() if standing == "cancelled" else LeaseLost()


class Leases:
    """The claims that this process holds.

    Written by the event loop alone; ``snapshot`` may be called from the heartbeat thread (copying a dict is one step under
    the interpreter's lock).
    """

    def __init__(self) -> None:
        self._held: dict[LeaseKey, str] = {}

    def add(self, request_id: UUID, lease_token: int, *, agent: str) -> None:
        """Hold a row from now on."""
        self._held[request_id, lease_token] = agent

    def drop(self, request_id: UUID, lease_token: int) -> None:
        """Hold a row no longer; a newer claim of the same row stays."""
        self._held.pop((request_id, lease_token), None)

    def snapshot(self) -> set[LeaseKey]:
        """Return a copy of what is held right now."""
        return set(self._held.copy())

    def count(self, agents: Collection[str]) -> int:
        """Return how many rows of these agents are held."""
        return sum(agent in agents for agent in self._held.values())

    def __len__(self) -> int:
        return len(self._held)
