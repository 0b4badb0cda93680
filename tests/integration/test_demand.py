"""What the database says of the whole fleet: how many workers are needed, and why a request waits."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from draftd import db
from draftd.daemon.gauges import PENDING
from draftd.daemon.limit_keeper import LimitKeeper
from fix_database import claim_all, claim_one, make_request, renew
from fix_roles import Roles

AGENT = "comment_generator"
HOUR = "now() + interval '1 h'"


async def worker(connection: db.Connection, models: dict[str, dict[str, bool]] | None = None, **over: Any) -> None:
    """Let a worker say which models it can call."""
    models = {AGENT: {"m": True}} if models is None else models
    await renew(connection, agents=sorted(models), models=Jsonb(models), **over)


async def hold(connection: db.Connection, model: str, until: str = HOUR) -> None:
    await connection.execute(
        f"INSERT INTO draft_holds (model, code, until) VALUES ('{model}', 'model_unavailable', {until})".encode()
    )


async def pause(connection: db.Connection, what: str, name: str = "") -> None:
    await connection.execute("INSERT INTO draft_pauses (what, name) VALUES (%s, %s)", [what, name])


async def limit(connection: db.Connection, requester_id: str, in_flight: int) -> None:
    await connection.execute(
        "INSERT INTO draft_limits (requester_id, max_in_flight) VALUES (%s, %s)", [requester_id, in_flight]
    )


async def demand(connection: db.Connection) -> int:
    row = await (await connection.execute("SELECT draftd_demand() AS n")).fetchone()
    assert row is not None
    return int(row["n"])


async def wait(connection: db.Connection, request_id: UUID) -> Any:
    row = await (await connection.execute("SELECT draft_request_wait(%s) AS wait", [request_id])).fetchone()
    assert row is not None
    return row["wait"]


async def test_demand_is_what_runs_and_what_is_due(connection: db.Connection, link: db.Link) -> None:
    assert await demand(connection) == 0
    await worker(connection)
    for _ in range(3):
        await make_request(connection)
    await make_request(connection, available_at="2100-01-01")
    await claim_one(link)
    assert await demand(connection) == 3


async def test_an_unknown_agent_counts_as_due(connection: db.Connection) -> None:
    await make_request(connection, agent="new")
    assert await demand(connection) == 1


@pytest.mark.parametrize(("what", "name"), [("all", ""), ("model", "m"), ("requester", "ann")])
async def test_what_is_paused_needs_nobody(connection: db.Connection, link: db.Link, what: str, name: str) -> None:
    await worker(connection)
    await pause(connection, what, name)
    for _ in range(2):
        await make_request(connection, requester_id="ann")
    await LimitKeeper(link=link, worker_id=UUID(int=9)).keep()
    assert await demand(connection) == 0


async def test_what_is_held_needs_nobody_and_a_lapsed_hold_one_probe(connection: db.Connection) -> None:
    await worker(connection, {AGENT: {"m": True}, "second": {"m": True}, "third": {"m": True, "n": True}})
    await hold(connection, "m")
    for agent in (AGENT, AGENT, "second"):
        await make_request(connection, agent=agent)
    assert await demand(connection) == 0
    await make_request(connection, agent="third")
    assert await demand(connection) == 1, "the other model answers"
    await connection.execute("UPDATE draft_holds SET until = now() - interval '1 s'")
    assert await demand(connection) == 2


async def test_a_limited_requester_needs_as_many_as_it_may_have(connection: db.Connection, link: db.Link) -> None:
    """Also while no daemon runs, which would admit the rows: else none would ever be started."""
    await worker(connection, state="stopped")
    await limit(connection, "ann", 2)
    for _ in range(5):
        await make_request(connection, requester_id="ann")
    assert await demand(connection) == 2
    await LimitKeeper(link=link, worker_id=UUID(int=9)).keep()
    assert await demand(connection) == 2
    await claim_all(link)
    assert await demand(connection) == 2


async def test_a_limited_requesters_row_can_be_the_probe(connection: db.Connection) -> None:
    await worker(connection, state="stopped")
    await limit(connection, "ann", 2)
    await hold(connection, "m", "now() - interval '1 s'")
    for _ in range(5):
        await make_request(connection, requester_id="ann")
    assert await demand(connection) == 1


async def test_what_workers_said_counts_after_they_stopped_but_not_against_those_alive(
    connection: db.Connection,
) -> None:
    await worker(connection, {AGENT: {"m": False}}, worker_id=UUID(int=1), state="stopped")
    await make_request(connection)
    assert await demand(connection) == 0
    await worker(connection, {AGENT: {"m": True}}, worker_id=UUID(int=2), state="stopped")
    assert await demand(connection) == 1
    await worker(connection, {AGENT: {"m": False}}, worker_id=UUID(int=3))
    assert await demand(connection) == 0


async def test_demand_is_bounded(connection: db.Connection) -> None:
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(
            "INSERT INTO draft_requests (image_urls) SELECT '{https://a.example/b.png}' FROM generate_series(1, 10100)"
        )
    assert await demand(connection) == 10_000


async def test_a_role_that_may_call_it_needs_no_other_right(connection: db.Connection, roles: Roles) -> None:
    await make_request(connection)
    role = roles.make()
    async with await psycopg.AsyncConnection.connect(roles.url(role), autocommit=True) as scaler:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await scaler.execute("SELECT draftd_demand()")
        roles.owner(sql.SQL("GRANT EXECUTE ON FUNCTION draftd_demand() TO {}").format(sql.Identifier(role)))
        assert await (await scaler.execute("SELECT draftd_demand()")).fetchone() == (1,)


async def test_garbage_in_a_workers_row_stops_nobody(connection: db.Connection) -> None:
    await worker(connection)
    await connection.execute("""UPDATE draft_workers SET models = '{"comment_generator": [1], "x": {"m": {"y": 1}}}'""")
    await make_request(connection)
    assert await demand(connection) == 0
    await connection.execute("UPDATE draft_workers SET models = '[1]'")
    assert await demand(connection) == 1


async def test_a_request_waits_for_its_turn(connection: db.Connection) -> None:
    await worker(connection)
    for _ in range(3):
        await make_request(connection)
    assert await wait(connection, await make_request(connection)) == {"reason": "turn", "ahead": 3, "until": None}


async def test_a_request_waits_for_its_time(connection: db.Connection) -> None:
    await worker(connection)
    found = await wait(connection, await make_request(connection, available_at="2100-01-01T00:00:00Z"))
    assert found["reason"] == "later"
    assert datetime.fromisoformat(found["until"]) == datetime(2100, 1, 1, tzinfo=UTC)


async def test_a_request_waits_for_its_model(connection: db.Connection) -> None:
    await worker(connection)
    await hold(connection, "m")
    found = await wait(connection, await make_request(connection))
    assert found["reason"] == "model"
    assert datetime.fromisoformat(found["until"]) > datetime.now(UTC)


async def test_a_request_waits_for_a_worker(connection: db.Connection) -> None:
    request_id = await make_request(connection)
    assert (await wait(connection, request_id))["reason"] == "no_worker"
    await worker(connection, {AGENT: {"m": False}}, worker_id=UUID(int=1))
    assert (await wait(connection, request_id))["reason"] == "no_worker"
    await worker(connection, worker_id=UUID(int=1))
    assert (await wait(connection, request_id))["reason"] == "turn"


@pytest.mark.parametrize(("what", "name"), [("all", ""), ("model", "m"), ("requester", "ann")])
async def test_a_request_waits_for_the_end_of_a_pause(connection: db.Connection, what: str, name: str) -> None:
    await worker(connection)
    await pause(connection, what, name)
    found = await wait(connection, await make_request(connection, requester_id="ann"))
    assert found == {"reason": "paused", "ahead": 0, "until": None}


async def test_a_request_waits_for_its_requesters_others(connection: db.Connection, link: db.Link) -> None:
    await worker(connection)
    await limit(connection, "ann", 1)
    made = [await make_request(connection, requester_id="ann") for _ in range(4)]
    await LimitKeeper(link=link, worker_id=UUID(int=9)).keep()
    await claim_one(link)
    assert await wait(connection, made[3]) == {"reason": "limit", "ahead": 2, "until": None}


async def test_a_request_that_does_not_wait_has_no_reason(connection: db.Connection, link: db.Link) -> None:
    request_id = await make_request(connection)
    await claim_one(link)
    assert await wait(connection, request_id) == {"reason": None, "ahead": 0, "until": None}
    assert await wait(connection, UUID(int=1)) is None


async def test_nobody_is_told_why_anothers_request_waits(connection: db.Connection, roles: Roles) -> None:
    role = roles.client()
    mine, other = [await make_request(connection, requester_id=who) for who in ("me", "other")]
    roles.owner("CREATE POLICY mine ON draft_requests AS RESTRICTIVE FOR SELECT USING (requester_id = 'me')")
    async with db.connected(roles.url(role)) as client:
        assert (await wait(client, mine))["ahead"] == 0
        assert await wait(client, other) is None
        row = await (await client.execute("SELECT draft_request_wait_of(%s, now()) AS wait", [other])).fetchone()
        assert row == {"wait": None}


STATES: list[dict[str, Any]] = [
    {},
    {"agent": "unknown"},
    {"agent": "held"},
    {"agent": "paused"},
    {"available_at": "2100-01-01"},
    {"requester_id": "ann"},
]


async def test_pending_requests_are_counted_by_state(connection: db.Connection, link: db.Link) -> None:
    for over in STATES:
        await make_request(connection, **over)
    await worker(connection, {AGENT: {"m": True}, "held": {"n": True}, "paused": {"o": True}})
    await hold(connection, "n")
    await pause(connection, "model", "o")
    await limit(connection, "ann", 0)
    await LimitKeeper(link=link, worker_id=UUID(int=9)).keep()
    assert await link.run(PENDING) == [{"due": 2, "held": 2, "later": 1, "limited": 1}]


async def test_many_requesters_without_room_hide_nobody_behind_them(connection: db.Connection) -> None:
    await connection.execute("INSERT INTO draft_limits (requester_id, max_in_flight) VALUES ('*', 0), ('z', 5)")
    await connection.execute(
        "INSERT INTO draft_requests (image_urls, requester_id) "
        "SELECT ARRAY['https://images.example/shot.png'], 'a' || n FROM generate_series(1, 1200) AS n"
    )
    await make_request(connection, requester_id="z")
    row = await (await connection.execute("SELECT draftd_demand() AS demand")).fetchone()
    assert row == {"demand": 1}
