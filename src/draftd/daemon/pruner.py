"""The pruner: the hourly pass over old final requests and old feedback, as long as ``draft_settings`` says to keep them."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import psycopg
import structlog

from draftd import db
from draftd.queue import fleet_settings
from draftd.queue.refused_rows import Quarantine
from draftd.queue.retention import prune, prune_feedback
from draftd.sanitize import redact

log = structlog.get_logger(__name__)

DAY_S = 86_400.0
INTERVAL_S = 3_600.0


class Pruner:
    """Prunes at the start and once an hour after that.

    Args:
        reads: where the fleet's settings are read.
        link: a connection of its own, open during a pass only: a batch must not stand before anybody's reads.
        quarantine: where the names of refused rows are remembered.
        interval_s: seconds between two passes.
    """

    def __init__(
        self, *, reads: db.Link, link: db.Link, quarantine: Quarantine, interval_s: float = INTERVAL_S
    ) -> None:
        self._reads = reads
        self._link = link
        self._quarantine = quarantine
        self._interval_s = interval_s

    async def run(self) -> None:
        """Prune until cancelled, through any number of lost connections."""
        while True:
            try:
                await self._try(self._prune)
                await self._try(self._prune_feedback)
            finally:
                await self._link.close()
            await asyncio.sleep(self._interval_s)

    async def _try(self, pass_: Callable[[], Awaitable[None]]) -> None:
        try:
            await pass_()
        except psycopg.Error as error:
            # No right to delete, a foreign key of somebody's table, a batch that took too long: the daemon drafts all the same,
            # and the next hour is another one.
            log.warning("pruning incomplete", error=redact(str(error)))

    async def _prune(self) -> None:
        """Prune requests to the end: a pass that lost its connection begins anew, with what is left."""
        if not (days := await self._setting("retention_days")):
            return
        pruned, is_done = 0, False
        while not is_done:
            try:
                async with aclosing(
                    prune(self._link, older_than_s=days * DAY_S, quarantine=self._quarantine)
                ) as batches:
                    async for count in batches:
                        pruned += count
                is_done = True
            except db.LOST as error:
                await self._link.pause(error)
        if pruned:
            log.info("pruned", rows=pruned)

    async def _prune_feedback(self) -> None:
        days = await self._setting("feedback_retention_days")
        while days:
            try:
                if pruned := await prune_feedback(self._link, older_than_s=days * DAY_S):
                    log.info("feedback pruned", rows=pruned)
            except db.LOST as error:
                await self._link.pause(error)
            else:
                return

    async def _setting(self, name: str) -> int:
        while True:
            try:
                return fleet_settings.of(await self._reads.run(fleet_settings.READ))[name]
            except db.LOST as error:
                await self._reads.pause(error)
