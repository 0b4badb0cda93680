"""What is measured: a queue behind one small interface.

A contender has its own database, its client's side in the benchmark's process, and its worker in a process of its own.
Each request is known by a UUID, its key, from the insert to the stored result. Invariants: what a contender enqueues in one
call becomes visible in one commit; a request is unfinished until its result is stored *and* the queue has let go of it.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol
from uuid import UUID

SLEEP_S = 1.0


class Behaviour(StrEnum):
    """What a handler does between its start and its result."""

    INSTANT = "instant"
    SLEEP = "sleep"
    """Waits for ``SLEEP_S``, as for a model."""
    HANG = "hang"
    """Waits for ever: made to be killed."""


class Starts:
    """A file in which handlers enter when they started; it outlives a killed process.

    One line of a fixed size per start, appended in one write: the size of the file tells the number of starts, and costs the
    database nothing.
    """

    LINE_BYTES = 36 + 1 + 20 + 1

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def enter(self, key: object) -> None:
        """Note that the handler of this request starts now."""
        os.write(self._descriptor, f"{key} {time.monotonic_ns():020d}\n".encode())

    def count(self) -> int:
        """Return how many handlers have started so far."""
        return self._path.stat().st_size // self.LINE_BYTES

    def read(self, *, skip: int = 0) -> list[tuple[str, float]]:
        """Return key and moment of each start after the first ``skip``, in seconds of the monotonic clock, all processes'."""
        lines = self._path.read_text().splitlines()[skip:]
        return [(line[:36], int(line[37:]) / 1e9) for line in lines]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a worker process is told to do."""

    url: str
    concurrency: int
    behaviour: Behaviour
    starts: Starts
    whole: bool = False
    """Load everything that the program loads in real use, wanted by the handler or not."""

    async def handle(self, key: object) -> None:
        """Do a handler's work, except for storing the result."""
        self.starts.enter(key)
        match self.behaviour:
            case Behaviour.SLEEP:
                await asyncio.sleep(SLEEP_S)
            case Behaviour.HANG:
                await asyncio.Event().wait()


class Client(Protocol):
    """The side that asks: an open connection, used as the contender's documentation shows."""

    async def enqueue(self, keys: Sequence[UUID]) -> None:
        """Insert these requests in one commit."""
        ...


class Contender(Protocol):
    """A queue that is measured."""

    name: str
    packages: tuple[str, ...]
    """The distributions whose versions belong into the report."""
    terms: str
    """How it is set up, and on whose word."""
    is_queue: bool
    """False for what only claims and finishes: it has no figure in flight, idle or after a crash."""
    drain_concurrency: int
    """With how many requests at a time it drains fastest, found by trial within what its documentation recommends."""
    unfinished: str
    """A query for one boolean: whether there is a request that is not finished."""
    stored: str
    """A query for one integer: how many requests have a result."""
    stored_twice: str
    """A query for one integer: how many requests were given a result more than once, since ``audit``."""
    audit: str
    """What must be run for ``stored_twice`` beforehand, if anything; not part of any timed measurement of throughput."""

    async def set_up(self, url: str) -> None:
        """Make the tables in an empty database."""
        ...

    def client(self, url: str) -> AbstractAsyncContextManager[Client]:
        """Open the client's side."""
        ...

    def work(self, job: Job) -> None:
        """Be the worker process: run until SIGTERM."""
        ...
