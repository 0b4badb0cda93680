"""Workers that are killed, stopped in their tracks, or told to go."""

import json
import signal
import time
from typing import Any

import pytest

from chaos.saboteur import POISON
from chaos.scene import FINAL, Scene, pause_until, started
from chaos.verdict import is_connection_loss, verdict
from fix_daemon import Daemon, wait_until

pytestmark = pytest.mark.chaos

WORKERS = 3
KILL_EVERY_S = 2.0
ENDLESS_S = 3600.0


def lines(daemon: Daemon, event: str) -> list[dict[str, Any]]:
    """Return the lines of a daemon's log about one event."""
    logged = (json.loads(line) for line in daemon.log.splitlines() if line.startswith("{"))
    return [line for line in logged if line.get("event") == event]


def busy(scene: Scene, names: list[str]) -> list[str]:
    """Return the workers that hold a row; all of them if none does."""
    claimers = scene.client.query(
        "SELECT DISTINCT a.by FROM draft_requests AS r JOIN chaos_audit AS a ON a.request_id = r.id "
        "AND a.lease_token = r.lease_token AND a.was = 'pending' AND a.became = 'processing' WHERE r.status = 'processing'"
    )
    holding = {row["by"] for row in claimers}
    return [name for name in names if name in holding] or names


def picked_up_again(scene: Scene, kills: list[tuple[str, float]]) -> list[float]:
    """Return, for each row that a killed worker held, the seconds until another worker had claimed it."""
    audit, gaps = scene.audit(), []
    for name, moment in kills:
        holder: dict[Any, str] = {}
        waiting: set[Any] = set()
        for one in audit:
            request_id, at = one["request_id"], one["at"]
            if at > moment and not waiting and holder:
                waiting, holder = {row for row, by in holder.items() if by == name}, {}
            if at <= moment and one["was"] == "pending" and one["became"] == "processing":
                holder[request_id] = one["by"]
            elif at <= moment and one["became"] != "processing":
                holder.pop(request_id, None)
            elif request_id in waiting and (one["became"] in FINAL or one["was"] == "pending"):
                gaps.append(at - moment)
                waiting.discard(request_id)
    return gaps


@pytest.mark.chaos(seeds=20)
@pytest.mark.timeout(600)
def test_one_of_three_workers_is_killed_every_two_seconds(scene: Scene) -> None:
    form = scene.form
    scene.settings = form.settings(DRAFTD_LEASE_S="2", DRAFTD_REAP_INTERVAL_S="0.5")
    repaired = [f"<{number}>" for number in scene.rng.sample(range(40), 4)]
    scene.stand_in.script([{"when": one, "placeholder": True} for one in repaired], default={"latency_s": 1.0})
    names = [f"worker {number}" for number in range(WORKERS)]
    workers = [scene.start(name, wait=False) for name in names]
    for worker in workers:
        started(worker)
    kills: list[tuple[str, float]] = []
    began = time.monotonic()
    phase_s, made = form.pick(7.0, 60.0), 0
    while (elapsed_s := time.monotonic() - began) < phase_s:
        scene.enqueue(f"<{made}>", max_attempts=10)
        made += 1
        if elapsed_s > KILL_EVERY_S * (len(kills) + 1):
            # Every other victim is one that works; the others may be met while they start.
            candidates = busy(scene, names) if len(kills) % 2 == 0 else names
            victim = names.index(scene.rng.choice(candidates))
            workers[victim].stop(signal.SIGKILL)
            kills.append((names[victim], time.time()))
            names[victim] = f"worker {victim} after kill {len(kills)}"
            workers[victim] = scene.start(names[victim], wait=False)
        pause_until(time.monotonic() + scene.rng.uniform(0.02, 0.2))
    scene.wait_until_settled(form.pick(60, 330))
    gaps = picked_up_again(scene, kills)
    note = f"{len(kills)} kills; picked up again after {max(gaps, default=0):.1f} s at most"
    figures = verdict(scene, recovery_s=scene.last_end_after(kills[-1][1]), note=note)
    assert figures.completed == made
    assert figures.leases_lost > 0, "no kill met a request"


@pytest.mark.long
@pytest.mark.timeout(240)
def test_a_request_kills_its_worker_every_time(scene: Scene) -> None:
    scene.settings = {"DRAFTD_LEASE_S": "3", "DRAFTD_REAP_INTERVAL_S": "0.3"}
    scene.stand_in.script(default={"latency_s": 0.2})
    cap = scene.form.count(2, 3)
    neighbours = [f"<neighbour {number}>" for number in range(12)]
    poisoned = scene.rng.randrange(len(neighbours))
    scene.enqueue(*neighbours[:poisoned], max_attempts=cap + 3)
    (poison,) = scene.enqueue(POISON, max_attempts=cap)
    scene.enqueue(*neighbours[poisoned:], max_attempts=cap + 3)
    began, deaths = time.time(), 0
    worker = scene.start("worker 0", "--concurrency", "4", wait=False, sabotage=("poison",))

    def is_over() -> bool:
        nonlocal deaths, worker
        if worker.process.poll() is not None:
            assert worker.process.returncode == -signal.SIGKILL, worker.log
            deaths += 1
            worker = scene.start(f"worker {deaths}", "--concurrency", "4", wait=False, sabotage=("poison",))
        return not scene.count("status IN ('pending', 'processing')")

    wait_until(is_over, 150, what=scene.rows)
    row = scene.client.row(poison)
    assert (row["status"], row["error_code"], row["attempt"]) == ("failed", "worker_lost", cap)
    assert deaths == cap
    figures = verdict(scene, recovery_s=scene.last_end_after(began), note=f"{deaths} workers died")
    assert figures.completed == len(neighbours)


@pytest.mark.long
@pytest.mark.timeout(240)
def test_sigterm_in_the_middle_of_model_calls(scene: Scene) -> None:
    count = scene.form.count(16, 64)
    contexts = [f"<{number}>" for number in range(count)]
    finishing = set(scene.rng.sample(contexts, count // 4))
    scene.stand_in.script(
        [{"when": one, "hang": True} if one in finishing else {"when": one, "latency_s": ENDLESS_S} for one in contexts]
    )
    leaving = scene.start("leaving", "--concurrency", str(count), DRAFTD_SHUTDOWN_GRACE_S="10")
    scene.enqueue(*contexts)
    scene.stand_in.wait_for_calls(count)
    # Only the bell can make the other one go on at once: it looks by itself every minute.
    scene.start("staying", "--concurrency", str(count), DRAFTD_POLL_INTERVAL_S="60")
    leaving.process.send_signal(signal.SIGTERM)
    leaving.wait_for("waiting for attempts")
    scene.stand_in.release()
    assert leaving.wait() == 0, leaving.log
    scene.wait_until_settled(60)
    rows, audit = scene.rows(), scene.audit()
    given_back = {one["request_id"]: one["at"] for one in audit if one["attempt"] < one["attempt_was"]}
    claimed = {one["request_id"]: one["at"] for one in audit if one["attempt"] > one["attempt_was"]}
    assert len(given_back) == count - len(finishing)
    gap_s = max(claimed[request_id] - at for request_id, at in given_back.items())
    figures = verdict(
        scene, recovery_s=gap_s, interrupts_calls=True, note=f"{len(given_back)} of {count} calls broken off"
    )
    assert gap_s < 20
    assert {(row["status"], row["attempt"], len(row["errors"])) for row in rows} == {("completed", 1, 0)}
    assert figures.leases_lost == 0


OUTCOMES: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "complete": ("Done", [{}, {}]),
    "retry": ("Retry", [{"garbage": True}, {"garbage": True}]),
    "fail": ("Fail", [{"refusal": True}, {}]),
    "release": ("GiveBack", [{"latency_s": ENDLESS_S}, {}]),
}
"""What a zombie tries, and how the stand-in brings it to that: its call's answer, and its repair's."""


def script_of(context: str) -> list[dict[str, Any]]:
    """Return the behaviours of the calls about one request, in order: the zombie's, its successor's, the zombie's repair."""
    try_, _, standing = context.strip("<>").partition(" ")
    _, (first, repair) = OUTCOMES.get(try_, OUTCOMES["complete"])
    meanwhile = {"hang": True} if standing.startswith("held") else {}
    hanging = {} if "latency_s" in first else {"hang": True}
    return [{"when": context, **one} for one in (first | hanging, meanwhile, repair)]


@pytest.mark.chaos(seeds=20)
@pytest.mark.timeout(240)
def test_a_worker_stands_still_past_its_leases_and_wakes_up(scene: Scene) -> None:
    """The zombie's renewals, progress, results, retries, failures and releases are all refused.

    Half of its rows are finished by another worker before it wakes up, the other half are still held by that worker.
    """
    form = scene.form
    scene.settings = form.settings(DRAFTD_LEASE_S="4", DRAFTD_REAP_INTERVAL_S="0.4")
    contexts = [
        f"<{try_} {standing} {number}>"
        for try_ in OUTCOMES
        for standing in ("held", "finished")
        for number in range(scene.rng.randint(1, 3))
    ]
    scene.rng.shuffle(contexts)
    held = sum(" held " in context for context in contexts)
    scene.stand_in.script([step for context in [*contexts, "<cancelled>"] for step in script_of(context)])
    zombie = scene.start("zombie", "--concurrency", "32", sabotage=("deaf",), DRAFTD_SHUTDOWN_GRACE_S="0.5")
    scene.enqueue(*contexts)
    (cancelled,) = scene.enqueue("<cancelled>")
    scene.stand_in.wait_for_calls(len(contexts) + 1)
    zombie.process.send_signal(signal.SIGSTOP)
    stopped_at = time.time()
    assert scene.client.query("SELECT cancel_draft_request(%s) AS done", cancelled)[0]["done"]
    scene.stand_in.release()
    scene.start("successor", "--concurrency", "32")
    scene.stand_in.wait_for_calls(2 * len(contexts) + 1, timeout_s=90)
    wait_until(lambda: scene.count("status = 'completed'") == len(contexts) - held, 60, what=scene.rows)
    zombie.process.send_signal(signal.SIGCONT)
    expected = {try_: sum(context.startswith(f"<{try_} ") for context in contexts) for try_ in OUTCOMES}
    settled_anyway = sum(expected.values()) - expected["release"] + 1
    wait_until(lambda: len(lines(zombie, "outcome refused")) == settled_anyway, 60, what=lambda: zombie.log)
    wait_until(lambda: bool(lines(zombie, "renewals refused")), 60, what=lambda: zombie.log)
    assert zombie.stop() == 0, zombie.log
    scene.stand_in.release()
    scene.wait_until_settled(60)
    refused = [line["outcome"] for line in lines(zombie, "outcome refused")]
    for try_, (outcome, _) in OUTCOMES.items():
        assert refused.count(outcome) == expected[try_] + (try_ == "complete"), refused
    assert lines(zombie, "progress refused")
    assert [one for one in scene.audit() if one["by"] == "zombie" and one["at"] > stopped_at] == []
    losses = [one["at"] for one in scene.audit() if is_connection_loss(one)]
    figures = verdict(scene, recovery_s=max(losses) - stopped_at, note=f"{len(refused)} outcomes of the zombie refused")
    assert (figures.completed, figures.cancelled) == (len(contexts), 1)
