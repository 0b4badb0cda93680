"""The limit keeper: applies pauses and limits of requesters to rows that are already pending.

Every daemon runs one. It corrects what changes without an INSERT or a claim: limits and pauses that are set or removed, rows that
become due, and rows inserted by a transaction that could not see a limit yet. Without any limit or pause it sends nothing. It is
not part of the reaper, whose passes must follow each other steadily.
"""

import time
from collections.abc import Callable

from draftd import db
from draftd.daemon.passes import repeat
from draftd.queue.admission import ADMIT, APPLY, BATCH

PASS_S = 1.0
"""How long one pass may take; the next one continues."""


class LimitKeeper:
    """Makes a pass every ``interval_s`` seconds.

    Args:
        link: the connection to use.
        interval_s: seconds between passes.
        needed: returns whether the last heartbeat read any limit, pause or waiting row.
    """

    def __init__(self, *, link: db.Link, interval_s: float = 2.0, needed: Callable[[], bool] = lambda: True) -> None:
        self._link = link
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
        """Make a pass of up to ``PASS_S``, beginning where the previous one ended.

        Raises:
            db.LOST: the connection broke.
            psycopg.Error: the server refused.
        """
        until = time.monotonic() + PASS_S
        while await self._apply() and time.monotonic() < until:
            pass
        while await self._admit() and time.monotonic() < until:
            pass

    async def _apply(self) -> bool:
        """Make rows wait; return whether there may be more."""
        (row,) = await self._link.run(APPLY, {"after": self._applied_to})
        # A full batch may have left rows of the same requester.
        self._applied_to = self._applied_to if row["changed"] and row["reached"] else row["reached"]
        return bool(row["changed"] or row["reached"])

    async def _admit(self) -> bool:
        """Admit rows; return whether there may be more."""
        params = {"requesters": None, "agents": None, "at_most": BATCH, "wanted": 0, "after": self._admitted_to}
        (row,) = await self._link.run(ADMIT, params)
        self._admitted_to = self._admitted_to if row["admitted"] and row["reached"] else row["reached"]
        return bool(row["admitted"] or row["reached"])
