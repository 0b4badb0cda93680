"""pause, resume, limits list|set|unset, and the first line of status."""

import getpass
import json
import socket
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from fix_daemon import Call, Client, environment
from fix_roles import Roles

URL = "https://images.example/a.png"
USAGE, NEGATIVE, CONFIGURATION = 2, 1, 78


def status(call: Call, database: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(call("status", "--json", env=environment(database)).stdout)
    return facts


def a_worker(client: Client, models: dict[str, Any] | None = None) -> None:
    """Let a daemon be alive that can call these models."""
    client.query(
        """INSERT INTO draft_workers (id, hostname, pid, version, state, concurrency, agents, models)
           VALUES (gen_random_uuid(), 'attic', 42, '0.1.0', 'running', 16, '{comment_generator}', %s)""",
        Jsonb({"comment_generator": {"openai/a": True} if models is None else models}),
    )


@pytest.mark.parametrize(
    ("options", "what", "name"),
    [([], "all", ""), (["--model", "openai/a"], "model", "openai/a"), (["--requester", "ann"], "requester", "ann")],
)
def test_a_pause_is_set_shown_and_ended(call: Call, database: str, options: list[str], what: str, name: str) -> None:
    env = environment(database)
    paused = json.loads(call("pause", *options, "--reason", "too dear", "--json", env=env).stdout)
    assert (paused["what"], paused["name"], paused["reason"]) == (what, name, "too dear")
    assert paused["by"] == f"{getpass.getuser()}@{socket.gethostname()}"
    (shown,) = status(call, database)["pauses"]
    assert shown == paused
    text = call("status", env=env).stdout
    assert f"paused: {what if name else 'everything'}{' ' + name if name else ''}, by {paused['by']}" in text
    assert call("pause", *options, env=env).returncode == 0, "again"
    assert json.loads(call("resume", *options, "--json", env=env).stdout)["name"] == name
    assert call("resume", *options, env=env).returncode == NEGATIVE
    assert status(call, database)["pauses"] == []


def test_a_pause_of_a_model_that_no_agent_uses_is_made_with_a_warning(
    call: Call, client: Client, database: str
) -> None:
    env = environment(database)
    a_worker(client)
    client.query(
        "INSERT INTO draft_agents (agent, model, fallback_models) "
        "VALUES ('rare', 'openai/b', '{{openai/c,openai/c},{openai/c,NULL}}')"
    )
    for name in ("openai/a", "openai/b", "openai/c"):
        assert "warning" not in call("pause", "--model", name, env=env).stderr
    done = call("pause", "--model", "openai/aa", env=env)
    warning = "warning: no agent uses a model named 'openai/aa'; in use: openai/a, openai/b, openai/c"
    assert (done.returncode, done.stderr.splitlines()[0]) == (0, warning)
    assert len(status(call, database)["pauses"]) == 4
    assert "warning" not in call("pause", "--requester", "anne", env=env).stderr


def test_one_thing_is_paused_at_a_time(call: Call, database: str) -> None:
    result = call("pause", "--model", "a", "--requester", "b", env=environment(database))
    assert (result.returncode, "not both" in result.stderr) == (USAGE, True)


def test_a_pause_of_the_star_which_would_pause_nobody_is_refused(call: Call, database: str) -> None:
    env = environment(database)
    result = call("pause", "--requester", "*", env=env)
    assert (result.returncode, "pause everything" in result.stderr) == (USAGE, True)
    assert status(call, database)["pauses"] == []


def test_a_worker_may_pause_and_sets_no_limits(call: Call, roles: Roles) -> None:
    env = environment(roles.url(roles.worker()))
    assert call("pause", env=env).returncode == 0
    assert call("status", env=env).stdout.startswith("nothing is pending")
    assert call("resume", env=env).returncode == 0
    assert call("limits", "list", env=env).returncode == 0
    assert call("limits", "set", "ann", "--max-pending", "1", env=env).returncode == CONFIGURATION


def test_a_pause_by_sql_has_the_role_as_its_author(call: Call, client: Client, database: str) -> None:
    client.query("INSERT INTO draft_pauses (what) VALUES ('all')")
    assert status(call, database)["pauses"][0]["by"] == client.query("SELECT current_user AS me")[0]["me"]


def test_limits_are_set_listed_and_unset(call: Call, database: str) -> None:
    env = environment(database)
    assert call("limits", "set", "*", "--max-pending", "100", "--max-in-flight", "4", env=env).returncode == 0
    assert call("limits", "set", "ann", "--usd-per-day", "2.5", env=env).returncode == 0
    row = json.loads(call("limits", "set", "ann", "--max-in-flight", "9", "--json", env=env).stdout)
    assert row == {"requester_id": "ann", "max_pending": None, "max_in_flight": 9, "usd_per_day": 2.5}
    assert call("limits", "set", "ann", "--usd-per-day", "none", env=env).returncode == 0
    assert json.loads(call("limits", "list", "--json", env=env).stdout) == {
        "limits": [
            {"requester_id": "*", "max_pending": 100, "max_in_flight": 4, "usd_per_day": None},
            {"requester_id": "ann", "max_pending": None, "max_in_flight": 9, "usd_per_day": None},
        ]
    }
    assert call("limits", "unset", "ann", env=env).returncode == 0
    assert call("limits", "unset", "ann", env=env).returncode == NEGATIVE
    assert call("limits", "list", env=env).stdout == "*\t100\t4\t\n"


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--max-pending", "-1"],
        ["--max-pending", "1.5"],
        ["--max-in-flight", "x"],
        ["--max-in-flight", "99999999"],
        ["--usd-per-day", "NaN"],
        ["--usd-per-day", "inf"],
        ["--usd-per-day", "-1"],
        ["--usd-per-day", "1e-30"],
        ["--usd-per-day", "1e400"],
        ["--usd-per-day", "0.0000001"],
        ["--usd-per-day", "1000000.01"],
        ["--usd-per-day", ""],
        ["--usd-per-day", "."],
        ["--max-pending", "1e3"],
        ["--max-pending", "9" * 400],
        ["--max-pending", "\u0663"],
    ],
)
def test_what_is_no_limit_is_refused(call: Call, database: str, options: list[str]) -> None:
    refused = call("limits", "set", "ann", *options, env=environment(database))
    assert (refused.returncode, refused.stderr.count("\n")) == (USAGE, 1)
    if options:
        assert refused.stderr.startswith(f"draftd: {options[0]} must be ")


def test_an_enqueue_beyond_the_limit_says_so(call: Call, client: Client, database: str) -> None:
    client.query("INSERT INTO draft_limits (requester_id, max_pending) VALUES ('ann', 0)")
    result = call("enqueue", URL, "--requester", "ann", env=environment(database))
    assert result.returncode != 0
    assert "too many requests are waiting for this requester: at most 0" in result.stderr


TODAY = "(now() AT TIME ZONE 'UTC')::date"
REASONS: dict[str, tuple[list[str], str, str]] = {
    "everything is paused": (
        ["INSERT INTO draft_pauses (what, reason, by) VALUES ('all', 'night', 'bob')"],
        "paused",
        r"everything is paused, by bob 0 s ago: night",
    ),
    "the model is paused": (
        ["INSERT INTO draft_pauses (what, name, by) VALUES ('model', 'openai/a', 'bob')"],
        "paused",
        r"the model openai/a is paused, by bob 0 s ago",
    ),
    "the requester is paused": (
        ["INSERT INTO draft_pauses (what, name, by) VALUES ('requester', 'ann', 'bob')"],
        "paused",
        r"the requester 'ann' is paused (1 request waiting), by bob 0 s ago",
    ),
    "the model is on hold": (
        [
            "INSERT INTO draft_holds (model, code, until) VALUES ('openai/a', 'model_unavailable', now() - interval '1 s')"
        ],
        "model",
        "the model openai/a is on hold: model_unavailable (probe due)",
    ),
    "at a limit": (
        ["INSERT INTO draft_limits (requester_id, max_in_flight) VALUES ('ann', 0)"],
        "limit",
        "the requester 'ann' is at a limit (1 request waiting); see `draftd limits list`",
    ),
    "the fleet's budget is used up": (
        [
            "UPDATE draft_settings SET usd_per_day = 1",
            f"INSERT INTO draft_spending (day, payer, requester_id, spent, refused) VALUES ({TODAY}, 'fleet', '', 0.99, 0.1)",
        ],
        "budget",
        "the fleet's budget for today is used up; see `draftd settings`",
    ),
    "the requester's budget is used up": (
        [
            "INSERT INTO draft_limits (requester_id, usd_per_day) VALUES ('ann', 1)",
            (
                "INSERT INTO draft_spending (day, payer, requester_id, spent, refused) "
                f"VALUES ({TODAY}, 'requester', 'ann', 0.99, 0.1)"
            ),
        ],
        "budget",
        "the requester 'ann' has spent the day's budget (1 request waiting)",
    ),
    "a ceiling is reached": (
        [
            "INSERT INTO draft_models (name, rpm) VALUES ('openai/a', 1)",
            (
                "INSERT INTO draft_reservations (request_id, lease_token, call, model, worker_id, usd, prompt_usd, output_usd, "
                "output_tokens, estimate, began_at, ends_at) "
                "SELECT gen_random_uuid(), 1, 1, 'openai/a', gen_random_uuid(), 0, 0, 0, 1, 1, now() + interval '1 h', now()"
            ),
        ],
        "model",
        "the model openai/a is at the fleet's ceiling of 1 calls per minute; there may be room in 61 min",
    ),
    "due": ([], "turn", "1 request due, which a daemon will claim next"),
}


@pytest.mark.usefixtures("same_day")
@pytest.mark.parametrize("name", REASONS)
def test_the_first_line_of_status_says_why_nothing_is_drafted(
    call: Call, client: Client, database: str, name: str
) -> None:
    statements, code, message = REASONS[name]
    a_worker(client)
    for statement in statements:
        client.query(statement)
    client.insert(URL, requester_id="ann")
    facts = status(call, database)
    assert (facts["reason"]["code"], facts["reason"]["message"].replace(" 1 s ago", " 0 s ago")) == (code, message)
    assert call("status", env=environment(database)).stdout.splitlines()[0].startswith(message[:20])


def test_the_first_line_of_status_names_what_is_missing(call: Call, client: Client, database: str) -> None:
    assert status(call, database)["reason"] == {"code": "idle", "message": "nothing is pending", "until": None}
    client.insert(URL)
    assert status(call, database)["reason"]["message"] == "no daemon is running: start `draftd run`"
    a_worker(client, {"openai/a": False})
    message = "no running daemon has a model that it can call for comment_generator (1 request due)"
    assert status(call, database)["reason"]["message"] == message
    client.query("UPDATE draft_workers SET agents = '{another}'")
    message = "no running daemon has a prompt for the agent comment_generator (1 request due)"
    assert status(call, database)["reason"]["message"] == message
    client.query("UPDATE draft_requests SET available_at = now() + interval '90 min'")
    reason = status(call, database)["reason"]
    assert (reason["code"], reason["until"] is not None) == ("later", True)
    client.query("UPDATE draft_requests SET status = 'processing', attempt = 1, lease_token = 1")
    assert status(call, database)["reason"]["message"] == "1 request being drafted"


def test_a_row_shows_whether_it_waits(call: Call, client: Client, database: str) -> None:
    client.query("INSERT INTO draft_pauses (what, name) VALUES ('requester', 'ann')")
    request_id = client.insert(URL, requester_id="ann")
    assert json.loads(call("show", request_id, "--json", env=environment(database)).stdout)["limited"] is True


def test_no_pause_of_another_kind_is_stored(client: Client) -> None:
    for values in ("('some', '')", "('all', 'x')"):
        with pytest.raises(psycopg.errors.CheckViolation):
            client.query(f"INSERT INTO draft_pauses (what, name) VALUES {values}")
