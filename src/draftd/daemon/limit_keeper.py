"""The limit keeper: applies pauses and limits of requesters to rows that are already pending.

It corrects what changes without an INSERT or a claim: limits and pauses that are set or removed, rows that become due, and rows
inserted by a transaction that could not see a limit yet. Of a fleet, only the daemon that has run longest makes passes: with a
limit for everybody, each pass visits all requesters that have rows. Without any limit or pause it sends nothing. It is not part
of the reaper, whose passes must follow each other steadily.
"""

import time
from collections.abc import Awaitable, Callable
from uuid import UUID

from draftd import db
from draftd.daemon.passes import repeat
from draftd.queue.admission import ADMIT, APPLY, BATCH, IS_OLDEST

VISITS_S = 0.05
"""How long each half of a pass (making rows wait, admitting rows) goes on without finding any; the next pass continues."""
PASS_S = 1.0
"""How long each half takes at most before it is the other's turn."""


class LimitKeeper:
    """Makes a pass every ``interval_s`` seconds.

    Args:
        link: the connection to use.
        worker_id: this process.
        interval_s: seconds between passes.
        needed: returns whether the last heartbeat read any limit, pause or waiting row.
    """

    def __init__(
        self, *, link: db.Link, worker_id: UUID, interval_s: float = 2.0, needed: Callable[[], bool] = lambda: True
    ) -> None:
        self._link = link
        self._worker_id = worker_id
        self._needed = needed
        self._interval_s = interval_s
        self._applied_to: str | None = None
        self._admitted_to: str | None = None

    async def run(self) -> None:
        """Make passes until cancelled, through any number of lost connections."""
        await repeat(self._keep_if_needed, link=self._link, interval_s=self._interval_s, refused="limits refused")

    async def _keep_if_needed(self) -> None:
        if self._needed():
            await self.keep()

    async def keep(self) -> None:
        """Make a pass, beginning where the previous one ended, unless another daemon does; go on while rows still have to wait.

        Raises:
            db.LOST: the connection broke.
            psycopg.Error: the server refused.
        """
        is_cut_short = True
        while is_cut_short and await self._is_oldest():
            is_cut_short = await _until_done(self._apply)
            await _until_done(self._admit)

    async def _is_oldest(self) -> bool:
        (row,) = await self._link.run(IS_OLDEST, {"worker_id": self._worker_id})
        return bool(row["is_oldest"])

    async def _apply(self) -> tuple[int, bool]:
        """Make rows wait; return how many, and whether there may be more."""
        (row,) = await self._link.run(APPLY, {"after": self._applied_to})
        # A full batch may have left rows of the same requester.
        self._applied_to = self._applied_to if row["changed"] and row["reached"] else row["reached"]
        return row["changed"], bool(row["changed"] or row["reached"])

    async def _admit(self) -> tuple[int, bool]:
        """Admit rows; return how many, and whether there may be more."""
        params = {"requesters": None, "agents": None, "at_most": BATCH, "wanted": 0, "after": self._admitted_to}
        (row,) = await self._link.run(ADMIT, params)
        self._admitted_to = self._admitted_to if row["admitted"] and row["reached"] else row["reached"]
        return row["admitted"], bool(row["admitted"] or row["reached"])


async def _until_done(step: Callable[[], Awaitable[tuple[int, bool]]]) -> bool:
    """Repeat a step until there is no more, or its time is up; return whether it was still changing rows then."""
    began = changed_at = time.monotonic()
    while True:
        changed, has_more = await step()
        now = time.monotonic()
        changed_at = now if changed else changed_at
        if not has_more or now - changed_at >= VISITS_S:
            return False
        if now - began >= PASS_S:
            return True
