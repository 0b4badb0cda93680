"""Measures what claiming k rows costs among many others, as a ratio to what it costs when only those k are there.

    python -m benchmarks.claim [--pending 100000] [--finished 1000000] [--rounds 200]

Databases on one durable server: one holds k due rows and nothing else; one as many beside ``--finished`` completed ones; one as
many beside those, ``--pending`` rows of one requester, and as many again of an agent that is on hold and may not be claimed;
one as many beside those, and ``--pending`` rows in front of a requester who is paused or over a limit, with such pauses and
limits set; two as many beside the completed ones, and ``--pending`` rows of a requester who was paused just now, whose rows the
limit keeper has not reached yet: one with rows of the same priority, which take turns with the others, one with rows of a
higher priority, all of which are in front. The same statement claims in all of them, in turns, inside a transaction that is
rolled back, on connections set up as the daemon's; what counts is the time until its rows are here. Bulk rows are made without
triggers, their turns counted as the trigger would.
"""

import argparse
import json
import statistics
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import psycopg

from benchmarks.queue.machine import load, machine, postgresql
from benchmarks.queue.server import durable_server
from draftd.db import schema_version
from draftd.db.connection import HOT_SETUP
from draftd.queue.claiming import CLAIM

AGENT, HELD = "comment_generator", "held"
SIZES = (1, 16, 50)
RESULT = json.dumps({"text": "x" * 1_200})

PENDING = """
INSERT INTO draft_requests (image_urls, requester_id, agent, priority, turn)
SELECT ARRAY['https://images.example/shot.png'], %s, %s, %s, n FROM generate_series(1, %s) AS n
"""
LIMITED = """
INSERT INTO draft_requests (image_urls, requester_id, limited, priority, available_at)
SELECT ARRAY['https://images.example/shot.png'], 'r' || n %% 10, true, 100, now() - interval '1 h'
  FROM generate_series(1, %s) AS n
"""
SET_LIMITS = """
INSERT INTO draft_limits (requester_id, max_pending, max_in_flight, usd_per_day) VALUES ('*', 1000000, 2, 5);
INSERT INTO draft_pauses (what, name) SELECT 'requester', 'r' || n FROM generate_series(0, 9) AS n;
INSERT INTO draft_pauses (what, name) VALUES ('model', 'openai/another')
"""
FINISHED = """
INSERT INTO draft_requests (image_urls, requester_id, status, attempt, lease_token, result, created_at, finished_at)
SELECT ARRAY['https://images.example/shot.png'], 'r' || n %% 1000, 'completed', 1, 1, %s::jsonb, now() - n * interval '1 s', now()
  FROM generate_series(1, %s) AS n
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """How many rows there are beside those that are claimed."""

    finished: int = 0
    pending: int = 0
    limited: int = 0
    paused: int = 0
    priority: int = 0
    """Of the paused requester's rows."""


def fill(url: str, crowd: Crowd) -> None:
    """Make a migrated database with such a crowd."""
    schema_version.upgrade(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(FINISHED, [RESULT, crowd.finished])
        connection.execute(PENDING, ["crowd", AGENT, 0, crowd.pending])
        connection.execute(PENDING, ["crowd", HELD, 0, crowd.pending])
        connection.execute(PENDING, ["paused", AGENT, crowd.priority, crowd.paused])
        connection.execute(PENDING, ["one", AGENT, 0, max(SIZES)])
        connection.execute(LIMITED, [crowd.limited])
        connection.execute("RESET session_replication_role")
        if crowd.limited:
            connection.execute(SET_LIMITS)
        if crowd.paused:
            connection.execute("INSERT INTO draft_pauses (what, name) VALUES ('requester', 'paused')")
        connection.execute("VACUUM ANALYZE draft_requests")


def claim_ms(connection: psycopg.Connection[Any], count: int) -> float:
    """Return how long it takes to claim so many rows, in milliseconds; they stay unclaimed."""
    params = {
        "agents": [AGENT],
        "models": [],
        "skip": [],
        "n": count,
        "lease_s": 10.0,
        "attempt_s": 120.0,
        "worker_id": uuid.UUID(int=1),
        "now": None,
    }
    with connection.transaction(force_rollback=True):
        began = time.perf_counter()
        rows = connection.execute(CLAIM, params).fetchall()
        elapsed_s = time.perf_counter() - began
    assert len(rows) == count  # noqa: S101 - a claim of fewer rows would be measured as a fast one
    return elapsed_s * 1_000


def compare(urls: list[str], rounds: int) -> list[tuple[int, list[float]]]:
    """Return (k, median in each of the databases) in milliseconds."""
    found = []
    with ExitStack() as stack:
        connections = [stack.enter_context(psycopg.connect(url)) for url in urls]
        for connection in connections:
            connection.execute("SET jit = off")
            connection.execute(HOT_SETUP)
            connection.commit()
        for count in SIZES:
            times: list[list[float]] = [[] for _ in connections]
            for _ in range(rounds):
                for connection, taken in zip(connections, times, strict=True):
                    taken.append(claim_ms(connection, count))
            found.append((count, [statistics.median(taken) for taken in times]))
    return found


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="benchmarks.claim", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pending", type=int, default=100_000)
    parser.add_argument("--finished", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=200, help="claims of each size in each database")
    options = parser.parse_args()
    pending, finished = options.pending, options.finished
    crowds = {
        "alone": Crowd(),
        "finished": Crowd(finished=finished),
        "full": Crowd(finished=finished, pending=pending),
        "limited": Crowd(finished=finished, pending=pending, limited=pending),
        "paused": Crowd(finished=finished, paused=pending),
        "prior": Crowd(finished=finished, paused=pending, priority=100),
    }
    with durable_server() as server:
        urls = []
        for name, crowd in crowds.items():
            sys.stderr.write(f"filling the table {name} …\n")
            urls.append(server.create_database(f"bench_claim_{name}"))
            fill(urls[-1], crowd)
        sys.stderr.write("claiming …\n")
        found = compare(urls, options.rounds)
        facts = f"{machine()}; {postgresql(server.facts())}; load {load()}"
        for name in crowds:
            server.drop_database(f"bench_claim_{name}")
    names = (
        "nothing else",
        f"{finished:,} finished",
        f"and {pending:,} pending, {pending:,} held",
        f"and {pending:,} limited in front",
        f"{pending:,} just paused",
        f"{pending:,} just paused in front",
    )
    sys.stdout.write(f"{facts}\n\n{table(names, found)}\n")


def table(names: Sequence[str], found: list[tuple[int, list[float]]]) -> str:
    """Return the medians, and what each crowd costs as a ratio to the one beside which it stands."""
    heads = (
        "rows claimed",
        *names,
        "pending to finished",
        "to nothing else",
        "limited to pending",
        "paused to finished",
        "in front",
    )
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for count, medians in found:
        alone, few, many, limited, paused, prior = medians
        ratios = (many / few, many / alone, limited / many, paused / few, prior / few)
        cells = (str(count), *(f"{one:.2f} ms" for one in medians), *(f"{one:.2f}" for one in ratios))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
