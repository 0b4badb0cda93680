"""A database that goes away, and one that is full."""

import asyncio
import time
from contextlib import ExitStack, suppress

import psycopg
import pytest

from chaos.scene import Scene, named, pause_until
from chaos.server import Server
from chaos.verdict import verdict
from draftd import db
from draftd.queue.reaping import Reaped, reap
from draftd.stand_in.threaded import ThreadedStandIn
from fix_daemon import wait_until

pytestmark = pytest.mark.chaos

EXIT_UNAVAILABLE = 69
AWAY_LEASES = 4.2
"""All leases have run out long ago when the server is back."""
CONNECTION_LIMIT = 8
DAEMON = "pid <> pg_backend_pid() AND datname = current_database() AND backend_type = 'client backend'"


def answer_all(stand_in: ThreadedStandIn, count: int) -> None:
    """Let the calls that hang be answered, and wait until they are."""
    stand_in.release()
    stand_in.wait_for_calls(count, outcome="answered")


async def reaped_from_outside(url: str, lease_s: float) -> list[Reaped]:
    """Reap once over a new connection, as cron does."""
    link = db.Link(url=url, name="cron")
    try:
        return await reap(link, lease_s=lease_s)
    finally:
        await link.close()


@pytest.mark.timeout(240)
def test_postgresql_is_shut_down_at_once_during_many_calls(frail_scene: Scene, server: Server) -> None:
    scene = frail_scene
    count, away_s = scene.form.count(60, 200), scene.form.pick(5.0, 6.0)
    # Shorter than the absence: every lease runs out while nobody could renew it.
    scene.settings = {"DRAFTD_LEASE_S": "4", "DRAFTD_REAP_INTERVAL_S": "0.3"}
    scene.stand_in.script(default={"hang": True})
    workers = scene.form.count(1, 2)
    daemons = [scene.start(f"worker {number}", "--concurrency", str(count // workers)) for number in range(workers)]
    scene.enqueue(*(f"<{number}>" for number in range(count)))
    scene.stand_in.wait_for_calls(count)
    server.crash()
    back_at = time.monotonic() + away_s
    answer_all(scene.stand_in, count)
    for daemon in daemons:
        # It has been answered, and tries to write down what that cost.
        daemon.wait_for('"draftd settle"', 60)
    pause_until(back_at)
    server.revive()
    revived_at = time.time()
    scene.reopen()
    scene.wait_until_settled(60)
    figures = verdict(scene, recovery_s=scene.last_end_after(revived_at), note=f"away for {away_s:.0f} s")
    assert figures.leases_lost == 0
    assert (figures.completed, figures.calls) == (count, count)
    assert {row["attempt"] for row in scene.rows()} == {1}


@pytest.mark.long
@pytest.mark.timeout(240)
def test_postgresql_is_away_for_longer_than_an_attempt_may_take(frail_scene: Scene, server: Server) -> None:
    """What was answered before is paid: the draft waits with its usage, and both are there afterwards."""
    scene, count, attempt_s = frail_scene, 4, 14.0
    # No picture: the time of an attempt, so short, is for the calls.
    scene.settings = {"DRAFTD_ATTEMPT_TIMEOUT_S": f"{attempt_s:.0f}"}
    scene.stand_in.script(default={"hang": True})
    daemon = scene.start("worker", "--concurrency", str(count))
    scene.enqueue(*(f"<{number}>" for number in range(count)))
    scene.stand_in.wait_for_calls(count)
    server.crash()
    back_at = time.monotonic() + attempt_s + 1
    answer_all(scene.stand_in, count)
    daemon.wait_for('"draftd settle"', 60)
    pause_until(back_at)
    server.revive()
    revived_at = time.time()
    scene.reopen()
    scene.wait_until_settled(60)
    figures = verdict(scene, recovery_s=scene.last_end_after(revived_at), note=f"away for {attempt_s + 1:.0f} s")
    assert figures.leases_lost == 0
    assert (figures.completed, figures.calls) == (count, count)
    sums = scene.client.query(
        "SELECT r.attempt, r.input_tokens = sum(u.input_tokens) AND r.output_tokens = sum(u.output_tokens) AS is_right"
        "  FROM draft_requests AS r JOIN draft_usage AS u ON u.request_id = r.id WHERE r.id = ANY (%s) GROUP BY r.id",
        scene.request_ids,
    )
    assert sums == [{"attempt": 1, "is_right": True}] * count


@pytest.mark.long
@pytest.mark.timeout(240)
def test_postgresql_is_away_for_longer_than_three_leases(frail_scene: Scene, server: Server) -> None:
    """The rows of the worker that lives stay its own; those of one that died meanwhile are taken."""
    scene = frail_scene
    lease_s = scene.form.pick(3.0, 10.0)
    # The absence is longer than a model call may take by default.
    scene.settings = {
        "DRAFTD_LEASE_S": str(lease_s),
        "DRAFTD_MODEL_TIMEOUT_S": "300",
        "DRAFTD_ATTEMPT_TIMEOUT_S": "400",
    }
    contexts = [f"<{number}>" for number in range(12)]
    scene.stand_in.script([{"when": one, "hang": True} for one in contexts])
    dying = scene.start("dying", "--concurrency", "4")
    scene.enqueue(*contexts[:4])
    scene.stand_in.wait_for_calls(4)
    scene.start("living", "--concurrency", "16")
    scene.enqueue(*contexts[4:])
    scene.stand_in.wait_for_calls(12)
    server.crash()
    back_at = time.monotonic() + AWAY_LEASES * lease_s
    dying.process.kill()
    answered_early = scene.rng.random() < 0.5
    if answered_early:
        answer_all(scene.stand_in, 8)
    pause_until(back_at)
    server.revive()
    revived_at = time.time()
    taken = asyncio.run(reaped_from_outside(scene.url, lease_s))
    assert taken == [], "reaped before anybody could renew"
    scene.reopen()
    wait_until(lambda: scene.count("lease_token = 2") == 4, 6 * lease_s + 60, what=scene.rows)
    scene.stand_in.release()
    scene.wait_until_settled(60)
    figures = verdict(
        scene, recovery_s=scene.last_end_after(revived_at), note=f"away for {AWAY_LEASES * lease_s:.0f} s"
    )
    assert figures.leases_lost == 4
    assert {(row["context"] in contexts[:4], row["attempt"]) for row in scene.rows()} == {(True, 2), (False, 1)}


@pytest.mark.long
@pytest.mark.timeout(240)
def test_every_connection_is_terminated_five_times_a_second(scene: Scene) -> None:
    phase_s = scene.form.pick(6.0, 30.0)
    scene.stand_in.script(default={"latency_s": 0.3})
    for number in range(scene.form.count(1, 2)):
        scene.start(f"worker {number}", "--concurrency", "8")
    terminated, made = 0, 0
    ends_at = time.monotonic() + phase_s
    while (tick := time.monotonic()) < ends_at:
        terminated += len(scene.client.query(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {DAEMON}"))
        scene.enqueue(*(f"<{made + number}>" for number in range(scene.rng.randint(1, 3))))
        made = len(scene.request_ids)
        pause_until(tick + 0.2)
    ended_at = time.time()
    during = scene.count("status = 'completed'")
    scene.wait_until_settled(60)
    note = f"{terminated} connections terminated, {during} completed meanwhile"
    figures = verdict(scene, recovery_s=scene.last_end_after(ended_at), note=note)
    assert terminated > phase_s, "hardly a connection was there to be terminated"
    assert (figures.leases_lost, figures.completed) == (0, made)
    assert {(row["attempt"], len(row["errors"])) for row in scene.rows()} == {(1, 0)}


@pytest.mark.long
@pytest.mark.timeout(240)
def test_there_is_no_free_connection(frail_scene: Scene) -> None:
    """A daemon that lost its connections finds all of them taken; it waits, and so do the results that it has."""
    scene = frail_scene
    lease_s, count = scene.form.pick(5.0, 10.0), 12
    scene.settings = {"DRAFTD_LEASE_S": str(lease_s)}
    scene.stand_in.script(default={"hang": True})
    worker = scene.start("worker")
    scene.enqueue(*(f"<{number}>" for number in range(count)))
    scene.stand_in.wait_for_calls(count)
    (database,) = scene.client.query("SELECT current_database() AS name")
    scene.client.query(f'ALTER DATABASE "{database["name"]}" CONNECTION LIMIT {CONNECTION_LIMIT}')
    with ExitStack() as taken:
        wait_until(lambda: took_all(scene, taken), 60)
        full_from = time.monotonic()
        answer_all(scene.stand_in, count)
        late = scene.start("late", wait=False)
        assert late.process.wait(60) == EXIT_UNAVAILABLE, late.log
        # Longer than a lease: all have run out when there is room again.
        pause_until(full_from + 1.5 * lease_s)
        assert scene.count("status = 'completed'") == 0
    free_at = time.time()
    scene.wait_until_settled(60)
    figures = verdict(scene, recovery_s=scene.last_end_after(free_at), note=f"full for {1.5 * lease_s:.0f} s")
    assert (figures.leases_lost, figures.completed, figures.calls) == (0, count, count)
    assert {row["attempt"] for row in scene.rows()} == {1}
    assert "too many connections" in worker.log


def took_all(scene: Scene, taken: ExitStack) -> bool:
    """Terminate the daemon's connections and take every free one; return whether all but this test's own are taken.

    That none of the daemon's is left would not be enough: one that is on its way out keeps its place for a moment longer, and
    one that is on its way in has a place and is not yet seen.
    """
    theirs = f"{DAEMON} AND application_name <> 'filler' AND usename <> 'postgres'"
    scene.client.query(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {theirs}")
    with suppress(psycopg.OperationalError):
        while True:
            taken.callback(psycopg.connect(named(scene.url, "filler"), autocommit=True).close)
    return scene.connections("application_name = 'filler'") == CONNECTION_LIMIT - 1
