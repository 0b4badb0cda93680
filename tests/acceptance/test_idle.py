"""What an idle daemon costs the database."""

import time

import pytest

from draftd.demo.threaded import ThreadedStandIn
from fix_daemon import Client, Fleet, environment, wait_until

CONNECTIONS = 3
"""Of an idle daemon: claims, the reaper's, heartbeat; those for inputs and settlements are opened when there are any."""
WINDOW_S = 12.0
BLIND_S = 1.5
"""Between two looks; the statements of one connection are two seconds apart."""
MOST_WINDOWS = 4
PER_MINUTE = 70
"""Heartbeat every 3.3 s, reaper every 2 s, claim every 3 s: 68, and two for the edges."""


def statements_in_window(client: Client, name: str) -> int:
    """Return how many statements arrived in a window in which this test was not stopped for so long that it missed some."""
    for _ in range(MOST_WINDOWS):
        count, blind_s = sampled(client, name)
        if blind_s < BLIND_S:
            return count
    raise AssertionError(f"this machine stands still too often: for {blind_s:.1f} s the last time")


def sampled(client: Client, name: str) -> tuple[int, float]:
    """Sample each connection's last query start; return how many there were, and the longest time between two looks."""
    seen: set[tuple[int, str]] = set()
    (window,) = client.query("SELECT now() AS begins_at")
    last = time.monotonic()
    ends_at, blind_s = last + WINDOW_S, 0.0
    while last < ends_at:
        for row in client.query(
            "SELECT pid, query_start::text AS at FROM pg_stat_activity "
            "WHERE application_name LIKE %s AND datname = current_database() AND query_start > %s",
            name,
            window["begins_at"],
        ):
            seen.add((row["pid"], row["at"]))
        time.sleep(0.05)
        before, last = last, time.monotonic()
        blind_s = max(blind_s, last - before)
    return len(seen), blind_s


def wait_until_idle(client: Client, name: str) -> None:
    """Wait until every connection of a daemon has been set up and does its own work."""
    statement = (
        "SELECT count(*) FILTER (WHERE query NOT LIKE '%%set_config%%') AS at_work, count(*) AS connected "
        "FROM pg_stat_activity WHERE application_name LIKE %s AND datname = current_database()"
    )

    def is_idle() -> bool:
        (row,) = client.query(statement, name)
        return bool(row["at_work"] == row["connected"] >= CONNECTIONS)

    wait_until(is_idle, 30)


@pytest.mark.timeout(300)
def test_an_idle_daemon_sends_as_little_with_200_loops_as_with_one(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    counts = {}
    for loops in (1, 200):
        daemon = fleet.start(environment(database, stand_in), "--concurrency", str(loops))
        wait_until_idle(client, "draftd%")
        counts[loops] = statements_in_window(client, "draftd%")
        assert daemon.stop() == 0
    allowance = PER_MINUTE * WINDOW_S / 60
    assert counts[1] <= allowance + 2
    assert counts[200] <= allowance + 2
    assert abs(counts[200] - counts[1]) <= 3
