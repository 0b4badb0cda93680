"""What people do with many requests at a time."""

from typing import Any, cast

import pytest

from draftd import db
from draftd.queue import admin
from draftd.queue.retention import count_prunable
from fix_database import claim_one, lose, make_request, reap_now, renew, shift


class FailingAgain:
    """A connection beside which a daemon fails what the first statement retried, before the second one."""

    def __init__(self, connection: db.Connection) -> None:
        self._connection = connection
        self._statements = 0

    async def execute(self, statement: bytes, params: dict[str, Any]) -> Any:
        cursor = await self._connection.execute(statement, params)
        self._statements += 1
        if self._statements == 1:
            await self._connection.execute(
                "UPDATE draft_requests SET status = 'failed', error_code = 'image_gone' WHERE status = 'pending'"
            )
        return cursor


async def test_a_request_that_fails_again_between_two_batches_is_retried_once(
    connection: db.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "BATCH", 2)
    failed = [await make_request(connection, status="failed", error_code="image_gone") for _ in range(5)]
    beside = cast("db.Connection", FailingAgain(connection))
    changed = await admin.change(beside, admin.RETRY, code="image_gone")
    assert sorted(row["id"] for row in changed.rows) == sorted(failed)
    rows = await (await connection.execute("SELECT status, count(*) AS n FROM draft_requests GROUP BY 1")).fetchall()
    assert {row["status"]: row["n"] for row in rows} == {"failed": 2, "pending": 3}


async def test_a_dry_run_locks_nothing_and_sees_what_is_locked(
    connection: db.Connection, link: db.Link, database: str
) -> None:
    lost = await make_request(connection)
    await lose(connection, await claim_one(link))
    expired = await make_request(connection)
    await shift(connection, expired, expires_at=-100_000)
    orphan = await make_request(connection, agent="nobodys")
    await shift(connection, orphan, available_at=-100)
    await renew(connection)
    failed = await make_request(connection, status="failed")
    await shift(connection, failed, finished_at=-100, created_at=-100)
    # A server that refuses every write and every lock, like a standby.
    only_reading = f"{database}{'&' if '?' in database else '?'}options=-cdefault_transaction_read_only%3Don"
    reading_link = db.Link(url=only_reading, name="draftd test")
    async with connection.transaction(), db.connected(only_reading) as reading:
        await connection.execute("SELECT FROM draft_requests FOR UPDATE")
        reaped = await reap_now(reading_link, dry_run=True)
        cancellable = await admin.change(reading, admin.CANCEL, dry_run=True)
        retriable = await admin.change(reading, admin.RETRY, dry_run=True)
        prunable = await count_prunable(reading_link, older_than_s=10)
    await reading_link.close()
    assert {one.id for one in reaped} == {lost, expired, orphan}
    assert {row["id"] for row in cancellable.rows} == {lost, expired, orphan}
    assert [row["id"] for row in retriable.rows] == [failed]
    assert prunable == 1


@pytest.mark.parametrize(
    ("lease_s", "silent_s", "is_alive"), [(10, 50, True), (10, 70, False), (300, 340, True), (300, 360, False)]
)
async def test_a_worker_is_judged_by_its_own_interval(
    connection: db.Connection, lease_s: float, silent_s: float, *, is_alive: bool
) -> None:
    await renew(connection, lease_s=lease_s)
    await connection.execute(
        "UPDATE draft_workers SET heartbeat_at = heartbeat_at - make_interval(secs => %s)", [silent_s]
    )
    (worker,) = await admin.workers(connection)
    assert (worker["alive"], worker["beat_s"]) == (is_alive, pytest.approx(lease_s / 3))
    assert await admin.is_unserved(connection, "comment_generator") is not is_alive


async def test_a_worker_that_beats_once_a_day_is_not_forgotten_in_between(
    connection: db.Connection, link: db.Link
) -> None:
    await renew(connection, lease_s=86_400)
    await renew(connection)
    await connection.execute("UPDATE draft_workers SET heartbeat_at = heartbeat_at - interval '86420 s'")
    await reap_now(link)
    assert [worker["alive"] for worker in await admin.workers(connection)] == [True]
