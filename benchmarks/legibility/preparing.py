"""The real ``Preparer`` at work on a screenshot, under draftd's policy or a changed one.

A changed policy is the real decoder with other constants in its layout: a program that loads it, sets them and runs its ``main``.
"""

import importlib.util
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.legibility.variants import Variant, cut, opened
from draftd.images.prepare import DECODER, Preparer

MAX_PIXELS = 40_000_000
PREPARE_S = 60.0
NS_PER_MS = 1e6

_PROGRAM = """\
import importlib.util, sys
spec = importlib.util.spec_from_file_location("decoder", {decoder!r})
decoder = sys.modules["decoder"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(decoder)
for name, value in {constants!r}.items():
    setattr(decoder.layout, name, value)
save, resize = decoder.Image.Image.save, decoder.Image.Image.resize
decoder.Image.Image.save = lambda self, sink, **options: save(self, sink, **options | {jpeg!r})
if {resampling!r}:
    resampling = decoder.Image.Resampling[{resampling!r}]
    decoder.Image.Image.resize = lambda self, size, _, **options: resize(self, size, resampling, **options)
decoder.main()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What differs from draftd's policy."""

    constants: Mapping[str, float] = field(default_factory=dict)
    """Of the module ``layout``."""
    long_edge_px: int = 1568
    jpeg: Mapping[str, Any] = field(default_factory=dict)
    """Options of Pillow's encoder."""
    resampling: str = ""
    """A filter of Pillow's; empty for draftd's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What draftd makes of a screenshot."""

    parts: list[bytes] = field(repr=False)
    """As encoded."""
    variant: Variant
    cpu_ms: float
    """Processor time of the helper, the median of some rounds."""


class Workshop:
    """A helper process under one policy.

    Args:
        preparer: with a single helper.
        layout: the module, for the plan.
        policy: what was changed in both.
    """

    def __init__(self, *, preparer: Preparer, layout: ModuleType, policy: Policy) -> None:
        self._preparer = preparer
        self._layout = layout
        self._policy = policy

    async def prepare(self, png: bytes, *, rounds: int) -> Sent:
        """Prepare a screenshot; the first round warms the helper up and is not counted."""
        prepared = await self._preparer.prepare(png, time_s=PREPARE_S)
        spent = [await self._cpu_ms(png) for _ in range(rounds)]
        width_px, height_px = opened(png).size
        plan = self._layout.plan(width_px, height_px, long_edge_px=self._policy.long_edge_px)
        parts = [part.data for part in prepared.parts]
        places = [(left, top, plan.width_px / width_px) for left, top, _, _ in plan.boxes]
        if plan.overview_px:
            places.insert(0, (0, 0, plan.overview_px[0] / width_px))
        variant = cut(parts, places=places)
        return Sent(parts=parts, variant=variant, cpu_ms=statistics.median(spent))

    async def _cpu_ms(self, png: bytes) -> float:
        before_ns = self._helper_ns()
        await self._preparer.prepare(png, time_s=PREPARE_S)
        return (self._helper_ns() - before_ns) / NS_PER_MS

    def _helper_ns(self) -> int:
        """Return the processor time of the one idle helper so far, from the scheduler's own count."""
        (helper,) = self._preparer._idle
        return int(Path(f"/proc/{helper._process.pid}/schedstat").read_text().split()[0])


@asynccontextmanager
async def workshop(policy: Policy | None = None) -> AsyncIterator[Workshop]:
    """Set up a helper for the length of the context; without a policy it is draftd's own program, unchanged."""
    changed = policy or Policy()
    with tempfile.TemporaryDirectory(prefix="draftd-bench-") as directory:
        program = _program(Path(directory), changed) if policy else DECODER
        preparer = Preparer(max_pixels=MAX_PIXELS, processes=1, long_edge_px=changed.long_edge_px, program=program)
        try:
            yield Workshop(preparer=preparer, layout=_layout(changed.constants), policy=changed)
        finally:
            await preparer.aclose()


def _program(folder: Path, policy: Policy) -> Path:
    program = folder / "changed_decoder.py"
    program.write_text(
        _PROGRAM.format(
            decoder=os.fspath(DECODER),
            constants=dict(policy.constants),
            jpeg=dict(policy.jpeg),
            resampling=policy.resampling,
        )
    )
    return program


def _layout(constants: Mapping[str, float]) -> ModuleType:
    """Return a copy of the module ``layout`` with these constants; the one that draftd imports stays as it is."""
    name = "draftd_bench_layout"
    spec = importlib.util.spec_from_file_location(name, DECODER.with_name("layout.py"))
    if spec is None or spec.loader is None:
        raise RuntimeError(f"the layout beside {DECODER} cannot be loaded")
    layout = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(layout)
    for constant, value in constants.items():
        getattr(layout, constant)  # a constant that is gone must not be set in vain
        setattr(layout, constant, value)
    return layout
