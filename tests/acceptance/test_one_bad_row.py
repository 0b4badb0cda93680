"""A row harms only itself: real daemons beside triggers that refuse, values nobody expects, serializable transactions."""

import os
import time

import pytest
from psycopg.types.json import Jsonb

from chaos.scene import PARENT_READING, PARENT_RESULT
from draftd.stand_in.threaded import ThreadedStandIn
from fix_daemon import Client, Daemon, Fleet, draftd, environment, sample_url, standstill, wait_until
from fix_extremes import (
    BOUNDS,
    PENDING,
    PROCESSING,
    SHARED,
    add_extreme,
    add_extreme_picture,
    cases,
    make_extreme,
)
from fix_refusals import ALWAYS, CLAIM, COMPLETION, COUNTED, COUNTS, RENEWAL, refusing

BLOCKED = "http://10.0.0.1/picture.png"
"""A picture that nobody fetches: most columns are read before it, or after it all."""
READ_WITH_THE_PICTURE = {"context", "options", "metadata", "parent_id", "image_urls"}
REAP_S = 2.0
ATTEMPT_S = 10.0


def promised_s() -> float:
    """Return how long a neighbour may take: 5 s, or as much longer as this machine has more to run than cores."""
    return 5.0 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def assert_neighbour_completes(client: Client, stand_in: ThreadedStandIn) -> None:
    with standstill() as stood_still_s:
        row = client.wait_for(client.insert(sample_url(stand_in), requester_id="other"), "completed", "failed")
        assert row["status"] == "completed", row["errors"]
        assert (row["finished_at"] - row["created_at"]).total_seconds() <= promised_s() + stood_still_s()


def assert_is_well(daemon: Daemon) -> None:
    assert daemon.process.poll() is None, daemon.log
    assert not [word for word in ("Traceback", "died", "database connection lost") if word in daemon.log], daemon.log


@pytest.mark.timeout(300)
@pytest.mark.parametrize("when", [CLAIM, RENEWAL, COMPLETION, ALWAYS])
def test_a_trigger_that_refuses_one_row_ends_no_daemon_also_after_a_restart(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet, when: str
) -> None:
    env = environment(database, stand_in, DRAFTD_LEASE_S="1", DRAFTD_CONCURRENCY="1")
    if when == RENEWAL:
        stand_in.script(default={"latency_s": 3})
    bad = client.insert(sample_url(stand_in), max_attempts=1)
    client.query(refusing([bad], when=when))
    if when == ALWAYS:
        client.query(COUNTED)
    tried = 0
    for _ in range(2):
        daemon = fleet.start(env)
        if when == ALWAYS:
            daemon.wait_for('"row refused"')
            before, tried = tried, client.query(COUNTS)[0]["claims"]
            assert tried > before
        else:
            row = client.wait_for(bad, "failed")
            assert row["error_code"] == "internal_error"
        stand_in.script(default={})
        assert_neighbour_completes(client, stand_in)
        assert_is_well(daemon)
        assert daemon.log.count('"row refused"') <= 1
        assert daemon.stop() == 0


@pytest.mark.timeout(120)
@pytest.mark.parametrize("sqlstate", ["P0001", "55P03"])
def test_usage_that_is_refused_costs_no_draft_and_delays_no_neighbour(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet, sqlstate: str
) -> None:
    client.query(f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = '{sqlstate}'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON draft_usage FOR EACH ROW WHEN (NEW.requester_id = 'refused')
            EXECUTE FUNCTION refuse()""")
    daemon = fleet.start(environment(database, stand_in, DRAFTD_CONCURRENCY="1"))
    with standstill() as stood_still_s:
        refused = client.insert(sample_url(stand_in), requester_id="refused")
        assert_neighbour_completes(client, stand_in)
        row = client.wait_for(refused, "completed", "failed")
        assert (row["status"], row["attempt"]) == ("completed", 1), row["errors"]
        assert (row["finished_at"] - row["claimed_at"]).total_seconds() <= promised_s() + stood_still_s()
    assert_is_well(daemon)
    # What looks like a lock on the request costs the record its requester's name alone (see ``record_usage``).
    is_nameless = sqlstate == "55P03"
    assert daemon.log.count('"usage refused"') == (0 if is_nameless else 1)
    assert client.query("SELECT count(*) AS n FROM draft_usage") == [{"n": 2 if is_nameless else 1}]


@pytest.mark.timeout(120)
def test_a_workers_row_that_is_refused_costs_no_attempt(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    daemon = fleet.start(environment(database, stand_in, DRAFTD_LEASE_S="2", DRAFTD_REAP_INTERVAL_S="1"))
    client.query("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no beats'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON draft_workers FOR EACH ROW EXECUTE FUNCTION refuse()""")
    daemon.wait_for('"beat refused"')
    stand_in.script(default={"latency_s": 5})
    row = client.wait_for(client.insert(sample_url(stand_in)), "completed", "failed")
    assert (row["status"], row["attempt"]) == ("completed", 1), row["errors"]
    assert daemon.log.count('"beat refused"') == 1
    assert_is_well(daemon)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_no_value_of_any_column_harms_another_row(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    env = environment(
        database, stand_in, DRAFTD_LEASE_S="3", DRAFTD_REAP_INTERVAL_S="1", DRAFTD_ATTEMPT_TIMEOUT_S=str(int(ATTEMPT_S))
    )
    daemon = fleet.start(env)
    assert_neighbour_completes(client, stand_in)
    made = 0
    for number, (column, value) in enumerate(cases(client.connection)):
        url = sample_url(stand_in) if column in READ_WITH_THE_PICTURE else BLOCKED
        made += make_extreme(client.connection, url, PENDING, **{column: value})
        made += make_extreme(client.connection, url, PROCESSING, **{column: value})
        if number % 25 == 0:
            assert_neighbour_completes(client, stand_in)
    for value in ("NULL", "'-infinity'", "'infinity'", "'9999-12-31'", "now() + interval '1 h'"):
        assert make_extreme(client.connection, BLOCKED, PROCESSING, **dict.fromkeys(BOUNDS, value))
    assert made > 300
    set_at = time.monotonic()
    with standstill() as stood_still_s:
        assert_neighbour_completes(client, stand_in)
        wait_until(
            lambda: (
                not client.query(
                    "SELECT id FROM draft_requests WHERE status = 'processing' AND requester_id = 'extreme'"
                )
            ),
            100,
            what=lambda: client.query("SELECT * FROM draft_requests WHERE status = 'processing'"),
        )
        assert time.monotonic() - set_at <= ATTEMPT_S + REAP_S + promised_s() + stood_still_s()
    assert_neighbour_completes(client, stand_in)
    assert_is_well(daemon)
    for command in (["list", "--limit", "1000"], ["list", "--json", "--limit", "1000"], ["status"], ["reap-stale"]):
        done = draftd(*command, env=env)
        assert done.returncode == 0, done.stderr


@pytest.mark.timeout(300)
def test_no_value_in_the_tables_that_daemons_share_harms_a_request(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    env = environment(database, stand_in, DRAFTD_LEASE_S="2", DRAFTD_REAP_INTERVAL_S="1")
    daemon = fleet.start(env)
    assert_neighbour_completes(client, stand_in)
    url = sample_url(stand_in)
    for table in SHARED:
        made = sum(add_extreme(client.connection, table, *case) for case in cases(client.connection, table))
        assert made > 10
        assert_neighbour_completes(client, stand_in)
    assert sum(
        add_extreme_picture(client.connection, url, *case) for case in cases(client.connection, "draft_pictures")
    )
    beats = "SELECT heartbeat_at FROM draft_workers WHERE hostname <> 'h' AND state = 'running'"
    before = client.query(beats)
    wait_until(lambda: client.query(beats) != before, 20)
    make_extreme(client.connection, BLOCKED, PROCESSING)
    wait_until(lambda: not client.query("SELECT id FROM draft_requests WHERE status IN ('pending', 'processing')"), 60)
    ended = client.query(
        "SELECT status, attempt, count(*) AS n FROM draft_requests WHERE requester_id = 'pictured' GROUP BY 1, 2"
    )
    assert [(row["status"], row["attempt"]) for row in ended] == [("completed", 2)]
    assert_neighbour_completes(client, stand_in)
    assert_is_well(daemon)
    assert "refused" not in daemon.log


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("level", "count"),
    [
        ("serializable", 60),
        pytest.param("serializable", 300, marks=pytest.mark.long),
        pytest.param("repeatable read", 300, marks=pytest.mark.long),
    ],
)
def test_three_daemons_draft_without_a_false_alarm_whatever_the_databases_isolation(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet, level: str, count: int
) -> None:
    name = client.query("SELECT current_database() AS name")[0]["name"]
    client.query(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = '{level}'")
    client.query(
        "INSERT INTO draft_requests (image_urls, requester_id) SELECT ARRAY[%s], n::text FROM generate_series(0, 6) AS n",
        sample_url(stand_in),
    )
    client.query(
        "UPDATE draft_requests SET status = 'completed', attempt = 1, result = %s, reading = %s",
        Jsonb(PARENT_RESULT),
        Jsonb(PARENT_READING),
    )
    daemons = [fleet.start(environment(database, stand_in), wait=False) for _ in range(3)]
    for daemon in daemons:
        daemon.wait_for('"started"')
    # Refinements, but for every tenth: a decoder's time says nothing about transactions.
    client.query(
        "INSERT INTO draft_requests (image_urls, parent_id, requester_id, context) "
        "SELECT CASE WHEN n %% 10 = 0 THEN p.image_urls ELSE '{}' END, CASE WHEN n %% 10 > 0 THEN p.id END,"
        "       p.requester_id, 'one of many' "
        "  FROM generate_series(1, %s) AS n JOIN draft_requests AS p ON p.requester_id = (n %% 7)::text",
        count,
    )
    wait_until(
        lambda: not client.query("SELECT id FROM draft_requests WHERE status IN ('pending', 'processing') LIMIT 1"), 300
    )
    counts = client.query(
        "SELECT status, attempt, count(*) AS n FROM draft_requests WHERE context = 'one of many' GROUP BY 1, 2"
    )
    assert counts == [{"status": "completed", "attempt": 1, "n": count}]
    for daemon in daemons:
        assert_is_well(daemon)
        assert "refused" not in daemon.log, daemon.log
        missed = [line for line in daemon.log.splitlines() if '"heartbeat missed"' in line]
        # A machine that stands still answers no beat in time, whatever the isolation is.
        assert [line for line in missed if "no answer within" not in line] == []
