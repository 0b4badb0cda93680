"""What a report counts and compares.

Owns the figures of a period, made from its rows; shows nothing. Invariant: what is not known stays None, and is never 0.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Self, TypeVar

from draftd.report.intervals import Difference, Share, difference
from draftd.report.reading import Period

STATUSES = ("completed", "failed", "cancelled", "open")
LENGTHS = ("short", "medium", "detailed")
STANCES = ("accept", "decline", "choice", "open", "none")
MAX_GROUPS = 20
"""Rows of a table; the last one sums up what is left."""
OTHERS = "all others"
UNKNOWN = "unknown"

Row = Mapping[str, Any]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Quantiles:
    """A duration in seconds."""

    p50: float
    p95: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long completed requests took."""

    n: int
    wait_s: Quantiles
    first_s: Quantiles
    result_s: Quantiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One bar of the plots over time."""

    at: datetime
    counts: Mapping[str, int]
    """By status."""
    latency: Latency | None


@dataclass(slots=True, kw_only=True)
class Group:
    """Requests that have something in common, and the feedback on them."""

    drafted: int = 0
    sent: int = 0
    edited: int = 0
    rejected: int = 0
    up: int = 0
    down: int = 0
    compared: int = 0
    similarity_sum: float = 0.0
    first_at: datetime | None = None

    @property
    def taken(self) -> Share:
        """Sent, as drafted or edited, of those whose outcome is known."""
        return Share(self.sent + self.edited, self.sent + self.edited + self.rejected)

    @property
    def unchanged(self) -> Share:
        """Sent as drafted, of those sent."""
        return Share(self.sent, self.sent + self.edited)

    @property
    def liked(self) -> Share:
        """Rated 1, of those rated."""
        return Share(self.up, self.up + self.down)

    @property
    def similarity(self) -> float | None:
        """Mean similarity of drafts and what was sent; None if no two texts were compared."""
        return self.similarity_sum / self.compared if self.compared else None

    def add_drafted(self, row: Row) -> None:
        """Count completed requests."""
        self.drafted += row["n"]
        self.first_at = min(filter(None, (self.first_at, row["first_at"])))

    def add_feedback(self, row: Row) -> None:
        """Count the feedback on some requests."""
        n = row["n"]
        match row["outcome"]:
            case "sent":
                self.sent += n
            case "edited":
                self.edited += n
            case "rejected":
                self.rejected += n
        self.up += n if row["rating"] == 1 else 0
        self.down += n if row["rating"] == -1 else 0
        if row["tenth"] is not None:
            self.compared += n
            self.similarity_sum += row["similarity"]

    def __iadd__(self, other: "Group") -> Self:
        for name in ("drafted", "sent", "edited", "rejected", "up", "down", "compared", "similarity_sum"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self


@dataclass(frozen=True, slots=True)
class Cost:
    """What calls cost, as far as it is known."""

    usd: float | None
    """None if no price is known."""
    unpriced: int
    """Calls whose cost is not known, and not in ``usd``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Model calls."""

    calls: int
    failed: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost: Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The prompt version of an agent that was first used last, against the one before it."""

    agent: str
    newer: str
    older: str
    taken: Difference | None
    unchanged: Difference | None
    liked: Difference | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures of a period."""

    since: datetime
    until: datetime
    step_s: int
    steps: Sequence[Step]
    requests: Mapping[str, int]
    """By status; ``open`` are pending or processing."""
    failures: Mapping[str, int]
    """By error code, the most frequent first."""
    latency: Latency | None
    timed_share: float
    """Of the completed requests, the share that ``latency`` was measured on."""
    usage: Usage
    by_model: Mapping[str, Usage]
    by_day: Mapping[date, Cost]
    all: Group
    by_platform: Mapping[str, Group]
    by_agent: Mapping[str, Group]
    by_prompt: Mapping[tuple[str, str], Group]
    """By agent and prompt version, each agent's newest version first."""
    comparisons: Sequence[Comparison]
    lengths: Mapping[str, Group]
    stances: Mapping[str, Group]
    tenths: Sequence[int]
    """Compared texts by the tenth of their similarity; the eleventh are those that are equal."""
    angles: Mapping[str, int] = field(default_factory=dict)


def figures_of(period: Period) -> Figures:
    """Return the figures of a period."""
    prompts = _ordered(_groups(period, lambda row: (row["agent"] or UNKNOWN, row["prompt_version"] or UNKNOWN)))
    tenths = Counter[int]()
    for row in period.feedback:
        if row["tenth"] is not None:
            tenths[row["tenth"]] += row["n"]
    return Figures(
        since=period.since,
        until=period.until,
        step_s=period.step_s,
        steps=_steps(period),
        requests=_counted(period.volume, lambda row: _status(row["status"]), STATUSES),
        failures=_failures(period.volume),
        latency=next((_latency(row) for row in period.latency if row["at"] is None and row["n"]), None),
        timed_share=period.timed_share,
        usage=_usage(period.usage),
        by_model=_by(period.usage, "model", _usage),
        by_day=_by_day(period),
        all=_groups(period, lambda _row: None).get(None, Group()),
        by_platform=_largest(_groups(period, lambda row: str(row["platform"] or UNKNOWN))),
        by_agent=_largest(_groups(period, lambda row: str(row["agent"] or UNKNOWN))),
        by_prompt=prompts,
        comparisons=_comparisons(prompts),
        lengths=_taken(period.feedback, "option", LENGTHS),
        stances=_taken(period.feedback, "stance", STANCES),
        tenths=[tenths[tenth] for tenth in range(11)],
        angles={row["angle"]: row["n"] for row in period.angles},
    )


def _status(status: str) -> str:
    return status if status in STATUSES else "open"


def _counted(rows: Sequence[Row], key: Callable[[Row], str], known: Sequence[str]) -> dict[str, int]:
    counts = Counter[str]()
    for row in rows:
        counts[key(row)] += row["n"]
    return {name: counts[name] for name in known}


def _failures(rows: Sequence[Row]) -> dict[str, int]:
    counts = Counter[str]()
    for row in rows:
        if row["status"] == "failed":
            counts[row["code"] or UNKNOWN] += row["n"]
    return dict(counts.most_common())


def _latency(row: Row) -> Latency:
    return Latency(n=row["n"], **{name: Quantiles(*row[name]) for name in ("wait_s", "first_s", "result_s")})


def _steps(period: Period) -> list[Step]:
    """Return every step of the period, also those without requests."""
    by_step: dict[datetime, list[Row]] = {}
    for row in period.volume:
        by_step.setdefault(row["at"], []).append(row)
    latency = {row["at"]: _latency(row) for row in period.latency if row["at"] is not None}
    width = timedelta(seconds=period.step_s)
    # Steps begin at round times: any that is known leads to the first.
    known = min([*by_step, period.until])
    first = known - ((known - period.since) // width) * width
    if first > period.since:
        first -= width
    count = -(-(period.until - first) // width)
    return [
        Step(
            at=at,
            counts=_counted(by_step.get(at, []), lambda row: _status(row["status"]), STATUSES),
            latency=latency.get(at),
        )
        for at in (first + number * width for number in range(count))
    ]


def _groups(period: Period, key: Callable[[Row], Key]) -> dict[Key, Group]:
    groups: dict[Key, Group] = {}
    for row in period.drafted:
        groups.setdefault(key(row), Group()).add_drafted(row)
    for row in period.feedback:
        groups.setdefault(key(row), Group()).add_feedback(row)
    return groups


def _largest(groups: Mapping[str, Group]) -> dict[str, Group]:
    """Return the largest groups, and the others as one."""
    names = sorted(groups, key=lambda name: (-groups[name].drafted, -groups[name].taken.of, name))
    if len(names) <= MAX_GROUPS:
        return {name: groups[name] for name in names}
    shown = {name: groups[name] for name in names[: MAX_GROUPS - 1]}
    others = Group()
    for name in names[MAX_GROUPS - 1 :]:
        others += groups[name]
    return shown | {OTHERS: others}


def _ordered(groups: Mapping[tuple[str, str], Group]) -> dict[tuple[str, str], Group]:
    """Return prompt versions by agent, the one that was first used last at the top; at most ``MAX_GROUPS``."""

    def newest_first(key: tuple[str, str]) -> tuple[str, float, str]:
        first_at = groups[key].first_at
        return key[0], -first_at.timestamp() if first_at else float("inf"), key[1]

    return {key: groups[key] for key in sorted(groups, key=newest_first)[:MAX_GROUPS]}


def _comparisons(prompts: Mapping[tuple[str, str], Group]) -> list[Comparison]:
    versions: dict[str, list[str]] = {}
    for (agent, version), group in prompts.items():
        if group.first_at is not None and version != UNKNOWN:
            versions.setdefault(agent, []).append(version)
    found = []
    for agent, (newer, older, *_) in ((agent, names) for agent, names in versions.items() if len(names) > 1):
        new, old = prompts[agent, newer], prompts[agent, older]
        found.append(
            Comparison(
                agent=agent,
                newer=newer,
                older=older,
                taken=difference(new.taken, old.taken),
                unchanged=difference(new.unchanged, old.unchanged),
                liked=difference(new.liked, old.liked),
            )
        )
    return found


def _taken(rows: Sequence[Row], name: str, known: Sequence[str]) -> dict[str, Group]:
    groups = {one: Group() for one in known}
    for row in rows:
        if row[name] is not None and row["outcome"] is not None:
            groups.setdefault(row[name] if row[name] in groups else "other", Group()).add_feedback(row)
    return {one: group for one, group in groups.items() if group.taken.of or one in LENGTHS}


def _usage(rows: Sequence[Row]) -> Usage:
    names = ("calls", "failed", "input_tokens", "cached_tokens", "output_tokens")
    return Usage(**{name: sum(row[name] for row in rows) for name in names}, cost=_cost(rows))


def _cost(rows: Sequence[Row]) -> Cost:
    unpriced = sum(row["unpriced"] for row in rows)
    usd = sum((row["cost_usd"] for row in rows), 0.0)
    return Cost(None if unpriced and not usd else usd, unpriced)


def total(costs: Sequence[Cost]) -> Cost:
    """Return the sum of some costs."""
    known = [cost.usd for cost in costs if cost.usd is not None]
    return Cost(sum(known, 0.0) if known or not costs else None, sum(cost.unpriced for cost in costs))


def _by(rows: Sequence[Row], name: str, made: Callable[[Sequence[Row]], Usage]) -> dict[str, Usage]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[name], []).append(row)
    usage = {key: made(group) for key, group in groups.items()}
    return dict(sorted(usage.items(), key=lambda one: (-(one[1].cost.usd or 0), -one[1].calls, one[0])))


def _by_day(period: Period) -> dict[date, Cost]:
    """Return the cost of every day on which a model was called, oldest first."""
    groups: dict[date, list[Row]] = {}
    for row in period.usage:
        groups.setdefault(row["day"], []).append(row)
    return {day: _cost(rows) for day, rows in sorted(groups.items())}
