"""Many requests in flight: what one process does with 1,000 requests at a time that wait for 1 s each, as for a model.

A warm worker with 1,000 places waits; more requests than can be worked off are inserted in one transaction. From two seconds
after its commit on, the starts within a number of seconds are counted, and the CPU time of the process; ideal is 1,000 a second.
A place is free for the next start only when its result is stored, so starts are finished requests too, but for the last thousand.
Memory is the process's peak, from its start; its connections are counted in ``pg_stat_activity`` while it works.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from benchmarks.queue.contender import SLEEP_S, Behaviour, Contender
from benchmarks.queue.course import Bench, Course, course, new_keys

IN_FLIGHT = 1000
WARM_UP = 100
RAMP_S = 2.0
RESERVE_S = 2.0
LOOK_S = 0.5
OURS = (
    "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slept:
    """What one round showed."""

    starts: int
    elapsed_s: float
    cpu_s: float
    peak_memory_bytes: int
    connections: int

    @property
    def ideal_share(self) -> float:
        """The rate as a share of the ideal one."""
        return self.starts / IN_FLIGHT * SLEEP_S / self.elapsed_s


async def sleeping(bench: Bench, contender: Contender, *, seconds: float) -> Slept:
    """Measure one round of ``seconds``."""
    requests = int((seconds + RAMP_S + RESERVE_S) / SLEEP_S) * IN_FLIGHT
    async with course(bench, contender, label="sleeping") as track:
        others = await track.ask(OURS)
        with track.spawn(concurrency=IN_FLIGHT, behaviour=Behaviour.SLEEP) as worker:
            await track.warm_up(worker, requests=WARM_UP)
            await track.client.enqueue(new_keys(requests))
            async with _asked(track, OURS) as connections:
                await asyncio.sleep(RAMP_S)
                began, cpu_s, starts = time.monotonic(), worker.cpu_s(), track.starts.count()
                await asyncio.sleep(seconds)
                slept = Slept(
                    starts=track.starts.count() - starts,
                    elapsed_s=time.monotonic() - began,
                    cpu_s=worker.cpu_s() - cpu_s,
                    peak_memory_bytes=worker.peak_memory_bytes(),
                    connections=max(connections) - others,
                )
            worker.kill()
    return slept


@asynccontextmanager
async def _asked(track: Course, query: str) -> AsyncIterator[list[int]]:
    """Ask every half second, beside what is done meanwhile, and yield the answers."""
    answers: list[int] = []

    async def look() -> None:
        while True:
            answers.append(await track.ask(query))
            await asyncio.sleep(LOOK_S)

    looking = asyncio.create_task(look())
    try:
        yield answers
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
