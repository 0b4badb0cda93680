"""Drained requests per second: how fast a backlog of requests that cost nothing is worked off, results stored.

A warm worker waits; the backlog is inserted in one transaction; the clock runs from its commit until every request is finished
(its handler ran, its result is stored, and the queue has let go of it). Commits are durable. After it each result is
counted. Each round begins with an empty database.
"""

import time
from dataclasses import dataclass

from benchmarks.queue.contender import Behaviour, Contender
from benchmarks.queue.course import WARM_UP, Bench, course, new_keys

TIME_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What one round showed."""

    requests: int
    elapsed_s: float
    cpu_s: float
    """What the worker's process spent on it."""

    @property
    def per_s(self) -> float:
        """Requests per second."""
        return self.requests / self.elapsed_s


async def drain(bench: Bench, contender: Contender, *, requests: int) -> Drained:
    """Measure one round.

    Raises:
        RuntimeError: not every request has its result.
    """
    async with course(bench, contender, label="drain") as track:
        with track.spawn(concurrency=contender.drain_concurrency, behaviour=Behaviour.INSTANT) as worker:
            await track.warm_up(worker)
            cpu_s = worker.cpu_s()
            await track.client.enqueue(new_keys(requests))
            began = time.monotonic()
            ended = await track.finished(worker, WARM_UP + requests, at_most_s=TIME_S)
            drained = Drained(requests=requests, elapsed_s=ended - began, cpu_s=worker.cpu_s() - cpu_s)
            stored = await track.ask(contender.stored)
        if stored != WARM_UP + requests:
            raise RuntimeError(f"{contender.name}: {stored} results for {WARM_UP + requests} requests")
    return drained
