"""A provider that is down, with everybody waiting for it."""

import sys
import time
from collections import Counter
from typing import Any

import pytest

from chaos.scene import Scene, pause_until
from draftd.providers.holds import MAX_PAUSE_S
from fix_daemon import wait_until

pytestmark = pytest.mark.chaos

CONCURRENCY = 8
DAEMONS = 2
PROBES_A_MINUTE = 7
"""One more than the longest pause allows, for the edge of the window."""


def enqueue_many(scene: Scene, count: int) -> None:
    """Insert refinements, which need no picture, in one statement."""
    rows = scene.client.query(
        "INSERT INTO draft_requests (parent_id, context) SELECT %s, '<' || n || '>' FROM generate_series(1, %s) AS n "
        "RETURNING id",
        scene.parent_id,
        count,
    )
    scene.request_ids += [str(row["id"]) for row in rows]


def holds(scene: Scene) -> list[dict[str, Any]]:
    """Return what the fleet shares about held models."""
    return scene.client.query("SELECT model, code, failures, since FROM draft_holds")


def ended_per_second(scene: Scene) -> Counter[int]:
    """Return how many requests ended in each second."""
    return Counter(int(row["finished_at"].timestamp()) for row in scene.rows() if row["finished_at"])


@pytest.mark.long
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize(
    ("failure", "code"), [({"status": 503}, "model_unavailable"), ({"status": 401}, "model_misconfigured")]
)
def test_a_provider_is_down_while_all_wait(scene: Scene, failure: dict[str, Any], code: str) -> None:
    form = scene.form
    requests, outage_s = form.count(60, 5_000), form.pick(8.0, 600.0 if code == "model_unavailable" else 60.0)
    scene.stand_in.script(default=failure)
    enqueue_many(scene, requests)
    daemons = [scene.start(f"daemon {number}", "--concurrency", str(CONCURRENCY)) for number in range(DAEMONS)]
    wait_until(lambda: bool(holds(scene)), 60)
    down = time.monotonic()
    wait_until(lambda: scene.count("status = 'processing'") == 0, 60)
    before = len(scene.stand_in.log)
    # What was in flight may have ended so late that a probe came first.
    early = sum(daemon.log.count("probing a held model") for daemon in daemons)
    assert before <= 2 * DAEMONS * CONCURRENCY + early, "a try and another of each request that was in flight"
    pause_until(down + outage_s)
    probes = len(scene.stand_in.log) - before
    assert [hold["code"] for hold in holds(scene)] == [code]
    assert scene.count("attempt > 0 AND status = 'pending'") == 0, "an attempt was burnt"
    assert probes <= PROBES_A_MINUTE * max(1.0, outage_s / 60)
    scene.stand_in.script()
    back = time.time()
    wait_until(lambda: not holds(scene), MAX_PAUSE_S + 10)
    resumed_s = time.time() - back
    scene.wait_until_settled(form.pick(60, 900))
    assert scene.count("status = 'completed' AND attempt = 1") == requests
    rates = ended_per_second(scene)
    sys.stdout.write(
        f"\nchaos: {scene.name} ({code}): {requests} requests, {outage_s:.0f} s down, {probes} probes, no attempt burnt, "
        f"hold ended {resumed_s:.1f} s after the provider's return; ended in each of the next seconds: "
        f"{[rates[int(back + resumed_s) + number] for number in range(8)]}\n"
    )
