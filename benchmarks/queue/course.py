"""A course: one contender with its database and a running, warmed-up worker, at the start of a measurement.

A worker is warm when it has finished a number of requests; so its imports, its connections and its first plans are not measured.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg

from benchmarks.queue.contender import Behaviour, Client, Contender, Starts
from benchmarks.queue.process import WorkerProcess
from benchmarks.queue.server import Server

WARM_UP = 200
WARM_UP_TIME_S = 60.0
LOOK_S = 0.002
"""How often the end is looked for: the file of starts first, and the database only once all have started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where courses are run."""

    server: Server
    directory: Path
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def path(self, stem: str) -> Path:
        """Return the path of a new file."""
        return self.directory / f"{next(self.numbers):04d}-{stem}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """A contender that is ready."""

    contender: Contender
    bench: Bench
    url: str
    client: Client
    watch: psycopg.AsyncConnection[Any]
    """The benchmark's own look into the database."""
    starts: Starts
    starts_path: Path

    def spawn(self, *, concurrency: int, behaviour: Behaviour, whole: bool = False) -> WorkerProcess:
        """Start another worker."""
        return WorkerProcess(
            contender=self.contender.name,
            url=self.url,
            concurrency=concurrency,
            behaviour=behaviour,
            starts=self.starts_path,
            log=self.bench.path(f"{self.contender.name}.log"),
            whole=whole,
        )

    async def warm_up(self, worker: WorkerProcess, *, requests: int = WARM_UP) -> None:
        """Let the worker finish some requests, and the database learn what its tables look like."""
        goal = self.starts.count() + requests
        await self.client.enqueue(new_keys(requests))
        await self.finished(worker, goal, at_most_s=WARM_UP_TIME_S)
        await self.watch.execute("VACUUM ANALYZE")

    async def finished(self, worker: WorkerProcess, goal: int, *, at_most_s: float) -> float:
        """Wait until ``goal`` handlers have started and nothing is unfinished; return the moment.

        Raises:
            TimeoutError: it takes longer.
        """
        async with asyncio.timeout(at_most_s):
            while self.starts.count() < goal:
                worker.check()
                await asyncio.sleep(LOOK_S)
            while await self.ask(self.contender.unfinished):
                worker.check()
                await asyncio.sleep(LOOK_S)
        return time.monotonic()

    async def ask(self, query: str) -> Any:
        """Return the one value of a query's one row."""
        row = await (await self.watch.execute(query.encode())).fetchone()
        return row[0] if row else None


def new_keys(count: int) -> list[UUID]:
    """Return keys for new requests."""
    return [uuid4() for _ in range(count)]


@asynccontextmanager
async def course(bench: Bench, contender: Contender, *, label: str) -> AsyncIterator[Course]:
    """Yield a contender with an empty database of its own, and no worker yet."""
    name = f"bench_{label}_{contender.name}"
    url = await asyncio.to_thread(bench.server.create_database, name)
    try:
        await contender.set_up(url)
        path = bench.path(f"{contender.name}.starts")
        async with (
            contender.client(url) as client,
            await psycopg.AsyncConnection.connect(url, autocommit=True) as watch,
        ):
            yield Course(
                contender=contender,
                bench=bench,
                url=url,
                client=client,
                watch=watch,
                starts=Starts(path),
                starts_path=path,
            )
    finally:
        await asyncio.to_thread(bench.server.drop_database, name)
