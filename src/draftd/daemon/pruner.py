"""The pruner: once an hour, deletes final requests and feedback older than ``draft_settings`` keeps them, and idle turnstiles."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import psycopg
import structlog

from draftd import db
from draftd.db.sqlstate import told_to_log
from draftd.queue import fleet_settings
from draftd.queue.refused_rows import Quarantine
from draftd.queue.retention import prune, prune_feedback, prune_turnstiles

log = structlog.get_logger(__name__)

DAY_S = 86_400.0
INTERVAL_S = 3_600.0


class Pruner:
    """Prunes at the start and once an hour after that.

    Args:
        reads: the connection to read the fleet's settings on.
        link: a connection of its own, open during a pass only: nothing else may wait behind a batch.
        quarantine: remembers which refused rows were reported.
    """

    def __init__(self, *, reads: db.Link, link: db.Link, quarantine: Quarantine) -> None:
        self._reads = reads
        self._link = link
        self._quarantine = quarantine

    async def run(self) -> None:
        """Prune until cancelled, through any number of lost connections."""
        while True:
            try:
                await self._try(self._prune)
                await self._try(self._prune_feedback)
                await self._try(lambda: self._link.retry(lambda: prune_turnstiles(self._link)))
            finally:
                await self._link.close()
            await asyncio.sleep(INTERVAL_S)

    async def _try(self, prune_all: Callable[[], Awaitable[None]]) -> None:
        try:
            await prune_all()
        except psycopg.Error as error:
            # No right to delete, a foreign key of another table, a batch that took too long: the daemon still drafts, and tries
            # again in an hour.
            log.warning("pruning incomplete", error=told_to_log(error))

    async def _prune(self) -> None:
        """Prune requests to the end; a pass whose connection is lost starts again with what is left."""
        if not (days := await self._setting("retention_days")):
            return
        pruned = 0

        async def one_pass() -> None:
            nonlocal pruned
            async with aclosing(prune(self._link, older_than_s=days * DAY_S, quarantine=self._quarantine)) as batches:
                async for count in batches:
                    pruned += count

        await self._link.retry(one_pass)
        if pruned:
            log.info("pruned", rows=pruned)

    async def _prune_feedback(self) -> None:
        if not (days := await self._setting("feedback_retention_days")):
            return
        if pruned := await self._link.retry(lambda: prune_feedback(self._link, older_than_s=days * DAY_S)):
            log.info("feedback pruned", rows=pruned)

    async def _setting(self, name: str) -> int:
        rows = await self._reads.run_until_done(fleet_settings.READ, retry_refusals=False)
        return int(fleet_settings.of(rows)[name] or 0)
