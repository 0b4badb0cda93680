"""A daemon and its commands with the rights that `draftd grants` prints, and no more."""

import signal
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import typer
from alembic.command import downgrade
from psycopg import sql

from draftd.cli import app
from draftd.db import schema_version
from draftd.db.hosts import platform
from draftd.stand_in.threaded import ThreadedStandIn
from fix_daemon import Call, Client, Fleet, environment, sample_url, wait_until
from fix_roles import Roles

USAGE = 2
CONFIGURATION = 78
AWAY = "postgresql://127.0.0.1:1/away"


def granted(call: Call, roles: Roles, *options: str) -> None:
    """Apply what the command prints; it needs no database for it."""
    printed = call("grants", "--preset", "backend", *options, env=environment(AWAY))
    assert (printed.returncode, printed.stderr) == (0, "")
    roles.owner(printed.stdout)


@pytest.fixture
def worker_env(call: Call, roles: Roles, stand_in: ThreadedStandIn) -> dict[str, str]:
    """The environment of a daemon that connects as a worker."""
    role = roles.make()
    granted(call, roles, "--worker", role)
    roles.owner("UPDATE draft_settings SET retention_days = 1")
    return environment(roles.url(role), stand_in, DRAFTD_REAP_INTERVAL_S="1", DRAFTD_LEASE_S="3")


def test_a_worker_drafts_for_a_client_reaps_and_prunes(
    call: Call, roles: Roles, client: Client, worker_env: dict[str, str], stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    role = roles.make()
    granted(call, roles, "--client", role)
    app = Client(roles.url(role))
    url = sample_url(stand_in)
    old, overdue, lost = (client.insert(url) for _ in range(3))
    client.query("UPDATE draft_requests SET status = 'failed' WHERE id = %s", old)
    client.query(
        """UPDATE draft_requests SET created_at = now() - interval '3 d', finished_at = now() - interval '2 d'
            WHERE id = %s""",
        old,
    )
    client.query("UPDATE draft_requests SET expires_at = now() WHERE id = %s", overdue)
    client.query(
        """UPDATE draft_requests SET status = 'processing', attempt = 1, lease_token = 1, worker_id = gen_random_uuid(),
                  lease_until = now() - interval '1 h', deadline_at = now() + interval '1 h' WHERE id = %s""",
        lost,
    )
    daemon = fleet.start(worker_env)
    assert '"listen": true' in daemon.log
    request_id = app.insert(url, requester_id="ada")
    row = app.wait_for(request_id, "completed")
    child = app.insert(url, requester_id="ada", parent_id=request_id, image_urls=[])
    assert app.wait_for(child, "completed")["result"]
    assert client.wait_for(overdue, "failed")["error_code"] == "expired"
    assert client.wait_for(lost, "completed")["errors"][0]["code"] == "worker_lost"
    wait_until(lambda: not client.query("SELECT 1 FROM draft_requests WHERE id = %s", old), 60)
    app.query("INSERT INTO draft_feedback (request_id, option, rating) VALUES (%s, 'short', 1)", request_id)
    assert client.query("SELECT 1 FROM draft_usage WHERE request_id = %s", row["id"])
    app.connection.close()
    assert daemon.stop(signal.SIGTERM) == 0
    assert client.query("SELECT state FROM draft_workers") == [{"state": "stopped"}]
    assert "denied" not in daemon.log


def test_a_model_is_held_and_probed_by_a_worker(
    client: Client, worker_env: dict[str, str], stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    stand_in.script([{"status": 429}, {"status": 503}])
    daemon = fleet.start(worker_env)
    request_id = client.insert(sample_url(stand_in))
    client.wait_for(request_id, "completed")
    assert "model throttled" in daemon.log or "model on hold" in daemon.log
    wait_until(lambda: not client.query("SELECT 1 FROM draft_holds"), 60)
    assert "denied" not in daemon.log


def as_worker(url: str) -> list[tuple[str, ...]]:
    """Return commands that a worker runs, in an order in which each has something to do; ID is the first one's request."""
    return [
        ("enqueue", url, "--requester", "ada", "--idempotency-key", "k"),
        ("enqueue", url, "--requester", "ada", "--idempotency-key", "k"),
        ("show", "ID"),
        ("list",),
        ("cancel", "ID"),
        ("retry", "ID"),
        ("cancel", "--requester", "ada"),
        ("retry", "--requester", "ada", "--since", "1h", "--dry-run"),
        ("status", "--json"),
        ("reap-stale",),
        ("prune", "--older-than", "30d"),
        ("pause", "--requester", "ada", "--reason", "a test"),
        ("resume", "--requester", "ada"),
        ("limits", "list"),
        ("agents", "list"),
        ("models", "list"),
        ("settings", "list"),
        ("migrate", "--check"),
        ("doctor",),
        ("run", "--drain"),
        ("feedback", "ID", "--rating", "1"),
        ("report", "--json"),
        ("enqueue", url, "--requester", "ada", "--expires-in", "0s"),
        ("reap-stale",),
        ("prune", "--older-than", "0s"),
    ]


OWNERS = {
    "migrate", "forget", "agents set", "agents unset", "models set", "models unset", "limits set", "limits unset", "settings set",
}  # fmt: skip
WITHOUT_RIGHTS = {"systemd-unit", "demo", "grants", "eval", "stand-in"}
"""These connect to no database, or to one of their own."""


def commands(group: typer.Typer, path: str = "") -> set[str]:
    """Return every command that the program has."""
    own = {
        f"{path} {one.name or getattr(one.callback, '__name__', '').strip('_').replace('_', '-')}".strip()
        for one in group.registered_commands
    }
    return own.union(
        *(commands(one.typer_instance, one.name or "") for one in group.registered_groups if one.typer_instance)
    )


def test_every_command_but_the_owners_works_as_worker(
    call: Call, worker_env: dict[str, str], stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    request_id, ran = "", set()
    every = commands(app)
    for arguments in as_worker(sample_url(stand_in)):
        ended = call(*(request_id if one == "ID" else one for one in arguments), env=worker_env)
        assert ended.returncode == 0, (arguments, ended.stdout, ended.stderr)
        assert "denied" not in ended.stderr
        request_id = request_id or ended.stdout.strip()
        ran |= {name for name in every if " ".join(arguments).startswith(name)}
    daemon = fleet.start(worker_env)
    assert call("health", "--ready", "--pid", str(daemon.pid), env=worker_env).returncode == 0
    assert every == ran | {"health"} | OWNERS | WITHOUT_RIGHTS


@pytest.mark.parametrize(
    "command",
    [
        ["migrate"],
        ["agents", "set", "comment_generator", "openai/m"],
        ["agents", "unset", "comment_generator"],
        ["models", "set", "fast", "--model", "openai/m"],
        ["models", "unset", "fast"],
    ],
    ids=lambda one: "-".join(one[:2]),
)
def test_the_owners_commands_tell_a_worker_in_one_line_which_role_can(
    call: Call, client: Client, database: str, worker_env: dict[str, str], command: list[str]
) -> None:
    client.query("INSERT INTO draft_agents (agent, model) VALUES ('comment_generator', 'fast')")
    client.query("INSERT INTO draft_models (name, model) VALUES ('fast', 'openai/old')")
    state = f"SELECT version_num, a.*, m.* FROM {schema_version.VERSION_TABLE}, draft_agents AS a, draft_models AS m"
    if command == ["migrate"]:
        downgrade(schema_version._config(database), schema_version.revisions()[-2])
    before = client.query(state)
    refused = call(*command, env=worker_env)
    assert (refused.returncode, refused.stdout) == (CONFIGURATION, "")
    assert refused.stderr.count("\n") == 1
    (owner,) = client.query("SELECT tableowner AS name FROM pg_tables WHERE tablename = 'draft_requests'")
    assert f"connect as {owner['name']}, who owns the tables, or as a member of it" in refused.stderr
    assert client.query(state) == before


def test_a_client_that_may_not_delete_is_told_so(call: Call, client: Client, roles: Roles) -> None:
    client.query(
        "UPDATE draft_requests SET status = 'cancelled' WHERE id = %s", client.insert("https://a.example/b.png")
    )
    refused = call("prune", "--older-than", "0s", env=environment(roles.url(roles.client())))
    assert (refused.returncode, refused.stdout) == (CONFIGURATION, "")
    assert "permission denied" in refused.stderr
    assert client.query("SELECT count(*) AS n FROM draft_requests") == [{"n": 1}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--client", "app"], "Missing option '--preset'"),
        (["--preset", "frontend", "--client", "app"], "unknown preset 'frontend'"),
        (["--preset", "backend"], "--client, --worker or both"),
        (["--preset", "backend", "--worker", "app", "--trusted"], "--trusted needs --client"),
        (["--preset", "backend", "--client", "public"], "--client: 'public' is a reserved role"),
        (["--preset", "backend", "--client", "app", "--schema", ""], "--schema: '' is not a valid name"),
        (["--preset", "backend", "--worker", "app", "--identity", "auth.uid()"], "--identity needs --client"),
        (["--preset", "backend", "--client", "app", "--identity", "x", "--trusted"], "is never --trusted"),
        (["--preset", "supabase", "--client", "anon"], "two roles that are not anon"),
        (["--preset", "insforge", "--identity", ""], "--identity takes an SQL expression"),
    ],
)
def test_what_cannot_be_granted_is_a_mistake_of_usage(call: Call, arguments: list[str], message: str) -> None:
    ended = call("grants", *arguments, env=environment(AWAY))
    assert (ended.returncode, ended.stdout) == (USAGE, "")
    assert message in ended.stderr


def test_a_hosts_preset_is_printed_for_the_roles_and_the_schema_that_are_named(call: Call) -> None:
    options = (
        "--schema",
        "drafts",
        "--client",
        "members",
        "--worker",
        "daemon",
        "--identity",
        "auth.uid()",
        "--trusted",
    )
    printed = call("grants", "--preset", "supabase", *options, env=environment(AWAY))
    assert (printed.returncode, printed.stderr) == (0, "")
    how: dict[str, Any] = {
        "schema": "drafts",
        "client": "members",
        "worker": "daemon",
        "trusted": True,
        "identity": "auth.uid()",
    }
    assert printed.stdout == platform("supabase", **how)
    assert 'TO "members"' in printed.stdout


def test_an_owner_without_other_rights_grants_from_a_schema_of_its_own(
    call: Call, empty_database: str, roles_of: Callable[[str], Roles]
) -> None:
    roles = roles_of(empty_database)
    owner, role = roles.make(), roles.make()
    roles.owner(sql.SQL('CREATE SCHEMA "My drafts" AUTHORIZATION {}').format(sql.Identifier(owner)))
    there = f"{'&' if '?' in empty_database else '?'}options=-csearch_path%3D%22My%5C%20drafts%22"
    owner_url = roles.url(owner) + there
    assert call("migrate", env=environment(owner_url)).returncode == 0
    options = ("--preset", "backend", "--client", role, "--schema", "My drafts")
    printed = call("grants", *options, env=environment(AWAY)).stdout
    with psycopg.connect(owner_url, autocommit=True) as connection:
        connection.execute(printed.encode())
    app, desk = Client(roles.url(role) + there), Client(owner_url)
    request_id = app.insert("https://images.example/a.png")
    desk.query("UPDATE draft_requests SET priority = 1 WHERE id = %s", request_id)
    app.query("SELECT cancel_draft_request(%s)", request_id)
    assert (app.row(request_id)["status"], app.row(request_id)["priority"]) == ("cancelled", 1)
    app.connection.close()
    desk.connection.close()
