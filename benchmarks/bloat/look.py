"""What the server says about draftd's tables while the load runs."""

import asyncio
from dataclasses import dataclass

from benchmarks.bloat.load import Course
from draftd import db

INTERVAL_S = 2.0
TABLES = ("draft_requests", "draft_usage", "draft_workers", "draft_holds")
STATISTICS = """
SELECT relname AS name, n_live_tup AS live, n_dead_tup AS dead, pg_relation_size(relid) AS bytes,
       autovacuum_count AS vacuums, autoanalyze_count AS analyzes
  FROM pg_stat_user_tables WHERE relname = ANY (%s) ORDER BY relname
"""
INDEXES = """
SELECT indexrelname AS name, pg_relation_size(indexrelid) AS bytes
  FROM pg_stat_user_indexes WHERE relname = 'draft_requests' ORDER BY indexrelname
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table at one moment."""

    live: int
    dead: int
    bytes: int
    vacuums: int
    analyzes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at the server."""

    settled: int
    tables: dict[str, Table]
    index_bytes: dict[str, int]
    """Of ``draft_requests``, by name."""


async def look(link: db.Link, course: Course) -> Look:
    """Look once."""
    tables = await link.run(STATISTICS, [list(TABLES)])
    indexes = await link.run(INDEXES)
    return Look(
        settled=course.settled,
        tables={row.pop("name"): Table(**row) for row in tables},
        index_bytes={row["name"]: row["bytes"] for row in indexes},
    )


async def watch(url: str, course: Course, looks: list[Look]) -> None:
    """Look every ``INTERVAL_S`` until cancelled."""
    link = db.Link(url=url, name="bloat look")
    try:
        while True:
            looks.append(await look(link, course))
            await asyncio.sleep(INTERVAL_S)
    finally:
        await link.close()
