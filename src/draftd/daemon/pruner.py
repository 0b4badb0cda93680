"""The pruner: the hourly pass over old final requests, where ``draft_settings.retention_days`` asks for it."""

import asyncio
from contextlib import aclosing

import psycopg
import structlog

from draftd import db
from draftd.queue import fleet_settings
from draftd.queue.isolation import Aside
from draftd.queue.retention import prune
from draftd.sanitize import redact

log = structlog.get_logger(__name__)

DAY_S = 86_400.0
INTERVAL_S = 3_600.0


class Pruner:
    """Prunes at the start and once an hour after that.

    Args:
        reads: where the fleet's setting is read.
        link: a connection of its own, open during a pass only: a batch must not stand before anybody's reads.
        aside: where the names of refused rows are remembered.
        interval_s: seconds between two passes.
    """

    def __init__(
        self, *, reads: db.Link, link: db.Link, aside: Aside | None = None, interval_s: float = INTERVAL_S
    ) -> None:
        self._reads = reads
        self._link = link
        self._aside = aside or Aside()
        self._interval_s = interval_s

    async def run(self) -> None:
        """Prune until cancelled, through any number of lost connections."""
        while True:
            try:
                if retention_days := await self._retention_days():
                    await self._pass(retention_days * DAY_S)
            except psycopg.Error as error:
                # No right to delete, a foreign key of somebody's table, a batch that took too long: the daemon drafts all the
                # same, and the next hour is another one.
                log.warning("not pruned to the end", error=redact(str(error)))
            finally:
                await self._link.close()
            await asyncio.sleep(self._interval_s)

    async def _retention_days(self) -> int:
        while True:
            try:
                return fleet_settings.of(await self._reads.run(fleet_settings.READ))["retention_days"]
            except db.LOST as error:
                await self._reads.pause(error)

    async def _pass(self, retention_s: float) -> None:
        """Prune to the end: a pass that lost its connection begins anew, with what is left."""
        pruned, is_done = 0, False
        while not is_done:
            try:
                async with aclosing(prune(self._link, older_than_s=retention_s, aside=self._aside)) as batches:
                    async for count in batches:
                        pruned += count
                is_done = True
            except db.LOST as error:
                await self._link.pause(error)
        if pruned:
            log.info("pruned", rows=pruned)
