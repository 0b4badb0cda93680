"""The recipes of docs/connect and README, as a newcomer runs them: against a real daemon, with an app's rights."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from fix_daemon import Running, sample_url, wait_until
from fix_docs import blocks
from fix_node import CLIENT
from fix_postgrest import HostOf
from fix_roles import Roles
from postgrest import serving, token

RECIPES = Path(__file__).parents[2] / "examples/connect"
ROOT = RECIPES.parents[1]
README = (ROOT / "README.md").read_text()
PICTURE = "https://cdn.example.com/shot.png"
SIGNED_IN = """
import { createClient } from "@supabase/supabase-js";
const supabase = createClient(process.env.SUPABASE_URL, process.env.SUPABASE_KEY, {
  accessToken: async () => process.env.USER_TOKEN,
  realtime: { transport: class {} },
});
const [publicUrl] = process.argv.slice(2);
"""
PYTHON = ("with_psycopg.py", "with_sqlalchemy.py", "with_client.py")
NODE = ("with_node_postgres.mjs", "with_drizzle.mjs")
SUPABASE = ("with_supabase_user.mjs", "with_supabase_server.mjs")
SHELL = ("psql.sh", "curl.sh")


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


def in_an_app(recipe: str, there: Path) -> Path:
    """Return a recipe as in an app of its own: the packages stand beside the program."""
    home = there / "examples/connect"
    home.mkdir(parents=True)
    shutil.copy(RECIPES / recipe, home)
    (there / "clients").mkdir()
    (there / "clients/js").symlink_to(CLIENT)
    (there / "node_modules").symlink_to(CLIENT / "node_modules")
    return home / recipe


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize("recipe", NODE)
def test_a_recipe_in_javascript_prints_three_drafts_or_why_not(
    recipe: str, running: Running, url: str, tmp_path: Path
) -> None:
    program = in_an_app(recipe, tmp_path)
    three_drafts(run("node", program, sample_url(running.stand_in), "Yes", DATABASE_URL=url))
    failed = run("node", program, f"{sample_url(running.stand_in)}.gone", DATABASE_URL=url)
    assert failed.returncode == 1
    assert "failed: " in failed.stderr


@pytest.fixture
def supabase(running: Running, roles_of: Callable[[str], Roles], host_of: HostOf) -> Iterator[dict[str, str]]:
    """The variables of an app on Supabase, with the stand-in for PostgREST."""
    running.stand_in.reset()
    host = host_of(roles_of(running.url), "supabase")
    host.grant()
    with serving(host.roles.url(host.authenticator)) as address:
        yield {
            "SUPABASE_URL": address,
            "SUPABASE_KEY": token(role="anon"),
            "SUPABASE_SECRET_KEY": token(role="service_role"),
            "USER_TOKEN": token(role="authenticated", sub="ada"),
            "USER_ID": "ada",
        }


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize("recipe", SUPABASE)
def test_a_recipe_for_supabase_prints_three_drafts_or_why_not(
    recipe: str, running: Running, supabase: dict[str, str], tmp_path: Path
) -> None:
    program = in_an_app(recipe, tmp_path)
    three_drafts(run("node", program, sample_url(running.stand_in), "Yes", **supabase))
    failed = run("node", program, f"{sample_url(running.stand_in)}.gone", **supabase)
    assert failed.returncode == 1
    assert "failed: " in failed.stderr


@pytest.mark.skipif(not shutil.which("curl") or not shutil.which("jq"), reason="needs curl and jq")
def test_the_recipe_for_curl_prints_three_drafts_or_why_not(running: Running, supabase: dict[str, str]) -> None:
    three_drafts(run(RECIPES / "curl.sh", sample_url(running.stand_in), 'It\'s "fine"; $(id)', **supabase))
    failed = run(RECIPES / "curl.sh", f"{sample_url(running.stand_in)}.gone", **supabase)
    assert failed.returncode == 1
    assert "failed: " in failed.stdout


@pytest.mark.skipif(shutil.which("psql") is None, reason="needs psql")
def test_the_recipe_for_psql_prints_three_drafts_or_why_not(running: Running, url: str) -> None:
    three_drafts(run(RECIPES / "psql.sh", sample_url(running.stand_in), "It's fine; $(id)", DATABASE_URL=url))
    failed = run(RECIPES / "psql.sh", f"{sample_url(running.stand_in)}.gone", DATABASE_URL=url)
    assert failed.returncode == 1
    assert "failed: " in failed.stdout


def deleted_meanwhile(running: Running, *command: str | Path, **environment: str) -> tuple[int, str]:
    """Run a recipe and delete its request before it is drafted; return the exit code and stderr."""
    running.client.query("INSERT INTO draft_pauses (what, name) VALUES ('requester', ''), ('requester', 'ada')")
    try:
        with subprocess.Popen(
            [*command, PICTURE], env=os.environ | environment, stderr=subprocess.PIPE, text=True
        ) as process:
            wait_until(
                lambda: running.client.query("DELETE FROM draft_requests WHERE status = 'pending' RETURNING id") != [],
                60,
            )
            try:
                _, said = process.communicate(timeout=60)
            finally:
                process.kill()
        return process.returncode, said
    finally:
        running.client.query("DELETE FROM draft_pauses")


@pytest.mark.skipif(shutil.which("psql") is None, reason="needs psql")
def test_the_recipe_for_psql_ends_when_its_request_is_deleted(running: Running, url: str) -> None:
    ended = deleted_meanwhile(running, RECIPES / "psql.sh", DATABASE_URL=url)
    assert ended == (1, "the request was deleted\n")


@pytest.mark.usefixtures("node")
def test_the_recipe_for_drizzle_ends_when_its_request_is_deleted(running: Running, url: str, tmp_path: Path) -> None:
    ended = deleted_meanwhile(running, "node", in_an_app("with_drizzle.mjs", tmp_path), DATABASE_URL=url)
    assert ended == (1, "the request was deleted\n")


@pytest.mark.skipif(not shutil.which("curl") or not shutil.which("jq"), reason="needs curl and jq")
def test_the_recipe_for_curl_ends_when_it_is_refused(running: Running, supabase: dict[str, str]) -> None:
    code, said = deleted_meanwhile(running, RECIPES / "curl.sh", **supabase)
    assert (code, "error: 406" in said, '"code"' in said) == (1, True, True)
    refused = run(RECIPES / "curl.sh", PICTURE, **supabase | {"USER_TOKEN": "expired"})
    assert (refused.returncode, "error: 401" in refused.stderr, '"code"' in refused.stderr) == (1, True, True)


def test_the_sql_of_the_readme_makes_a_request_and_reads_it(running: Running, url: str) -> None:
    (text,) = (one for one in blocks(README, "sql") if "INSERT" in one)
    insert, read = text.replace(PICTURE, sample_url(running.stand_in)).strip().split(";\n")
    with psycopg.connect(url, autocommit=True) as app:
        (request_id,) = app.execute(insert.encode()).fetchone() or ("",)
        (status, *_) = app.execute(read.replace("…", str(request_id)).encode()).fetchone() or ("",)
    assert status in {"pending", "processing", "completed"}


def test_the_python_of_the_readme_prints_three_drafts(running: Running, url: str) -> None:
    (program,) = blocks(README, "python")
    program = program.replace("postgresql://app@localhost/app", url).replace(PICTURE, sample_url(running.stand_in))
    done = run(sys.executable, "-c", program)
    assert [line.split()[0] for line in done.stdout.splitlines() if line] == ["short", "medium", "detailed"], (
        done.stderr
    )


@pytest.mark.usefixtures("node")
def test_the_javascript_of_the_readme_prints_three_drafts_to_a_signed_in_user(
    running: Running, supabase: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "node_modules").symlink_to(CLIENT / "node_modules")
    program = tmp_path / "readme.mjs"
    program.write_text(SIGNED_IN + "".join(blocks(README, "js")))
    done = run("node", program, sample_url(running.stand_in), **supabase)
    assert done.stdout.count("Stand-in reply") == 3, done.stderr


def test_the_page_of_the_python_client_creates_refines_and_rates(running: Running, url: str) -> None:
    (program,) = blocks((ROOT / "clients/python/README.md").read_text(), "python")
    program = program.replace("postgresql://app@localhost/app", url).replace(PICTURE, sample_url(running.stand_in))
    done = run(sys.executable, "-c", program, PYTHONPATH=str(ROOT / "clients/python/src"))
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["short", "medium", "detailed"], done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("node")
def test_the_page_of_the_javascript_client_creates_refines_and_rates(
    running: Running, url: str, tmp_path: Path
) -> None:
    (tmp_path / "node_modules").symlink_to(CLIENT / "node_modules")
    shutil.copy(CLIENT / "draftd.js", tmp_path)
    (program,) = blocks((CLIENT / "README.md").read_text(), "js")
    program = program.replace("new pg.Pool()", f"new pg.Pool({{ connectionString: {json.dumps(url)} }})")
    (tmp_path / "page.mjs").write_text(program.replace(PICTURE, sample_url(running.stand_in)) + "await pool.end();\n")
    done = run("node", tmp_path / "page.mjs")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["short", "medium", "detailed"], done.stderr
    assert done.returncode == 0, done.stderr


def test_every_recipe_is_tested() -> None:
    assert {path.name for path in RECIPES.iterdir() if path.is_file()} == {*PYTHON, *NODE, *SUPABASE, *SHELL}
