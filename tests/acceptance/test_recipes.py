"""The recipes of docs/connect, as a newcomer runs them: against a real daemon, with the rights of a backend."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fix_daemon import Running, sample_url
from fix_node import CLIENT
from fix_roles import Roles

RECIPES = Path(__file__).parents[2] / "examples/connect"
PYTHON = ("with_psycopg.py", "with_sqlalchemy.py", "with_client.py")
NODE = ("with_node_postgres.mjs", "with_drizzle.mjs")


@pytest.fixture
def url(running: Running, roles_of: Callable[[str], Roles]) -> str:
    running.stand_in.reset()
    roles = roles_of(running.url)
    return roles.url(roles.client())


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=120, check=False
    )


def three_drafts(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split(":")[0] for line in done.stdout.split("\n\n") if line.strip()] == ["short", "medium", "detailed"]


@pytest.mark.parametrize("recipe", PYTHON)
def test_a_recipe_in_python_prints_three_drafts_or_why_not(recipe: str, running: Running, url: str) -> None:
    environment = {"DATABASE_URL": url, "PYTHONPATH": str(RECIPES.parents[1] / "clients/python/src")}
    three_drafts(run(sys.executable, RECIPES / recipe, sample_url(running.stand_in), "Yes", **environment))
    failed = run(sys.executable, RECIPES / recipe, f"{sample_url(running.stand_in)}.gone", **environment)
    assert failed.returncode == 1
    assert "failed: " in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize("recipe", NODE)
def test_a_recipe_in_javascript_prints_three_drafts_or_why_not(
    recipe: str, running: Running, url: str, tmp_path: Path
) -> None:
    program = shutil.which("node")
    assert program is not None
    # As in an app of its own: the packages stand beside the program.
    home = tmp_path / "examples/connect"
    home.mkdir(parents=True)
    shutil.copy(RECIPES / recipe, home)
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients/js").symlink_to(CLIENT)
    (tmp_path / "node_modules").symlink_to(CLIENT / "node_modules")
    three_drafts(run(program, home / recipe, sample_url(running.stand_in), "Yes", DATABASE_URL=url))
    failed = run(program, home / recipe, f"{sample_url(running.stand_in)}.gone", DATABASE_URL=url)
    assert failed.returncode == 1
    assert "failed: " in failed.stderr


@pytest.mark.skipif(shutil.which("psql") is None, reason="needs psql")
def test_the_recipe_for_psql_prints_three_drafts_or_why_not(running: Running, url: str) -> None:
    three_drafts(run(RECIPES / "psql.sh", sample_url(running.stand_in), "It's fine; $(id)", DATABASE_URL=url))
    failed = run(RECIPES / "psql.sh", f"{sample_url(running.stand_in)}.gone", DATABASE_URL=url)
    assert failed.returncode == 1
    assert "failed: " in failed.stdout


def test_every_recipe_is_tested() -> None:
    assert {path.name for path in RECIPES.iterdir() if path.is_file()} == {*PYTHON, *NODE, "psql.sh"}
