"""The bell and who rings it."""

import asyncio
import select
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import DictRow

from draftd import db
from draftd.queue import wakeup
from draftd.queue.wakeup import Listener, ListeningLink, WakeUp, proves_session
from fix_database import make_request

TIME_S = 60.0
"""By then a wait has failed, however slow the machine is."""


async def test_a_ring_before_the_wait_ends_it_at_once() -> None:
    bell = WakeUp()
    bell.set()
    assert await is_rung(bell)


async def test_a_wait_ends_by_itself() -> None:
    bell = WakeUp()
    async with asyncio.timeout(TIME_S):
        await bell.wait(0.05)
    assert await is_rung(bell), "it counts as set until it is cleared"


async def is_rung(bell: WakeUp, time_s: float = TIME_S) -> bool:
    """Wait for a ring, and say whether one came in time."""
    try:
        async with asyncio.timeout(time_s):
            await bell.wait(600)
    except TimeoutError:
        return False
    bell.clear()
    return True


async def statement_runs(connection: db.Connection, application: str, statement: str) -> None:
    """Wait until a connection's statement is under way in the server."""
    active = "SELECT FROM pg_stat_activity WHERE application_name = %s AND query = %s AND state = 'active'"
    rows: list[DictRow] = []
    async with asyncio.timeout(TIME_S):
        while not rows:
            rows = await (await connection.execute(active.encode(), [application, statement])).fetchall()


ANNOUNCEMENTS = {
    "a request that waits": "INSERT INTO draft_requests (requester_id, image_urls) VALUES ('ann', '{https://a.example/b.png}')",
    "a new limit": "INSERT INTO draft_limits (requester_id, max_in_flight) VALUES ('bob', 1)",
    "the end of a pause": "DELETE FROM draft_pauses",
    "another budget": "UPDATE draft_settings SET usd_per_day = 9",
}


@pytest.mark.parametrize("statement", ANNOUNCEMENTS.values(), ids=ANNOUNCEMENTS)
@pytest.mark.parametrize("how", ["listener", "claims"])
async def test_what_may_leave_a_row_to_admit_says_so(
    database: str, connection: db.Connection, statement: str, how: str
) -> None:
    await connection.execute(
        "INSERT INTO draft_limits (requester_id, max_in_flight) VALUES ('ann', 1);"
        "INSERT INTO draft_pauses (what, name) VALUES ('requester', 'bob');"
        "INSERT INTO draft_settings (usd_per_day) VALUES (1) ON CONFLICT (id) DO UPDATE SET usd_per_day = 1"
    )
    ears: Claiming | Listening = Listening(database) if how == "listener" else Claiming(database)
    if isinstance(ears, Claiming):
        await ears.link.run("SELECT 1")
    assert await is_rung(ears.bell), "a new connection rings"
    await make_request(connection)
    await rung(ears.bell)
    assert not ears.bell.clear(), "a request that is claimable at once asks for no admission"
    await connection.execute(statement.encode())
    await rung(ears.bell)
    assert ears.bell.clear()
    assert not ears.bell.clear()
    await ears.end()


async def rung(bell: WakeUp) -> None:
    async with asyncio.timeout(TIME_S):
        await bell.wait(600)


class Listening:
    """A listener in a task, with its bell."""

    def __init__(self, url: str) -> None:
        self.bell = WakeUp()
        self.task = asyncio.create_task(Listener(url=url, wakeup=self.bell).run())

    async def heard(self, time_s: float = TIME_S) -> bool:
        return await is_rung(self.bell, time_s)

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_an_insert_rings(database: str, connection: db.Connection) -> None:
    listening = Listening(database)
    assert await listening.heard()
    await make_request(connection)
    assert await listening.heard()
    await listening.end()


async def test_a_new_connection_rings_because_something_may_have_been_missed(
    database: str, connection: db.Connection
) -> None:
    listening = Listening(database)
    assert await listening.heard()
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'draftd listen'"
    )
    assert await listening.heard()
    await make_request(connection)
    assert await listening.heard()
    await listening.end()


async def test_a_listener_that_hears_itself_no_more_connects_again(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeup, "PROBE_INTERVAL_S", 0.2)
    monkeypatch.setattr(wakeup, "PROBE_TIMEOUT_S", 0.3)
    real_listen = wakeup.listen
    deaf = True

    async def listen(opened: db.Connection, channel: str) -> None:
        if not (deaf and channel.startswith("draftd_probe")):
            await real_listen(opened, channel)

    monkeypatch.setattr(wakeup, "listen", listen)
    listening = Listening(database)
    assert await listening.heard()
    assert await listening.heard()
    deaf = False
    assert await listening.heard()
    await listening.end()


async def test_the_daemons_probe_is_no_ring(
    database: str, connection: db.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeup, "PROBE_INTERVAL_S", 0.05)
    listening = Listening(database)
    assert await listening.heard()
    probes = 0
    while probes < 3:
        cursor = await connection.execute(
            "SELECT count(*) AS n FROM pg_stat_activity "
            "WHERE application_name = 'draftd listen' AND query LIKE 'SELECT pg_notify%'"
        )
        rows = await cursor.fetchall()
        probes += rows[0]["n"]
        await asyncio.sleep(0.02)
    assert not await listening.heard(time_s=0.2)
    await listening.end()


class Claiming:
    """The claims' link, with its bell."""

    def __init__(self, url: str) -> None:
        self.bell = WakeUp()
        self.link = ListeningLink(url=url, name="draftd claim", wakeup=self.bell)

    async def heard(self, time_s: float = TIME_S) -> bool:
        return await is_rung(self.bell, time_s)

    async def end(self) -> None:
        await self.link.close()


@pytest.fixture
async def claiming(database: str) -> AsyncIterator[Claiming]:
    claiming = Claiming(database)
    await claiming.link.run("SELECT 1")
    assert await claiming.heard(), "a new connection rings"
    yield claiming
    await claiming.link.close()


async def test_an_insert_rings_while_the_claims_are_at_rest(claiming: Claiming, connection: db.Connection) -> None:
    for _ in range(3):
        await make_request(connection)
        assert await claiming.heard()
        await claiming.link.run("SELECT 1")
    assert not await claiming.heard(time_s=0.1)


async def test_an_insert_during_a_claim_rings_after_it(claiming: Claiming, connection: db.Connection) -> None:
    statement = "SELECT pg_advisory_lock(1)"
    await connection.execute(statement)
    claim = asyncio.create_task(claiming.link.run(statement))
    await statement_runs(connection, "draftd claim", statement)
    assert claiming.link._socket is None, "a connection that psycopg closes meanwhile must leave no reader behind"
    await make_request(connection)
    await connection.execute("SELECT pg_advisory_unlock(1)")
    await claim
    assert await claiming.heard()


async def test_no_reader_is_left_on_a_connection_that_was_being_hung_up_when_the_answer_came(
    claiming: Claiming, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file descriptor's number goes to another socket, which the event loop would then misread."""
    hanging_up = asyncio.Event()

    async def cancel(_connection: db.Connection, **_how: float) -> None:
        hanging_up.set()
        await asyncio.Event().wait()

    async def answer(execute: db.Execute) -> list[db.Row]:
        await hanging_up.wait()
        return list(await execute("SELECT 1 AS one", None))

    number = claiming.link._socket
    assert number is not None
    monkeypatch.setattr(db.Connection, "cancel_safe", cancel)
    monkeypatch.setattr(claiming.link, "_time_s", 0.01)
    assert await claiming.link.run_rolled_back(answer) == [{"one": 1}]
    assert not asyncio.get_running_loop().remove_reader(number)


async def test_a_notice_in_the_packet_of_a_claims_answer_rings(
    claiming: Claiming, connection: db.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in libpq's buffer then, and the socket has nothing more to say."""
    real = db.Link._execute

    async def with_a_notice_behind(
        link: db.Link, opened: db.Connection, statement: str, params: db.Params
    ) -> list[DictRow]:
        rows = await real(link, opened, statement, params)
        await make_request(connection)
        assert select.select([opened.fileno()], [], [], 10)[0]
        opened.pgconn.consume_input()
        return rows

    monkeypatch.setattr(db.Link, "_execute", with_a_notice_behind)
    await claiming.link.run("SELECT 1")
    assert await claiming.heard(time_s=20)


async def test_a_refused_statement_leaves_the_claims_listening(claiming: Claiming, connection: db.Connection) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        await claiming.link.run("SELECT 1 / 0")
    await make_request(connection)
    assert await claiming.heard()


async def test_a_cancelled_statement_leaves_the_claims_listening(claiming: Claiming, connection: db.Connection) -> None:
    statement = "SELECT pg_sleep(60)"
    claim = asyncio.create_task(claiming.link.run(statement))
    await statement_runs(connection, "draftd claim", statement)
    claim.cancel()
    await asyncio.gather(claim, return_exceptions=True)
    await make_request(connection)
    assert await claiming.heard()


async def test_a_server_that_hangs_up_rings_and_the_next_claim_connects_again(
    claiming: Claiming, connection: db.Connection
) -> None:
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'draftd claim'"
    )
    assert await claiming.heard(), "the poll interval need not be waited for"
    await claiming.link.run("SELECT 1")
    assert await claiming.heard()
    await make_request(connection)
    assert await claiming.heard()


async def test_a_closed_link_leaves_nothing_in_the_event_loop(claiming: Claiming) -> None:
    socket = claiming.link._socket
    assert socket is not None
    await claiming.link.close()
    assert not asyncio.get_running_loop().remove_reader(socket)


async def test_a_plain_server_proves_a_session(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wakeup, "PROOF_TIMEOUT_S", 20)
    assert await proves_session(database)


async def test_without_a_notification_there_is_no_session(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def deaf(_opened: db.Connection, _channel: str) -> None:
        return

    monkeypatch.setattr(wakeup, "listen", deaf)
    monkeypatch.setattr(wakeup, "PROOF_TIMEOUT_S", 0.1)
    assert not await proves_session(database)


async def test_a_session_is_proved_although_the_machine_stood_still_meanwhile(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, looks = psycopg.AsyncConnection.notifies, 0

    async def stood_still_at_first(opened: db.Connection, **how: Any) -> AsyncIterator[Any]:
        nonlocal looks
        looks += 1
        if looks > 1:
            async for notice in real(opened, **how):
                yield notice

    monkeypatch.setattr(psycopg.AsyncConnection, "notifies", stood_still_at_first)
    monkeypatch.setattr(wakeup, "PROOF_TIMEOUT_S", 20)
    assert await proves_session(database)
    assert looks == 2
