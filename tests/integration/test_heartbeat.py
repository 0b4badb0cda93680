"""The heartbeat: its own thread, its own connection, and the process's end when its loop is dead."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import scalar_row

from draftd import db
from draftd.daemon.heartbeat import EXIT_LOOP_DEAD, Beat, Heartbeat
from draftd.providers.permits import Permits
from draftd.queue.leases import Leases
from draftd.request import Claim
from fix_daemon import wait_until
from fix_database import claim_one, make_request, read_row
from fix_heartbeat import make_heartbeat
from fix_output import full_pipe

Make = Callable[..., Heartbeat]


@pytest.fixture
def make(database: str) -> Iterator[Make]:
    """What makes heartbeats that end with the test, also one that fails: a thread that went on would end all tests."""
    made: list[Heartbeat] = []

    def make_one(leases: Leases, **over: Any) -> Heartbeat:
        made.append(make_heartbeat(database, leases, **over))
        return made[-1]

    yield make_one
    for heartbeat in made:
        heartbeat.set_state("stopped")
        heartbeat.join(20)


async def hold_one(connection: db.Connection, link: db.Link, leases: Leases) -> Claim:
    await make_request(connection)
    claimed = await claim_one(link)
    leases.add(claimed.id, claimed.lease_token, agent=claimed.agent)
    return claimed


async def test_a_blocked_event_loop_does_not_look_dead(
    database: str, connection: db.Connection, link: db.Link, make: Make
) -> None:
    leases = Leases()
    claimed = await hold_one(connection, link, leases)
    make(leases).start(asyncio.get_running_loop())
    seen = set()
    with psycopg.connect(database, autocommit=True, row_factory=scalar_row) as other:

        def was_renewed_often() -> bool:
            seen.add(other.execute("SELECT lease_until FROM draft_requests WHERE id = %s", [claimed.id]).fetchone())
            return len(seen) > 3

        # Without a turn of the loop.
        wait_until(was_renewed_often, 20)
    assert len(seen) > 3


async def test_a_lease_that_is_gone_is_reported_with_its_token(
    connection: db.Connection, link: db.Link, make: Make
) -> None:
    leases = Leases()
    claimed = await hold_one(connection, link, leases)
    await connection.execute("UPDATE draft_requests SET lease_token = lease_token + 1")
    beats: asyncio.Queue[Beat] = asyncio.Queue()
    make(leases, on_beat=beats.put_nowait).start(asyncio.get_running_loop())
    beat = await beats.get()
    assert (beat.lost, beat.cancelled) == ({claimed.key}, set())


async def test_a_cancelled_request_is_no_lost_lease(connection: db.Connection, link: db.Link, make: Make) -> None:
    leases = Leases()
    claimed = await hold_one(connection, link, leases)
    await connection.execute("SELECT cancel_draft_request(%s)", [claimed.id])
    beats: asyncio.Queue[Beat] = asyncio.Queue()
    make(leases, on_beat=beats.put_nowait).start(asyncio.get_running_loop())
    beat = await beats.get()
    assert (beat.lost, beat.cancelled) == (set(), {claimed.key})


async def test_a_beat_that_cannot_be_heard_is_the_heartbeats_death(make: Make) -> None:
    deaths: list[BaseException] = []
    heard = asyncio.Event()
    beats = 0

    def broken(_beat: Beat) -> None:
        nonlocal beats
        beats += 1
        if beats == 3:
            heard.set()
        raise LookupError("a defect")

    make(Leases(), on_beat=broken, on_death=deaths.append).start(asyncio.get_running_loop())
    await asyncio.wait_for(heard.wait(), 20)
    assert [type(one) for one in deaths] == [LookupError]


async def test_it_comes_back_after_a_lost_connection(connection: db.Connection, link: db.Link, make: Make) -> None:
    leases = Leases()
    claimed = await hold_one(connection, link, leases)
    beats: asyncio.Queue[Beat] = asyncio.Queue()
    make(leases, on_beat=beats.put_nowait).start(asyncio.get_running_loop())
    await beats.get()
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'draftd heartbeat'"
    )
    async with asyncio.timeout(20):
        await beats.get()
        await beats.get()
    assert (await read_row(connection, claimed.id))["status"] == "processing"


@pytest.mark.parametrize("params", ['{"a": ' + "[" * 4000 + "]" * 4000 + "}", f'{{"a": "{"x" * 20_000}"}}', "[1]"])
async def test_parameters_that_cannot_be_read_harm_their_own_agent_alone(
    connection: db.Connection, make: Make, params: str
) -> None:
    await connection.execute("INSERT INTO draft_agents (agent, model, params) VALUES ('bad', 'm', %s)", [params])
    await connection.execute("INSERT INTO draft_agents (agent, model) VALUES ('good', 'm')")
    catalog = (await make(Leases()).first_beat()).catalog
    lines = {
        agent: catalog.resolve(catalog.models_of(agent), permits=Permits(), getenv=lambda _name: None)
        for agent in ("bad", "good")
    }
    assert (lines["bad"].targets, len(lines["bad"].unusable)) == ((), 1)
    assert [target.name for target in lines["good"].targets] == ["m"]


async def test_its_last_word_is_stopped(connection: db.Connection, make: Make) -> None:
    heartbeat = make(Leases(), lease_s=300)
    heartbeat.start(asyncio.get_running_loop())
    heartbeat.set_state("stopped")
    await asyncio.to_thread(heartbeat.join, 20)
    rows = await (await connection.execute("SELECT state FROM draft_workers")).fetchall()
    assert rows == [{"state": "stopped"}]


async def test_its_last_word_is_said_again_when_the_connection_was_lost(connection: db.Connection, make: Make) -> None:
    beats: asyncio.Queue[Beat] = asyncio.Queue()
    heartbeat = make(Leases(), lease_s=300, on_beat=beats.put_nowait)
    heartbeat.start(asyncio.get_running_loop())
    await beats.get()
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'draftd heartbeat'"
    )
    heartbeat.set_state("stopped")
    await asyncio.to_thread(heartbeat.join, 20)
    rows = await (await connection.execute("SELECT state FROM draft_workers")).fetchall()
    assert rows == [{"state": "stopped"}]


async def test_a_defect_in_the_thread_is_told_to_the_loop(connection: db.Connection, make: Make) -> None:
    await connection.execute("DROP TABLE draft_workers")
    died: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
    make(Leases(), on_death=died.set_result).start(asyncio.get_running_loop())
    async with asyncio.timeout(20):
        assert isinstance(await died, psycopg.errors.UndefinedTable)


DEAD_LOOP = """
import asyncio, time, sys
sys.path.insert(0, {path!r})
from draftd.daemon import heartbeat
from draftd.logs import configure_logging
from draftd.providers.permits import Permits
from draftd.queue.leases import Leases
from draftd.streams import make_output_nonblocking
from fix_heartbeat import make_heartbeat
make_output_nonblocking()
configure_logging(level="info", style="json")
heartbeat.LOOP_DEAD_S = 0.5
async def main():
    beating = make_heartbeat({database!r}, Leases(), lease_s=0.3)
    beating.start(asyncio.get_running_loop())
    time.sleep(60)
asyncio.run(main())
"""


def dead_loop(database: str) -> list[str]:
    """Return the command of a process whose event loop dies."""
    return [sys.executable, "-c", DEAD_LOOP.format(path=str(Path(__file__).parents[1]), database=database)]


def test_a_dead_event_loop_ends_the_process(database: str) -> None:
    done = subprocess.run(dead_loop(database), capture_output=True, timeout=100, check=False)
    assert done.returncode == EXIT_LOOP_DEAD, done.stderr.decode()
    assert b"the event loop is dead" in done.stderr


def test_a_dead_event_loop_ends_the_process_although_nobody_reads_why(database: str) -> None:
    with full_pipe() as (_, writes):
        done = subprocess.run(dead_loop(database), stdout=writes, stderr=writes, timeout=100, check=False)
    assert done.returncode == EXIT_LOOP_DEAD


def test_the_thread_is_no_reason_to_stay_alive(make: Make) -> None:
    heartbeat = make(Leases())
    loop = asyncio.new_event_loop()
    heartbeat.start(loop)
    (thread,) = [one for one in threading.enumerate() if one.name == "heartbeat"]
    assert thread.daemon
    heartbeat.set_state("stopped")
    wait_until(lambda: not thread.is_alive(), 20)
    loop.close()
