"""Budgets and ceilings, with real daemons and a model server that counts."""

import json
from decimal import Decimal
from typing import Any

import pytest

from draftd.stand_in.threaded import ThreadedStandIn
from fix_daemon import Call, Client, Fleet, draftd, environment, wait_until
from fix_money import MODEL, TODAY, enqueue, make_parent, set_price

pytestmark = [pytest.mark.usefixtures("same_day"), pytest.mark.timeout(360)]

CONFIGURATION = 78
WAITING = "SELECT 1 AS n FROM draft_requests WHERE requester_id = 'ann' AND status = 'pending'"


def set_budget(client: Client, usd: float | None) -> None:
    client.query("UPDATE draft_settings SET usd_per_day = %s", usd)


def statuses(client: Client, ids: list[str]) -> dict[str, int]:
    rows = client.query(
        "SELECT status || coalesce(' ' || error_code, '') AS state, count(*) AS n FROM draft_requests "
        "WHERE id = ANY (%s::uuid[]) GROUP BY 1",
        ids,
    )
    return {row["state"]: row["n"] for row in rows}


def spent(client: Client) -> Decimal:
    return Decimal(client.query("SELECT coalesce(sum(cost_usd), 0) AS usd FROM draft_usage")[0]["usd"])


def test_a_budget_without_a_price_keeps_a_daemon_from_starting(
    database: str, client: Client, stand_in: ThreadedStandIn
) -> None:
    set_budget(client, 20)
    refused = draftd("run", env=environment(database, stand_in))
    assert refused.returncode == CONFIGURATION
    (line,) = [line for line in refused.stderr.splitlines() if not line.startswith("{")]
    assert MODEL in line
    assert "draftd models set" in line


def test_a_budget_that_is_set_while_a_daemon_runs_holds_a_model_without_a_price(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    make_parent(client)
    fleet.start(environment(database, stand_in))
    set_budget(client, 20)
    wait_until(lambda: bool(enqueue(client, 1) and client.query("SELECT 1 AS n FROM draft_holds")), 60, look_s=0.5)
    assert client.query("SELECT model, code FROM draft_holds") == [{"model": MODEL, "code": "model_misconfigured"}]
    set_price(client)
    client.query("DELETE FROM draft_holds")
    wait_until(
        lambda: not client.query("SELECT 1 AS n FROM draft_requests WHERE status IN ('pending', 'processing')"), 60
    )
    assert not client.query("SELECT 1 AS n FROM draft_requests WHERE status <> 'completed'")


def test_the_fleets_budget_is_kept_and_what_it_does_not_hold_waits_or_fails(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet, call: Call
) -> None:
    make_parent(client)
    set_price(client)
    set_budget(client, 6)
    env = environment(database, stand_in)
    for _ in range(2):
        fleet.start(env, wait=False)
    later, soon = enqueue(client, 30), enqueue(client, 10, expires=TODAY)
    wait_until(lambda: "pending budget_exceeded" in statuses(client, later), 60, what=lambda: statuses(client, later))
    wait_until(
        lambda: not statuses(client, [*soon, *later]).get("processing") and not statuses(client, soon).get("pending"),
        60,
        what=lambda: statuses(client, soon),
    )
    assert spent(client) <= 6
    assert spent(client) > 6 - Decimal("4.10")
    assert set(statuses(client, soon)) <= {"completed", "failed budget_exceeded"}
    assert set(statuses(client, later)) <= {"completed", "pending", "pending budget_exceeded"}
    waiting = client.query(
        "SELECT attempt, given_back, available_at > now() AS is_later FROM draft_requests "
        "WHERE status = 'pending' AND error_code IS NOT NULL"
    )
    assert all(row["attempt"] == 0 and row["given_back"] == 0 and row["is_later"] for row in waiting)
    assert client.query("SELECT 1 AS n FROM draft_holds") == []

    calls = len(stand_in.log)
    tokens = client.query("SELECT sum(lease_token) AS n FROM draft_requests")
    more = enqueue(client, 5)
    late = enqueue(client, 5, expires=TODAY)
    wait_until(lambda: statuses(client, late) == {"failed budget_exceeded": 5}, 60)
    assert statuses(client, more) == {"pending": 5}
    assert client.query("SELECT sum(lease_token) AS n FROM draft_requests") == tokens
    assert len(stand_in.log) == calls

    (budget,) = json.loads(call("status", "--json", env=env).stdout)["budgets"]
    assert (budget["payer"], budget["usd_per_day"], budget["spent"]) == ("fleet", 6.0, float(spent(client)))
    assert "of 6.00 USD spent today" in call("status", env=env).stdout
    set_budget(client, 1000)
    # Also what had been told to wait for the next day.
    wait_until(lambda: statuses(client, [*more, *later]) == {"completed": 35}, 90, what=lambda: statuses(client, later))


def test_a_requester_who_has_spent_its_budget_waits_without_being_claimed(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet, call: Call
) -> None:
    make_parent(client)
    set_price(client)
    client.query("INSERT INTO draft_limits (requester_id, usd_per_day) VALUES ('ann', 5)")
    env = environment(database, stand_in)
    fleet.start(env, "--concurrency", "2")
    first = enqueue(client, 8, requester_id="ann")
    wait_until(lambda: bool(client.query("SELECT 1 AS n WHERE draft_budget_until('ann') > now()")), 60)
    wait_until(lambda: not statuses(client, first).get("processing"), 60)
    claims = "SELECT sum(lease_token) AS n FROM draft_requests WHERE requester_id = 'ann'"
    wait_until(lambda: not client.query(f"{WAITING} AND NOT limited AND available_at <= now()"), 60)
    before = client.query(claims)
    more = enqueue(client, 5, requester_id="ann")
    late = enqueue(client, 3, requester_id="ann", expires=TODAY)
    bobs = enqueue(client, 3, requester_id="bob")
    wait_until(lambda: statuses(client, bobs) == {"completed": 3}, 60)
    wait_until(lambda: statuses(client, late) == {"failed budget_exceeded": 3}, 60)
    assert statuses(client, more) == {"pending": 5}
    assert client.query(claims) == before
    (row,) = client.query("SELECT draft_request_wait(%s) AS why", more[0])
    assert row["why"]["reason"] == "budget"
    assert row["why"]["until"] is not None
    reason = json.loads(call("status", "--json", env=env).stdout)["reason"]
    assert reason["code"] == "budget"
    client.query("UPDATE draft_limits SET usd_per_day = NULL")
    wait_until(lambda: statuses(client, [*first, *more]) == {"completed": 13}, 90, what=lambda: statuses(client, more))


def test_most_of_a_budget_warns_once(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet, call: Call
) -> None:
    make_parent(client)
    set_price(client)
    set_budget(client, 100)
    client.query(
        "INSERT INTO draft_usage (request_id, requester_id, attempt, lease_token, call, model, cost_usd) "
        "VALUES (gen_random_uuid(), '', 1, 1, 1, 'm', 81)"
    )
    env = environment(database, stand_in)
    daemon = fleet.start(env)
    ids = enqueue(client, 3)
    wait_until(lambda: statuses(client, ids) == {"completed": 3}, 60)
    daemon.wait_for("budget nearly used")
    status = call("status", env=env).stdout
    assert "budget nearly used: the fleet: 8" in status
    assert daemon.log.count("budget nearly used") == 1


@pytest.mark.parametrize("stand_in_default", [{"rejects_json_schema": True, "latency_s": 0.05}])
def test_ceilings_hold_for_the_fleet(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet, stand_in_default: dict[str, Any]
) -> None:
    """A call that is sent again in another form counts as two."""
    make_parent(client)
    set_price(client, rpm=25, max_in_flight=3)
    stand_in.script(default=stand_in_default)
    env = environment(database, stand_in)
    for _ in range(3):
        fleet.start(env, wait=False)
    ids = enqueue(client, 60)
    wait_until(lambda: len(stand_in.log) >= 25, 90, what=lambda: statuses(client, ids))
    log = stand_in.log
    assert max(one["in_flight"] for one in log) <= 3
    (row,) = client.query("SELECT count(*) AS n FROM draft_reservations")
    assert row["n"] == len(stand_in.log) == 25
    rows = client.query(
        "SELECT DISTINCT attempt FROM draft_requests WHERE status = 'pending' AND parent_id IS NOT NULL"
    )
    assert rows == [{"attempt": 0}]
    assert client.query("SELECT 1 AS n FROM draft_holds") == []
