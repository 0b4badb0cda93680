"""pgqueuer, as its guide to performance and its own benchmark set it up.

asyncpg and uvloop (its benchmark's, 1.7 times as fast as psycopg by its own figures), one connection for each queue manager, its
recommended autovacuum settings, durability as by default. Batches grow with the concurrency, as the guide says for short jobs.
"""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job as PgqJob
from pgqueuer.queries import Queries

from benchmarks.queue import answers
from benchmarks.queue.contender import Client, Job
from benchmarks.queue.payload import RESULT_JSON

ENTRYPOINT = "benchmark"
STORE = answers.STORE.format("$1", "$2")


class PgqueuerClient:
    """Enqueues over one connection.

    Args:
        queries: pgqueuer's own.
    """

    def __init__(self, *, queries: Queries) -> None:
        self._queries = queries

    async def enqueue(self, keys: Sequence[UUID]) -> None:
        """Insert these requests in one commit."""
        count = len(keys)
        await self._queries.enqueue([ENTRYPOINT] * count, [str(key).encode() for key in keys], [0] * count)


class Pgqueuer:
    """The contender."""

    name = "pgqueuer"
    packages = ("pgqueuer", "asyncpg", "uvloop")
    terms = "asyncpg on uvloop, `pgq autovac`, durability `durable`, batches of up to 50"
    is_queue = True
    drain_concurrency = 200
    max_batch = 50
    unfinished = "SELECT EXISTS (SELECT FROM pgqueuer WHERE status IN ('queued', 'picked'))"
    stored = answers.STORED
    stored_twice = answers.STORED_TWICE
    audit = ""

    async def set_up(self, url: str) -> None:
        """Make pgqueuer's tables and the user's."""
        connection = await asyncpg.connect(url)
        queries = Queries(AsyncpgDriver(connection))
        await queries.install()
        await queries.optimize_autovacuum()
        await connection.close()
        await answers.create(url)

    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[Client]:
        """Open the client's side."""
        connection = await asyncpg.connect(url)
        try:
            yield PgqueuerClient(queries=Queries(AsyncpgDriver(connection)))
        finally:
            await connection.close()

    def work(self, job: Job) -> None:
        """Run a queue manager until SIGTERM."""
        logging.getLogger("pgqueuer").setLevel(logging.WARNING)
        uvloop.run(_work(job))


async def _work(job: Job) -> None:
    batch = max(1, min(Pgqueuer.max_batch, job.concurrency // 2))
    queuer = PgQueuer.from_asyncpg_connection(await asyncpg.connect(job.url))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, queuer.shutdown.set)
    async with asyncpg.create_pool(job.url, min_size=1, max_size=answers.POOL_SIZE) as pool:

        async def handle(queued: PgqJob) -> None:
            key = (queued.payload or b"").decode()
            await job.handle(key)
            await pool.execute(STORE, key, RESULT_JSON)

        queuer.entrypoint(ENTRYPOINT)(handle)
        await queuer.run(batch_size=batch, max_concurrent_tasks=max(job.concurrency, 2 * batch))


CONTENDER = Pgqueuer()
