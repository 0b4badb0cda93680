"""How much of a ceiling a fleet uses, and that it never passes it: ten daemons, and a model server that counts."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from draftd.stand_in.threaded import ThreadedStandIn
from fix_daemon import Client, Fleet, environment, wait_until
from fix_money import enqueue, make_parent, set_price

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

DAEMONS = 10
MINUTE_S = 60.0
RPM, IN_FLIGHT, CALLS_OF_TOKENS, LATENCY_S = 60, 4, 60, 5.0
LEAST_USED = 0.9
MINUTES = 3

PREPARING = """
    SELECT count(*)::int AS n FROM draft_requests AS r WHERE r.status = 'processing' AND NOT EXISTS (
        SELECT FROM draft_reservations AS v WHERE v.request_id = r.id AND v.lease_token = r.lease_token)
"""
SLOTS = """
    SELECT (sum(extract(epoch FROM settled_at - began_at))
            / (%s * extract(epoch FROM max(settled_at) - min(began_at))))::float8 AS taken,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM settled_at - began_at)) AS slot_s
      FROM draft_reservations
"""


class Load:
    """A fleet under load."""

    def __init__(self, database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet) -> None:
        self.client, self.stand_in = client, stand_in
        make_parent(client)
        env = environment(database, stand_in, DRAFTD_CONCURRENCY="8")
        stand_in.script(default={"latency_s": LATENCY_S, "pieces": 3})
        for _ in range(DAEMONS):
            fleet.start(env, wait=False)
        for daemon in fleet.daemons:
            daemon.wait_for('"started"')

    def run(self, requests: int, time_s: float) -> list[dict[str, Any]]:
        """Enqueue, let time pass from the first call on, and return what the server has counted."""
        enqueue(self.client, requests)
        began = self.stand_in.wait_for_calls(1)[0]["at"]
        # For the length of a measurement, never for an effect.
        time.sleep(max(0.0, began + time_s - time.time()))
        return [one for one in self.stand_in.log if one["at"] < began + time_s]

    def used_until(self, calls: int, *, ceiling: int, of: str) -> float:
        """Return how much of a ceiling per minute was used from the first call to one of the next ones."""
        enqueue(self.client, calls + CALLS_OF_TOKENS)
        self.stand_in.wait_for_calls(calls, timeout_s=400)
        statement = f"""
            SELECT sum({of}) FILTER (WHERE place < %s)::float8 AS used,
                   extract(epoch FROM max(began_at) FILTER (WHERE place = %s) - min(began_at))::float8 AS lasted_s
              FROM (SELECT *, row_number() OVER (ORDER BY began_at) AS place FROM draft_reservations) AS v"""
        (row,) = self.client.query(statement, calls, calls)
        return float(row["used"] / ceiling / (row["lasted_s"] / MINUTE_S))

    def most_in_a_minute(self, what: str) -> int:
        """Return the most that began in any minute by the database's clock."""
        (row,) = self.client.query(
            f"SELECT max(n) AS n FROM (SELECT sum({what}) OVER (PARTITION BY model ORDER BY began_at "
            "RANGE BETWEEN interval '60 s' PRECEDING AND CURRENT ROW) AS n FROM draft_reservations) AS minutes"
        )
        return int(row["n"])


@pytest.fixture
def load(database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet) -> Callable[..., Load]:
    def begin(**ceilings: int) -> Load:
        set_price(client, **ceilings)
        return Load(database, client, stand_in, fleet)

    return begin


def report(name: str, figures: Mapping[str, float]) -> None:
    print(f"{name}: " + ", ".join(f"{key} {value:,.4g}" for key, value in figures.items()))  # noqa: T201 - figures are what a run is for


def test_calls_per_minute(load: Callable[..., Load]) -> None:
    running = load(rpm=RPM)
    used = running.used_until(RPM * MINUTES + 1, ceiling=RPM, of="1")
    most = running.most_in_a_minute("1")
    report("rpm", {"used": used, "most in 60 s": most, "ceiling": RPM})
    assert most <= RPM
    assert used >= LEAST_USED


def test_calls_in_flight(load: Callable[..., Load]) -> None:
    running, time_s = load(max_in_flight=IN_FLIGHT), 90.0
    calls = running.run(int(IN_FLIGHT * time_s / 2), time_s)
    most = max(one["in_flight"] for one in calls)
    begin_at, end_at = calls[0]["at"] + LATENCY_S, calls[0]["at"] + time_s
    busy_s = sum(
        max(0.0, min(end_at, one["at"] + (one["seconds"] or time_s)) - max(begin_at, one["at"])) for one in calls
    )
    used = busy_s / (IN_FLIGHT * (end_at - begin_at))
    preparing = running.client.query(PREPARING)[0]["n"]
    figures = running.client.query(SLOTS, IN_FLIGHT)[0]
    report("in flight", {"used": used, "most": most, "ceiling": IN_FLIGHT, "preparing": preparing} | figures)
    assert most <= IN_FLIGHT
    assert preparing <= IN_FLIGHT // 4
    # A busy machine takes its time before a server's first word and after its last one, and the slot is taken meanwhile.
    assert figures["taken"] >= LEAST_USED


def test_tokens_per_minute(load: Callable[..., Load], client: Client) -> None:
    running = load(tpm=2_000_000_000)
    running.run(5, LATENCY_S)
    wait_until(lambda: client.query("SELECT count(*) AS n FROM draft_usage")[0]["n"] >= 5, 60)
    tokens = int(client.query("SELECT avg(input_tokens + output_tokens) AS n FROM draft_usage")[0]["n"])
    tpm = tokens * CALLS_OF_TOKENS
    client.query("UPDATE draft_models SET tpm = %s", tpm)
    client.query("DELETE FROM draft_reservations")
    running.stand_in.reset()
    running.stand_in.script(default={"latency_s": LATENCY_S, "pieces": 3})
    used = running.used_until(CALLS_OF_TOKENS * MINUTES + 1, ceiling=tpm, of="tokens")
    most = running.most_in_a_minute("tokens")
    report("tpm", {"used": used, "most in 60 s": most, "ceiling": tpm, "per call": tokens})
    assert most <= 1.05 * tpm
    assert used >= LEAST_USED
