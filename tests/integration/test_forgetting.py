"""A requester is forgotten as a whole, and whatever comes later does not bring it back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID, uuid4

import psycopg
import psycopg.sql
import pytest

from draftd import db
from draftd.db.sqlstate import told_to_log
from draftd.errors import LeaseLost
from draftd.queue.attempts import AttemptWriter, Usage
from draftd.queue.forgetting import FORGET_SOME, Forgotten, count_forgettable, forget
from draftd.queue.leases import RENEW_AND_BEAT
from draftd.queue.outcome import Done, Draft
from draftd.queue.pictures import Kept, StoredPicture, keep_pictures
from draftd.queue.refused_rows import Quarantine
from draftd.queue.settlements import Settler
from draftd.request import Claim
from fix_database import beat, claim_one, make_request
from fix_dump import dumped
from fix_roles import Roles

CANARY = "canary-9f27"
OTHER = "somebody else"


@pytest.fixture
async def second(database: str) -> AsyncIterator[db.Connection]:
    """Another session."""
    async with db.connected(database) as opened:
        yield opened


@pytest.fixture
def is_stored(database: str) -> Callable[[], bool]:
    """Return whether the canary is anywhere in any table."""
    return lambda: CANARY.encode() in dumped(database)


async def forgotten_by_function(connection: db.Connection, requester_id: str | None = CANARY) -> dict[str, int]:
    """Call the function as a client does."""
    row = await (
        await connection.execute("SELECT forget_draft_requester(requester_id => %s) AS done", [requester_id])
    ).fetchone()
    assert row is not None
    done: dict[str, int] = row["done"]
    return done


async def rows(connection: db.Connection, statement: str, *params: Any) -> list[dict[str, Any]]:
    """Execute a statement and return its rows, if it has any."""
    cursor = await connection.execute(statement.encode(), params)
    return await cursor.fetchall() if cursor.description else []


async def until_blocked(connection: db.Connection, other: db.Connection) -> None:
    """Wait until another session waits for a lock."""
    blocked = "SELECT pid FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
    while not await rows(connection, blocked, other.info.backend_pid):  # noqa: ASYNC110 - the server has no event for it
        await asyncio.sleep(0.01)


def make_usage(claimed: Claim, **over: Any) -> Usage:
    """Return a call of a claim."""
    values: dict[str, Any] = {
        "request_id": claimed.id,
        "requester_id": claimed.requester_id,
        "attempt": claimed.attempt,
        "lease_token": claimed.lease_token,
        "call": 1,
        "model": "m",
        "code": None,
        "input_tokens": 10,
        "cached_tokens": None,
        "output_tokens": 5,
        "cost_usd": None,
        "elapsed_s": 1.0,
        "trace_id": uuid4().hex,
    }
    return Usage(**values | over)


def make_writer(link: db.Link) -> AttemptWriter:
    """Return a writer of usage and progress."""
    return AttemptWriter(link=link, quarantine=Quarantine())


async def recorded(link: db.Link, usage: Usage) -> None:
    """Write a call, and wait until it is written."""
    writer = make_writer(link)
    writer.record(usage)
    await writer.flush()


def make_picture() -> StoredPicture:
    """Return a picture as it is kept."""
    return StoredPicture(position=1, url_sha256=b"x", facts={"seen": CANARY}, data=CANARY.encode())


async def make_everything(connection: db.Connection, link: db.Link, requester_id: str, mark: str) -> list[UUID]:
    """Store something of a requester wherever something can be stored: a final request, a processing and a pending one."""
    made = []
    for number in range(3):
        texts = {
            "context": mark,
            "options": {"me": mark},
            "metadata": {"of": mark},
            "idempotency_key": f"{mark} {number}",
        }
        due = {"available_at": "2100-01-01T00:00:00Z"} if number == 2 else {}  # it stays pending, whoever claims next
        made.append(await make_request(connection, requester_id=requester_id, **texts, **due))
        if number < 2:
            claimed = await claim_one(link)
            assert claimed.id == made[-1]
            await recorded(link, make_usage(claimed))
            await keep_pictures(link, claimed, [make_picture()])
        if number == 0:
            draft = Draft(result={"options": [{"length": "short", "text": mark}]}, reading=[mark])
            settler = Settler(link=link, quarantine=Quarantine())
            await settler.settle(claimed, Done(draft=draft, model="m", prompt_version="p"))
    await rows(
        connection, "INSERT INTO draft_feedback (request_id, option, sent_text) VALUES (%s, 'short', %s)", made[0], mark
    )
    if requester_id:  # without one there is no profile
        await rows(
            connection,
            "INSERT INTO draft_profiles (requester_id, me, facts, voice_samples) VALUES (%s, %s, ARRAY[%s], ARRAY[%s])",
            requester_id, mark, mark, mark,
        )  # fmt: skip
    await rows(connection, "INSERT INTO draft_limits (requester_id, max_pending) VALUES (%s, 100)", requester_id)
    await rows(
        connection, "INSERT INTO draft_pauses (what, name, reason) VALUES ('requester', %s, %s)", requester_id, mark
    )
    return made


async def test_nothing_of_a_forgotten_requester_is_left_in_the_database(
    connection: db.Connection, link: db.Link, is_stored: Callable[[], bool]
) -> None:
    await make_everything(connection, link, CANARY, CANARY)
    assert is_stored()
    assert await forgotten_by_function(connection) == {"requests": 3, "feedback": 1, "profiles": 1, "usage": 2}
    assert not is_stored()
    assert (
        await rows(connection, "SELECT requester_id, input_tokens FROM draft_usage")
        == [{"requester_id": "", "input_tokens": 10}] * 2
    )


async def test_forgetting_again_finds_nothing(connection: db.Connection, link: db.Link) -> None:
    await make_everything(connection, link, CANARY, CANARY)
    await forgotten_by_function(connection)
    assert set((await forgotten_by_function(connection)).values()) == {0}


@pytest.mark.parametrize("requester_id", [CANARY, ""])
async def test_other_requesters_keep_everything(connection: db.Connection, link: db.Link, requester_id: str) -> None:
    await make_everything(connection, link, OTHER, "theirs")
    tables = ("draft_requests", "draft_pictures", "draft_usage", "draft_feedback", "draft_profiles")
    before = [await rows(connection, f"SELECT * FROM {table} ORDER BY 1") for table in tables]
    await make_everything(connection, link, requester_id, CANARY)
    await forgotten_by_function(connection, requester_id)
    await rows(connection, "DELETE FROM draft_usage WHERE requester_id = ''")
    assert [await rows(connection, f"SELECT * FROM {table} ORDER BY 1") for table in tables] == before


async def test_feedback_and_usage_that_outlived_their_request_are_found(
    connection: db.Connection, link: db.Link, is_stored: Callable[[], bool]
) -> None:
    await make_everything(connection, link, CANARY, CANARY)
    await rows(connection, "DELETE FROM draft_requests")
    assert await forgotten_by_function(connection) == {"requests": 0, "feedback": 1, "profiles": 1, "usage": 2}
    assert not is_stored()


async def test_a_null_requester_is_refused(connection: db.Connection) -> None:
    with pytest.raises(psycopg.errors.NullValueNotAllowed, match="requester_id is null"):
        await forgotten_by_function(connection, None)


async def test_a_transaction_with_one_snapshot_is_refused(connection: db.Connection) -> None:
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        with pytest.raises(psycopg.errors.InvalidTransactionState, match="READ COMMITTED"):
            await forgotten_by_function(connection)


async def test_who_follows_a_request_that_is_drafted_hears_of_its_end(
    connection: db.Connection, link: db.Link, second: db.Connection
) -> None:
    request_id = await make_request(connection, requester_id=CANARY)
    await claim_one(link)
    await second.execute("LISTEN draft_results")
    await forgotten_by_function(connection)
    notification = await anext(second.notifies(timeout=10))
    assert notification.payload == f'{{"id": "{request_id}", "status": "cancelled", "options_ready": 0}}'


async def test_a_worker_brings_nothing_back(
    connection: db.Connection, link: db.Link, is_stored: Callable[[], bool]
) -> None:
    await make_request(connection, requester_id=CANARY)
    claimed = await claim_one(link)
    await forgotten_by_function(connection)
    (row,) = await link.run(RENEW_AND_BEAT, beat(claimed))
    assert row["lost"] == [[str(claimed.id), claimed.lease_token, None]]
    with pytest.raises(LeaseLost):
        await make_writer(link).publish(claimed, {"options": [{"text": CANARY}]})
    assert await keep_pictures(link, claimed, [make_picture()]) is Kept.REJECTED
    await recorded(link, make_usage(claimed))
    draft = Draft(result={"options": [{"text": CANARY}]}, reading=[CANARY])
    with pytest.raises(LeaseLost):
        await Settler(link=link, quarantine=Quarantine()).settle(
            claimed, Done(draft=draft, model="m", prompt_version="p")
        )
    assert not is_stored()
    (usage,) = await rows(connection, "SELECT requester_id, input_tokens FROM draft_usage")
    assert usage == {"requester_id": "", "input_tokens": 10}


async def test_usage_of_a_request_that_is_being_forgotten_waits_for_the_end_and_holds_nobody_up(
    connection: db.Connection, link: db.Link, second: db.Connection
) -> None:
    await make_request(connection, requester_id=CANARY)
    forgotten = await claim_one(link)
    await make_request(connection, requester_id=OTHER)
    other = await claim_one(link)
    writer = make_writer(link)
    async with second.transaction():
        await forgotten_by_function(second)
        writer.record(make_usage(forgotten))
        writer.record(make_usage(other))
        await writer.wait_until_recorded(other)
        assert await rows(connection, "SELECT requester_id FROM draft_usage") == [{"requester_id": OTHER}]
    await writer.flush()
    usage = await rows(connection, "SELECT requester_id FROM draft_usage ORDER BY requester_id")
    assert usage == [{"requester_id": ""}, {"requester_id": OTHER}]


async def test_usage_that_is_being_written_is_waited_for_and_loses_the_name(
    database: str, connection: db.Connection, link: db.Link, second: db.Connection, is_stored: Callable[[], bool]
) -> None:
    await make_request(connection, requester_id=CANARY)
    claimed = await claim_one(link)
    async with connection.transaction():
        # As record_usage does, in a transaction that has not ended.
        await connection.execute("SELECT FROM draft_requests WHERE id = %s FOR KEY SHARE", [claimed.id])
        await connection.execute(
            "INSERT INTO draft_usage (request_id, requester_id, attempt, lease_token, call, model) "
            "VALUES (%s, %s, 1, 1, 1, 'm')",
            [claimed.id, CANARY],
        )
        forgetting = asyncio.create_task(forgotten_by_function(second))
        async with db.connected(database) as third:
            await until_blocked(third, second)
    assert (await forgetting)["usage"] == 1
    assert not is_stored()


async def test_usage_of_a_request_that_stays_locked_is_recorded_without_its_name(
    connection: db.Connection, link: db.Link, second: db.Connection
) -> None:
    await make_request(connection, requester_id=OTHER)
    claimed = await claim_one(link)
    async with second.transaction():
        await second.execute("SELECT FROM draft_requests FOR UPDATE")
        await recorded(link, make_usage(claimed))
        assert await rows(connection, "SELECT requester_id FROM draft_usage") == [{"requester_id": ""}]


async def test_while_a_requester_is_forgotten_others_are_claimed_renewed_and_settled(
    connection: db.Connection, link: db.Link, second: db.Connection
) -> None:
    for _ in range(50):
        await make_request(connection, requester_id=CANARY)
    await make_request(connection, requester_id=OTHER)
    async with second.transaction():
        await forgotten_by_function(second)
        claimed = await claim_one(link)
        assert claimed.requester_id == OTHER
        (row,) = await link.run(RENEW_AND_BEAT, beat(claimed))
        assert row["renewed"] == [claimed.id]
        settler = Settler(link=link, quarantine=Quarantine())
        done = Done(draft=Draft(result={}, reading=[]), model="m", prompt_version="p")
        assert (await settler.settle(claimed, done)).status == "completed"


async def test_what_is_inserted_meanwhile_is_new_and_stays(
    connection: db.Connection, link: db.Link, second: db.Connection
) -> None:
    await make_request(connection, requester_id=CANARY)
    async with second.transaction():
        await forgotten_by_function(second)
        request_id = await make_request(connection, requester_id=CANARY)
    assert await rows(connection, "SELECT id FROM draft_requests") == [{"id": request_id}]
    claimed = await claim_one(link)
    await recorded(link, make_usage(claimed))
    assert await rows(connection, "SELECT requester_id FROM draft_usage") == [{"requester_id": CANARY}]


async def test_batches_forget_what_the_function_forgets(
    connection: db.Connection, link: db.Link, monkeypatch: pytest.MonkeyPatch, is_stored: Callable[[], bool]
) -> None:
    monkeypatch.setattr("draftd.queue.forgetting.BATCH", 2)
    await make_everything(connection, link, CANARY, CANARY)
    for _ in range(6):
        await make_request(connection, requester_id=CANARY)
    counted = await count_forgettable(connection, CANARY)
    assert counted.counts() == {"requests": 9, "feedback": 1, "profiles": 1, "usage": 2}
    forgotten, batches = Forgotten(), []
    await forget(connection, CANARY, forgotten, on_batch=lambda: batches.append(forgotten.requests))
    assert forgotten.counts() == counted.counts()
    assert len(forgotten.trace_ids) == 2
    assert forgotten.trace_ids == counted.trace_ids
    assert forgotten.is_recent
    assert batches[:2] == [2, 4]
    assert not is_stored()


async def test_a_session_beside_another_that_is_interrupted_forgets_the_rest(
    connection: db.Connection,
    second: db.Connection,
    link: db.Link,
    monkeypatch: pytest.MonkeyPatch,
    is_stored: Callable[[], bool],
) -> None:
    monkeypatch.setattr("draftd.queue.forgetting.BATCH", 2)
    for _ in range(6):
        await make_request(connection, requester_id=CANARY)
    await rows(connection, "UPDATE draft_requests SET status = 'cancelled'")  # which comes first
    forgotten = Forgotten()
    async with second.transaction():
        await second.execute(FORGET_SOME.encode(), {"requester_id": CANARY, "batch": 2})
        forgetting = asyncio.create_task(forget(connection, CANARY, forgotten))
        blocked = "SELECT pid FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
        while not await link.run(blocked, [connection.info.backend_pid]):  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0.01)
    await forgetting
    assert forgotten.requests == 4
    assert not is_stored()


async def test_nothing_is_claimed_between_two_batches(
    connection: db.Connection, second: db.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("draftd.queue.forgetting.BATCH", 1)
    for _ in range(3):
        await make_request(connection, requester_id=CANARY)
    statuses: list[str] = []

    async def look() -> None:
        statuses.extend(row["status"] for row in await rows(second, "SELECT status FROM draft_requests"))

    looks: list[asyncio.Task[None]] = []
    await forget(connection, CANARY, Forgotten(), on_batch=lambda: looks.append(asyncio.create_task(look())))
    await asyncio.gather(*looks)
    assert set(statuses) <= {"cancelled"}
    assert statuses


OWN_CHECK = "ALTER TABLE draft_requests ADD CONSTRAINT own CHECK (attempt = 0)"
OWN_TRIGGER = """
CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION USING MESSAGE = 'no: ' || NEW.context; END $$;
CREATE TRIGGER own BEFORE UPDATE ON draft_requests FOR EACH ROW EXECUTE FUNCTION own()
"""


@pytest.mark.parametrize(("obstacle", "told"), [(OWN_CHECK, "own"), (OWN_TRIGGER, "RaiseException in a trigger")])
async def test_an_error_of_the_server_is_logged_without_the_row_it_quotes(
    connection: db.Connection, obstacle: str, told: str
) -> None:
    await make_request(connection, requester_id=CANARY, context=CANARY)
    await connection.execute(obstacle.encode())
    with pytest.raises(psycopg.Error) as refused:
        await rows(connection, "UPDATE draft_requests SET attempt = 1")
    assert CANARY in str(refused.value)
    assert CANARY not in told_to_log(refused.value)
    assert told in told_to_log(refused.value)


async def test_a_trusted_client_may_forget_past_row_security(
    connection: db.Connection, link: db.Link, roles: Roles, is_stored: Callable[[], bool]
) -> None:
    await make_everything(connection, link, CANARY, CANARY)
    async with db.connected(roles.url(roles.client(trusted=True))) as client:
        assert (await forgotten_by_function(client))["requests"] == 3
    assert not is_stored()


async def test_a_role_with_every_grant_may_not_forget(connection: db.Connection, link: db.Link, roles: Roles) -> None:
    await make_everything(connection, link, CANARY, CANARY)
    async with db.connected(roles.url(roles.with_everything())) as stranger:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="may not forget requesters"):
            await forgotten_by_function(stranger)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await rows(stranger, "SELECT draft_forget_some(%s, NULL)", CANARY)
    assert len(await rows(connection, "SELECT id FROM draft_requests")) == 3


async def test_the_role_that_was_set_counts_and_not_the_one_that_logged_in(
    connection: db.Connection, roles: Roles
) -> None:
    role = psycopg.sql.Identifier(roles.with_everything())
    async with connection.transaction():
        await connection.execute(psycopg.sql.SQL("SET LOCAL ROLE {}").format(role))
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="may not forget requesters"):
            await forgotten_by_function(connection)


@pytest.mark.parametrize("make", ["client", "worker"])
async def test_nobody_else_may_forget(connection: db.Connection, link: db.Link, roles: Roles, make: str) -> None:
    await make_everything(connection, link, CANARY, CANARY)
    async with db.connected(roles.url(getattr(roles, make)())) as other:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await forgotten_by_function(other)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await rows(other, "SELECT draft_forget_some(%s, NULL)", CANARY)
    assert len(await rows(connection, "SELECT id FROM draft_requests")) == 3
