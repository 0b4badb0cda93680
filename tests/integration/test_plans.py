"""No statement that a daemon runs again and again reads the whole table, whatever the table looked like when it was planned."""

import re
import time
from collections.abc import Iterator
from typing import Any

from draftd import db
from draftd.daemon.gauges import PENDING
from draftd.daemon.limit_keeper import LimitKeeper
from draftd.queue.admission import ADMIT
from draftd.queue.attempts import AttemptWriter, read_request
from draftd.queue.claiming import release_strays
from draftd.queue.leases import RENEW_AND_BEAT
from draftd.queue.outcome import GiveBack, Retry
from draftd.queue.reaping import REAP, reap
from draftd.queue.refused_rows import Quarantine
from draftd.queue.settlements import Settler
from draftd.request import Claim
from fix_database import beat, claim_all, make_request, make_terms

TERMS = make_terms()


async def work(link: db.Link, *, limit: int) -> list[Claim]:
    """Run each of the daemon's statements once, as a daemon does."""
    settler, writer = Settler(link=link, quarantine=Quarantine()), AttemptWriter(link=link, quarantine=Quarantine())
    claimed = await claim_all(link, TERMS, limit=limit)
    pairs = [one.key for one in claimed]
    await link.run(RENEW_AND_BEAT, beat(*claimed, worker_id=TERMS.worker_id))
    for one in claimed:
        await read_request(link, one)
        await writer.publish(one, {"options": []})
    await reap(link, lease_s=10.0)
    await LimitKeeper(link=link, worker_id=TERMS.worker_id).keep()
    await link.run(PENDING)
    await link.run(ADMIT, {"requesters": ["ann"], "agents": ["x"], "at_most": 9, "after": None, "wanted": 1})
    await link.run("SELECT draftd_demand()")
    await release_strays(link, worker_id=TERMS.worker_id, held=pairs)
    for number, one in enumerate(claimed):
        await settler.settle(one, GiveBack() if number % 2 else Retry(code="x", message="x", delay_s=0.0))
    return claimed


async def whole_reads(connection: db.Connection) -> int:
    """Return how often ``draft_requests`` was read whole, once the count of this moment has arrived."""
    await connection.execute("SELECT pg_stat_force_next_flush()")
    row = await (
        await connection.execute("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'draft_requests'")
    ).fetchone()
    assert row is not None
    return int(row["seq_scan"])


async def test_statements_planned_for_an_empty_table_do_not_read_a_full_one_whole(
    database: str, connection: db.Connection
) -> None:
    link = db.Link(url=database, name="planned early")
    await connection.execute("INSERT INTO draft_limits VALUES ('*', 1000000, 1000000), ('ann', 2, 2)")
    await connection.execute("INSERT INTO draft_pauses (what, name) VALUES ('requester', 'paused')")
    for requester_id in ("", "ann", "", "", "", "paused", "", "", ""):
        await make_request(connection, requester_id=requester_id)
    await LimitKeeper(link=link, worker_id=TERMS.worker_id).keep()
    for _ in range(7):
        assert await work(link, limit=1)
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(
            "INSERT INTO draft_requests (image_urls, requester_id, turn, limited) "
            "SELECT '{https://a.example/b.png}', who, n, who = 'paused' "
            "FROM generate_series(1, 20000) AS n, unnest('{crowd,paused}'::text[]) AS who"
        )
    before = await whole_reads(connection)
    began = time.monotonic()
    for _ in range(5):
        assert len(await work(link, limit=10)) == 10
    elapsed_s = time.monotonic() - began
    await link.run("SELECT pg_stat_force_next_flush()")
    await link.close()
    assert await whole_reads(connection) == before, f"in {elapsed_s:.1f} s"


async def test_inserts_planned_for_a_few_limits_do_not_read_many(connection: db.Connection) -> None:
    async def limits_read() -> int:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        (row,) = await (
            await connection.execute("SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'draft_limits'")
        ).fetchall()
        return int(row["seq_tup_read"])

    await connection.execute("INSERT INTO draft_limits VALUES ('*', 1000000, 1000000), ('ann', 2, 2)")
    await connection.execute("VACUUM ANALYZE draft_limits")
    for _ in range(9):
        await make_request(connection)
    await connection.execute("INSERT INTO draft_limits SELECT 'r' || n, 1, 1 FROM generate_series(1, 2000) AS n")
    before = await limits_read()
    for _ in range(9):
        await make_request(connection)
    assert await limits_read() - before < 100


PASS = {
    "lease_s": "'10'::float8",
    "older_than_s": "'0'::float8",
    "gap_s": "'0'::float8",
    "last_at": "'now'::timestamptz",
    "steady_since": "'now'::timestamptz",
    "now": "'now'::timestamptz",
    "skip": "'{}'::uuid[]",
    "details": "'{}'::jsonb",
    "told": "'{}'::jsonb",
}
"""The parameters of a pass of the reaper, as SQL."""


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


async def test_a_pass_of_the_reaper_that_is_planned_for_an_empty_table_changes_rows_by_their_key(
    connection: db.Connection,
) -> None:
    statement = re.sub(r"%\((\w+)\)s", lambda match: f"({PASS[match[1]]})", REAP)
    async with connection.transaction():
        await connection.execute("SET LOCAL enable_seqscan = off")
        row = await (await connection.execute(f"EXPLAIN (FORMAT JSON) {statement}".encode())).fetchone()
    assert row is not None
    (update,) = [node for node in nodes(row["QUERY PLAN"][0]["Plan"]) if node.get("Operation") == "Update"]
    scans = [node for node in nodes(update) if node.get("Index Name")]
    assert [(scan["Index Name"], "Index Cond" in scan) for scan in scans] == [("draft_requests_pkey", True)]
