"""The table, as Markdown: each figure of each contender, and draftd's figures beside what they must reach."""

from collections.abc import Callable, Iterable, Sequence

from benchmarks.markdown import table
from benchmarks.queue.contender import Contender
from benchmarks.queue.findings import PERCENTS, Findings
from benchmarks.queue.idle import CONCURRENCIES
from benchmarks.queue.plan import Plan
from benchmarks.queue.recovery import IN_FLIGHT, Rescue

MIB = 1024 * 1024
NONE = "-"
Cell = Callable[[str], str]


def figures(findings: Findings, plan: Plan, contenders: Sequence[Contender]) -> str:
    """Return the table of all contenders."""
    names = [contender.name for contender in contenders]
    rows = [*_drain_rows(findings), *_pickup_rows(findings), *_idle_rows(findings), *_sleeping_rows(findings)]
    rows += _recovery_rows(findings, plan)
    lines = [(label, *(cell(name) for name in names)) for label, cell in rows]
    return table(("", *names), [line for line in lines if any(value != NONE for value in line[1:])])


def terms(contenders: Sequence[Contender]) -> str:
    """Return how each contender was set up."""

    def line(one: Contender) -> str:
        return f"- {one.name}: {one.terms}" + (
            f"; drained with concurrency {one.drain_concurrency}" if one.is_queue else ""
        )

    return "\n".join(line(one) for one in contenders)


def _drain_rows(findings: Findings) -> list[tuple[str, Cell]]:
    def rate(name: str) -> str:
        rates = [one.per_s for one in findings.drained[name]]
        return f"{findings.drained_per_s(name):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})" if rates else NONE

    def share(name: str) -> str:
        floor, own = findings.drained_per_s("floor"), findings.drained_per_s(name)
        return f"{own / floor:.0%}" if own and floor else NONE

    def cpu(name: str) -> str:
        rounds = findings.drained[name]
        return f"{sum(r.cpu_s for r in rounds) / sum(r.requests for r in rounds) * 1000:.2f}" if rounds else NONE

    return [
        ("drained requests/s, median (least to most)", rate),
        ("… of the floor", share),
        ("… CPU of the worker, ms per request", cpu),
    ]


def _pickup_rows(findings: Findings) -> list[tuple[str, Cell]]:
    def row(label: str, value: Callable[[str, float], float | None]) -> tuple[str, Cell]:
        def cell(name: str) -> str:
            return (
                " / ".join(_number(value(name, percent), 1) for percent in PERCENTS) if findings.pickups[name] else NONE
            )

        return label, cell

    return [
        row("pickup from INSERT, ms, p50 / p95 / p99", findings.pickup_ms),
        row("… from its commit", findings.pickup_after_commit_ms),
    ]


def _idle_rows(findings: Findings) -> list[tuple[str, Cell]]:
    def cell(name: str) -> str:
        values = [findings.idle_per_minute(name, concurrency) for concurrency in CONCURRENCIES]
        return " / ".join(_number(value, 0) for value in values) if values[0] is not None else NONE

    return [(f"idle statements/min, N = {' / '.join(str(one) for one in CONCURRENCIES)}", cell)]


def _sleeping_rows(findings: Findings) -> list[tuple[str, Cell]]:
    def share(name: str) -> str:
        found = findings.ideal_share(name)
        return NONE if found is None else f"{found:.1%}"

    def costs(name: str) -> str:
        rounds = findings.slept[name]
        if not rounds:
            return NONE
        cpu_s = sum(one.cpu_s for one in rounds) / sum(one.starts for one in rounds) * 1000
        memory = max(one.peak_memory_bytes for one in rounds) / MIB
        return f"{cpu_s:.1f} / {memory:.0f} / {max(one.connections for one in rounds)}"

    return [
        ("1,000 in flight: share of the ideal rate", share),
        ("… CPU s per 1,000 / peak MiB / connections", costs),
    ]


def _recovery_rows(findings: Findings, plan: Plan) -> list[tuple[str, Cell]]:
    def row(rescue: Rescue) -> tuple[str, Cell]:
        def cell(name: str) -> str:
            if not findings.recovered[name, rescue]:
                return NONE
            longest_s = findings.recovery_s(name, rescue)
            return f"> {plan.patience_s:.0f}" if longest_s is None else f"{longest_s:.1f}"

        return f"after kill -9 with {IN_FLIGHT} in flight, s until the last runs again: {rescue}", cell

    def faults(name: str) -> str:
        found = [one for rescue in Rescue for one in findings.recovered[name, rescue]]
        if not found:
            return NONE
        ran, lost = sum(one.ran_more_than_twice for one in found), sum(one.lost for one in found)
        return f"{ran} / {lost} / {sum(one.accepted_twice for one in found)}"

    return [*(row(rescue) for rescue in Rescue), ("… ran more than twice / lost / accepted twice", faults)]


def goals(findings: Findings) -> str:
    """Return draftd's figures beside what they must reach."""
    rows = [*_speed_goals(findings), *_cost_goals(findings), *_recovery_goals(findings)]
    return table(("draftd", "must reach", "reached", ""), [(*row[:3], "yes" if row[3] else "**no**") for row in rows])


Goal = tuple[str, str, str, bool]


def _speed_goals(findings: Findings) -> Iterable[Goal]:
    own, floor = findings.drained_per_s("draftd"), findings.drained_per_s("floor")
    best = _best(findings, findings.drained_per_s, max)
    if own and floor:
        yield "drained requests/s, of the floor", "≥ 80 %", f"{own / floor:.0%}", own >= 0.8 * floor
    if own and best:
        yield "… of the best peer", "> 100 %", f"{own / best:.0%}", own > best
    own, floor = findings.pickup_ms("draftd", 50), findings.pickup_ms("floor", 50)
    if own and floor:
        yield "pickup p50, of the floor", "≤ 1.25", f"{own / floor:.2f}", own <= 1.25 * floor
    own, best = findings.pickup_ms("draftd", 99), _best(findings, lambda name: findings.pickup_ms(name, 99), min)
    if own and best:
        yield "pickup p99, of the best peer", "< 1", f"{own / best:.2f}", own < best
    yield from _everything_set_goals(findings)


def _everything_set_goals(findings: Findings) -> Iterable[Goal]:
    loaded, plain = findings.drained_per_s("everything_set"), findings.drained_per_s("draftd")
    if loaded and plain:
        yield (
            "everything set: drained requests/s, of nothing set",
            "≥ 90 %",
            f"{loaded / plain:.0%}",
            loaded >= 0.9 * plain,
        )
    for percent in (50, 99):
        loaded, plain = (findings.pickup_ms(name, percent) for name in ("everything_set", "draftd"))
        if loaded and plain:
            yield f"… pickup p{percent}, of nothing set", "≤ 1.10", f"{loaded / plain:.2f}", loaded <= 1.1 * plain


def _cost_goals(findings: Findings) -> Iterable[Goal]:
    few, many = (findings.idle_per_minute("draftd", concurrency) for concurrency in CONCURRENCIES)
    if few is not None and many is not None:
        # A statement more or less at the edges of the time that is counted is no difference.
        yield "idle statements/min, N = 200", "≤ 75", f"{many:.0f}", many <= 75
        yield "… less those at N = 1", "0 ± 3", f"{many - few:.0f}", abs(many - few) <= 3
    share, rounds = findings.ideal_share("draftd"), findings.slept["draftd"]
    if share is not None:
        memory = max(one.peak_memory_bytes for one in rounds) / MIB
        connections = max(one.connections for one in rounds)
        yield "1,000 in flight, of ideal", "≥ 97 %", f"{share:.1%}", share >= 0.97
        yield "… connections", "≤ 6", str(connections), connections <= 6
        yield "… MiB, all of the process without litellm", "≤ 150", f"{memory:.0f}", memory <= 150


def _recovery_goals(findings: Findings) -> Iterable[Goal]:
    for rescue, at_most_s in ((Rescue.ANOTHER_LIVES, 13), (Rescue.RESTART, 16)):
        if found := findings.recovered["draftd", rescue]:
            longest_s = findings.recovery_s("draftd", rescue)
            reached = longest_s is not None and longest_s <= at_most_s
            yield f"recovery, {rescue}, s", f"≤ {at_most_s}", _number(longest_s, 1), reached
            faults = sum(one.lost + one.accepted_twice for one in found)
            yield "… lost or accepted twice", "0", str(faults), not faults


def _best(
    findings: Findings, value: Callable[[str], float | None], choose: Callable[[list[float]], float]
) -> float | None:
    peers = {*findings.drained, *findings.pickups} - {"draftd", "everything_set", "floor"}
    values = [found for name in peers if (found := value(name)) is not None]
    return choose(values) if values else None


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:,.{digits}f}"
