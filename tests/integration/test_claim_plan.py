"""What a claim reads among tens of thousands of rows, and who comes first among them."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import pytest

from draftd import db
from draftd.queue.claiming import CLAIM, CLAIM_WITHIN
from fix_database import claim_all, make_request

N = 16
CROWDED, QUIET, HELD = "crowded", ["quiet 1", "quiet 2", "quiet 3"], "held"
PARAMS: Mapping[str, tuple[str, str]] = {
    "agents": ("text[]", "'{{{}}}'"),
    "models": ("text[]", "'{{}}'"),
    "skip": ("uuid[]", "'{{}}'"),
    "n": ("bigint", str(N)),
    "lease_s": ("float8", "10"),
    "attempt_s": ("float8", "120"),
    "worker_id": ("uuid", f"'{UUID(int=1)}'"),
    "now": ("timestamptz", "NULL"),
    "model": ("text", "'m'"),
    "are_limits": ("boolean", "true"),
}
"""The claim's parameters: their types, and their values as SQL."""
# Without triggers, 60,000 rows take a second; the turns are what the trigger would have given.
FILL = f"""
SET LOCAL session_replication_role = replica;
INSERT INTO draft_requests (image_urls, agent, requester_id, turn)
     SELECT '{{https://a.example/b.png}}', '{CROWDED}', 'crowd', n FROM generate_series(1, 20000) AS n;
INSERT INTO draft_requests (image_urls, agent, requester_id, turn)
     SELECT '{{https://a.example/b.png}}', '{HELD}', 'crowd', n FROM generate_series(1, 20000) AS n;
INSERT INTO draft_requests (image_urls, agent, requester_id, turn)
     SELECT '{{https://a.example/b.png}}', agent, 'one of few', n
       FROM unnest('{{{",".join(QUIET)}}}'::text[]) AS agent, generate_series(1, 40) AS n;
INSERT INTO draft_requests (image_urls, agent, requester_id, turn, status, result, finished_at)
     SELECT '{{https://a.example/b.png}}', '{CROWDED}', 'crowd', n, 'completed', '{{}}', now()
       FROM generate_series(1, 20000) AS n;
"""


async def prepare(connection: db.Connection, *, mode: str, claim: str = CLAIM) -> None:
    """Prepare the claim as a daemon's connection does."""
    names = list(PARAMS)
    statement = re.sub(r"%\((\w+)\)s", lambda match: f"${names.index(match[1]) + 1}", claim)
    types = ", ".join(kind for kind, _ in PARAMS.values())
    await connection.execute(f"SET plan_cache_mode = {mode}".encode())
    await connection.execute(f"PREPARE claim ({types}) AS {statement}".encode())


def values(agents: list[str]) -> str:
    return ", ".join(value for _, value in PARAMS.values()).format(",".join(agents))


async def claimed_by_plan(connection: db.Connection, agents: list[str]) -> dict[str, Any]:
    """Claim by the prepared statement; return what the server did."""
    cursor = await connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE claim ({values(agents)})".encode())
    row = await cursor.fetchone()
    assert row is not None
    plan: dict[str, Any] = row["QUERY PLAN"][0]["Plan"]
    return plan


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def rows_of(node: dict[str, Any]) -> int:
    """Return how many rows a node read, those that it threw away included."""
    thrown = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    total: float = (node["Actual Rows"] + thrown) * node["Actual Loops"]
    return round(total)


def indexes(plan: dict[str, Any]) -> set[str]:
    return {node["Index Name"] for node in nodes(plan) if "Index Name" in node} - {"draft_pauses_pkey"}


def assert_reads_little(plan: dict[str, Any], agents: list[str]) -> None:
    every = list(nodes(plan))
    inner = [node for node in every if node.get("Index Name") == "draft_requests_claim_idx"]
    assert sum(map(rows_of, inner)) <= len(agents) * N
    assert indexes(plan) == {"draft_requests_claim_idx", "draft_requests_pkey"}
    assert not [node for node in every if node["Node Type"] == "Seq Scan" and node["Alias"] != "p"]
    assert all(rows_of(node) <= len(agents) * N for node in every if "Sort" in node["Node Type"])
    assert plan["Actual Rows"] == N


@pytest.mark.parametrize("mode", [pytest.param("force_custom_plan", marks=pytest.mark.long), "force_generic_plan"])
@pytest.mark.parametrize("analyzed", [True, False])
@pytest.mark.parametrize(
    "agents", [[CROWDED, *QUIET], pytest.param([CROWDED], marks=pytest.mark.long)], ids=["several", "one"]
)
async def test_a_claim_reads_little_more_than_it_takes(
    connection: db.Connection, agents: list[str], mode: str, *, analyzed: bool
) -> None:
    async with connection.transaction():
        await connection.execute(FILL.encode())
    if analyzed:
        await connection.execute("ANALYZE draft_requests")
    await prepare(connection, mode=mode)
    assert_reads_little(await claimed_by_plan(connection, agents), agents)


@pytest.mark.parametrize("mode", [pytest.param("force_custom_plan", marks=pytest.mark.long), "force_generic_plan"])
async def test_a_claim_under_a_ceiling_reads_little_more_than_it_takes(connection: db.Connection, mode: str) -> None:
    async with connection.transaction():
        await connection.execute(FILL.encode())
        await connection.execute("INSERT INTO draft_models (name, max_in_flight) VALUES ('m', 100)")
    await connection.execute("ANALYZE draft_requests")
    await prepare(connection, mode=mode, claim=CLAIM_WITHIN)
    assert_reads_little(await claimed_by_plan(connection, [CROWDED, *QUIET]), [CROWDED, *QUIET])


LIMITED = f"""
SET LOCAL session_replication_role = replica;
INSERT INTO draft_requests (image_urls, agent, requester_id, priority, limited)
     SELECT '{{https://a.example/b.png}}', '{CROWDED}', 'limited', 100, true FROM generate_series(1, 20000) AS n;
INSERT INTO draft_limits (requester_id, max_in_flight) VALUES ('*', 2);
INSERT INTO draft_pauses (what, name, reason, by) SELECT 'requester', 'paused ' || n, '', '' FROM generate_series(1, 20) AS n;
"""


@pytest.mark.parametrize("mode", [pytest.param("force_custom_plan", marks=pytest.mark.long), "force_generic_plan"])
async def test_a_claim_reads_no_row_of_a_requester_that_is_paused_or_over_a_limit(
    connection: db.Connection, mode: str
) -> None:
    async with connection.transaction():
        await connection.execute(FILL.encode())
        await connection.execute(LIMITED.encode())
    await connection.execute("ANALYZE draft_requests")
    await prepare(connection, mode=mode)
    assert_reads_little(await claimed_by_plan(connection, [CROWDED, *QUIET]), [CROWDED, *QUIET])


@pytest.mark.parametrize("agents", [[CROWDED, *QUIET], [CROWDED]], ids=["several", "one"])
async def test_the_claim_keeps_its_plan(connection: db.Connection, agents: list[str]) -> None:
    """Planning takes as long as claiming; the server plans anew for as long as it expects that to pay."""
    await prepare(connection, mode="auto")
    for _ in range(8):
        await connection.execute(f"EXECUTE claim ({values(agents)})".encode())
    cursor = await connection.execute("SELECT generic_plans FROM pg_prepared_statements WHERE name = 'claim'")
    row = await cursor.fetchone()
    assert row is not None
    assert row["generic_plans"] >= 2


async def test_the_claim_cannot_use_the_index_on_turns(connection: db.Connection) -> None:
    # With nothing pending both would cost the planner the same, the smaller one would win, and its plan, which sorts all that is
    # pending, would be cached for the burst that comes.
    async with connection.transaction(force_rollback=True):
        await connection.execute("DROP INDEX draft_requests_claim_idx")
        await connection.execute("SET LOCAL enable_seqscan = off")
        await prepare(connection, mode="force_custom_plan")
        assert "draft_requests_turn_idx" not in indexes(await claimed_by_plan(connection, [CROWDED]))
        await connection.execute("DEALLOCATE claim")


async def test_an_insert_reads_little_however_small_the_table_was_when_it_was_planned(
    connection: db.Connection,
) -> None:
    async def reads() -> int:
        cursor = await connection.execute(
            "SELECT seq_tup_read + idx_tup_fetch AS n FROM pg_stat_xact_all_tables WHERE relid = 'draft_requests'::regclass"
        )
        row = await cursor.fetchone()
        assert row is not None
        return int(row["n"])

    await connection.execute("ANALYZE draft_requests")
    for _ in range(4):
        async with connection.transaction():
            await make_crowd(connection, 300)
            before = await reads()
            await make_crowd(connection, 300)
            assert await reads() - before < 10 * 300
        await connection.execute("DELETE FROM draft_requests")
        await connection.execute("VACUUM ANALYZE draft_requests")


async def make_crowd(connection: db.Connection, count: int) -> None:
    """Insert many requests of one requester, as a client does."""
    await connection.execute(
        "INSERT INTO draft_requests (image_urls, requester_id) "
        "SELECT '{https://a.example/b.png}', 'crowd' FROM generate_series(1, %s)",
        [count],
    )


async def claimed_by_requester(link: db.Link, limit: int) -> list[str]:
    return [one.requester_id for one in await claim_all(link, limit=limit)]


async def test_a_lone_request_overtakes_ten_thousand_of_another(connection: db.Connection, link: db.Link) -> None:
    await make_crowd(connection, 10_000)
    assert set(await claimed_by_requester(link, N)) == {"crowd"}
    await make_request(connection, requester_id="lone")
    assert (await claimed_by_requester(link, N)).count("lone") == 1


async def test_later_arrivals_take_turns_with_the_crowd(connection: db.Connection, link: db.Link) -> None:
    await make_crowd(connection, 10_000)
    await claimed_by_requester(link, N)
    for requester in ("ann", "bob"):
        for _ in range(8):
            await make_request(connection, requester_id=requester)
    order = await claimed_by_requester(link, 24)
    rounds = [Counter(order[n : n + 3]) for n in range(0, 24, 3)]
    assert rounds == [Counter(ann=1, bob=1, crowd=1)] * 8


async def test_priority_comes_before_fairness_and_before_other_agents(connection: db.Connection, link: db.Link) -> None:
    await make_crowd(connection, 1_000)
    for _ in range(3):
        await make_request(connection, requester_id="lone")
    agents = ["comment_generator", *QUIET]
    urgent = {await make_request(connection, requester_id="crowd", priority=1, agent=one) for one in agents * 3}
    assert {one.id for one in await claim_all(link, agents=agents, limit=len(urgent))} == urgent


async def test_an_agent_with_a_long_past_is_not_behind_a_new_one(connection: db.Connection, link: db.Link) -> None:
    """Each agent's line counts its own turns: they say nothing about another agent's."""
    await make_crowd(connection, 200)
    await claimed_by_requester(link, 50)
    await claimed_by_requester(link, 50)
    await make_request(connection, requester_id="lone")
    await connection.execute(
        "INSERT INTO draft_requests (image_urls, requester_id, agent) "
        "SELECT '{https://a.example/b.png}', 'crowd', 'new' FROM generate_series(1, 1000)"
    )
    claimed = await claim_all(link, agents=["comment_generator", "new"], limit=N)
    assert "lone" in [one.requester_id for one in claimed]


async def test_no_plan_of_a_function_that_clients_call_is_compiled(connection: db.Connection) -> None:
    # What a plan seems to cost when a part of it is switched off would have the server compile it, for 0.3 s.
    found = await connection.execute(
        "SELECT oid::regproc::text AS name, 'jit=off' = ANY (proconfig) AS never FROM pg_proc "
        "WHERE oid IN ('draft_requests_take_turn()'::regprocedure, 'draftd_demand()'::regprocedure) ORDER BY 1"
    )
    assert await found.fetchall() == [
        {"name": "draft_requests_take_turn", "never": True},
        {"name": "draftd_demand", "never": True},
    ]
