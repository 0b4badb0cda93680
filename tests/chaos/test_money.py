"""Workers are killed while a budget and ceilings apply: neither is passed at any moment, and nothing stays reserved."""

import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from chaos.scene import Scene, pause_until, started
from fix_daemon import wait_until

pytestmark = pytest.mark.chaos

WORKERS = 3
KILL_EVERY_S = 1.5
MODEL = "openai/stand-in"
IN_FLIGHT, RPM = 5, 80
BUDGET = Decimal(25)
"""Enough for about half of the requests: one costs up to 4.10 USD, and a tenth of that in the end."""

HOLDS = "settled_at IS NULL OR guessed AND usd > charged_usd"

# Every state that the sums were ever in.
WATCH = """
CREATE TABLE chaos_spending (payer text NOT NULL, held numeric NOT NULL);
CREATE FUNCTION chaos_spending() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO chaos_spending VALUES (NEW.payer, NEW.spent + NEW.reserved);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_spending AFTER INSERT OR UPDATE ON draft_spending FOR EACH ROW EXECUTE FUNCTION chaos_spending();
"""


def one(scene: Scene, statement: str) -> Any:
    (row,) = scene.client.query(statement)
    return row["it"]


def is_at_rest(scene: Scene) -> bool:
    """Say whether nothing is being drafted, and everything else waits for the next day."""
    return not scene.count("status = 'processing'") and not scene.count(
        "status = 'pending' AND draft_budget_until() IS NULL"
    )


@pytest.mark.long
@pytest.mark.chaos(seeds=20)
@pytest.mark.timeout(600)
def test_workers_are_killed_under_a_budget_and_ceilings(scene: Scene) -> None:
    scene.settings = scene.form.settings(DRAFTD_LEASE_S="2", DRAFTD_REAP_INTERVAL_S="0.5")
    scene.stand_in.script(default={"latency_s": 0.5})
    scene.client.query(WATCH)
    scene.client.query(
        "INSERT INTO draft_models (name, input_usd_per_mtok, output_usd_per_mtok, max_in_flight, rpm) "
        "VALUES (%s, 0, 1000, %s, %s)",
        MODEL,
        IN_FLIGHT,
        RPM,
    )
    scene.client.query("UPDATE draft_settings SET usd_per_day = %s", BUDGET)
    workers = [scene.start(f"worker {number}", wait=False) for number in range(WORKERS)]
    for worker in workers:
        started(worker)
    scene.enqueue(
        *(f"<{number}>" for number in range(120)), max_attempts=10, expires_at=datetime.now(UTC) + timedelta(days=2)
    )
    kills, phase_ends = 0, time.monotonic() + scene.form.pick(9.0, 45.0)
    while time.monotonic() < phase_ends:
        pause_until(time.monotonic() + KILL_EVERY_S)
        victim = scene.rng.randrange(WORKERS)
        workers[victim].stop(signal.SIGKILL)
        kills += 1
        workers[victim] = scene.start(f"worker {victim} after kill {kills}", wait=False)
    wait_until(lambda: is_at_rest(scene), 200, what=lambda: scene.client.query("SELECT * FROM draft_spending"))
    wait_until(
        lambda: one(scene, f"SELECT count(*) AS it FROM draft_reservations WHERE {HOLDS}") == 0,
        120,
        what=lambda: scene.client.query(f"SELECT * FROM draft_reservations WHERE {HOLDS}"),
    )
    held = one(scene, "SELECT max(held) AS it FROM chaos_spending")
    spent = one(scene, "SELECT sum(spent) AS it FROM draft_spending WHERE payer = 'fleet'")
    # Each day has a budget of its own, and the test may go on past midnight.
    days = one(scene, "SELECT count(*) AS it FROM draft_spending WHERE payer = 'fleet'")
    paid = one(scene, "SELECT sum(cost_usd) AS it FROM draft_usage")
    guessed = one(scene, "SELECT count(*) AS it FROM draft_reservations WHERE guessed")
    calls = one(scene, "SELECT count(*) AS it FROM draft_reservations")
    most = one(
        scene,
        "SELECT max(n) AS it FROM (SELECT count(*) OVER (ORDER BY began_at "
        "RANGE BETWEEN interval '60 s' PRECEDING AND CURRENT ROW) AS n FROM draft_reservations) AS minutes",
    )
    log = scene.stand_in.log
    sys.stdout.write(
        f"\nchaos: {scene.name}: seed {scene.seed}: {kills} kills, {len(log)} calls, {guessed} of dead workers; "
        f"at most {held} of {BUDGET} USD held, {spent} spent; at most {max(call['in_flight'] for call in log)} of "
        f"{IN_FLIGHT} in flight, {most} of {RPM} in a minute\n"
    )
    assert held <= BUDGET
    assert one(scene, "SELECT max(abs(reserved)) AS it FROM draft_spending") == 0
    assert paid <= spent <= BUDGET * days
    assert max(call["in_flight"] for call in log) <= IN_FLIGHT
    assert most <= RPM
    assert len(log) <= calls
    assert scene.count("status NOT IN ('completed', 'pending')") == 0
    assert scene.count("status = 'completed'") > 0
