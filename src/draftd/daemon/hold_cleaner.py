"""The hold cleaner: deletes the holds of models that no daemon uses any more (after a typo in ``DRAFTD_MODEL``, say).

Every daemon marks the holds of its own models and deletes those that no daemon has marked. Invariant: a daemon deletes nothing
until its connection has been up for ``UNUSED_S``, so that after an outage every daemon has had time to mark.
"""

import time
from collections.abc import Callable, Collection

import structlog

from draftd import db
from draftd.daemon.passes import repeat
from draftd.providers.holds import FORGET_UNUSED, KEEP_INTERVAL_S, MARK_USED, UNUSED_S

log = structlog.get_logger(__name__)


class HoldCleaner:
    """Marks and deletes holds.

    Args:
        link: the connection to use.
        names: returns the names of the models that this process uses.
        needed: returns whether the last heartbeat read any hold or throttle; without one, an idle daemon sends nothing.
    """

    def __init__(
        self, *, link: db.Link, names: Callable[[], Collection[str]], needed: Callable[[], bool] = lambda: True
    ) -> None:
        self._link = link
        self._names = names
        self._needed = needed
        self._up_since: float | None = None

    async def run(self) -> None:
        """Mark and delete holds every ``KEEP_INTERVAL_S`` until cancelled."""
        await repeat(self._clean_if_needed, link=self._link, interval_s=KEEP_INTERVAL_S)

    async def _clean_if_needed(self) -> None:
        if self._needed():
            await self.clean(time.monotonic())

    async def clean(self, now: float) -> None:
        """Mark the holds of this process's models; delete unmarked ones once marking has worked for ``UNUSED_S`` seconds.

        Args:
            now: the monotonic clock, in seconds.
        """
        up_since, self._up_since = self._up_since, None  # starts anew if a statement fails
        await self._link.run(MARK_USED, {"models": list(self._names())})
        up_since = now if up_since is None else up_since
        if now - up_since >= UNUSED_S:
            for row in await self._link.run(FORGET_UNUSED):
                log.info("hold deleted: no daemon uses its model", model=row["model"])
        self._up_since = up_since
