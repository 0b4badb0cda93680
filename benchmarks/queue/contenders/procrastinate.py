"""procrastinate, as its documentation sets up an asynchronous worker (howto/production, howto/basics/batch_defer).

psycopg's connector with its default pool, many sub-workers in one process, LISTEN on. It brings stalled requests back only
by a periodic task that its user writes; the one of its documentation, every ten minutes, is used.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import procrastinate

from benchmarks.queue import answers
from benchmarks.queue.contender import Client, Job

TASK = "benchmark"
RETRY_STALLED_CRON = "*/10 * * * *"


class ProcrastinateClient:
    """Defers through an open app.

    Args:
        app: open.
    """

    def __init__(self, *, app: procrastinate.App) -> None:
        self._task = app.configure_task(TASK)

    async def enqueue(self, keys: Sequence[UUID]) -> None:
        """Insert these requests in one commit."""
        if len(keys) == 1:
            await self._task.defer_async(key=str(keys[0]))
        else:
            await self._task.batch_defer_async(*({"key": str(key)} for key in keys))


class Procrastinate:
    """The contender."""

    name = "procrastinate"
    packages = ("procrastinate", "psycopg")
    terms = (
        "PsycopgConnector, one worker with sub-workers; stalled requests come back by its documentation's task, which runs "
        "every ten minutes: a recovery takes as long as chance has it"
    )
    is_queue = True
    drain_concurrency = 30
    unfinished = "SELECT EXISTS (SELECT FROM procrastinate_jobs WHERE status IN ('todo', 'doing'))"
    stored = answers.STORED
    stored_twice = answers.STORED_TWICE
    audit = ""

    async def set_up(self, url: str) -> None:
        """Make procrastinate's tables and the user's."""
        async with _app(url).open_async() as app:
            await app.schema_manager.apply_schema_async()
        await answers.create(url)

    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[Client]:
        """Open the client's side."""
        async with _app(url).open_async() as app:
            yield ProcrastinateClient(app=app)

    def work(self, job: Job) -> None:
        """Run procrastinate's worker until SIGTERM."""
        logging.getLogger("procrastinate").setLevel(logging.WARNING)
        asyncio.run(_work(job))


def _app(url: str) -> procrastinate.App:
    return procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))


async def _work(job: Job) -> None:
    app = _app(job.url)

    async def retry_stalled_jobs(_context: procrastinate.JobContext, timestamp: int) -> None:
        del timestamp
        for stalled in await app.job_manager.get_stalled_jobs():
            await app.job_manager.retry_job(stalled)

    task = app.task(name="retry_stalled_jobs", queueing_lock="retry_stalled_jobs", pass_context=True)
    app.periodic(cron=RETRY_STALLED_CRON)(task(retry_stalled_jobs))
    async with answers.opened(job.url) as stored, app.open_async():

        async def handle(key: str) -> None:
            await job.handle(key)
            await stored.store(key)

        app.task(name=TASK)(handle)
        await app.run_worker_async(concurrency=job.concurrency)


CONTENDER = Procrastinate()
