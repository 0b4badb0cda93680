"""Mutants of small pictures, through the real helper processes: each ends as parts or as a code of the contract.

``DRAFTD_TEST_FUZZ_MUTANTS=N`` (``make fuzz``) tries N / 4 of most formats, and prints what became of them; without it 100.
``DRAFTD_TEST_FUZZ_SEED`` takes others.
"""

import asyncio
import os
import resource
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from draftd.errors import ImageInvalid, ImageTooLarge, ImageUnsupported
from draftd.images import Prepared, Preparer
from draftd.images.decoder import ADDRESS_SPACE_BYTES
from fuzz.mutator import mutant, seed_pictures

SHORT_RUN = 400
MUTANTS = int(os.environ.get("DRAFTD_TEST_FUZZ_MUTANTS", SHORT_RUN))
SEED = int(os.environ.get("DRAFTD_TEST_FUZZ_SEED", "1"))
MAX_PIXELS = 40_000_000
SHARES = {"PNG": 4, "JPEG": 4, "GIF": 4, "WEBP": 4, "AVIF": 4, "HEIF": 20}
"""What the number of mutants is divided by for each format: a HEIC takes a process, and so twenty times as long."""
DIED = "decoder crashed"
HELPERS = 2


@dataclass
class Tally:
    """What became of the mutants."""

    outcomes: Counter[str] = field(default_factory=Counter)
    deaths: list[str] = field(default_factory=list)
    """Which mutants killed their decoder: allowed, and worth a look."""
    slowest: tuple[float, str] = (0.0, "")
    helper_peak_kib: int = 0

    def note(self, name: str, outcome: str, took_s: float) -> None:
        """Count one mutant."""
        self.outcomes[outcome] += 1
        self.slowest = max(self.slowest, (took_s, name))
        if DIED in outcome or "CPU time" in outcome:
            self.deaths.append(name)

    def look_at(self, preparer: Preparer) -> None:
        """Note how large the helpers have been."""
        for helper in preparer._idle:
            status = Path(f"/proc/{helper._process.pid}/status").read_text()
            peak_kib = int(status.partition("VmHWM:")[2].split(maxsplit=1)[0]) if "VmHWM:" in status else 0
            self.helper_peak_kib = max(self.helper_peak_kib, peak_kib)


def check_parts(prepared: Prepared) -> str:
    """Return how a prepared picture is counted, if it is one."""
    assert prepared.width_px * prepared.height_px <= MAX_PIXELS
    assert 1 <= len(prepared.parts) <= 6
    assert all(part.data.startswith(b"\xff\xd8\xff") and part.data.endswith(b"\xff\xd9") for part in prepared.parts)
    return "prepared"


async def outcome_of(preparer: Preparer, data: bytes) -> str:
    """Return what became of a mutant; anything but parts and the codes for pictures ends the run."""
    try:
        return check_parts(await preparer.prepare(data, time_s=60))
    except (ImageInvalid, ImageTooLarge, ImageUnsupported) as error:
        return f"{error.code}: {error.message}"


async def try_mutants(image_format: str, count: int, tally: Tally) -> None:
    """Try mutants of one format, two at a time."""
    pictures, numbers = seed_pictures(), iter(range(count))
    preparer = Preparer(max_pixels=MAX_PIXELS, processes=HELPERS)

    async def try_some() -> None:
        for number in numbers:
            began = time.monotonic()
            outcome = await outcome_of(preparer, mutant(pictures, image_format, seed=SEED, number=number))
            tally.note(f"{image_format}/{number}", outcome, time.monotonic() - began)
            tally.look_at(preparer)

    async with asyncio.TaskGroup() as group:
        for _ in range(HELPERS):
            group.create_task(try_some())
    await preparer.aclose()


def report(title: str, tally: Tally) -> None:
    """Print what became of the mutants."""
    lines = [f"{times:8} {outcome}" for outcome, times in tally.outcomes.most_common()]
    took_s, slowest = tally.slowest
    lines.append(f"    at most {tally.helper_peak_kib >> 10} MiB in a helper; {slowest} took {took_s:.2f} s")
    lines.append(f"    decoders died of {', '.join(tally.deaths) or 'none'}")
    print("\n", title, *lines, sep="\n")  # noqa: T201 - what a long run is for


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("image_format", list(SHARES))
async def test_every_mutant_ends_as_parts_or_as_a_code_of_the_contract(image_format: str) -> None:
    before_kib, tally, count = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        Tally(),
        MUTANTS // SHARES[image_format],
    )
    began = time.monotonic()

    await try_mutants(image_format, count, tally)

    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    children_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    if MUTANTS != SHORT_RUN:
        grown = f"this process grew by {grown_kib >> 10} MiB"
        report(f"{count} mutants of {image_format}, seed {SEED}, in {time.monotonic() - began:.0f} s; {grown}", tally)
    assert sum(tally.outcomes.values()) == count
    assert tally.outcomes["prepared"] > count // 50, "a mutator that damages everything tests the door only"
    assert len(tally.outcomes) > 1
    assert max(tally.helper_peak_kib, children_kib) < ADDRESS_SPACE_BYTES >> 10
    assert grown_kib < 64 << 10
