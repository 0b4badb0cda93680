"""The pruner: the daily pass over old final requests, where ``DRAFTD_RETENTION_DAYS`` asks for it."""

import asyncio
from contextlib import aclosing

import psycopg
import structlog

from draftd import db
from draftd.queue.isolation import Aside
from draftd.queue.retention import prune
from draftd.sanitize import redact

log = structlog.get_logger(__name__)

DAY_S = 86_400.0


class Pruner:
    """Prunes at the start and once a day after that.

    Args:
        link: a connection of its own, open during a pass only: a batch must not stand before anybody's reads.
        retention_s: how long a final request is kept, in seconds.
        aside: where the names of refused rows are remembered.
        interval_s: seconds between two passes.
    """

    def __init__(
        self, *, link: db.Link, retention_s: float, aside: Aside | None = None, interval_s: float = DAY_S
    ) -> None:
        self._link = link
        self._retention_s = retention_s
        self._aside = aside or Aside()
        self._interval_s = interval_s

    async def run(self) -> None:
        """Prune until cancelled, through any number of lost connections."""
        while True:
            try:
                await self._pass()
            except psycopg.Error as error:
                # No right to delete, a foreign key of somebody's table, a batch that took too long: the daemon drafts all the
                # same, and tomorrow is another day.
                log.warning("pruning incomplete", error=redact(str(error)))
            finally:
                await self._link.close()
            await asyncio.sleep(self._interval_s)

    async def _pass(self) -> None:
        """Prune to the end: a pass that lost its connection begins anew, with what is left."""
        pruned, is_done = 0, False
        while not is_done:
            try:
                async with aclosing(prune(self._link, older_than_s=self._retention_s, aside=self._aside)) as batches:
                    async for count in batches:
                        pruned += count
                is_done = True
            except db.LOST as error:
                await self._link.pause(error)
        if pruned:
            log.info("pruned", rows=pruned)
