"""The bell and who rings it."""

import asyncio
import time

import pytest

from draftd import db, wakeup
from draftd.wakeup import Listener, WakeUp, proves_session
from fix_database import make_request


async def test_a_ring_before_the_wait_ends_it_at_once() -> None:
    bell = WakeUp()
    bell.ring()
    began = time.monotonic()
    await bell.wait(60)
    assert time.monotonic() - began < 5


async def test_a_wait_ends_by_itself() -> None:
    began = time.monotonic()
    await WakeUp().wait(0.05)
    assert time.monotonic() - began < 5


class Listening:
    """A listener in a task, with its bell."""

    def __init__(self, url: str) -> None:
        self.bell = WakeUp()
        self.task = asyncio.create_task(Listener(url=url, wakeup=self.bell).run())

    async def heard(self, time_s: float = 10) -> bool:
        """Wait for a ring, and say whether one came in time."""
        try:
            async with asyncio.timeout(time_s):
                await self.bell.wait(60)
        except TimeoutError:
            return False
        self.bell.clear()
        return True

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


async def test_a_plain_server_proves_a_session(database: str) -> None:
    assert await proves_session(database)


async def test_without_a_notification_there_is_no_session(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def deaf(_opened: db.Connection, _channel: str) -> None:
        return

    monkeypatch.setattr(wakeup, "listen", deaf)
    monkeypatch.setattr(wakeup, "PROOF_TIMEOUT_S", 0.1)
    assert not await proves_session(database)
