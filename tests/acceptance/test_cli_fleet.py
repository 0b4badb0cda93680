"""What the operator looks at: status, reap-stale, health."""

import json
import re
import shutil
import signal
import subprocess
import sys
import uuid
from functools import partial
from typing import Any

import psycopg
import pytest

from draftd import db
from draftd.daemon import liveness
from fix_daemon import Call, Client, Running, environment, wait_until
from fix_database import database_url

NEGATIVE = 1
MOST_ROUNDS = 5
AWAY = "postgresql://127.0.0.1:1/app"
WORKER = {"id", "hostname", "pid", "state", "in_flight", "concurrency", "heartbeat_age_s"}

END_DAEMONS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND application_name ~ '^draftd '"
)


def lost_request(client: Client, *, max_attempts: int = 5, since_s: int = 300) -> str:
    """Make a request whose worker died so long ago."""
    request_id = client.insert("https://images.example/a.png", max_attempts=max_attempts)
    client.query(
        """UPDATE draft_requests SET status = 'processing', attempt = 1, lease_token = 1, worker_id = gen_random_uuid(),
                  lease_until = now() - make_interval(secs => %s), deadline_at = now() + interval '1 h' WHERE id = %s""",
        since_s,
        request_id,
    )
    return request_id


def test_status_of_a_working_fleet(call: Call, running: Running) -> None:
    facts = json.loads(call("status", "--json", env=running.env).stdout)
    assert facts.keys() >= {"requests", "oldest_pending_s", "workers", "holds"}
    assert set(facts["requests"]) == {"pending", "processing", "completed", "failed", "cancelled"}
    (worker,) = facts["workers"]
    assert worker.keys() >= WORKER
    assert (worker["pid"], worker["state"], worker["alive"]) == (running.daemon.pid, "running", True)
    assert worker["concurrency"] == 16


def test_status_counts_and_shows_holds_and_lost_workers(call: Call, client: Client, database: str) -> None:
    client.query(
        """INSERT INTO draft_workers (id, hostname, pid, version, state, concurrency, heartbeat_at)
           VALUES (%s, 'attic', 42, '0.1.0', 'running', 16, now() - interval '3 h')""",
        uuid.uuid4(),
    )
    client.query(
        """INSERT INTO draft_holds (model, code, until, reason)
           VALUES ('openai/a', 'model_misconfigured', now(), 'openai/a: bad key')"""
    )
    client.query("INSERT INTO draft_throttles (model, share) VALUES ('openai/b', 0.25), ('openai/c', 1)")
    client.query('SELECT create_draft_request(\'{"image_urls": ["https://images.example/a.png"]}\')')
    client.query("UPDATE draft_requests SET available_at = now() - interval '10 min'")
    facts = json.loads(call("status", "--json", env=environment(database)).stdout)
    assert facts["requests"]["pending"] == facts["lately"]["inserted"] == 1
    assert 599 < facts["oldest_pending_s"] < 700
    assert facts["holds"][0].keys() >= {"model", "code", "since", "until"}
    assert (facts["workers"][0]["alive"], facts["workers"][0]["heartbeat_age_s"] > 10_000) == (False, True)
    assert [(one["model"], one["share"]) for one in facts["throttles"]] == [("openai/b", 0.25)]
    text = call("status", env=environment(database)).stdout
    assert "throttled: openai/b: 25% of the concurrency" in text
    assert "attic\t42\tlost\t0/16\t3 h ago" in text
    assert "on hold: openai/a: model_misconfigured: bad key (probe due)" in text
    assert "waiting for 10 min" in text


def test_reap_stale_says_first_and_then_does(call: Call, client: Client, database: str) -> None:
    again, over, fresh = lost_request(client), lost_request(client, max_attempts=1), lost_request(client, since_s=60)
    # Nothing is taken back before the reaper has been connected for one lease.
    env = environment(database, DRAFTD_LEASE_S="1")
    rehearsed = json.loads(call("reap-stale", "--dry-run", "--json", env=env).stdout)
    assert (rehearsed["requeued"], rehearsed["failed"]) == (1, 1)
    assert client.row(again)["status"] == client.row(over)["status"] == "processing"
    done = json.loads(call("reap-stale", "--json", env=env).stdout)
    assert (done["requeued"], done["failed"]) == (1, 1)
    assert [client.row(one)["status"] for one in (again, over, fresh)] == ["pending", "failed", "processing"]
    assert client.row(over)["error_code"] == "worker_lost"
    sooner = call("reap-stale", "--older-than", "0.75m", env=env)
    assert sooner.stdout == f"{fresh}\tworker_lost\tpending\n"
    assert sooner.stderr.splitlines()[-1] == "requeued: 1, failed: 0"


def test_reap_stale_says_how_long_it_waits_for_those_who_live(call: Call, client: Client, database: str) -> None:
    lost_request(client)
    env = environment(database, DRAFTD_LEASE_S="3")
    # What the connection took to be made counts already, and may be all of it.
    for _ in range(MOST_ROUNDS):
        *waiting, done_line = call("reap-stale", "--dry-run", env=env).stderr.splitlines()
        assert done_line == "would be requeued: 1, failed: 0"
        if waiting:
            break
    (said,) = waiting
    assert re.fullmatch(r"waiting [0-3] s so that live workers can renew their leases", said)


def test_reap_stale_needs_one_connection(call: Call, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    connect = db.connect

    async def counting(url: str, **how: Any) -> db.Connection:
        opened.append(url)
        return await connect(url, **how)

    monkeypatch.setattr(db.link, "connect", counting)
    assert call("reap-stale", env=environment(database)).returncode == 0
    assert opened == [database]


def health(call: Call, running: Running, *options: str, **over: str) -> tuple[int, bool]:
    """Ask about the running daemon; return the exit code and what the JSON says."""
    arguments = ["health", "--pid", str(running.daemon.pid), "--json", *options]
    result = call(*arguments, env=running.env | over)
    return result.returncode, json.loads(result.stdout)["ok"]


def test_a_daemon_is_healthy_whatever_its_database_and_models_do(call: Call, running: Running) -> None:
    running.client.query("INSERT INTO draft_holds (model, code) VALUES ('openai/stand-in', 'model_unavailable')")
    assert health(call, running) == (0, True)
    assert health(call, running, DRAFTD_DATABASE_URL=AWAY) == (0, True)
    assert health(call, running, DRAFTD_DATABASE_URL="") == (0, True)
    running.client.query("DELETE FROM draft_holds")


def ready(call: Call, running: Running) -> str:
    """Return what ``health --ready`` prints for a person."""
    return call("health", "--ready", "--pid", str(running.daemon.pid), env=running.env).stdout


def test_ready_is_judged_by_the_connections_of_the_daemon(call: Call, running: Running) -> None:
    for url in (running.url, AWAY, "", "postgresql://h/d?schema=x"):
        assert health(call, running, "--ready", DRAFTD_DATABASE_URL=url) == (0, True)
    name = running.client.connection.info.dbname
    with psycopg.connect(database_url(running.url, "postgres"), autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        admin.execute(END_DAEMONS, [name])
        try:
            said = r"pid \d+: claiming paused: no connection to .* is not currently accepting"
            wait_until(lambda: re.search(said, ready(call, running)) is not None, 60)
            assert health(call, running, "--ready") == (NEGATIVE, False)
            assert health(call, running) == (0, True)
        finally:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())
    wait_until(lambda: health(call, running, "--ready") == (0, True), 60)


def test_ready_says_when_the_command_means_another_database(call: Call, running: Running) -> None:
    env = running.env | {"DRAFTD_DATABASE_URL": AWAY}
    result = call("health", "--ready", "--pid", str(running.daemon.pid), env=env)
    assert result.returncode == 0
    assert result.stdout.endswith("but this command's settings name 127.0.0.1:1/app\n")


def test_a_stopped_daemon_is_stuck(call: Call, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "ask", partial(liveness.ask, time_s=0.3))
    running.daemon.process.send_signal(signal.SIGSTOP)
    try:
        result = call("health", "--pid", str(running.daemon.pid), env=running.env)
    finally:
        running.daemon.process.send_signal(signal.SIGCONT)
    assert (result.returncode, result.stdout) == (
        NEGATIVE,
        f"the daemon does not answer (pid {running.daemon.pid})\n",
    )
    wait_until(lambda: health(call, running) == (0, True), 60)


def test_a_daemon_that_ends_before_it_is_asked_is_not_stuck(
    call: Call, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, pid = liveness.daemons, running.daemon.pid
    looks = iter([[f"{pid}.ended"]])
    monkeypatch.setattr(liveness, "daemons", lambda: [*listed(), *next(looks, [])])
    assert health(call, running) == (0, True)
    looks = iter([[f"{pid}.ended"]])
    monkeypatch.setattr(liveness, "daemons", lambda: next(looks, []))
    result = call("health", "--pid", str(pid), env=running.env)
    assert (result.returncode, result.stdout) == (NEGATIVE, f"no daemon with pid {pid} is running on this host\n")


def test_without_a_daemon_the_host_is_not_healthy(call: Call, running: Running) -> None:
    assert call("health", "--pid", "1", "--json", env=running.env).returncode == NEGATIVE
    alone = [shutil.which("unshare") or "", "--map-root-user", "--net", sys.executable, "-m", "draftd", "health"]
    if not alone[0] or subprocess.run([*alone[:3], "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespace to be alone in")
    result = subprocess.run(alone, env=running.env, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (NEGATIVE, "no daemon is running on this host\n")
