"""The tables: what can be read, and what it costs."""

from collections.abc import Callable, Sequence

from benchmarks.legibility.findings import TrialResult, Way
from benchmarks.legibility.reader import Reading
from benchmarks.legibility.vendors import CLAUDE, OPENAI_TILES, VENDORS
from benchmarks.markdown import table

KIB = 1024


def legibility(findings: Sequence[TrialResult]) -> str:
    """Return the character error rates in percent."""
    names = (CLAUDE.name, OPENAI_TILES.name, "other vendors")
    headings = ["original", *_both(["as sent", *names]), "left out"]
    rows = [
        [
            one.shot.scene.label,
            percent(one.original),
            *_rates(one.draftd),
            *_rates(one.naive),
            left_out(one.draftd.sent),
        ]
        for one in findings
    ]
    return table(["screenshot", *headings], rows)


def costs(findings: Sequence[TrialResult]) -> str:
    """Return bytes, tokens and processor time, draftd's figure before the naive way's."""
    headings = ["parts", "smallest text, px", "KiB", *(vendor.name for vendor in VENDORS), "CPU, ms"]
    rows = [
        [
            one.shot.scene.label,
            str(one.draftd.parts),
            f"{one.smallest_px:.1f}",
            _pair(one, lambda way: way.size_bytes / KIB),
            *(_pair(one, lambda way, name=vendor.name: way.tokens[name]) for vendor in VENDORS),  # type: ignore[misc]  # a default binds the name
            f"{one.cpu_ms:.0f}",
        ]
        for one in findings
    ]
    return table(["screenshot", *headings], rows)


def percent(reading: Reading) -> str:
    """Return the error rate."""
    return f"{reading.error_rate:.1%}".removesuffix("%")


def left_out(reading: Reading) -> str:
    """Return the share of the characters that no part shows."""
    return f"{reading.left_out_share:.0%}" if reading.left_out else ""


def _both(names: Sequence[str]) -> list[str]:
    return [f"{way}: {name}" for way in ("draftd", "naive") for name in names]


def _rates(way: Way) -> list[str]:
    return [percent(one) for one in (way.sent, way.seen[CLAUDE.name], way.seen[OPENAI_TILES.name], way.worst_other)]


def _pair(finding: TrialResult, figure: Callable[[Way], float]) -> str:
    return f"{figure(finding.draftd):,.0f} / {figure(finding.naive):,.0f}"
