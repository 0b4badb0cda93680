"""``make bench-legibility``: draw screenshots, prepare them, let tesseract read them, and print the tables.

Progress goes to stderr, the tables to stdout. ``--sweep`` prints instead what other values of the policy's constants would do.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

from benchmarks.legibility import report, sweep, tools
from benchmarks.legibility.browser import Shot, draw
from benchmarks.legibility.findings import TrialResult, Way, looks
from benchmarks.legibility.preparing import Policy, Workshop, workshop
from benchmarks.legibility.reader import Reader, Reading
from benchmarks.legibility.scenes import SCENES, Scene
from benchmarks.legibility.sweep import Trial
from benchmarks.legibility.variants import Variant, naive, original
from benchmarks.markdown import command
from benchmarks.queue.machine import machine, versions

ROUNDS = 5
QUICK_ROUNDS = 3
UNAVAILABLE = 69


class Run:
    """One run of the benchmark.

    Args:
        executor: as many places as tesseract may have processes.
        rounds: how often a picture is prepared for its processor time.
        keep: a folder for the pictures, None to keep none.
    """

    def __init__(self, *, executor: Executor, rounds: int, keep: Path | None) -> None:
        self._executor = executor
        self._rounds = rounds
        self._keep = keep
        self._read: dict[tuple[str, tuple[bytes, ...]], list[Reading]] = {}

    async def measure(self, shots: Sequence[Shot]) -> list[TrialResult]:
        """Measure draftd's own policy."""
        async with workshop() as shop:
            return [await self._measure(shot, shop) for shot in shots]

    async def sweep(self, shots: Sequence[Shot]) -> str:
        """Try the other values of every constant."""
        own = await self._trial(shots, None)
        tried = {}
        for constant in sweep.CONSTANTS:
            for value, policy in constant.others.items():
                progress(f"{constant.name}: {value}")
                tried[constant.name, value] = await self._trial(shots, policy)
        return sweep.report(shots, own, tried)

    async def _measure(self, shot: Shot, shop: Workshop) -> TrialResult:
        sent = await shop.prepare(shot.png, rounds=self._rounds)
        plain = naive(shot.png)
        mine, others = looks(sent.variant), looks(plain)
        first, *readings = self._reader(shot).read([original(shot.png), *mine, *others])
        if self._keep:
            _keep(self._keep, shot, sent.variant, plain)
        finding = TrialResult(
            shot=shot,
            original=first,
            draftd=Way.of(sent.variant, readings[: len(mine)]),
            naive=Way.of(plain, readings[len(mine) :]),
            cpu_ms=sent.cpu_ms,
        )
        progress(
            f"{shot.scene.label}: {report.percent(finding.draftd.sent)} %, naive {report.percent(finding.naive.sent)} %"
        )
        return finding

    async def _trial(self, shots: Sequence[Shot], policy: Policy | None) -> Trial:
        trial = Trial()
        async with workshop(policy) as shop:
            for shot in shots:
                label = shot.scene.label
                sent = await shop.prepare(shot.png, rounds=1)
                trial.parts[label] = sent.parts
                trial.ways[label] = self._way(shot, sent.variant, sent.parts)
                trial.cpu_ms[label] = sent.cpu_ms
        return trial

    def _way(self, shot: Shot, variant: Variant, parts: Sequence[bytes]) -> Way:
        """Read a variant; most constants leave most screenshots as they are, so nothing is read twice."""
        key = (shot.scene.label, tuple(parts))
        if key not in self._read:
            self._read[key] = self._reader(shot).read(looks(variant))
        return Way.of(variant, self._read[key])

    def _reader(self, shot: Shot) -> Reader:
        return Reader(language=shot.scene.reader, lines=shot.lines, executor=self._executor)


def progress(text: str) -> None:
    """Tell whoever waits."""
    print(text, file=sys.stderr, flush=True)


def _drawn(scenes: Sequence[Scene], program: str) -> list[Shot]:
    shots = []
    for scene in scenes:
        if lacking := tools.missing_for(scene):
            progress(f"{scene.label}: SKIPPED, {lacking} is not installed; on Debian: {tools.INSTALL}")
            continue
        shots.append(draw(scene, program))
        progress(f"{scene.label}: drawn, {len(shots[-1].lines)} lines")
    return shots


def _keep(folder: Path, shot: Shot, sent: Variant, plain: Variant) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = shot.scene.name.replace(" ", "-").replace(",", "")
    (folder / f"{name}.png").write_bytes(shot.png)
    for kind, variant in (("draftd", sent), ("naive", plain)):
        for number, view in enumerate(variant.views, start=1):
            view.picture.save(folder / f"{name}.{kind}-{number}.png")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.legibility", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few of the screenshots")
    parser.add_argument("--only", type=lambda text: text.split(","), help="screenshots by name, separated by commas")
    parser.add_argument("--sweep", action="store_true", help="vary the policy's constants, one at a time")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    parser.add_argument(
        "--keep", type=Path, help="a folder for the pictures: as drawn, as draftd sends them, the naive way"
    )
    return parser.parse_args()


def _about(program: str, skipped: Sequence[Scene]) -> str:
    lines = [f"Machine: {machine()}", versions(["pillow"]), tools.versions(program)]
    lines += [f"SKIPPED: {scene.label}; its tools are not installed ({tools.INSTALL})" for scene in skipped]
    return "\n".join(f"- {line}" for line in lines) + f"\n\nCommand: `{command('bench-legibility')}`"


async def _main() -> None:
    args = _arguments()
    tools.require_reader()
    program = tools.browser()
    wanted = [one for one in SCENES if (one.name in args.only if args.only else one.quick or not args.quick)]
    shots = _drawn(wanted, program)
    skipped = [one for one in wanted if one not in [shot.scene for shot in shots]]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as executor:
        run = Run(executor=executor, rounds=QUICK_ROUNDS if args.quick else ROUNDS, keep=args.keep)
        if args.sweep:
            parts = [await run.sweep(shots)]
        else:
            findings = await run.measure(shots)
            parts = [report.legibility(findings), report.costs(findings)]
            if args.json:
                args.json.write_text(json.dumps([one.as_json() for one in findings], indent=1))
    print("\n\n".join([*parts, _about(program, skipped)]))


if __name__ == "__main__":
    try:
        asyncio.run(_main())
    except tools.ToolMissing as missing:
        progress(str(missing))
        sys.exit(UNAVAILABLE)
