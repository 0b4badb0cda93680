"""Where a peer's handler stores its result: a table of its user's, keyed by the request, in one statement in autocommit.

An upsert, because each peer runs a request at least once and asks for handlers that bear it; it counts how often a request
was given a result.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool

from benchmarks.queue.payload import RESULT_JSON

CREATE = "CREATE TABLE answers (key uuid PRIMARY KEY, result jsonb NOT NULL, writes integer NOT NULL DEFAULT 1)"
STORE = """
INSERT INTO answers AS a (key, result) VALUES ({}, {})
ON CONFLICT (key) DO UPDATE SET result = excluded.result, writes = a.writes + 1
"""
STORED = "SELECT count(*)::int FROM answers"
STORED_TWICE = "SELECT count(*)::int FROM answers WHERE writes > 1"
POOL_SIZE = 10
"""What psycopg_pool's, procrastinate's and oban's documentation take for enough."""


async def create(url: str) -> None:
    """Make the user's table."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(CREATE)


class Answers:
    """The user's own connections.

    Args:
        pool: of connections in autocommit.
    """

    _statement = STORE.format("%s", "%s").encode()

    def __init__(self, *, pool: AsyncConnectionPool[psycopg.AsyncConnection[Any]]) -> None:
        self._pool = pool

    async def store(self, key: str) -> None:
        """Store the result of a request."""
        async with self._pool.connection() as connection:
            await connection.execute(self._statement, [key, RESULT_JSON])


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Answers]:
    """Yield the user's own pool of connections."""
    pool = AsyncConnectionPool(url, max_size=POOL_SIZE, kwargs={"autocommit": True}, open=False)
    async with pool:
        yield Answers(pool=pool)
