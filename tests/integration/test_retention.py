"""Old final requests go, a few at a time."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import DictRow
from structlog.testing import capture_logs

from draftd import db
from draftd.daemon.pruner import Pruner
from draftd.queue import retention
from draftd.queue.refused_rows import Quarantine
from draftd.queue.retention import PRUNE, count_prunable, prune
from fix_database import claim_one, make_request

DAY_S = 86_400.0
KEPT_S = 30 * DAY_S
LATER = timedelta(days=31)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 10)
    monkeypatch.setattr(retention, "COUNT_BATCH", 10)
    monkeypatch.setattr(retention, "PAUSE_S", 0.0)


async def make_final(connection: db.Connection, **over: Any) -> UUID:
    return await make_request(connection, **{"status": "cancelled"} | over)


async def pruned(link: db.Link, *, older_than_s: float = KEPT_S, now: datetime | None = None) -> list[int]:
    """Prune as if it were a month later; return the sizes of the batches."""
    moment = now or datetime.now(UTC) + LATER
    return [count async for count in prune(link, older_than_s=older_than_s, now=moment, quarantine=Quarantine())]


async def counted(link: db.Link) -> int:
    return await count_prunable(link, older_than_s=KEPT_S, now=datetime.now(UTC) + LATER)


async def standing(connection: db.Connection) -> set[UUID]:
    rows = await (await connection.execute("SELECT id FROM draft_requests")).fetchall()
    return {row["id"] for row in rows}


async def test_what_ended_long_ago_goes_and_what_is_open_stays(connection: db.Connection, link: db.Link) -> None:
    processing = await make_request(connection)
    await claim_one(link)
    pending = await make_request(connection)
    for end in ({"status": "completed", "result": {}}, {"status": "failed"}, {"status": "cancelled"}):
        await make_final(connection, **end)
    assert await counted(link) == 3
    assert await pruned(link) == [3]
    assert await standing(connection) == {processing, pending}


async def test_what_ended_lately_stays_however_old_it_is(connection: db.Connection, link: db.Link) -> None:
    kept = await make_final(connection)
    await connection.execute("UPDATE draft_requests SET created_at = created_at - interval '1 year'")
    assert await count_prunable(link, older_than_s=DAY_S) == 0
    assert [count async for count in prune(link, older_than_s=DAY_S, quarantine=Quarantine())] == [0]
    assert await standing(connection) == {kept}


async def test_many_go_in_small_batches_even_those_of_one_moment(connection: db.Connection, link: db.Link) -> None:
    await connection.execute(
        "INSERT INTO draft_requests (image_urls) SELECT '{https://a.example/b.png}' FROM generate_series(1, 25)"
    )
    await connection.execute("UPDATE draft_requests SET status = 'cancelled'")
    assert await counted(link) == 25
    assert await pruned(link) == [10, 10, 5]
    assert await standing(connection) == set()


async def test_a_row_that_somebody_has_locked_is_passed_over(
    connection: db.Connection, link: db.Link, database: str
) -> None:
    locked = await make_final(connection)
    for _ in range(12):
        await make_final(connection)
    async with db.connected(database) as client, client.transaction():
        await client.execute("SELECT FROM draft_requests WHERE id = %s FOR UPDATE", [locked])
        assert sum(await pruned(link)) == 12
    assert await standing(connection) == {locked}
    assert await pruned(link) == [1]


async def test_two_passes_beside_each_other_share_the_rows(
    connection: db.Connection, link: db.Link, database: str
) -> None:
    await connection.execute(
        "INSERT INTO draft_requests (image_urls) SELECT '{https://a.example/b.png}' FROM generate_series(1, 200)"
    )
    await connection.execute("UPDATE draft_requests SET status = 'cancelled'")
    other = db.Link(url=database, name="other")
    batches = await asyncio.gather(pruned(link), pruned(other))
    await other.close()
    assert sum(map(sum, batches)) == 200


async def test_a_request_stays_while_its_drafts_are_refined(connection: db.Connection, link: db.Link) -> None:
    parent, other = [await make_final(connection, status="completed", result={}) for _ in range(2)]
    child = await make_request(connection, image_urls=None, parent_id=parent)
    assert await counted(link) == 1
    assert await pruned(link) == [1]
    assert await standing(connection) == {parent, child}
    await claim_one(link)
    assert await pruned(link) == [0]
    await connection.execute("SELECT cancel_draft_request(%s)", [child])
    assert await pruned(link) == [2]
    assert other not in await standing(connection)


async def test_the_record_of_the_money_and_the_feedback_stay(connection: db.Connection, link: db.Link) -> None:
    request_id = await make_final(connection)
    await connection.execute("INSERT INTO draft_feedback (request_id, rating) VALUES (%s, 1)", [request_id])
    await connection.execute(
        "INSERT INTO draft_usage (request_id, requester_id, attempt, lease_token, call, model) VALUES (%s, '', 1, 1, 1, 'm')",
        [request_id],
    )
    assert await pruned(link) == [1]
    rows = await (
        await connection.execute(
            "SELECT (SELECT count(*) FROM draft_usage) AS usage, (SELECT count(*) FROM draft_feedback) AS feedback"
        )
    ).fetchall()
    assert rows == [{"usage": 1, "feedback": 1}]


async def test_the_plan_follows_the_index_on_created_at(connection: db.Connection) -> None:
    await connection.execute("SET session_replication_role = replica")
    await connection.execute(
        "INSERT INTO draft_requests (image_urls, turn, status, created_at, finished_at) "
        "SELECT '{https://x/y}', n, CASE WHEN n %% 200 = 0 THEN 'pending' ELSE 'failed' END, "
        "now() - n * interval '1 min', now() - n * interval '1 min' FROM generate_series(1, %s) AS n",
        [50_000],
    )
    await connection.execute("ANALYZE draft_requests")
    params: dict[str, Any] = {
        "older_than_s": KEPT_S,
        "after": None,
        "batch": 20,
        "now": None,
        "skip": [],
        "only": None,
    }
    async with connection.transaction(force_rollback=True):
        cursor = await connection.execute(b"EXPLAIN (ANALYZE, FORMAT JSON) " + PRUNE.encode(), params)
        plan = json.dumps(await cursor.fetchall(), default=str)
    assert "draft_requests_created_at_idx" in plan
    assert "Seq Scan" not in plan


class Interrupted(db.Link):
    """A link that loses its connection under its second statement."""

    count = 0

    async def run(self, statement: str, params: db.Params = None) -> list[DictRow]:
        self.count += 1
        if self.count == 2:
            await super().run("SELECT pg_terminate_backend(pg_backend_pid())")
        return await super().run(statement, params)


@pytest.fixture
async def interrupted(database: str) -> AsyncIterator[Interrupted]:
    link = Interrupted(url=database, name="interrupted")
    yield link
    await link.close()


async def one_pass(pruner: Pruner) -> list[Any]:
    """Let a pruner run until it rests; return what it logged of its pass: threads of other tests log, too."""
    with capture_logs() as logs:
        running = asyncio.create_task(pruner.run())
        async with asyncio.timeout(60):
            while not (
                own := [
                    line
                    for line in logs
                    if line["event"].startswith(("pruned", "pruning incomplete", "feedback pruned"))
                ]
            ):
                assert not running.done()
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return own


async def keeping(link: db.Link, *, days: int) -> db.Link:
    """Let the fleet keep final requests for so many days; return the link."""
    await link.run("UPDATE draft_settings SET retention_days = %s", [days])
    return link


async def test_a_pass_survives_a_lost_connection(
    connection: db.Connection, link: db.Link, interrupted: Interrupted
) -> None:
    for _ in range(25):
        await make_final(connection)
    await connection.execute(
        "UPDATE draft_requests SET created_at = created_at - interval '2 d', finished_at = finished_at - interval '2 d'"
    )
    kept = await make_final(connection)
    logs = await one_pass(Pruner(reads=await keeping(link, days=1), link=interrupted, quarantine=Quarantine()))
    assert await standing(connection) == {kept}
    assert {"event": "pruned", "rows": 25, "log_level": "info"} in logs


class Forbidden(db.Link):
    """A link whose user may not delete."""

    async def run(self, _statement: str, _params: db.Params = None) -> list[DictRow]:
        raise psycopg.errors.InsufficientPrivilege("permission denied for table draft_requests")


async def test_feedback_goes_when_it_is_old_enough_and_not_with_its_request(
    connection: db.Connection, link: db.Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("draftd.queue.retention.BATCH", 2)
    request_id = await make_final(connection)
    for _ in range(5):
        await connection.execute("INSERT INTO draft_feedback (request_id, rating) VALUES (%s, 1)", [request_id])
    await connection.execute("UPDATE draft_feedback SET created_at = created_at - interval '2 d'")
    await connection.execute("INSERT INTO draft_feedback (request_id, rating) VALUES (%s, -1)", [request_id])
    await connection.execute("UPDATE draft_settings SET feedback_retention_days = 1")
    logs = await one_pass(Pruner(reads=link, link=link, quarantine=Quarantine()))
    assert {"event": "feedback pruned", "rows": 5, "log_level": "info"} in logs
    left = await (await connection.execute("SELECT rating FROM draft_feedback")).fetchall()
    assert left == [{"rating": -1}]
    assert await standing(connection) == {request_id}


async def test_a_user_who_may_not_delete_ends_no_daemon(database: str, link: db.Link) -> None:
    logs = await one_pass(
        Pruner(
            reads=await keeping(link, days=1), link=Forbidden(url=database, name="forbidden"), quarantine=Quarantine()
        )
    )
    assert {line["log_level"] for line in logs} == {"warning"}


async def test_rows_that_may_be_seen_and_not_deleted_end_the_pass(
    connection: db.Connection, link: db.Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("draftd.queue.retention.BATCH", 2)
    await connection.execute("CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    await connection.execute("CREATE TRIGGER keep BEFORE DELETE ON draft_requests FOR EACH ROW EXECUTE FUNCTION keep()")
    for _ in range(5):
        await make_final(connection)
    await connection.execute("UPDATE draft_requests SET created_at = now() - interval '1 d'")
    assert sum([count async for count in prune(link, older_than_s=0, quarantine=Quarantine())]) == 0
    assert len(await standing(connection)) == 5


async def test_what_another_table_refers_to_ends_the_pass_and_no_daemon(
    connection: db.Connection, link: db.Link
) -> None:
    await make_final(connection)
    await connection.execute(
        "UPDATE draft_requests SET created_at = created_at - interval '2 d', finished_at = finished_at - interval '2 d'"
    )
    await connection.execute("CREATE TABLE tickets (draft uuid REFERENCES draft_requests (id))")
    await connection.execute("INSERT INTO tickets SELECT id FROM draft_requests")
    logs = await one_pass(Pruner(reads=await keeping(link, days=1), link=link, quarantine=Quarantine()))
    assert [line["event"] for line in logs] == ["pruning incomplete"]
