"""A connection whose every statement is READ COMMITTED, whatever the server's default is.

The queue's statements lock rows that other sessions change at the same time, and must see their values once locked. With
REPEATABLE READ or SERIALIZABLE they would fail instead, many times a second.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import psycopg
from psycopg.abc import Params
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow

from draftd.backoff import full_jitter_s

TRIES = 4
"""How often a statement is tried that conflicts with another one."""
LEVEL = "SELECT current_setting('default_transaction_isolation') AS level"

Answer = TypeVar("Answer")


class Connection(psycopg.AsyncConnection[DictRow]):
    """A connection in autocommit whose every statement is one READ COMMITTED transaction.

    A session's default is set once. Behind a pooler, a setting would stay on a server connection that serves another client next;
    there ``isolation_level`` is set if the server's default differs, and wraps each statement in a transaction.
    """

    async def execute(
        self, query: Any, params: Params | None = None, *, prepare: bool | None = None, binary: bool = False
    ) -> psycopg.AsyncCursor[DictRow]:
        """Execute a statement on a new cursor; see ``psycopg.AsyncConnection``."""
        cursor = self.cursor(binary=binary)
        return await self.as_one(lambda: cursor.execute(query, params, prepare=prepare))

    async def as_one(self, run: Callable[[], Awaitable[Answer]]) -> Answer:
        """Run one statement as one transaction; repeat it after a conflict, in which case it has changed nothing."""
        if self.pgconn.transaction_status != TransactionStatus.IDLE:
            return await run()
        for conflicts in range(1, TRIES):
            try:
                return await self._try_as_one(run)
            except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
                await asyncio.sleep(full_jitter_s(conflicts, base_s=0.005))
        return await self._try_as_one(run)

    async def _try_as_one(self, run: Callable[[], Awaitable[Answer]]) -> Answer:
        if self.isolation_level is None:
            return await run()
        async with self.transaction():
            return await run()

    async def adopt_default(self) -> None:
        """Check the server's default, and wrap statements if necessary; for a connection behind a pooler."""
        row = await (await self.execute(LEVEL)).fetchone()
        if row and row["level"] != "read committed":
            await self.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
