"""What a command does not load, and how soon its help is there."""

import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence

import pytest

from fix_daemon import environment

HEAVY = ("litellm", "openai", "langfuse", "PIL", "httpcore")
TABLES = ("sqlalchemy", "alembic")
NOBODY = "00000000-0000-0000-0000-000000000000"
PROBE = """
import contextlib, io, json, sys
from draftd.cli import main
for line in sys.argv[1:]:
    sys.argv = ["draftd", *line.split()]
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        main()
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
LIGHT = (
    "--help", "list", f"show {NOBODY}", "enqueue https://a.example/b.png", "cancel --requester ann", "retry --since 1h",
    "status", "reap-stale", "migrate", "agents list",
    "agents set a openai/b", "models list", "models set a --model openai/b", "settings list",
    "settings set retention_days=1", "health --ready", "systemd-unit",
    "grants --preset backend --client app", "eval /nonexistent",
)  # fmt: skip


def loaded_by(commands: Sequence[str], database: str) -> dict[str, set[str]]:
    """Run commands one after the other in one fresh process; return what is loaded after each."""
    result = subprocess.run(
        [sys.executable, "-c", PROBE, *commands],
        env=environment(database),
        capture_output=True,
        text=True,
        check=True,
    )
    return {command: set(json.loads(line)) for command, line in zip(commands, result.stdout.splitlines(), strict=True)}


def test_no_command_but_run_demo_doctor_and_a_running_eval_loads_the_heavy_packages(database: str) -> None:
    loaded = loaded_by(LIGHT, database)
    assert {command: names & {*HEAVY, *TABLES} for command, names in loaded.items()} == {one: set() for one in LIGHT}


@pytest.mark.long
def test_a_migration_loads_what_it_needs_and_no_more(empty_database: str) -> None:
    loaded = loaded_by(["migrate"], empty_database)["migrate"]
    assert loaded.isdisjoint(HEAVY)
    assert loaded.issuperset(TABLES)


def test_help_is_there_at_once() -> None:
    # Byte code is made once, and not by the users' machine at each start.
    subprocess.run([sys.executable, "-m", "draftd", "--help"], stdout=subprocess.DEVNULL, check=True)
    durations_s = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "draftd", "--help"], stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Its own work: on a clock a busy machine would count too.
        durations_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert statistics.median(durations_s) < 0.4
