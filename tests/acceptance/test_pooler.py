"""Behind a pooler in transaction mode: found out by itself, and nothing left on connections that serve others next."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from draftd import db
from draftd.demo.samples import LINKEDIN_POST
from draftd.errors import ConnectionLost
from draftd.queue import wakeup
from draftd.queue.wakeup import proves_session
from draftd.stand_in.threaded import ThreadedStandIn
from fix_daemon import Client, Fleet, draftd, environment, sample_url, wait_until
from fix_pooler import POOL_SIZE, PgBouncer, Unavailable, pgbouncer, program

REQUESTS = 40
STATE = """
SELECT pg_backend_pid() AS pid,
       (SELECT count(*) FROM pg_prepared_statements) AS prepared,
       (SELECT count(*) FROM pg_listening_channels()) AS channels,
       (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory') AS advisory_locks,
       (SELECT coalesce(array_agg(name), '{}') FROM pg_settings WHERE source = 'session' AND name <> ALL (%s)) AS settings
"""
TRACKED = [
    "application_name",
    "client_encoding",
    "DateStyle",
    "IntervalStyle",
    "standard_conforming_strings",
    "TimeZone",
]
"""What PgBouncer itself sets to what the client that it serves has asked for."""
CLEAN = {"prepared": 0, "channels": 0, "advisory_locks": 0, "settings": []}


@pytest.fixture(scope="session")
def pgbouncer_program(request: pytest.FixtureRequest) -> Path:
    """PgBouncer's program; without one the tests are skipped."""
    try:
        return program(request.config.cache.mkdir("pgbouncer"))
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def pooler(pgbouncer_program: Path, server_url: str) -> Iterator[PgBouncer]:
    """A pooler in transaction mode with few server connections."""
    with pgbouncer(pgbouncer_program, server_url) as running:
        yield running


def server_connections(pooled_url: str) -> list[dict[str, Any]]:
    """Return the state of every server connection: as many transactions at once as the pool is large."""
    with ExitStack() as stack:
        states = []
        for _ in range(POOL_SIZE):
            connection = stack.enter_context(psycopg.connect(pooled_url, row_factory=dict_row, prepare_threshold=None))
            states.append(connection.execute(STATE, [TRACKED]).fetchone() or {})
        return states


def assert_nothing_is_left(client: Client, pooled_url: str) -> None:
    states = server_connections(pooled_url)
    rows = client.query(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND backend_type = 'client backend' AND application_name <> 'draftd listen'"
    )
    assert {row["pid"] for row in rows} == {state["pid"] for state in states}
    assert [state | {"pid": 0} for state in states] == [CLEAN | {"pid": 0}] * POOL_SIZE


def insert_many(client: Client, stand_in: ThreadedStandIn, count: int = REQUESTS) -> list[str]:
    return [client.insert(sample_url(stand_in)) for _ in range(count)]


def wait_for_all(client: Client, ids: list[str]) -> None:
    for one in ids:
        row = client.wait_for(one, "completed", "failed", time_s=100)
        assert (row["status"], row["attempt"]) == ("completed", 1), row["errors"]


def listens(log: str) -> list[str]:
    return re.findall(r'"listen": (true|false)', log)


@pytest.mark.timeout(240)
def test_a_daemon_finds_out_by_itself_and_drafts(
    pooler: PgBouncer, database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    pooled = pooler.url(database)
    env = environment(pooled, stand_in)
    daemon = fleet.start(env)
    assert listens(daemon.log) == ["false"]
    wait_for_all(client, insert_many(client, stand_in))
    image = str(LINKEDIN_POST.path)
    assert draftd("enqueue", image, "--wait", "--timeout", "30", env=env).returncode == 0
    for command in (["list"], ["reap-stale"], ["prune", "--older-than", "1d"], ["models", "list"]):
        assert draftd(*command, env=env).returncode == 0
    status = json.loads(draftd("status", "--json", env=env).stdout)
    assert (status["requests"]["completed"], len(status["workers"])) == (REQUESTS + 1, 1)
    assert daemon.stop() == 0
    assert "database connection lost" not in daemon.log
    assert_nothing_is_left(client, pooled)


@pytest.mark.timeout(240)
def test_listen_past_the_pooler(
    pooler: PgBouncer, database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    pooled = pooler.url(database)
    env = environment(pooled, stand_in, DRAFTD_LISTEN_DATABASE_URL=database, DRAFTD_POLL_INTERVAL_S="600")
    daemon = fleet.start(env)
    assert listens(daemon.log) == ["true"]
    wait_for_all(client, insert_many(client, stand_in, count=5))
    assert daemon.stop() == 0
    assert_nothing_is_left(client, pooled)


async def test_the_proof_leaves_no_subscription_behind(
    pooler: PgBouncer, database: str, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeup, "PROOF_TIMEOUT_S", 0.2)
    pooled = pooler.url(database)
    # With all server connections in use before, the proof's transactions may run on any of them.
    server_connections(pooled)
    for _ in range(5):
        assert not await proves_session(pooled)
    assert_nothing_is_left(client, pooled)


async def test_a_pooler_in_session_mode_proves_a_session(
    pgbouncer_program: Path, server_url: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeup, "PROOF_TIMEOUT_S", 20)
    with pgbouncer(pgbouncer_program, server_url, pool_mode="session") as pooler:
        assert await proves_session(pooler.url(database))


async def test_a_statement_behind_the_pooler_is_bounded_from_here_and_ends_on_the_server(
    pooler: PgBouncer, database: str, client: Client
) -> None:
    link = db.Link(url=pooler.url(database), name="bounded", session=False, time_s=0.3)
    with pytest.raises(ConnectionLost):
        await link.run("SELECT pg_sleep(600)")
    wait_until(
        lambda: (
            not client.query(
                "SELECT FROM pg_stat_activity WHERE query LIKE %s AND state = 'active'", "SELECT pg_sleep%"
            )
        ),
        time_s=60,
    )
    link._time_s = 20
    assert await link.run("SELECT 1 AS one") == [{"one": 1}]
    await link.close()


async def test_no_command_prepares_or_sets_anything(pooler: PgBouncer, database: str, client: Client) -> None:
    pooled = pooler.url(database)
    async with db.connected(pooled) as connection:
        for _ in range(20):
            await connection.execute("SELECT %s::int", [1])
    link = db.Link(url=pooled, name="taken for a session", session=True)
    for _ in range(20):
        await link.run("SELECT %s::int", [1])
    await link.close()
    assert_nothing_is_left(client, pooled)


@pytest.mark.parametrize("level", ["serializable", "repeatable read"])
async def test_statements_behind_the_pooler_are_read_committed_and_leave_nothing(
    pooler: PgBouncer, database: str, client: Client, level: str
) -> None:
    name = client.query("SELECT current_database() AS name")[0]["name"]
    client.query(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = '{level}'")
    pooled, asked = pooler.url(database), "SELECT current_setting('transaction_isolation') AS level"
    link = db.Link(url=pooled, name="pooled", session=False)
    async with db.connected(pooled) as connection:
        for _ in range(5):
            assert await link.run(asked) == [{"level": "read committed"}]
            assert await (await connection.execute(asked)).fetchall() == [{"level": "read committed"}]
    await link.close()
    assert_nothing_is_left(client, pooled)
