"""Whatever the database answers, every command says it in one line, with an exit code of the contract."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors

from draftd import db
from draftd.providers.llm import Llm
from fix_daemon import Call, environment
from fix_database import cloned

NOBODY = "00000000-0000-0000-0000-000000000000"
COMMANDS = [
    ["run"],
    ["run", "--drain"],
    ["enqueue", "https://a.example/b.png"],
    ["enqueue", "https://a.example/b.png", "--wait", "--timeout", "1"],
    ["show", NOBODY],
    ["list"],
    ["cancel", NOBODY],
    ["cancel", "--since", "2h"],
    ["retry", NOBODY],
    ["retry", "--since", "2h", "--dry-run"],
    ["prune", "--older-than", "30d"],
    ["prune", "--older-than", "30d", "--dry-run"],
    ["pause"],
    ["resume"],
    ["limits", "list"],
    ["limits", "set", "ann", "--max-pending", "1"],
    ["limits", "unset", "ann"],
    ["settings", "list"],
    ["settings", "set", "retention_days=1"],
    ["status"],
    ["reap-stale"],
    ["reap-stale", "--dry-run"],
    ["migrate"],
    ["migrate", "--check"],
    ["agents", "list"],
    ["agents", "set", "comment_generator", "openai/m"],
    ["agents", "unset", "comment_generator"],
    ["models", "list"],
    ["models", "set", "m", "--model", "openai/m"],
    ["models", "unset", "m"],
]
ALL, DAEMON = "draft", "draft_"
REFUSED, USAGE, UNAVAILABLE, AGAIN, CONFIGURATION = 1, 2, 69, 75, 78
ANSWERS = {
    "53100": UNAVAILABLE,  # disk full
    "25006": UNAVAILABLE,  # read-only transaction
    "55P03": AGAIN,  # lock timeout
    "57014": AGAIN,  # statement timeout
    "42P01": CONFIGURATION,  # undefined table
    "3F000": CONFIGURATION,  # invalid schema name
    "42501": CONFIGURATION,  # insufficient privilege
    "23514": REFUSED,  # a constraint
    "22003": REFUSED,  # numeric value out of range
    "P0001": REFUSED,  # an app's trigger
    "XX000": REFUSED,  # internal error
}
"""One of each kind; tests/unit/test_command_errors.py has them all."""
ALIKE = {"25006", "55P03", "3F000", "22003", "P0001"}
"""Told like another one of the same exit code."""
SQLSTATES = [pytest.param(one, marks=pytest.mark.long if one in ALIKE else ()) for one in ANSWERS]


class NoModels:
    """Stands for litellm, which nothing here asks."""

    async def complete(self, *_: object, **__: object) -> None:
        raise AssertionError("no model is configured")

    async def aclose(self) -> None:
        pass


@pytest.fixture(scope="module")
def unharmed(server_url: str, template: str) -> Iterator[str]:
    """A migrated database in which nothing is ever changed."""
    with cloned(server_url, template) as url:
        yield url


Refuse = Callable[[Exception, str], None]


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Let the server refuse every statement that matches, but the look at the catalogue, with this error."""
    monkeypatch.setattr(Llm, "load", NoModels)

    def begin(error: Exception, matching: str) -> None:
        def guard(execute: Any) -> Any:
            def executing(self: Any, query: Any, *args: Any, **how: Any) -> Any:
                text = query.decode() if isinstance(query, bytes) else str(query)
                if re.search(matching, text) and "to_regclass" not in text:
                    raise error
                return execute(self, query, *args, **how)

            return executing

        for cursor in (psycopg.AsyncCursor, psycopg.Cursor):
            monkeypatch.setattr(cursor, "execute", guard(cursor.execute))

    return begin


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("sqlstate", SQLSTATES)
def test_every_answer_of_the_server_is_one_line(
    call: Call, unharmed: str, refuse: Refuse, command: list[str], sqlstate: str
) -> None:
    # A daemon looks at the version before anything else; what comes after it is refused, too.
    refuse(errors.lookup(sqlstate)(f"the server says {sqlstate}"), DAEMON if command[0] == "run" else ALL)
    result = call(*command, env=environment(unharmed, DRAFTD_MODEL="openai/m"))
    if (command, sqlstate) == (["migrate", "--check"], "42P01"):
        assert (result.returncode, result.stderr) == (1, "the schema is behind; run `draftd migrate`\n")
        return
    assert_one_line(result.stderr)
    is_refused_row = command[0] == "enqueue" and sqlstate[:2] in {"22", "23"}
    assert result.returncode == (USAGE if is_refused_row else ANSWERS[sqlstate]), result.stderr


@pytest.mark.parametrize("sqlstate", SQLSTATES)
def test_a_migration_that_is_refused_is_one_line(
    call: Call, empty_database: str, refuse: Refuse, sqlstate: str
) -> None:
    refuse(errors.lookup(sqlstate)(f"the server says {sqlstate}"), "CREATE TABLE draft_requests")
    result = call("migrate", env=environment(empty_database))
    assert_one_line(result.stderr)
    assert result.returncode == ANSWERS[sqlstate], result.stderr
    assert sqlstate != "42P01" or "not what draftd_alembic_version says" in result.stderr


def test_a_version_that_the_schema_is_not_is_one_line(call: Call, database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE draftd_alembic_version SET version_num = '0018a'")
    result = call("migrate", env=environment(database))
    assert_one_line(result.stderr)
    assert result.returncode == CONFIGURATION
    assert "already exists" in result.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_an_error_of_the_driver_is_one_line(call: Call, unharmed: str, refuse: Refuse, command: list[str]) -> None:
    refuse(psycopg.ProgrammingError("the query has 2 placeholders but 1 parameters were passed"), ALL)
    result = call(*command, env=environment(unharmed, DRAFTD_MODEL="openai/m"))
    assert_one_line(result.stderr)
    assert result.returncode == REFUSED


@pytest.mark.parametrize("sqlstate", ["55P03", "42P01", "XX000"])
@pytest.mark.parametrize(("matching", "check"), [("draftd_", "schema"), ("draft_workers", "write"), ("holds", "holds")])
def test_the_doctor_finds_it(
    call: Call, unharmed: str, refuse: Refuse, matching: str, check: str, sqlstate: str
) -> None:
    refuse(errors.lookup(sqlstate)(f"the server says {sqlstate}"), matching)
    result = call("doctor", "--json", env=environment(unharmed))
    bad = [one["check"] for one in json.loads(result.stdout)["checks"] if not one["ok"]]
    assert (result.returncode, result.stderr, bad[0]) == (1, "", check)


@pytest.mark.parametrize("name", ["draft_requests", "draftd_alembic_version"])
def test_a_lock_that_somebody_holds_is_told_as_one(
    call: Call, database: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db.connection, "SESSION_SETUP", db.connection.SESSION_SETUP.replace("'10s'", "'50ms'"))
    with psycopg.connect(database) as other:
        other.execute(f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE".encode())
        result = call(*(["migrate"] if name.startswith("draftd") else ["list"]), env=environment(database))
    assert result.returncode == AGAIN
    assert "another session holds a lock" in result.stderr
    assert_one_line(result.stderr)


def assert_one_line(said: str) -> None:
    assert said.startswith("draftd: ")
    assert said.count("\n") == 1
