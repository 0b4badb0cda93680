"""Idle statements: what a worker that has nothing to do asks of the database each minute.

The worker finishes some requests, is left alone for a while, and then each statement that it sends is counted in the
server's log (``log_statement = all`` for its database). BEGIN and COMMIT count: they are round trips. All contenders idle at
the same time, each in a database of its own, on a server of the benchmark's own.
"""

import asyncio
import re
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.queue.contender import Behaviour, Contender
from benchmarks.queue.course import Bench, course
from benchmarks.queue.server import embedded_server

CONCURRENCIES = (1, 200)
SETTLE_S = 5.0
WARM_UP = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """What one worker asked."""

    contender: str
    concurrency: int
    per_minute: float


async def idle(directory: Path, contenders: Sequence[Contender], *, seconds: float) -> list[Idle]:
    """Measure all contenders at once, for ``seconds``."""
    with embedded_server() as server:
        bench = Bench(server=server, directory=directory)
        async with AsyncExitStack() as stack:
            for contender in contenders:
                for concurrency in CONCURRENCIES:
                    await _leave_idle(stack, bench, contender, concurrency)
            await asyncio.sleep(SETTLE_S)
            mark, began = _log_of(bench).stat().st_size, time.monotonic()
            await asyncio.sleep(seconds)
            log, elapsed_s = _log_of(bench).read_bytes()[mark:], time.monotonic() - began
        return [
            Idle(
                contender=contender.name,
                concurrency=concurrency,
                per_minute=_statements(log, f"bench_idle{concurrency}_{contender.name}") * 60 / elapsed_s,
            )
            for contender in contenders
            for concurrency in CONCURRENCIES
        ]


async def _leave_idle(stack: AsyncExitStack, bench: Bench, contender: Contender, concurrency: int) -> None:
    track = await stack.enter_async_context(course(bench, contender, label=f"idle{concurrency}"))
    await asyncio.to_thread(bench.server.log_statements, track.url.partition("?")[0].rpartition("/")[2])
    worker = stack.enter_context(track.spawn(concurrency=concurrency, behaviour=Behaviour.INSTANT))
    await track.warm_up(worker, requests=WARM_UP)


def _log_of(bench: Bench) -> Path:
    if bench.server.log is None:
        raise RuntimeError("statements can only be counted in the log of a server of the benchmark's own")
    return bench.server.log


def _statements(log: bytes, database: str) -> int:
    return len(re.findall(rb"^" + database.encode() + rb" LOG:  (?:statement|execute [^:]*):", log, re.MULTILINE))
