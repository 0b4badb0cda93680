"""What was found out about each screenshot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.legibility.browser import Shot
from benchmarks.legibility.reader import Reading
from benchmarks.legibility.variants import Variant
from benchmarks.legibility.vendors import CLAUDE, OPENAI_TILES, VENDORS

OTHERS = tuple(vendor.name for vendor in VENDORS if vendor not in (CLAUDE, OPENAI_TILES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to send a screenshot, read as it is sent and as each vendor's model sees it."""

    parts: int
    size_bytes: int
    scale: float
    """Pixels sent per pixel of the screenshot."""
    sent: Reading
    seen: Mapping[str, Reading]
    """By vendor."""
    tokens: Mapping[str, int]

    @classmethod
    def of(cls, variant: Variant, readings: Sequence[Reading]) -> "Way":
        """Put the readings of ``looks`` together again."""
        sent, *seen = readings
        names = [vendor.name for vendor in VENDORS]
        return cls(
            parts=len(variant.views),
            size_bytes=variant.size_bytes,
            scale=max(view.scale for view in variant.views),
            sent=sent,
            seen=dict(zip(names, seen, strict=True)),
            tokens={vendor.name: variant.tokens(vendor) for vendor in VENDORS},
        )

    @property
    def worst_other(self) -> Reading:
        """What the strictest of the other vendors leaves."""
        return max((self.seen[name] for name in OTHERS), key=lambda reading: reading.error_rate)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """Everything about one screenshot."""

    shot: Shot
    original: Reading
    draftd: Way
    naive: Way
    cpu_ms: float

    @property
    def smallest_px(self) -> float:
        """The smallest font size on it, in pixels as draftd sends it."""
        return min(line.em_px for line in self.shot.lines) * self.draftd.scale

    def as_json(self) -> dict[str, Any]:
        """Return the figures, for other programs."""
        return {
            "screenshot": self.shot.scene.label,
            "lines": len(self.shot.lines),
            "original": {"bytes": len(self.shot.png), "error_rate": self.original.error_rate},
            "draftd": _as_json(self.draftd) | {"cpu_ms": self.cpu_ms},
            "naive": _as_json(self.naive),
        }


def looks(variant: Variant) -> list[Variant]:
    """Return a variant as it is sent, then as each vendor's model sees it."""
    return [variant, *(variant.through(vendor) for vendor in VENDORS)]


def _as_json(way: Way) -> dict[str, Any]:
    return {
        "parts": way.parts,
        "bytes": way.size_bytes,
        "scale": way.scale,
        "left_out_share": way.sent.left_out_share,
        "error_rate": way.sent.error_rate,
        "error_rate_seen": {name: reading.error_rate for name, reading in way.seen.items()},
        "tokens": dict(way.tokens),
    }
