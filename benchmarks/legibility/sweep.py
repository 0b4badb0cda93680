"""The policy's constants, one changed at a time, over the screenshots that the change concerns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.legibility.browser import Shot
from benchmarks.legibility.findings import Way
from benchmarks.legibility.preparing import Policy
from benchmarks.legibility.report import KIB, left_out, percent
from benchmarks.legibility.vendors import CLAUDE, OPENAI_TILES, VENDORS
from benchmarks.markdown import table


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """A constant, and the policies with other values for it."""

    name: str
    own: str
    """draftd's value."""
    others: Mapping[str, Policy]


@dataclass(slots=True, kw_only=True)
class Trial:
    """What one policy makes of all screenshots."""

    parts: dict[str, list[bytes]] = field(default_factory=dict)
    """By screenshot, to see which a change concerns."""
    ways: dict[str, Way] = field(default_factory=dict)
    cpu_ms: dict[str, float] = field(default_factory=dict)


def _named(name: str, values: Sequence[float]) -> dict[str, Policy]:
    return {f"{value:g}": Policy(constants={name: value}) for value in values}


CONSTANTS = (
    Constant(name="sent whole up to (height / width)", own="2.5", others=_named("MAX_ASPECT", (2.0, 3.0))),
    Constant(
        name="long edge of a whole picture, px",
        own="1568",
        others={str(edge): Policy(long_edge_px=edge) for edge in (1280, 2048, 2576)},
    ),
    Constant(name="width of a slice, px", own="768", others=_named("SLICE_WIDTH_PX", (576, 640, 896))),
    Constant(name="width of a slice at least, px", own="512", others=_named("MIN_SLICE_WIDTH_PX", (384, 640, 768))),
    Constant(
        name="width of a slice of a wide page, px", own="1088", others=_named("WIDE_SLICE_WIDTH_PX", (768, 896, 1280))
    ),
    Constant(
        name="height of a slice, px",
        own="1536",
        others=_named("SLICE_HEIGHT_PX", (1024, 1280))
        | {"2048": Policy(constants={"SLICE_HEIGHT_PX": 2048, "SLICE_PIXELS": 768 * 2048})},
    ),
    Constant(name="overlap, px", own="128", others=_named("OVERLAP_PX", (0, 64, 256))),
    Constant(name="slices at most", own="6", others=_named("MAX_SLICES", (3, 4, 5))),
    Constant(
        name="JPEG quality",
        own="85",
        others={str(quality): Policy(jpeg={"quality": quality}) for quality in (70, 95)},
    ),
    Constant(name="JPEG colour", own="4:4:4", others={"4:2:0": Policy(jpeg={"subsampling": "4:2:0"})}),
    Constant(
        name="filter",
        own="LANCZOS",
        others={name: Policy(resampling=name) for name in ("BICUBIC", "BILINEAR")},
    ),
)


def report(shots: Sequence[Shot], own: Trial, tried: Mapping[tuple[str, str], Trial]) -> str:
    """Return a table per constant: a row for each value with the sums of the costs, and one column of rates per screenshot."""
    return "\n\n".join(_constant(constant, shots, own, tried) for constant in CONSTANTS)


def _constant(constant: Constant, shots: Sequence[Shot], own: Trial, tried: Mapping[tuple[str, str], Trial]) -> str:
    trials = {value: tried[constant.name, value] for value in constant.others} | {constant.own: own}
    concerned = [
        shot.scene.label
        for shot in shots
        if any(one.parts[shot.scene.label] != own.parts[shot.scene.label] for one in trials.values())
    ]
    headings = [constant.name, *concerned, "parts", "KiB", *(vendor.name for vendor in VENDORS), "CPU, ms"]
    values = sorted(trials, key=lambda value: (float(value) if value.replace(".", "").isdigit() else 0, value))
    rows = [_row(f"**{value}**" if value == constant.own else value, trials[value], concerned) for value in values]
    return table(headings, rows)


def _row(value: str, trial: Trial, concerned: Sequence[str]) -> list[str]:
    ways = [trial.ways[label] for label in concerned]
    return [
        value,
        *map(_rates, ways),
        str(sum(way.parts for way in ways)),
        f"{sum(way.size_bytes for way in ways) / KIB:,.0f}",
        *(f"{sum(way.tokens[vendor.name] for way in ways):,}" for vendor in VENDORS),
        f"{sum(trial.cpu_ms[label] for label in concerned):.0f}",
    ]


def _rates(way: Way) -> str:
    rates = " / ".join(percent(one) for one in (way.sent, way.seen[CLAUDE.name], way.seen[OPENAI_TILES.name]))
    return rates + (f" ({left_out(way.sent)} left out)" if way.sent.left_out else "")
