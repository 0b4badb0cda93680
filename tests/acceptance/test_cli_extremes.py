"""What the commands that read print of rows whose columns hold anything."""

import json
from typing import Any

import pytest

from draftd.cli.queue import _print_request
from draftd.queue.desk import COLUMNS
from fix_daemon import Call, Client, environment
from fix_extremes import PENDING, VALUES, cases, make_extreme
from standin.threaded import ThreadedStandIn

URL = "https://images.example/shot.png"


@pytest.fixture
def extremes(client: Client) -> int:
    """Rows with each column at each of its extremes, and final ones with every kind of result."""
    made = sum(make_extreme(client.connection, URL, PENDING, case) for case in cases(client.connection))
    for value in VALUES["jsonb"]:
        end = [("status", "'completed'"), ("result", value), ("reading", value), ("errors", value)]
        made += make_extreme(client.connection, URL, PENDING, *end)
        inner = f"jsonb_build_object('options', {value}::jsonb, 'warnings', {value}::jsonb)"
        made += make_extreme(client.connection, URL, PENDING, ("status", "'completed'"), ("result", inner))
    return made


def test_every_row_can_be_listed(database: str, call: Call, extremes: int) -> None:
    env = environment(database)
    for command in (["list"], ["list", "--json"]):
        done = call(*command, "--limit", "1000", env=env)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert len(json.loads(done.stdout)) == extremes
    assert call("status", env=env).returncode == 0


async def test_every_row_can_be_shown(database: str, extremes: int, capsys: pytest.CaptureFixture[str]) -> None:
    from draftd import db  # noqa: PLC0415  # as the command reads it

    async with db.connected(database) as connection:
        rows: list[dict[str, Any]] = await (
            await connection.execute(f"SELECT {COLUMNS} FROM draft_requests".encode())
        ).fetchall()
    assert len(rows) == extremes
    for row in rows:
        _print_request(row)
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
