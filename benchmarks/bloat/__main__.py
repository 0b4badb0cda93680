"""Run it: ``make bench-bloat``. The table goes to stdout, talk to stderr."""

import argparse
import asyncio
import sys
import time

import psycopg

from benchmarks.bloat.load import BATCH, Course, Load, Pace
from benchmarks.bloat.look import Look, watch
from benchmarks.bloat.report import QUARTERS, report
from benchmarks.queue.server import durable_server
from draftd.db import schema_version
from draftd.logs import configure_logging

DATABASE = "draftd_bench_bloat"
SHIPPED = ("server_version", "autovacuum", "autovacuum_naptime", "autovacuum_max_workers", "fsync", "shared_buffers")


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="make bench-bloat", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000, help="how many (%(default)s)")
    parser.add_argument("--per-s", type=float, default=250.0, help="how many per second (%(default)s)")
    parser.add_argument("--keep-s", type=float, default=60.0, help="how long a finished one is kept (%(default)s)")
    arguments = parser.parse_args()
    pace = Pace(
        requests=arguments.requests // (BATCH * QUARTERS) * BATCH * QUARTERS,
        per_s=arguments.per_s,
        keep_s=arguments.keep_s,
    )
    configure_logging(level="warning", style="auto")
    with durable_server() as server:
        url = server.create_database(DATABASE)
        try:
            schema_version.upgrade(url)
            print(f"{pace.requests:,} requests at {pace.per_s:g}/s, kept for {pace.keep_s:g} s; {_facts(url)}\n")
            print(asyncio.run(_measure(url, pace)))
        finally:
            server.drop_database(DATABASE)


def _facts(url: str) -> str:
    """Return the server's settings that matter here; a server whose autovacuum was tuned answers another question."""
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name", [list(SHIPPED)])
        return ", ".join(f"{name} {value}" for name, value in rows)


async def _measure(url: str, pace: Pace) -> str:
    course, looks = Course(), list[Look]()
    async with Load.opened(url=url, pace=pace, course=course) as load, asyncio.TaskGroup() as group:
        beside = [
            group.create_task(load.prune()),
            group.create_task(watch(url, course, looks)),
            group.create_task(_say(course, pace)),
        ]
        await load.run()
        for task in beside:
            task.cancel()
    return report(pace, course, looks)


async def _say(course: Course, pace: Pace) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(10)
        rate = course.settled / (time.monotonic() - began)
        print(f"{course.settled:,} of {pace.requests:,} settled, {rate:,.0f}/s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
