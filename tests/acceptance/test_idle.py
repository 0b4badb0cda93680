"""What an idle daemon costs the database."""

import time
from collections import Counter
from urllib.parse import quote

import pytest

from fix_daemon import Client, Fleet, environment, wait_until
from standin.threaded import ThreadedStandIn

CONNECTIONS = 3
"""Of an idle daemon: claims, the reaper's, heartbeat; those for inputs and settlements are opened when there are any."""
WINDOW_S = 12.0
BLIND_S = 1.5
"""Between two looks; the statements of one connection are two seconds apart."""
MOST_WINDOWS = 15
PER_MINUTE = 70
"""Heartbeat every 3.3 s, reaper every 2 s, claim every 3 s: 68, and two for the edges."""


def statements_in_window(client: Client, names: list[str]) -> tuple[dict[str, int], float]:
    """Return how many statements arrived in a window in which this test was not stopped for so long that it missed some."""
    for _ in range(MOST_WINDOWS):
        if (found := sampled(client, names)) is not None:
            return found
    raise AssertionError(f"this machine stands still too often for more than {BLIND_S} s")


def sampled(client: Client, names: list[str]) -> tuple[dict[str, int], float] | None:
    """Sample each connection's last query start; return how many each daemon had in how many seconds.

    None when a look came too late.
    """
    seen: set[tuple[str, int, str]] = set()
    (window,) = client.query("SELECT now() AS begins_at")
    began = last = time.monotonic()
    while last - began < WINDOW_S:
        for row in client.query(
            "SELECT application_name AS name, pid, query_start::text AS at FROM pg_stat_activity "
            "WHERE application_name = ANY (%s) AND datname = current_database() AND query_start > %s",
            names,
            window["begins_at"],
        ):
            seen.add((row["name"], row["pid"], row["at"]))
        time.sleep(0.05)
        before, last = last, time.monotonic()
        if last - before >= BLIND_S:
            return None
    counts = Counter(name for name, _, _ in seen)
    # The last look may have come late, too.
    return {name: counts[name] for name in names}, last - began


def wait_until_idle(client: Client, name: str) -> None:
    """Wait until every connection of a daemon has been set up and does its own work."""
    statement = (
        "SELECT count(*) FILTER (WHERE query NOT LIKE '%%set_config%%') AS at_work, count(*) AS connected "
        "FROM pg_stat_activity WHERE application_name = %s AND datname = current_database()"
    )

    def is_idle() -> bool:
        (row,) = client.query(statement, name)
        return bool(row["at_work"] == row["connected"] >= CONNECTIONS)

    wait_until(is_idle, 60)


@pytest.mark.timeout(400)
def test_an_idle_daemon_sends_as_little_with_200_loops_as_with_one(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    names = {loops: f"{loops} loops" for loops in (1, 200)}
    daemons = []
    for loops, name in names.items():
        url = f"{database}{'&' if '?' in database else '?'}application_name={quote(name)}"
        daemons.append(fleet.start(environment(url, stand_in), "--concurrency", str(loops)))
        wait_until_idle(client, name)
    # In one window: whatever slows this machine down slows both of them down.
    counts, window_s = statements_in_window(client, [*names.values()])
    few, many = (counts[name] for name in names.values())
    allowance = PER_MINUTE * window_s / 60
    assert 0 < few <= allowance + 2
    assert many <= allowance + 2
    assert abs(many - few) <= 3
    for daemon in daemons:
        assert daemon.stop() == 0
