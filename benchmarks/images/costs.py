"""What it took: CPU time, memory, and how long the event loop was held."""

import asyncio
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch


def helpers_cpu_s() -> float:
    """Return the CPU time of this process's children, those that have ended included."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime + sum(map(_cpu_of, children()))


def _cpu_of(pid: int) -> float:
    # The id of another process's CPU clock, as clock_getcpuclockid(3) makes it; /proc counts in steps of 10 ms.
    return time.clock_gettime((~pid << 3) | 2)


def children() -> list[int]:
    """Return the ids of this process's children: the helpers."""
    return [int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]


def forget_peak() -> int:
    """Let the peak of this process's memory begin anew, and return what is resident now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("self", "VmRSS")


def peak_bytes(process: int | str = "self") -> int:
    """Return the most memory that a process has had resident (proc(5): VmHWM), 0 of one that has ended."""
    return _memory(process, "VmHWM")


def _memory(process: int | str, name: str) -> int:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


@dataclass(slots=True, kw_only=True)
class Longest:
    """The callback of an event loop that took longest."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    """The most CPU time of one callback: less than the wall where the processor was somebody else's."""


@contextmanager
def longest_callback() -> Iterator[Longest]:
    """Time every callback of this thread's event loop for as long as the context lasts."""
    longest = Longest()
    run = asyncio.Handle._run  # the one place that every callback passes

    def timed(handle: asyncio.Handle) -> None:
        wall_s, used_s = time.perf_counter(), time.thread_time()
        run(handle)
        longest.wall_s = max(longest.wall_s, time.perf_counter() - wall_s)
        longest.cpu_s = max(longest.cpu_s, time.thread_time() - used_s)

    with patch.object(asyncio.Handle, "_run", timed):
        yield longest


def stay_on(cores: int) -> None:
    """Let this process, and what it starts, run on so many cores only."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
