"""Limits of requesters while workers die: no more calls at the same time than allowed, and nothing left behind."""

import signal
import time

import pytest

from chaos.scene import Scene, pause_until, started
from chaos.verdict import verdict
from fix_daemon import wait_until

pytestmark = pytest.mark.chaos

WORKERS = 3
IN_FLIGHT = 2
KILL_EVERY_S = 2.0


def most_at_a_time(scene: Scene) -> int:
    """Return the maximum number of requests that were processing at the same time, by the trigger's record."""
    processing: set[str] = set()
    most = 0
    for one in scene.audit():
        if one["became"] == "processing":
            processing.add(str(one["request_id"]))
        else:
            processing.discard(str(one["request_id"]))
        most = max(most, len(processing))
    return most


@pytest.mark.long
@pytest.mark.chaos(seeds=20)
@pytest.mark.timeout(600)
def test_a_limited_flood_meets_workers_that_are_killed(scene: Scene) -> None:
    form = scene.form
    scene.settings = form.settings(DRAFTD_LEASE_S="2", DRAFTD_REAP_INTERVAL_S="0.5")
    # Less than a lease, so that a call of a killed worker has ended before its row is taken back.
    scene.stand_in.script(default={"latency_s": 0.4})
    scene.client.query(
        "INSERT INTO draft_limits (requester_id, max_in_flight, max_pending) VALUES ('', %s, 400)", IN_FLIGHT
    )
    names = [f"worker {number}" for number in range(WORKERS)]
    workers = [scene.start(name, wait=False) for name in names]
    for worker in workers:
        started(worker)
    kills, made, began = 0, 0, time.monotonic()
    moment = time.time()
    phase_s = form.pick(7.0, 40.0)
    while (elapsed_s := time.monotonic() - began) < phase_s:
        if made < form.count(30, 120):
            scene.enqueue(f"<{made}>", max_attempts=10)
            made += 1
        if elapsed_s > KILL_EVERY_S * (kills + 1):
            victim = scene.rng.randrange(WORKERS)
            workers[victim].stop(signal.SIGKILL)
            kills, moment = kills + 1, time.time()
            workers[victim] = scene.start(f"{names[victim]} after kill {kills}", wait=False)
        if scene.rng.random() < 0.05:
            pause_and_resume(scene)
        pause_until(time.monotonic() + scene.rng.uniform(0.02, 0.2))
    scene.wait_until_settled(form.pick(90, 330))
    most, calls = most_at_a_time(scene), max(call["in_flight"] for call in scene.stand_in.log)
    note = f"{kills} kills; at most {most} processing and {calls} calls at a time"
    verdict(scene, recovery_s=scene.last_end_after(moment), note=note)
    assert most == IN_FLIGHT
    assert calls <= IN_FLIGHT
    wait_until(lambda: not scene.client.query("SELECT FROM draft_requests WHERE status = 'pending' AND limited"), 10)


def pause_and_resume(scene: Scene) -> None:
    """Pause the requester for a moment: nothing is claimed meanwhile."""
    scene.client.query("INSERT INTO draft_pauses (what, name) VALUES ('requester', '') ON CONFLICT DO NOTHING")
    (paused,) = scene.client.query("SELECT extract(epoch FROM clock_timestamp())::float8 AS at")
    pause_until(time.monotonic() + scene.rng.uniform(0.0, 0.3))
    (over,) = scene.client.query("SELECT extract(epoch FROM clock_timestamp())::float8 AS at")
    claimed = scene.client.query(
        """SELECT FROM chaos_audit AS a JOIN draft_requests AS r ON r.id = a.request_id
            WHERE a.was = 'pending' AND a.became = 'processing' AND r.claimed_at BETWEEN to_timestamp(%s) AND to_timestamp(%s)""",
        paused["at"],
        over["at"],
    )
    scene.client.query("DELETE FROM draft_pauses")
    assert not claimed, "a request was claimed while its requester was paused"
