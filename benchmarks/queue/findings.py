"""What a run found, and how rounds become one figure."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from benchmarks.queue.drain import Drained
from benchmarks.queue.idle import Idle
from benchmarks.queue.pickup import Pickup, percentile_s
from benchmarks.queue.recovery import Recovered, Rescue
from benchmarks.queue.sleeping import Slept

PERCENTS = (50, 95, 99)


def _lists() -> defaultdict[Any, list[Any]]:
    return defaultdict(list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All rounds, by the contender's name."""

    drained: defaultdict[str, list[Drained]] = field(default_factory=_lists)
    pickups: defaultdict[str, list[Pickup]] = field(default_factory=_lists)
    slept: defaultdict[str, list[Slept]] = field(default_factory=_lists)
    idle: defaultdict[tuple[str, int], list[Idle]] = field(default_factory=_lists)
    recovered: defaultdict[tuple[str, Rescue], list[Recovered]] = field(default_factory=_lists)

    failures: list[str] = field(default_factory=list)
    """Measurements that came to no end, in words."""

    def drained_per_s(self, name: str) -> float | None:
        """Return the median rate of a contender, in requests per second."""
        return _median([one.per_s for one in self.drained[name]])

    def pickup_ms(self, name: str, percent: float) -> float | None:
        """Return a percentile over all rounds, from the INSERT, in milliseconds."""
        pickups = self.pickups[name]
        return percentile_s([one.from_insert_s for one in pickups], percent) * 1000 if pickups else None

    def pickup_after_commit_ms(self, name: str, percent: float) -> float | None:
        """Return a percentile over all rounds, from the INSERT's return, in milliseconds."""
        pickups = self.pickups[name]
        return percentile_s([one.from_commit_s for one in pickups], percent) * 1000 if pickups else None

    def idle_per_minute(self, name: str, concurrency: int) -> float | None:
        """Return the statements of an idle worker per minute."""
        return _median([one.per_minute for one in self.idle[name, concurrency]])

    def ideal_share(self, name: str) -> float | None:
        """Return the median share of the ideal rate with 1,000 in flight."""
        return _median([one.ideal_share for one in self.slept[name]])

    def recovery_s(self, name: str, rescue: Rescue) -> float | None:
        """Return the longest time until the last request ran again; None when one did not within the patience."""
        times = [one.last_start_s for one in self.recovered[name, rescue]]
        return None if not times or None in times else max(time for time in times if time is not None)

    def as_json(self) -> dict[str, Any]:
        """Return all rounds, for a file."""
        return {
            "failures": self.failures,
            "drained": _plain(self.drained),
            "pickups": _plain(self.pickups),
            "slept": _plain(self.slept),
            "idle": [asdict(one) for rounds in self.idle.values() for one in rounds],
            "recovered": [
                {"contender": name, "rescue": rescue, **asdict(one)}
                for (name, rescue), rounds in self.recovered.items()
                for one in rounds
            ],
        }


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def _plain(rounds: defaultdict[str, list[Any]]) -> dict[str, Any]:
    return {name: [asdict(one) for one in found] for name, found in rounds.items()}
