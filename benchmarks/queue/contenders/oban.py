"""oban, as its documentation sets it up embedded in a program (docs/production.md).

Its own pool of connections with its default size, one queue, all of its maintenance with default intervals.
"""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar
from uuid import UUID

import oban as library
from oban.schema import install

from benchmarks.queue import answers
from benchmarks.queue.contender import Client, Job

QUEUE = "drafts"


@library.worker(queue=QUEUE)
class Draft:
    """The handler; oban makes one for each job, so what it works with stands on the class."""

    job: ClassVar[Job]
    stored: ClassVar[answers.Answers]

    async def process(self, queued: Any) -> None:
        """Do the work and store the result."""
        key = queued.args["key"]
        await self.job.handle(key)
        await self.stored.store(key)


class ObanClient:
    """Enqueues through an instance without queues.

    Args:
        oban: started or not; inserting needs its pool only.
    """

    def __init__(self, *, oban: library.Oban) -> None:
        self._oban = oban

    async def enqueue(self, keys: Sequence[UUID]) -> None:
        """Insert these requests in one commit."""
        await self._oban.enqueue_many([Draft.new({"key": str(key)}) for key in keys])  # type: ignore[attr-defined] # added by @worker


class Oban:
    """The contender."""

    name = "oban"
    packages = ("oban", "psycopg")
    terms = "embedded, one queue, default pool and maintenance"
    is_queue = True
    drain_concurrency = 100
    unfinished = (
        "SELECT EXISTS (SELECT FROM oban_jobs WHERE state IN ('available', 'scheduled', 'executing', 'retryable'))"
    )
    stored = answers.STORED
    stored_twice = answers.STORED_TWICE
    audit = ""

    async def set_up(self, url: str) -> None:
        """Make oban's tables and the user's."""
        pool = await library.Oban.create_pool(url)
        await install(pool)
        await pool.close()
        await answers.create(url)

    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[Client]:
        """Open the client's side."""
        pool = await library.Oban.create_pool(url)
        try:
            yield ObanClient(oban=library.Oban(pool=pool, name="client"))
        finally:
            await pool.close()

    def work(self, job: Job) -> None:
        """Run oban until SIGTERM."""
        logging.getLogger("oban").setLevel(logging.WARNING)
        asyncio.run(_work(job))


async def _work(job: Job) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    Draft.job = job
    pool = await library.Oban.create_pool(job.url)
    async with answers.opened(job.url) as Draft.stored, library.Oban(pool=pool, queues={QUEUE: job.concurrency}):
        await stop.wait()
    await pool.close()


CONTENDER = Oban()
