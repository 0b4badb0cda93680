"""docs/connect/testing.md, as a reader follows it: every block of the page and every file that it names is run."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from draftd.stand_in.behaviour import Behaviour, steps
from draftd.stand_in.fake_draft import fake_draft_sql
from fix_daemon import free_port
from fix_docs import blocks
from fix_node import CLIENT

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples/connect/testing"
PAGE = (ROOT / "docs/connect/testing.md").read_text()
TIME_S = 170


def block(language: str, word: str) -> str:
    """Return the page's one block in a language that has a word."""
    (found,) = (one for one in blocks(PAGE, language) if word in one)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the examples, away from the checkout's settings."""
    home = tmp_path / "examples/connect/testing"
    shutil.copytree(EXAMPLES, home)
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients/js").symlink_to(CLIENT)
    (tmp_path / "node_modules").symlink_to(CLIENT / "node_modules")
    return home


def run(script: str, folder: Path, **environment: str) -> str:
    """Run a script as GitHub does; return what it prints, and end what it leaves in the background."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    log = folder / "script.log"
    with log.open("wb") as sink:
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=folder,
            env={"PATH": path, "HOME": str(folder), **environment},
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    try:
        code = shell.wait(TIME_S)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
    assert code == 0, "\n".join(one.read_text() for one in folder.glob("*.log"))
    return log.read_text()


@pytest.mark.long
@pytest.mark.usefixtures("node")
def test_the_tests_in_pglite_pass(folder: Path) -> None:
    if not (CLIENT / "node_modules/@electric-sql/pglite").is_dir():
        pytest.skip("needs PGlite, which `make install` puts into clients/js")
    assert "# fail 0" in run(block("sh", "node --test"), folder)


@pytest.fixture
def server(server_url: str) -> Iterator[dict[str, str]]:
    """The variables of libpq for the tests' server, which has no database of the page's name before and after."""
    drop = b"DROP DATABASE IF EXISTS app_test WITH (FORCE)"
    with psycopg.connect(server_url, autocommit=True) as owner:
        owner.execute(drop)
        parts = conninfo_to_dict(server_url)
        yield {f"PG{name.upper()}": str(parts[name]) for name in ("host", "port", "user", "password") if name in parts}
        owner.execute(drop)


@pytest.mark.skipif(shutil.which("psql") is None, reason="needs psql")
def test_the_tests_in_postgresql_pass(folder: Path, server: dict[str, str]) -> None:
    assert "2 passed" in run(block("sh", "test_fake.py"), folder, **server)


def test_the_statement_completes_all_that_waits(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(fake_draft_sql().encode())
        for _ in range(3):
            owner.execute("INSERT INTO draft_requests (image_urls) VALUES ('{https://a.example/b.png}')")
        owner.execute(block("sql", "fake_draft").encode())
        assert owner.execute("SELECT DISTINCT status FROM draft_requests").fetchall() == [("completed",)]


def test_every_call_that_the_page_lists_works(database: str) -> None:
    calls = re.findall(r"^\| `(fake_draft\(id.*?\))` \|", PAGE, re.MULTILINE)
    assert len(calls) == 5
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(fake_draft_sql().encode())
        for call in calls:
            owner.execute("INSERT INTO draft_requests (image_urls) VALUES ('{https://a.example/b.png}')")
            owner.execute(f"SELECT {call} FROM draft_requests WHERE status = 'pending'".encode())
        found = owner.execute("SELECT status, count(*) FROM draft_requests GROUP BY 1 ORDER BY 1").fetchall()
    assert found == [("completed", 3), ("failed", 1), ("processing", 1)]


@pytest.mark.long
def test_the_workflow_drafts_with_a_daemon_and_its_tests_pass(folder: Path, empty_database: str) -> None:
    yaml = pytest.importorskip("yaml")
    text = (folder / "workflow.yml").read_text().replace("8899", str(port := free_port()))
    job = yaml.safe_load(text)["jobs"]["app"]
    scripts = [step["run"] for step in job["steps"] if "run" in step and "if" not in step]
    assert scripts[0].startswith("pip install")
    started = [script.replace("draftd stand-in", f"draftd stand-in --port {port}") for script in scripts[1:]]
    variables = job["env"] | {"DRAFTD_DATABASE_URL": empty_database}
    assert "3 passed" in run("\n".join(started), folder, **variables)


def test_the_script_and_the_vocabulary_are_the_stand_ins() -> None:
    script = json.loads(block("json", "once"))
    assert len(steps(script["once"])) == 2
    assert len(steps(script["default"])) == 1
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", PAGE, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named == {field.name for field in fields(Behaviour)}


def test_every_file_is_named() -> None:
    assert {path.name for path in EXAMPLES.iterdir() if path.is_file()} == set(
        re.findall(r"examples/connect/testing/([\w.]+)\)", PAGE)
    )
