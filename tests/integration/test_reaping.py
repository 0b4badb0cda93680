"""What the reaper takes back, and from whom."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from draftd import db
from draftd.errors import Expired, InvalidRequest, WorkerLost
from draftd.queue.reaping import REAP_BATCH, Reaped, StallDetector, may_take_in_s
from fix_database import (
    UNKNOWN_S,
    claim_all,
    claim_one,
    lose,
    make_request,
    make_terms,
    read_row,
    reap_now,
    renew,
    shift,
)


async def test_a_lost_lease_goes_back_at_once_the_first_time(connection: db.Connection, link: db.Link) -> None:
    await make_request(connection)
    claimed = await claim_one(link)
    await lose(connection, claimed)
    (one,) = await reap_now(link)
    assert (one.id, one.code, one.status) == (claimed.id, "worker_lost", "pending")
    row = await read_row(connection, claimed.id)
    assert (row["status"], row["attempt"], row["error_code"]) == ("pending", 1, "worker_lost")
    assert row["lease_until"] is row["deadline_at"] is None
    assert (await claim_one(link)).lease_token == 2


async def test_a_second_loss_waits(connection: db.Connection, link: db.Link) -> None:
    request_id = await make_request(connection, errors=[{"code": "worker_lost", "attempt": 1}])
    for _ in range(8):
        await connection.execute("UPDATE draft_requests SET available_at = now(), attempt = 1")
        await lose(connection, await claim_one(link))
        await reap_now(link)
    row = await read_row(connection, request_id)
    assert row["available_at"] > row["updated_at"]


async def test_a_request_that_kills_its_worker_ends_at_the_cap(connection: db.Connection, link: db.Link) -> None:
    request_id = await make_request(connection, max_attempts=3)
    for _ in range(3):
        await connection.execute("UPDATE draft_requests SET available_at = now()")
        await lose(connection, await claim_one(link))
        await reap_now(link)
    row = await read_row(connection, request_id)
    assert (row["status"], row["error_code"], row["attempt"]) == ("failed", "worker_lost", 3)
    assert len(row["errors"]) == 3


async def test_a_living_lease_is_left_alone(connection: db.Connection, link: db.Link) -> None:
    await make_request(connection)
    claimed = await claim_one(link)
    assert await reap_now(link) == []
    assert (await read_row(connection, claimed.id))["status"] == "processing"


async def test_a_hung_attempt_is_reaped_at_its_deadline(connection: db.Connection, link: db.Link) -> None:
    await make_request(connection)
    claimed = await claim_one(link)
    await shift(connection, claimed.id, deadline_at=-300, lease_until=300)
    (one,) = await reap_now(link)
    assert one.status == "pending"
    row = await read_row(connection, claimed.id)
    assert row["error_message"] == WorkerLost.user_message
    assert "deadline" in row["errors"][-1]["message"]


LONG_S = 1e7
"""A lease that is longer than any session here is old."""


async def test_nothing_is_taken_back_before_the_reaper_has_been_connected_for_one_lease(
    connection: db.Connection, link: db.Link
) -> None:
    await make_request(connection)
    assert await may_take_in_s(link, lease_s=LONG_S, older_than_s=0) == 0, "nothing has run out"
    await lose(connection, await claim_one(link), by_s=3600)
    assert await reap_now(link, lease_s=LONG_S) == []
    assert LONG_S - 3600 < await may_take_in_s(link, lease_s=LONG_S, older_than_s=0) <= LONG_S
    assert await may_take_in_s(link, lease_s=0.001, older_than_s=0) == 0
    assert len(await reap_now(link, lease_s=0.001)) == 1


async def test_the_age_of_another_session_is_no_proof(database: str, connection: db.Connection, link: db.Link) -> None:
    await make_request(connection)
    await lose(connection, await claim_one(link))
    # Old enough that the reaper is younger whatever the machine does.
    await connection.execute("SELECT pg_sleep(2)")
    age = await connection.execute(
        "SELECT extract(epoch FROM now() - backend_start)::float8 AS s FROM pg_stat_get_activity(pg_backend_pid())"
    )
    row = await age.fetchone()
    assert row is not None
    young = db.Link(url=database, name="just connected")
    assert await reap_now(young, lease_s=row["s"]) == []
    await young.close()


async def test_after_a_standstill_of_the_server_nothing_is_taken_back_for_one_lease(
    connection: db.Connection, link: db.Link
) -> None:
    await make_request(connection)
    await lose(connection, await claim_one(link))
    stalls = StallDetector(gap_s=0.2)
    assert await reap_now(link, stalls=stalls, older_than_s=86_400) == []
    await asyncio.sleep(0.3)
    assert await reap_now(link, stalls=stalls, lease_s=0.2) == [], "the first statement after the pause"
    assert await reap_now(link, stalls=stalls, lease_s=0.2) == [], "the others have had no time to renew"
    reaped: list[Reaped] = []
    for _ in range(100):
        await asyncio.sleep(0.05)
        reaped += await reap_now(link, stalls=stalls, lease_s=0.2)
        if reaped:
            break
    assert len(reaped) == 1


async def test_older_than_counts_from_the_end_of_the_lease(connection: db.Connection, link: db.Link) -> None:
    await make_request(connection)
    claimed = await claim_one(link)
    await lose(connection, claimed, by_s=100)
    assert await reap_now(link, older_than_s=120) == []
    assert len(await reap_now(link, older_than_s=90)) == 1


async def test_a_dry_run_only_says(connection: db.Connection, link: db.Link) -> None:
    await make_request(connection)
    claimed = await claim_one(link)
    await lose(connection, claimed)
    (one,) = await reap_now(link, dry_run=True)
    assert (one.id, one.status) == (claimed.id, "pending")
    assert (await read_row(connection, claimed.id))["status"] == "processing"


async def test_a_dry_run_counts_more_than_one_batch(connection: db.Connection, link: db.Link) -> None:
    await connection.execute(
        "INSERT INTO draft_requests (image_urls, agent, expires_at)"
        " SELECT ARRAY['https://images.example/a.png'], 'comment_generator', now() - interval '1 s'"
        " FROM generate_series(0, %s)",
        [REAP_BATCH],
    )
    assert len(await reap_now(link, dry_run=True)) == REAP_BATCH + 1
    assert [len(await reap_now(link)) for _ in range(3)] == [REAP_BATCH, 1, 0]


async def test_a_pending_row_ends_when_it_expires(connection: db.Connection, link: db.Link) -> None:
    expired = await make_request(connection, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    by_default = await make_request(connection, available_at=datetime.now(UTC) - timedelta(seconds=21_601))
    alive = await make_request(connection)
    reaped = await reap_now(link)
    assert {(one.id, one.code, one.status) for one in reaped} == {
        (expired, "expired", "failed"),
        (by_default, "expired", "failed"),
    }
    row = await read_row(connection, expired)
    assert (row["error_code"], row["error_details"]) == ("expired", {"action": "resend"})
    assert row["error_message"] == Expired.user_message
    assert (await read_row(connection, alive))["status"] == "pending"
    assert await reap_now(link) == []


async def test_an_agent_that_no_daemon_has_known_fails_after_a_while(connection: db.Connection, link: db.Link) -> None:
    unknown = await make_request(connection, agent="nobody")
    await make_request(connection)
    await shift(connection, unknown, available_at=-UNKNOWN_S - 1)
    young = await make_request(connection, agent="nobody")
    now = (await read_row(connection, young))["available_at"]
    assert await reap_now(link, now=now) == [], "where no daemon ever was, nobody can say what is unknown"
    await renew(connection)
    (one,) = await reap_now(link, now=now)
    assert (one.id, one.code, one.status) == (unknown, "invalid_request", "failed")
    row = await read_row(connection, unknown)
    assert row["error_message"] == InvalidRequest.user_message
    assert "'nobody'" in row["errors"][-1]["message"]
    assert (await read_row(connection, young))["status"] == "pending"


@pytest.mark.parametrize("state", ["draining", "stopped"])
async def test_a_daemon_that_restarts_leaves_its_agents_known(
    connection: db.Connection, link: db.Link, state: str
) -> None:
    request_id = await make_request(connection, agent="special")
    await shift(connection, request_id, available_at=-3600)
    await renew(connection)
    await renew(connection, worker_id=uuid.uuid4(), agents=["special"], state=state)
    assert await reap_now(link) == []


async def test_an_expired_row_of_an_unknown_agent_is_taken_once(connection: db.Connection, link: db.Link) -> None:
    await make_request(connection, agent="nobody", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    await renew(connection)
    assert [one.code for one in await reap_now(link)] == ["expired"]


async def test_a_locked_row_does_not_hold_the_reaper_up(
    database: str, connection: db.Connection, link: db.Link
) -> None:
    for _ in range(2):
        await make_request(connection)
    first, second = await claim_all(link, make_terms())
    for one in (first, second):
        await lose(connection, one)
    async with db.connected(database) as other, other.transaction():
        await other.execute("SELECT FROM draft_requests WHERE id = %s FOR UPDATE", [first.id])
        assert [one.id for one in await reap_now(link)] == [second.id]
