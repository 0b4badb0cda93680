"""``make bench-queue``: measure, and print the table.

Progress goes to stderr, the table to stdout. ``BENCH_DATABASE_URL`` names a PostgreSQL with durable settings; else one is
started.
"""

import argparse
import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.markdown import command
from benchmarks.queue import machine, report
from benchmarks.queue.contender import Contender
from benchmarks.queue.contenders import NAMES, load
from benchmarks.queue.course import Bench
from benchmarks.queue.drain import drain
from benchmarks.queue.findings import Findings
from benchmarks.queue.idle import idle
from benchmarks.queue.pickup import pickup
from benchmarks.queue.plan import FULL, QUICK, Figure, Plan
from benchmarks.queue.recovery import Rescue, recovery
from benchmarks.queue.server import durable_server
from benchmarks.queue.sleeping import sleeping
from draftd.logs import configure_logging

MISHAPS = (TimeoutError, RuntimeError, psycopg.Error)
"""How a measurement can come to no end: a contender's failure is its own figure, and no reason to lose those of the others."""


class Run:
    """One run of the benchmark.

    Args:
        bench: where courses are run.
        plan: how much.
        contenders: who takes part.
    """

    def __init__(self, *, bench: Bench, plan: Plan, contenders: Sequence[Contender]) -> None:
        self._bench = bench
        self._plan = plan
        self._contenders = contenders
        self._queues = [contender for contender in contenders if contender.is_queue]
        self.findings = Findings()

    async def measure(self, figures: Sequence[Figure]) -> None:
        """Measure these figures; what is only waited for, idleness and recovery, at the same time."""
        if Figure.DRAIN in figures:
            await self._alternate(Figure.DRAIN, self._plan.drain_rounds, self._contenders, self._drain)
        if Figure.PICKUP in figures:
            await self._alternate(Figure.PICKUP, self._plan.pickup_rounds, self._contenders, self._pickup)
        if Figure.SLEEPING in figures:
            await self._alternate(Figure.SLEEPING, self._plan.sleeping_rounds, self._queues, self._sleeping)
        waits = [self._idle()] if Figure.IDLE in figures else []
        waits += [self._crashes()] if Figure.RECOVERY in figures else []
        async with asyncio.TaskGroup() as group:
            for wait in waits:
                group.create_task(wait)

    async def _alternate(
        self,
        figure: Figure,
        rounds: int,
        contenders: Sequence[Contender],
        measure: Callable[[Contender], Awaitable[str]],
    ) -> None:
        for number in range(1, rounds + 1):
            for contender in contenders:
                label = f"{figure} {number}/{rounds} {contender.name}"
                try:
                    _progress(f"{label}: {await measure(contender)}")
                except MISHAPS as error:
                    self._fail(label, error)

    def _fail(self, label: str, error: Exception) -> None:
        _progress(f"{label}: failed: {error!r}")
        self.findings.failures.append(f"{label}: {type(error).__name__}")

    async def _drain(self, contender: Contender) -> str:
        found = await drain(self._bench, contender, requests=self._plan.drain_requests)
        self.findings.drained[contender.name].append(found)
        return f"{found.per_s:,.0f}/s"

    async def _pickup(self, contender: Contender) -> str:
        found = await pickup(self._bench, contender, requests=self._plan.pickup_requests)
        self.findings.pickups[contender.name].extend(found)
        return f"p50 so far {self.findings.pickup_ms(contender.name, 50):.1f} ms"

    async def _sleeping(self, contender: Contender) -> str:
        found = await sleeping(self._bench, contender, seconds=self._plan.sleeping_s)
        self.findings.slept[contender.name].append(found)
        return f"{found.ideal_share:.1%} of ideal"

    async def _idle(self) -> None:
        try:
            found = await idle(self._bench.directory, self._queues, seconds=self._plan.idle_s)
        except MISHAPS as error:
            self._fail(Figure.IDLE, error)
            return
        for one in found:
            self.findings.idle[one.contender, one.concurrency].append(one)
            _progress(f"idle {one.contender}, N = {one.concurrency}: {one.per_minute:.0f} statements/min")

    async def _crashes(self) -> None:
        async with asyncio.TaskGroup() as group:
            for contender in self._queues:
                for rescue in Rescue:
                    group.create_task(self._crash(contender, rescue))

    async def _crash(self, contender: Contender, rescue: Rescue) -> None:
        label = f"{Figure.RECOVERY} {contender.name}, {rescue}"
        for _ in range(self._plan.crashes):
            try:
                found = await recovery(self._bench, contender, rescue, patience_s=self._plan.patience_s)
            except MISHAPS as error:
                self._fail(label, error)
                break
            self.findings.recovered[contender.name, rescue].append(found)
            if found.last_start_s is None:
                # Its time to notice a crash lies beyond the patience; another round would only wait again.
                _progress(f"{label}: {found.restarted} ran again in time")
                break
            _progress(f"{label}: {found.last_start_s:.1f} s")


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    def several(choose: Callable[[str], Any]) -> Callable[[str], list[Any]]:
        return lambda text: [choose(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(prog="python -m benchmarks.queue", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about four minutes instead of half an hour")
    parser.add_argument("--only", type=several(Figure), default=list(Figure), help="figures: " + ",".join(Figure))
    parser.add_argument("--contenders", type=several(str), default=list(NAMES), help=",".join(NAMES))
    parser.add_argument("--json", type=Path, help="a file for all rounds")
    return parser.parse_args()


async def _main() -> None:
    args = _arguments()
    plan = QUICK if args.quick else FULL
    contenders = [load(name) for name in args.contenders]
    configure_logging(level="warning", style="auto")
    load_before = machine.load()
    with durable_server() as server, tempfile.TemporaryDirectory(prefix="draftd-bench-") as directory:
        facts = server.facts()
        run = Run(bench=Bench(server=server, directory=Path(directory)), plan=plan, contenders=contenders)
        await run.measure(args.only)
    packages = [package for contender in contenders for package in contender.packages]
    about = [
        f"Machine: {machine.machine()}; its load before the run {load_before}",
        machine.postgresql(facts),
        machine.versions(packages),
    ]
    parts = [
        report.figures(run.findings, plan, contenders),
        report.goals(run.findings),
        "\n".join(f"- failed: {failure}" for failure in run.findings.failures),
        "\n".join(f"- {line}" for line in about),
        report.terms(contenders),
        f"Command: `{command('bench-queue')}`",
    ]
    print("\n\n".join(part for part in parts if part))
    if args.json:
        args.json.write_text(json.dumps(run.findings.as_json(), indent=1))


if __name__ == "__main__":
    # As for Ctrl-C: what was started is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        asyncio.run(_main())
