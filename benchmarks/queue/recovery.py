"""Recovery after a crash: how long until everything that a killed process had in flight runs again, with default settings.

A worker with 200 places is given 200 requests whose handlers never end; when all have started it is killed (kill -9), at a
random moment of its heartbeat. Either another worker has been alive and idle for a while, or a new one is started at once,
which loads all that it loads in real use. The clock runs from the kill until the last of the 200 has started again. At the
end each request must have its result, once.
"""

import asyncio
import random
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.queue.contender import Behaviour, Contender
from benchmarks.queue.course import Bench, Course, course, new_keys
from benchmarks.queue.process import WorkerProcess

IN_FLIGHT = 200
START_TIME_S = 60.0
ALIVE_S = (15.0, 20.0)
"""How long the other worker has been alive: longer than any contender's lease, heartbeat or election that is not minutes long."""
LOOK_S = 0.02


class Rescue(StrEnum):
    """Who takes over."""

    ANOTHER_LIVES = "another lives"
    RESTART = "the only one is restarted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What one crash led to."""

    last_start_s: float | None
    """Seconds from the kill until the last one ran again; None when some did not within the patience."""
    restarted: int
    """How many of the 200 ran again."""
    ran_more_than_twice: int
    lost: int
    """How many have no result at the end, where all ran again."""
    accepted_twice: int


async def recovery(bench: Bench, contender: Contender, rescue: Rescue, *, patience_s: float) -> Recovered:
    """Measure one crash."""
    async with course(bench, contender, label=f"recovery_{rescue.name.lower()}") as track:
        if contender.audit:
            await track.watch.execute(contender.audit.encode())
        with track.spawn(concurrency=IN_FLIGHT, behaviour=Behaviour.HANG) as victim:
            await track.client.enqueue(new_keys(IN_FLIGHT))
            await _starts(track, victim, IN_FLIGHT, at_most_s=START_TIME_S)
            if rescue is Rescue.ANOTHER_LIVES:
                with track.spawn(concurrency=IN_FLIGHT, behaviour=Behaviour.INSTANT) as other:
                    await asyncio.sleep(random.uniform(*ALIVE_S))  # noqa: S311 - a moment, no secret
                    killed_at = time.monotonic()
                    victim.kill()
                    return await _watch(track, other, killed_at, patience_s)
            await asyncio.sleep(random.uniform(3, 8))  # noqa: S311 - likewise
            killed_at = time.monotonic()
            victim.kill()
            with track.spawn(concurrency=IN_FLIGHT, behaviour=Behaviour.INSTANT, whole=True) as successor:
                return await _watch(track, successor, killed_at, patience_s)


async def _watch(track: Course, worker: WorkerProcess, killed_at: float, patience_s: float) -> Recovered:
    with suppress(TimeoutError):
        await _starts(track, worker, 2 * IN_FLIGHT, at_most_s=patience_s)
        await track.finished(worker, 2 * IN_FLIGHT, at_most_s=patience_s)
    again: dict[str, list[float]] = defaultdict(list)
    for key, at in track.starts.read(skip=IN_FLIGHT):
        again[key].append(at)
    all_ran = len(again) == IN_FLIGHT
    return Recovered(
        last_start_s=max(min(moments) for moments in again.values()) - killed_at if all_ran else None,
        restarted=len(again),
        ran_more_than_twice=sum(len(moments) > 1 for moments in again.values()),
        lost=IN_FLIGHT - await track.ask(track.contender.stored) if all_ran else 0,
        accepted_twice=await track.ask(track.contender.stored_twice),
    )


async def _starts(track: Course, worker: WorkerProcess, goal: int, *, at_most_s: float) -> None:
    async with asyncio.timeout(at_most_s):
        while track.starts.count() < goal:
            worker.check()
            await asyncio.sleep(LOOK_S)
