"""``make bench-images``: measure, and print the tables.

Progress goes to stderr, the tables to stdout.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from PIL import features

from benchmarks.images import report
from benchmarks.images.pictures import BODY, CHAT, MEASURED, PHOTO, ROW, SLICES, Sample, draw_all
from benchmarks.images.plan import FULL, QUICK, Plan
from benchmarks.images.process import Order, Worker, serving, working
from benchmarks.markdown import command
from benchmarks.queue import machine

Figures = dict[str, float]
IN_FLIGHT = 16
STREAM_IN_FLIGHT = 4
"""Enough to keep two helpers at work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """Who takes part."""

    one_core: Worker
    one_helper: Worker
    draftd: Worker
    """On two cores, set up as by default."""
    crowded: Worker
    """The same, for many at a time: what the largest pictures leave of memory makes the next ones cheaper."""
    pillow: tuple[Worker, Worker]

    @classmethod
    def engaged(cls, stack: ExitStack, folder: Path) -> Self:
        """Start everyone for as long as the stack stands."""
        url = stack.enter_context(serving(folder))

        def subject(*arguments: str) -> Worker:
            return stack.enter_context(working("subject", str(folder), url, *arguments))

        return cls(
            one_core=subject("--cores=1"),
            one_helper=subject("--helpers=1"),
            draftd=subject(),
            crowded=subject(),
            pillow=(
                stack.enter_context(working("floor", str(folder))),
                stack.enter_context(working("floor", str(folder))),
            ),
        )


class Run:
    """One run of the benchmark.

    Args:
        cast: who takes part.
        plan: how much.
    """

    def __init__(self, *, cast: Cast, plan: Plan) -> None:
        self._cast = cast
        self._plan = plan
        self.rounds: defaultdict[str, list[Figures]] = defaultdict(list)

    def measure(self) -> None:
        """Measure everything, in rounds, so that a noise of the machine meets all alike."""
        for number in range(1, self._plan.rounds + 1):
            for measure in (self._cpu, self._gain, self._crowd):
                measure()
            print(f"round {number} of {self._plan.rounds}", file=sys.stderr, flush=True)

    def _cpu(self) -> None:
        for sample in MEASURED:
            order = Order(file=sample.file, pictures=self._plan.pictures)
            self._note(f"draftd {sample.file}", order, self._cast.draftd.ask)
            self._note(f"Pillow {sample.file}", order, self._cast.pillow[0].ask)

    def _gain(self) -> None:
        order = Order(file=CHAT.file, pictures=self._plan.stream, in_flight=STREAM_IN_FLIGHT)
        self._note("draftd, one core", order, self._cast.one_core.ask)
        self._note("draftd, two cores", order, self._cast.draftd.ask)
        self._note("draftd, one helper", order, self._cast.one_helper.ask)
        self._note("Pillow, one core", order, self._cast.pillow[0].ask)
        self._note("Pillow, two cores", order, self._both)

    def _both(self, order: Order) -> Figures:
        half = Order(file=order.file, pictures=order.pictures // 2)
        for worker in self._cast.pillow:
            worker.send(half)
        return {"wall_s": max(worker.receive()["wall_s"] for worker in self._cast.pillow)}

    def _crowd(self) -> None:
        self._press(CHAT, self._plan.crowd)
        self._press(PHOTO, self._plan.crowd)
        for sample in (BODY, ROW, SLICES):
            self._press(sample, IN_FLIGHT)

    def _press(self, sample: Sample, pictures: int) -> None:
        order = Order(file=sample.file, pictures=pictures, in_flight=IN_FLIGHT, as_data_url=sample is ROW, watched=True)
        self._note(f"{order.in_flight} in flight: {sample.name}", order, self._cast.crowded.ask)

    def _note(self, name: str, order: Order, ask: Callable[[Order], Figures]) -> None:
        crowd = {"in_flight": order.in_flight} if order.watched else {}
        self.rounds[name].append({"pictures": order.pictures, **crowd, **ask(order)})


def _about(load_before: str) -> str:
    libraries = ", ".join(f"{name} {features.version(name)}" for name in ("libjpeg_turbo", "zlib", "webp"))
    return "\n".join(
        (
            f"- Machine: {machine.machine()}; its load before the run {load_before}",
            f"- {machine.versions(['pillow', 'httpcore', 'anyio'])}; {libraries}",
        )
    )


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.images", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about one minute instead of three")
    parser.add_argument("--json", type=Path, help="a file for all rounds")
    arguments = parser.parse_args()
    load_before = machine.load()
    with tempfile.TemporaryDirectory(prefix="draftd-bench-") as directory, ExitStack() as stack:
        folder = Path(directory)
        draw_all(folder)
        run = Run(cast=Cast.engaged(stack, folder), plan=QUICK if arguments.quick else FULL)
        run.measure()
    tables = (report.cpu, report.gain, report.crowd, report.goals)
    print(
        "\n\n".join(
            [*(table(run.rounds) for table in tables), _about(load_before), f"Command: `{command('bench-images')}`"]
        )
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(run.rounds, indent=1))


if __name__ == "__main__":
    # As for Ctrl-C: what was started is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        main()
