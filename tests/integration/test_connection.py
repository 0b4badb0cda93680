"""Links: one connection each, repaired when it broke."""

import asyncio
import time
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg.rows import DictRow
from structlog.testing import capture_logs

from chaos.proxy import Proxy
from draftd import db
from draftd.db import dsn
from draftd.errors import ConfigurationError, ConnectionLost, DatabaseUnavailable
from draftd.queue.outcome import Fail
from draftd.queue.refused_rows import Quarantine
from draftd.queue.settlements import Settler
from fix_database import claim_all, make_request

NOWHERE = "postgresql://user:secret@127.0.0.1:1/nowhere"
END_IT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'draftd test'"


async def test_a_database_that_is_away_is_named_without_credentials() -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        await db.connect(NOWHERE)
    assert "127.0.0.1:1/nowhere" in caught.value.message
    assert "secret" not in str(caught.value)
    assert "user" not in caught.value.message.replace("cannot use", "")


async def test_a_lost_connection_is_opened_again(link: db.Link, connection: db.Connection) -> None:
    assert await link.run("SELECT 1 AS one") == [{"one": 1}]
    await connection.execute(END_IT)
    with pytest.raises(ConnectionLost):
        await link.run("SELECT 1 AS one")
    assert await link.run("SELECT 1 AS one") == [{"one": 1}]


async def test_a_repeatable_statement_survives_lost_connections(link: db.Link, connection: db.Connection) -> None:
    await link.run("SELECT 1")
    await connection.execute(END_IT)
    assert await link.run_until_done("SELECT 2 AS two") == [{"two": 2}]


async def test_a_refused_statement_leaves_the_connection_open(link: db.Link) -> None:
    (before,) = await link.run("SELECT pg_backend_pid() AS pid")
    with pytest.raises(psycopg.errors.DivisionByZero):
        await link.run("SELECT 1 / 0")
    assert await link.run("SELECT pg_backend_pid() AS pid") == [before]


async def test_every_statement_has_a_time_limit(link: db.Link) -> None:
    rows = await link.run("SHOW statement_timeout")
    assert rows == [{"statement_timeout": f"{db.connection.STATEMENT_TIMEOUT_S:.0f}s"}]


async def test_a_server_that_does_not_answer_is_given_up(link: db.Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db.link, "STATEMENT_TIMEOUT_S", 0.05)
    monkeypatch.setattr(db.link, "CLIENT_MARGIN_S", 0.05)
    with pytest.raises(ConnectionLost):
        await link.run("SELECT pg_sleep(10)")
    monkeypatch.undo()
    assert await link.run("SELECT 1 AS one") == [{"one": 1}]


async def test_a_server_that_is_gone_without_a_word_is_given_up_at_once(database: str) -> None:
    """A cancelled statement would wait for ten seconds more, and a heartbeat has not got them."""
    with Proxy(database) as proxy:
        link = db.Link(url=proxy.url, name="draftd test", time_s=0.3)
        await link.run("SELECT 1")
        proxy.swallow()
        began = time.monotonic()
        with pytest.raises(ConnectionLost, match="no answer within"):
            await link.run("SELECT 1")
        assert time.monotonic() - began < 8
        assert await link.run("SELECT 1 AS one") == [{"one": 1}]
        await link.close()


async def test_a_statement_that_was_given_up_ends_on_the_server(database: str, link: db.Link) -> None:
    hasty = db.Link(url=database, name="hasty", time_s=0.1)
    with pytest.raises(ConnectionLost):
        await hasty.run("SELECT pg_sleep(600)")
    async with asyncio.timeout(60):
        while await link.run("SELECT FROM pg_stat_activity WHERE application_name = 'hasty'"):  # noqa: ASYNC110 - as it says
            await asyncio.sleep(0.01)
    assert await hasty.run("SELECT 1 AS one") == [{"one": 1}]
    await hasty.close()


async def test_a_link_does_not_keep_a_connection_that_was_being_hung_up_when_the_answer_came(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging_up = asyncio.Event()

    async def cancel(_connection: db.Connection, **_how: float) -> None:
        hanging_up.set()
        await asyncio.Event().wait()

    async def answer(execute: db.Execute) -> list[DictRow]:
        await hanging_up.wait()
        return await execute("SELECT 1 AS one", None)

    monkeypatch.setattr(db.Connection, "cancel_safe", cancel)
    link = db.Link(url=database, name="t", time_s=0.01)
    assert await link.run_rolled_back(answer) == [{"one": 1}]
    monkeypatch.undo()
    own = db.connection.STATEMENT_TIMEOUT_S
    assert await link.run_within("SELECT 2 AS two", None, time_s=own) == [{"two": 2}]
    await link.close()


async def test_a_link_is_closed_after_its_statement_and_not_beneath_it(
    connection: db.Connection, link: db.Link
) -> None:
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(1)")
        await link.run("SELECT")
        running = asyncio.create_task(link.run("SELECT pg_advisory_lock_shared(1), 1 AS one"))
        closing = asyncio.create_task(link.close())
    assert [row["one"] for row in await running] == [1]
    await closing
    assert not link.is_open


async def test_a_link_is_reopened_only_if_the_server_has_hung_up(connection: db.Connection, link: db.Link) -> None:
    (first,) = await link.run("SELECT pg_backend_pid() AS pid")
    await link.reopen()
    assert await link.run("SELECT pg_backend_pid() AS pid") == [first]
    await connection.execute("SELECT pg_terminate_backend(%s)", [first["pid"]])
    assert link._hangup_poll.poll(20_000), "the server has hung up"
    await link.reopen()
    assert await link.run("SELECT pg_backend_pid() AS pid") != [first]


async def test_a_server_that_only_reads_counts_as_away(link: db.Link) -> None:
    """As the old primary does after a switch-over: it takes connections, and no write."""
    (before,) = await link.run("SELECT pg_backend_pid() AS pid")
    await link.run("SET default_transaction_read_only = on")
    with pytest.raises(db.LOST):
        await link.run("CREATE TABLE written ()")
    assert await link.run("SELECT pg_backend_pid() AS pid") != [before]
    await link.run("CREATE TABLE written ()")


async def test_what_is_not_known_to_be_a_session_is_bounded_and_prepares_nothing(database: str) -> None:
    link = db.Link(url=database, name="draftd test", session=False)
    for _ in range(10):
        await link.run("SELECT %s::int AS one", [1])
    assert await link.run("SELECT count(*) AS n FROM pg_prepared_statements") == [{"n": 0}]
    assert await link.run("SHOW statement_timeout") == [{"statement_timeout": "15s"}]
    await link.close()


async def test_every_text_and_moment_gets_through_whatever_the_surroundings_say(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "latin1")
    monkeypatch.setenv("PGDATESTYLE", "German")
    link = db.Link(url=database, name="draftd test")
    rows = await link.run("SELECT %s AS text, to_timestamp(0) AS moment", ["\U0001f600 €"])
    assert rows == [{"text": "\U0001f600 €", "moment": datetime(1970, 1, 1, tzinfo=UTC)}]
    await link.close()


async def test_statements_of_one_link_queue_up(link: db.Link) -> None:
    rows = await asyncio.gather(*(link.run("SELECT %s::int AS n", [n]) for n in range(20)))
    assert [row[0]["n"] for row in rows] == list(range(20))


async def test_a_missing_schema_is_a_matter_of_configuration(empty_database: str) -> None:
    with pytest.raises(ConfigurationError, match="draftd migrate"):
        async with db.connected(empty_database) as connection:
            await connection.execute("SELECT * FROM draft_requests")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@h:5/d", "h:5/d"),
        ("postgresql://u:p@h/d", "h:5432/d"),
        ("postgresql:///d?host=/run/pg&user=u&password=p", "/run/pg:5432/d"),
        ("postgresql://u:p@h1,h2:6432/d", "h1:5432,h2:6432/d"),
    ],
)
def test_an_address_shows_no_credentials(url: str, shown: str) -> None:
    assert dsn.address(url) == shown


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        (f'{{"a": {"9" * 5000}}}', {"a": None}),
        ('{"a": ' + "[" * 5000 + "]" * 5000 + "}", db.adapters.UNREADABLE),
        ("[" * (db.adapters.MAX_DEPTH + 1) + "]" * (db.adapters.MAX_DEPTH + 1), db.adapters.UNREADABLE),
        (f'{{"a": -{"9" * 400}.5, "b": 0.5}}', {"a": None, "b": 0.5}),
        ("[[[[1]]]]", [[[[1]]]]),
        ('{"a": 12345678901234567890}', {"a": 12345678901234567890}),
    ],
)
async def test_json_that_python_cannot_read_breaks_no_reader(link: db.Link, stored: str, read: object) -> None:
    assert await link.run("SELECT %s::jsonb AS found", [stored]) == [{"found": read}]


@pytest.mark.parametrize(
    ("stored", "zone", "read"),
    [
        ("10000-01-01", "UTC", db.MAX_TIMESTAMP),
        ("infinity", "UTC", db.MAX_TIMESTAMP),
        ("9999-12-31 23:59:59Z", "Europe/Berlin", db.MAX_TIMESTAMP),
        ("0001-01-01 BC", "UTC", db.MIN_TIMESTAMP),
        ("-infinity", "UTC", db.MIN_TIMESTAMP),
        ("0001-01-01T00:00:00Z", "America/New_York", db.MIN_TIMESTAMP),
        ("2026-01-01 12:00:00Z", "UTC", datetime(2026, 1, 1, 12, tzinfo=UTC)),
    ],
)
async def test_a_moment_that_python_does_not_have_is_read_as_the_nearest_one(
    link: db.Link, stored: str, zone: str, read: datetime
) -> None:
    await link.run("SELECT set_config('timezone', %s, false)", [zone])
    assert await link.run("SELECT %s::timestamptz AS moment", [stored]) == [{"moment": read}]


LEVELS = ["serializable", "repeatable read"]
LEVEL = "SELECT current_setting('transaction_isolation') AS level"


async def set_default(connection: db.Connection, level: str) -> None:
    (row,) = await (await connection.execute("SELECT current_database() AS name")).fetchall()
    await connection.execute(f"ALTER DATABASE \"{row['name']}\" SET default_transaction_isolation = '{level}'".encode())


@pytest.mark.parametrize("level", LEVELS)
async def test_every_statement_is_read_committed_whatever_the_default_is(
    database: str, connection: db.Connection, level: str
) -> None:
    await set_default(connection, level)
    link = db.Link(url=database, name="after the change")
    assert await link.run(LEVEL) == [{"level": "read committed"}]
    assert await link.dry_run(LEVEL) == [{"level": "read committed"}]
    await link.close()
    async with db.connected(database) as opened:
        assert await (await opened.execute(LEVEL)).fetchall() == [{"level": "read committed"}]
        async with opened.transaction():
            assert await (await opened.execute(LEVEL)).fetchall() == [{"level": "read committed"}]


@pytest.mark.parametrize("level", LEVELS)
async def test_requests_are_claimed_and_settled_beside_each_other_on_such_a_database(
    database: str, connection: db.Connection, level: str
) -> None:
    await set_default(connection, level)
    for _ in range(60):
        await make_request(connection)
    links = [db.Link(url=database, name=f"worker {number}") for number in range(3)]

    async def work(link: db.Link) -> int:
        settler, count = Settler(link=link, quarantine=Quarantine()), 0
        while claimed := await claim_all(link, limit=5):
            outcome = Fail(code="x", message="x")
            await asyncio.gather(*(settler.settle(one, outcome) for one in claimed))
            count += len(claimed)
        return count

    with capture_logs() as logs:
        assert sum(await asyncio.gather(*map(work, links))) == 60
    assert [line["event"] for line in logs] == []
    for link in links:
        await link.close()


async def test_a_statement_that_conflicts_is_carried_out_again(database: str, connection: db.Connection) -> None:
    await connection.execute("CREATE TABLE counted AS SELECT 0 AS n")
    await connection.execute("CREATE SEQUENCE tries")
    await connection.execute("""
        CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('tries') < 3 THEN RAISE EXCEPTION 'try again' USING ERRCODE = '40001'; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER conflict BEFORE UPDATE ON counted FOR EACH ROW EXECUTE FUNCTION conflict()""")
    async with db.connected(database) as opened:
        cursor = await opened.execute("UPDATE counted SET n = n + 1 RETURNING n")
        assert await cursor.fetchall() == [{"n": 1}]


@pytest.mark.parametrize("sqlstate", ["55P03", "57014", "53100", "08006"])
async def test_what_a_server_that_is_well_refuses_is_no_lost_connection(link: db.Link, sqlstate: str) -> None:
    (before,) = await link.run("SELECT pg_backend_pid() AS pid")
    with pytest.raises(psycopg.Error) as caught:
        await link.run(f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{sqlstate}'; END $$")
    assert caught.value.sqlstate == sqlstate
    assert await link.run("SELECT pg_backend_pid() AS pid") == [before]


async def test_what_is_tried_out_leaves_nothing_behind(link: db.Link, connection: db.Connection) -> None:
    await link.dry_run("CREATE TABLE written ()")
    with pytest.raises(psycopg.errors.UndefinedTable):
        await connection.execute("SELECT FROM written")
    with pytest.raises(psycopg.errors.DivisionByZero):
        await link.dry_run("SELECT 1 / 0")
    assert await link.run("SELECT 1 AS one") == [{"one": 1}]
