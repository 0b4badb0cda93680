"""What a command says when something is wrong around it: one line, an exit code of the contract, never a traceback."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from fix_daemon import Call, draftd, environment

USAGE, UNAVAILABLE, CONFIGURATION = 2, 69, 78
NOBODY = "00000000-0000-0000-0000-000000000000"
AWAY = "postgresql://someone:hunter2@127.0.0.1:1/app"
NO_REQUESTS = b'{"requests": [], "has_more": false}\n'


def one_line(result: "subprocess.CompletedProcess[str]") -> str:
    """Return what was said; it is one line, and nothing stands on stdout."""
    assert result.stdout == ""
    assert result.stderr.startswith("draftd: ")
    assert result.stderr.count("\n") == 1
    assert "hunter2" not in result.stderr
    return result.stderr


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"DRAFTD_CONCURENCY": "3"}, "DRAFTD_CONCURRENCY"),
        ({"DRAFTD_CONCURRENCY": "hunter2"}, "DRAFTD_CONCURRENCY"),
        ({"DRAFTD_DATABASE_URL": ""}, "DRAFTD_DATABASE_URL is not set"),
        ({"DRAFTD_DATABASE_URL": "mysql://a:hunter2@h/d"}, "postgresql://"),
        ({"DRAFTD_DATABASE_URL": "postgresql://a:hunter2 x@h/d"}, "percent-encoded"),
        ({"DRAFTD_DATABASE_URL": "postgresql://a:hunter2%zz@h/d"}, "percent-encoded"),
        ({"DRAFTD_DATABASE_URL": "postgresql://a:hunter2@h:port/d"}, "is invalid"),
        ({"DRAFTD_DATABASE_URL": "postgresql://a:b?hunter2@h:port/d?x=y"}, "is invalid"),
        (
            {"DRAFTD_DATABASE_URL": "postgresql://a:b@h/d?pgbouncer=hunter2"},
            "unknown to PostgreSQL: pgbouncer; remove it",
        ),
        ({"DRAFTD_DATABASE_URL": "postgresql://a:b@h/d?schema=hunter2"}, "options=-csearch_path%3DNAME"),
        (
            {"DRAFTD_DATABASE_URL": "postgresql://a:b@h/d?sslmode=require&pool_timeout=hunter2"},
            "unknown to PostgreSQL: pool_timeout",
        ),
        ({"DRAFTD_DATABASE_URL": "postgresql://a:b@h/d?connect_timeout=hunter2"}, "connect_timeout"),
    ],
)
def test_a_wrong_setting_is_named_and_its_value_is_not_printed(call: Call, setting: dict[str, str], says: str) -> None:
    result = call("list", env=environment(AWAY) | setting)
    assert result.returncode == CONFIGURATION
    assert says in one_line(result)


def test_a_foreign_setting_is_a_warning(call: Call, database: str) -> None:
    result = call("list", "--json", env=environment(database, DRAFTD_SERVICE_HOST="10.0.0.1"))
    assert (result.returncode, json.loads(result.stdout)) == (0, {"requests": [], "has_more": False})
    assert "DRAFTD_SERVICE_HOST" in result.stderr
    assert "10.0.0.1" not in result.stderr


@pytest.mark.parametrize(
    "command", [["list"], ["enqueue", "https://a.example/b.png"], ["reap-stale"], ["migrate"], ["models", "list"]]
)
def test_a_database_that_is_away(call: Call, command: list[str]) -> None:
    result = call(*command, env=environment(AWAY))
    assert result.returncode == UNAVAILABLE
    assert "127.0.0.1:1/app" in one_line(result)


def test_the_daemon_does_not_start_without_its_database(empty_database: str) -> None:
    away = draftd("run", env=environment(AWAY))
    assert away.returncode == UNAVAILABLE
    assert "127.0.0.1:1/app" in one_line(away)
    bare = draftd("run", env=environment(empty_database))
    assert bare.returncode == CONFIGURATION
    assert "`draftd migrate`" in one_line(bare)


@pytest.mark.parametrize("command", [["list"], ["show", NOBODY], ["status"], ["reap-stale"], ["models", "list"]])
def test_without_the_schema_the_hint_is_to_migrate(call: Call, empty_database: str, command: list[str]) -> None:
    result = call(*command, env=environment(empty_database))
    assert result.returncode == CONFIGURATION
    assert "`draftd migrate`" in one_line(result)


@pytest.fixture
def stranger(server_url: str) -> Iterator[str]:
    """A role without any right."""
    name = f"stranger_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'hunter2'".encode())
        yield name
        connection.execute(f"DROP ROLE {name}".encode())


def as_user(url: str, name: str) -> dict[str, str]:
    return environment(url, PGOPTIONS=f"-c role={name}")


@pytest.mark.parametrize("command", [["list"], ["status"], ["reap-stale"], ["migrate"]])
def test_a_user_without_the_right(call: Call, database: str, stranger: str, command: list[str]) -> None:
    result = call(*command, env=as_user(database, stranger))
    assert result.returncode == CONFIGURATION
    assert f"this role, {stranger}, may not use draft_requests; connect as postgres, who owns" in one_line(result)


def test_a_user_who_may_not_create_tables_cannot_migrate(call: Call, empty_database: str, stranger: str) -> None:
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("REVOKE CREATE ON SCHEMA public FROM public")
    result = call("migrate", env=as_user(empty_database, stranger))
    assert result.returncode == CONFIGURATION
    assert "may not migrate" in one_line(result)


@pytest.mark.parametrize(
    "command",
    [
        ["nonsense"],
        ["list", "--nope"],
        ["list", "--status", "garbage"],
        ["list", "--limit", "0"],
        ["show", "garbage"],
        ["show"],
        ["cancel"],
        ["cancel", NOBODY, "--since", "2h"],
        ["cancel", "--since", "soon"],
        ["retry"],
        ["retry", "--code", "image_invald"],
        ["retry", "--since", "999999999d"],
        ["reap-stale", "--older-than", "-1"],
        ["reap-stale", "--older-than", "soon"],
        ["enqueue", "https://a.example/b.png", "--wait", "--timeout", "soon"],
        ["migrate", "--check", "--sql"],
        ["systemd-unit", "--environment-file", "draftd.env"],
        ["run", "--concurrency", "0"],
    ],
)
def test_a_misused_command_exits_with_2(call: Call, command: list[str]) -> None:
    result = call(*command, env=environment(AWAY))
    assert (result.returncode, result.stdout) == (USAGE, "")
    assert result.stderr


@pytest.mark.parametrize(
    ("command", "suggested"),
    [
        (["puse"], None),
        (["prun"], None),
        (["cancle"], None),
        (["models", "unst"], None),
        (["statu"], "'status'"),
        (["models", "lst"], "'list'"),
    ],
)
def test_a_slip_is_not_shown_the_way_to_a_command_that_changes_something(
    call: Call, command: list[str], suggested: str | None
) -> None:
    result = call(*command, env=environment(AWAY))
    assert result.returncode == USAGE
    assert f"No such command '{command[-1]}'." in result.stderr
    assert ("Did you mean" in result.stderr) == (suggested is not None)
    assert (suggested or "") in result.stderr


def test_bytes_that_are_no_text_are_the_callers_mistake(call: Call, database: str) -> None:
    result = call("list", "--requester", os.fsdecode(b"\xff"), env=environment(database))
    assert result.returncode == USAGE
    assert "UTF-8" in one_line(result)


def test_help_goes_to_stdout_and_names_every_command(call: Call) -> None:
    result = call("-h", env=environment(AWAY))
    assert (result.returncode, result.stderr) == (0, "")
    for name in (
        "run",
        "enqueue",
        "show",
        "list",
        "cancel",
        "retry",
        "status",
        "reap-stale",
        "doctor",
        "health",
        "migrate",
    ):
        assert f"\n  {name} " in result.stdout


def test_the_list_of_commands_is_whole_on_80_columns(call: Call) -> None:
    _, _, commands = call("-h", env=environment(AWAY, COLUMNS="80")).stdout.partition("Commands:\n")
    assert commands
    assert [line for line in commands.splitlines() if line.endswith("...")] == []


def test_the_version_needs_no_setting(call: Call) -> None:
    result = call("--version", env=environment("", DRAFTD_CONCURENCY="3"))
    assert result.returncode == 0
    assert result.stdout.startswith("draftd ")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_is_no_error_to_speak_of(unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as sink:
        result = subprocess.run(
            [sys.executable, "-m", "draftd", "systemd-unit"],
            env=environment(AWAY, PYTHONUNBUFFERED=unbuffered),
            stdout=sink,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert result.stderr == b""


@pytest.mark.parametrize("command", [pytest.param(["systemd-unit"], marks=pytest.mark.long), ["list", "--json"]])
def test_a_full_disk_is_one_line(database: str, command: list[str]) -> None:
    with Path("/dev/full").open("wb") as sink:
        result = subprocess.run(
            [sys.executable, "-m", "draftd", *command],
            env=environment(database),
            stdout=sink,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert result.returncode == 1
    assert result.stderr.startswith(b"draftd: cannot write the output: ")
    assert result.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("closed", "printed"),
    [
        pytest.param("2>&-", NO_REQUESTS, marks=pytest.mark.long),
        pytest.param(">&-", b"", marks=pytest.mark.long),
        ("<&- >&- 2>&-", b""),
    ],
)
def test_with_a_closed_stream_a_command_says_the_rest(database: str, closed: str, printed: bytes) -> None:
    result = subprocess.run(
        ["sh", "-c", f'exec "$0" -m draftd list --json {closed}', sys.executable],
        env=environment(database, DRAFTD_FOO="a warning"),
        capture_output=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, printed)
    assert b"Traceback" not in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["list"],
        ["cancel", "--since", "2h"],
        ["retry", "--since", "2h"],
        ["prune", "--older-than", "30d"],
        ["forget", "--requester", "r"],
        ["reap-stale", "--dry-run"],
        ["status"],
        ["agents", "list"],
        ["models", "list"],
        ["migrate", "--check"],
        ["health", "--pid", "1"],
    ],
    ids=" ".join,
)
def test_json_is_one_object_whatever_the_command(call: Call, database: str, command: list[str]) -> None:
    result = call(*command, "--json", env=environment(database))
    assert isinstance(json.loads(result.stdout), dict)
    assert result.stdout.count("\n") == 1


def test_the_unit_starts_this_draftd(call: Call) -> None:
    result = call("systemd-unit", "--user", "worker", env=environment(AWAY))
    assert "\nUser=worker\n" in result.stdout
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("ExecStart=")]
    assert Path(line.removeprefix("ExecStart=").split()[0]).is_absolute()


def test_ctrl_c_ends_a_watch_quietly(database: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "draftd", "status", "--watch", "--json"],
        env=environment(database),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert (process.wait(100), process.stderr.read()) == (130, b"")
