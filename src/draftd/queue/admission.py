"""Admission: which waiting rows of requesters with a limit become claimable.

Owns when a daemon asks for admissions; the database decides which (``draft_admit``). A row of a requester with a
``max_in_flight`` waits (``limited``) unless it surely has room, and no claim reads it. Daemons admit such rows right before they
claim: those of requesters whose attempts have ended, and any if a claim finds less than it wants. While no row waits, nothing is
sent. A claim asks whether one does if a notification announced one, and otherwise once a second. The limit keeper also makes rows
wait whose requester has since been paused or limited. Invariant: the rows of a requester that are admitted or processing never
exceed its ``max_in_flight``.
"""

import time
from collections.abc import Sequence

from draftd import db
from draftd.db.statements import statements

_SQL = statements(__name__)
ADMIT, APPLY, IS_OLDEST = _SQL["admit"], _SQL["apply"], _SQL["is_oldest"]

BATCH = 500
"""Rows per statement: 40 us each."""
ASK_AGAIN_S = 0.9
"""After a claim that found no row waiting, the next ones do not ask for this long, unless one is announced. Less than a second:
without LISTEN, polls are a second apart."""
BUSY_S = 0.05
"""When to try a requester again that another daemon was admitting."""


class Admission:
    """Admits rows for the claims of one process.

    Args:
        link: the connection for claims.
    """

    def __init__(self, *, link: db.Link) -> None:
        self._link = link
        self._ended: set[str] = set()
        self._after: str | None = None
        self._anyone_waits = True
        self._asked_at = 0.0
        self.is_needed = False
        """Whether any requester is limited or paused, or any row still waits; each heartbeat says so."""

    def ended(self, requester_id: str) -> bool:
        """Record that an attempt for a requester has ended; return whether that may leave room for another."""
        if self.is_needed:
            self._ended.add(requester_id)
        return self.is_busy()

    def announced(self) -> None:
        """Record that a row may wait by now."""
        self._anyone_waits = True

    def asks(self) -> bool:
        """Return whether the next claim must find out if any row waits."""
        now = time.monotonic()
        asks = self.is_needed and (self._anyone_waits or now - self._asked_at >= ASK_AGAIN_S)
        if asks:
            self._asked_at = now
        return asks

    def noted(self, *, anyone_waits: bool) -> None:
        """Record whether any row waited at the last claim. One that comes later is announced."""
        self._anyone_waits = anyone_waits
        if not anyone_waits:
            self._ended.clear()

    def is_busy(self) -> bool:
        """Return whether a requester may have room: one whose attempt has ended, or whom another daemon was admitting."""
        return self._anyone_waits and bool(self._ended)

    def retry_in_s(self) -> float:
        """Return in how many seconds to try again; infinity if there is nothing to try."""
        return BUSY_S if self.is_busy() else float("inf")

    async def admit_next(self, agents: Sequence[str], *, wanted: int) -> None:
        """Admit rows of the requesters whose attempts have ended.

        Args:
            agents: those that this process can claim for.
            wanted: how many rows it claims next.
        """
        if self.is_busy() and agents:
            requesters, self._ended = list(self._ended), set()
            await self._admit(requesters, agents, wanted)

    async def admit_any(self, agents: Sequence[str], *, wanted: int) -> bool:
        """Admit rows of any requester, and return whether there were any."""
        if not (self.is_needed and self._anyone_waits and agents):
            return False
        return await self._admit(None, agents, wanted) > 0

    async def _admit(self, requesters: list[str] | None, agents: Sequence[str], wanted: int) -> int:
        params = {"requesters": requesters, "agents": list(agents), "at_most": BATCH, "wanted": wanted}
        (row,) = await self._link.run(ADMIT, params | {"after": None if requesters else self._after})
        self._ended |= set(row["busy"])
        if requesters is None:
            self._after = row["reached"]
        return int(row["admitted"])
