"""Pickup latency: how long from a request's INSERT until its handler starts, on an idle queue with default settings.

One insert each 50 ms by the contender's own client, one at a time. The clock runs from just before the insert is sent until
the first line of the handler (both on the machine's monotonic clock); the time from the insert's return, when it was
committed, is kept beside it. Rounds of all contenders alternate; the percentiles are over all rounds.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.queue.contender import Behaviour, Contender
from benchmarks.queue.course import WARM_UP, Bench, Course, course, new_keys
from benchmarks.queue.process import WorkerProcess

INTERVAL_S = 0.05
CONCURRENCY = 16
TIME_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pickup:
    """One request."""

    from_insert_s: float
    from_commit_s: float


async def pickup(bench: Bench, contender: Contender, *, requests: int) -> list[Pickup]:
    """Measure one round."""
    async with course(bench, contender, label="pickup") as track:
        with track.spawn(concurrency=CONCURRENCY, behaviour=Behaviour.INSTANT) as worker:
            await track.warm_up(worker)
            return await _pickups(track, worker, requests)


async def _pickups(track: Course, worker: WorkerProcess, requests: int) -> list[Pickup]:
    sent: dict[str, tuple[float, float]] = {}
    next_at = time.monotonic()
    for key in new_keys(requests):
        next_at = max(next_at + INTERVAL_S, time.monotonic())
        await asyncio.sleep(next_at - time.monotonic())
        before = time.monotonic()
        await track.client.enqueue([key])
        sent[str(key)] = (before, time.monotonic())
    await track.finished(worker, WARM_UP + requests, at_most_s=TIME_S)
    starts = track.starts.read(skip=WARM_UP)
    return [Pickup(from_insert_s=at - sent[key][0], from_commit_s=at - sent[key][1]) for key, at in starts]


def percentile_s(values_s: Sequence[float], percent: float) -> float:
    """Return the smallest value that ``percent`` of all do not exceed."""
    ordered = sorted(values_s)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
