"""Daemons that live, but not well: deaf listeners, blocked loops, wrong clocks, results that cannot be stored."""

import json
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest

from chaos.proxy import Proxy
from chaos.saboteur import UNSTORABLE
from chaos.scene import Scene, pause_until, started
from chaos.verdict import verdict
from fix_daemon import Daemon, wait_until

pytestmark = pytest.mark.chaos


HOUR_S = 3600.0
LISTENING = (
    """application_name = 'draftd listen' AND (query LIKE 'LISTEN "draftd_probe%' OR query LIKE 'SELECT pg_notify%')"""
)


@pytest.mark.long
@pytest.mark.timeout(240)
def test_the_listener_is_half_open(scene: Scene) -> None:
    """Polling goes on meanwhile; the listener's own probe finds out, and from then on the bell is heard again."""
    poll_s, probes = 8.0, () if scene.form.is_long else ("probes=2",)
    scene.settings = {"DRAFTD_POLL_INTERVAL_S": str(poll_s)}
    with Proxy(scene.url) as proxy:
        worker = scene.start("worker", sabotage=probes, DRAFTD_LISTEN_DATABASE_URL=proxy.url)
        wait_until(lambda: scene.connections(LISTENING) == 1, 60)
        accepted, (before,) = proxy.accepted, scene.client.query("SELECT now() AS now")
        proxy.swallow()
        muted_at = time.monotonic()
        muted = scene.enqueue("<muted 0>", "<muted 1>")
        pause_until(muted_at + scene.rng.uniform(0.2, 1.0))
        muted += scene.enqueue("<muted 2>")
        for request_id in muted:
            scene.client.wait_for(request_id, "completed")
        worker.wait_for("listener lost")
        noticed_s = time.monotonic() - muted_at
        anew = LISTENING.replace("%", "%%") + " AND backend_start > %s"
        wait_until(lambda: scene.connections(anew, before["now"]) == 1, 60, what=lambda: worker.log)
        assert proxy.accepted > accepted
        for number in range(5):
            pause_until(time.monotonic() + scene.rng.uniform(0.3, 0.6))
            (request_id,) = scene.enqueue(f"<heard {number}>")
            scene.client.wait_for(request_id, "completed")
    waits_s = {row["context"]: (row["claimed_at"] - row["created_at"]).total_seconds() for row in scene.rows()}
    quick = max(wait_s for context, wait_s in waits_s.items() if "heard" in context)
    slow = max(wait_s for context, wait_s in waits_s.items() if "muted" in context)
    note = f"picked up after {slow:.2f} s at most while deaf, {quick:.2f} s after that"
    verdict(scene, recovery_s=noticed_s, note=note)
    assert slow < poll_s + 10
    # What is not heard waits for the next poll, a whole interval after the request before it was claimed.
    assert quick < poll_s / 2


@pytest.mark.long
@pytest.mark.timeout(240)
def test_the_event_loop_is_blocked_for_longer_than_the_lease(scene: Scene) -> None:
    lease_s = scene.form.pick(5.0, 10.0)
    blocked_s = 2 * lease_s
    kind = scene.rng.choice(["blocked", "spinning"])
    scene.settings = scene.form.settings(DRAFTD_LEASE_S=str(lease_s), DRAFTD_REAP_INTERVAL_S="0.3")
    count = 10
    scene.stand_in.script([{"when": f"<{number}>", "hang": True} for number in range(count)])
    stuck = scene.start("stuck", sabotage=(f"{kind}={blocked_s}",))
    scene.enqueue(*(f"<{number}>" for number in range(count)))
    scene.stand_in.wait_for_calls(count)
    scene.start("reaper")
    scene.wait_until_its_reaper_may_take("reaper", lease_s)
    stuck.process.send_signal(signal.SIGUSR1)
    stuck.wait_for('"blocked"')
    scene.stand_in.release()
    neighbours = scene.enqueue("<neighbour 0>", "<neighbour 1>")
    stuck.wait_for("unblocked", time_s=blocked_s + 60)
    unblocked_at = time.time()
    scene.wait_until_settled(60)
    figures = verdict(scene, recovery_s=scene.last_end_after(unblocked_at), note=f"{kind} for {blocked_s:.1f} s")
    assert figures.leases_lost == 0
    assert (figures.completed, figures.calls) == (count + len(neighbours), count + len(neighbours))
    assert {row["attempt"] for row in scene.rows()} == {1}


def clock_error_s(daemon: Daemon) -> float:
    """Return how far the times in a daemon's log are from the true ones."""
    first = json.loads(next(line for line in daemon.log.splitlines() if '"started"' in line))
    said = datetime.fromisoformat(first["at"])
    return (said - datetime.now(UTC)).total_seconds()


@pytest.mark.long
@pytest.mark.timeout(240)
def test_clocks_are_an_hour_off(scene: Scene) -> None:
    """One worker's is ahead and one's behind: nothing begins early, expires early, or is taken from the living."""
    lease_s = scene.form.pick(5.0, 10.0)
    scene.settings = scene.form.settings(DRAFTD_LEASE_S=str(lease_s), DRAFTD_REAP_INTERVAL_S="0.3")
    scene.stand_in.script(default={"latency_s": 1.3 * lease_s})
    workers = {
        name: scene.start(name, "--concurrency", "8", wait=False, sabotage=(f"clock={error_s}",))
        for name, error_s in (("ahead", HOUR_S), ("behind", -HOUR_S))
    }
    for name, error_s in (("ahead", HOUR_S), ("behind", -HOUR_S)):
        started(workers[name])
        assert abs(clock_error_s(workers[name]) - error_s) < 60
    now = scene.client.query("SELECT now() AS now")[0]["now"]
    half_an_hour = timedelta(seconds=HOUR_S / 2)
    scene.enqueue(*(f"<now {number}>" for number in range(12)), expires_at=now + half_an_hour)
    later = now + timedelta(seconds=scene.rng.uniform(2.0, 4.0))
    scene.enqueue(*(f"<later {number}>" for number in range(4)), available_at=later)
    scene.enqueue("<too late>", expires_at=now - half_an_hour)
    scene.wait_until_settled(60)
    rows = {row["context"]: row for row in scene.rows()}
    too_late = rows.pop("<too late>")
    assert (too_late["status"], too_late["error_code"]) == ("failed", "expired")
    assert {(row["status"], row["attempt"]) for row in rows.values()} == {("completed", 1)}
    begun = [row["claimed_at"] for row in rows.values() if "later" in row["context"]]
    assert min(begun) >= later
    claimers = {one["by"] for one in scene.audit() if one["became"] == "processing"}
    late_s = (max(begun) - later).total_seconds()
    figures = verdict(scene, recovery_s=late_s, note="recovery is the delay of what was due later")
    assert figures.leases_lost == 0
    assert claimers == {"ahead", "behind"}


@pytest.mark.long
@pytest.mark.timeout(240)
def test_one_result_of_a_merged_settlement_cannot_be_stored(scene: Scene) -> None:
    count = 24
    worker = scene.start("worker", "--concurrency", str(count), sabotage=("unstorable", f"merged={count}"))
    contexts = [f"<{number}>" for number in range(count)]
    spoilt = scene.rng.choice(contexts)
    fields = {"fields": {"summary": f"The stand-in says: {UNSTORABLE}."}}
    scene.stand_in.script([{"when": one, "hang": True, **(fields if one == spoilt else {})} for one in contexts])
    scene.enqueue(*contexts)
    scene.stand_in.wait_for_calls(count)
    released_at = time.time()
    scene.stand_in.release()
    scene.wait_until_settled(60)
    logged = [json.loads(line) for line in worker.log.splitlines() if '"settlements"' in line]
    merged = max(line["rows"] for line in logged if line["spoilt"])
    note = f"it was merged with {merged - 1} others"
    figures = verdict(scene, recovery_s=scene.last_end_after(released_at), note=note)
    assert merged == count
    assert (figures.completed, figures.failed) == (count - 1, 1)
    failed = {(row["context"], row["error_code"]) for row in scene.rows() if row["status"] == "failed"}
    assert failed == {(spoilt, "internal_error")}
