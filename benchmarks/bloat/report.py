"""The table: the highest of each figure in each quarter of the requests."""

import statistics
from collections.abc import Callable, Sequence

from benchmarks.bloat.load import Course, Pace
from benchmarks.bloat.look import TABLES, Look

QUARTERS = 4
KIB = 1024


def report(pace: Pace, course: Course, looks: Sequence[Look]) -> str:
    """Return the figures as a Markdown table, with the last quarter as a multiple of the second."""
    size = pace.requests // QUARTERS
    quarters = [[one for one in looks if q * size <= one.settled < (q + 1) * size] for q in range(QUARTERS)]
    count = len(course.claims) // QUARTERS
    claims = [course.claims[q * count : (q + 1) * count] for q in range(QUARTERS)]
    headings = [f"{q * size:,} to {(q + 1) * size:,}" for q in range(QUARTERS)]
    lines = [f"| figure | {' | '.join(headings)} | last / second |", f"|---|{'---:|' * (QUARTERS + 1)}"]

    def add(name: str, figure: Callable[[Look], float]) -> None:
        lines.append(_line(name, [max(map(figure, quarter)) for quarter in quarters]))

    add("`draft_requests`: live rows", lambda one: one.tables["draft_requests"].live)
    for table in TABLES:
        add(f"`{table}`: dead rows", lambda one, t=table: one.tables[t].dead)  # type: ignore[misc]  # a default binds the name
    for table in TABLES:
        add(f"`{table}`: size, KiB", lambda one, t=table: one.tables[t].bytes / KIB)  # type: ignore[misc]  # likewise
    for index in looks[0].index_bytes:
        add(f"`{index}`, KiB", lambda one, i=index: one.index_bytes[i] / KIB)  # type: ignore[misc]  # likewise
    lines.append(_line("claim of 50, median, ms", [statistics.median(quarter) * 1000 for quarter in claims], digits=1))
    lines.append(
        _line("claim of 50, 99th percentile, ms", [statistics.quantiles(q, n=100)[98] * 1000 for q in claims], digits=1)
    )
    for table in TABLES:
        add(f"`{table}`: vacuums so far", lambda one, t=table: one.tables[t].vacuums)  # type: ignore[misc]  # likewise
    return "\n".join(lines)


def _line(name: str, values: Sequence[float], digits: int = 0) -> str:
    ratio = f"{values[-1] / values[1]:.2f}" if values[1] else ""
    return f"| {name} | {' | '.join(f'{value:,.{digits}f}' for value in values)} | {ratio} |"
