"""What the commands that read print of rows whose columns hold anything."""

import json
from typing import Any, LiteralString

import pytest

from draftd.cli.requests import _print_request
from draftd.queue.admin import COLUMNS
from draftd.stand_in.threaded import ThreadedStandIn
from fix_daemon import Call, Client, environment
from fix_extremes import PENDING, SHARED, VALUES, add_extreme, cases, make_extreme

URL = "https://images.example/shot.png"


@pytest.fixture
def extremes(client: Client) -> int:
    """Rows with each column at each of its extremes, and final ones with every kind of result."""
    made = sum(
        make_extreme(client.connection, URL, PENDING, **{column: value}) for column, value in cases(client.connection)
    )
    for value in VALUES["jsonb"]:
        end = [("status", "'completed'"), ("result", value), ("reading", value), ("errors", value)]
        made += make_extreme(client.connection, URL, PENDING, **dict(end))
        inner = f"jsonb_build_object('options', {value}::jsonb, 'warnings', {value}::jsonb)"
        made += make_extreme(client.connection, URL, PENDING, status="'completed'", result=inner)
    return made


def test_every_row_can_be_listed(database: str, call: Call, extremes: int) -> None:
    env = environment(database)
    for command in (["list"], ["list", "--json"]):
        done = call(*command, "--limit", "1000", env=env)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert len(json.loads(done.stdout)["requests"]) == extremes
    assert call("status", env=env).returncode == 0


async def test_every_row_can_be_shown(database: str, extremes: int, capsys: pytest.CaptureFixture[str]) -> None:
    from draftd import db  # noqa: PLC0415  # as the command reads it

    async with db.connected(database) as connection:
        rows: list[dict[str, Any]] = await (
            await connection.execute(f"SELECT {COLUMNS} FROM draft_requests".encode())
        ).fetchall()
    assert len(rows) == extremes
    for row in rows:
        _print_request(row | {"chain": []})
        assert str(row["id"]) in capsys.readouterr().out


def test_a_final_row_of_any_kind_can_be_waited_for(
    database: str, client: Client, call: Call, extremes: int, stand_in: ThreadedStandIn
) -> None:
    assert extremes
    rows = client.query("SELECT id FROM draft_requests WHERE status = 'completed'")
    assert rows
    env = environment(database, stand_in)
    for number, row in enumerate(rows):
        client.query("UPDATE draft_requests SET idempotency_key = %s WHERE id = %s", f"k{number}", row["id"])
        client.query("UPDATE draft_requests SET requester_id = '' WHERE id = %s", row["id"])
        done = call("enqueue", URL, "--idempotency-key", f"k{number}", "--wait", "--timeout", "20", env=env)
        assert "Traceback" not in done.stderr
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("table", SHARED)
def test_whatever_stands_in_a_table_of_the_fleet_can_be_listed(
    table: LiteralString, database: str, client: Client, call: Call
) -> None:
    made = sum(add_extreme(client.connection, table, *case) for case in cases(client.connection, table))
    assert made > 10
    env = environment(database)
    for command in (["status"], ["models", "list"], ["agents", "list"]):
        for form in ([], ["--json"]):
            done = call(*command, *form, env=env)
            assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
            if form:
                json.loads(done.stdout, parse_constant=pytest.fail)
    done = call("doctor", env=env)
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr


def test_an_agent_with_any_fallbacks_is_changed_like_another(database: str, client: Client, call: Call) -> None:
    env = environment(database)
    for value in ("'{NULL}'", "'{{a,b},{c,d}}'", "'{a,NULL}'"):
        for change in (["set", "comment_generator", "openai/m"], ["unset", "comment_generator"]):
            client.query("DELETE FROM draft_agents")
            assert add_extreme(client.connection, "draft_agents", "fallback_models", value, agent="'comment_generator'")
            done = call("agents", *change, env=env)
            assert done.returncode == 0, done.stderr
