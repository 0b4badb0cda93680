"""A newcomer's first ten minutes: README and docs/connect, typed in as they stand, in a fresh clone and a clean environment."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from draftd.demo.embedded import EmbeddedPostgres
from fix_daemon import free_port
from fix_docs import blocks

CHECKOUT = Path(__file__).parents[2]
NEEDED = ("bash", "git", "make", "psql")
DRAFT = re.compile(r"^short: Stand-in reply", re.MULTILINE)
RECIPE = re.compile(r"^(?:sh|python|node) examples/connect/", re.MULTILINE)
READ_UNTIL_COMPLETED = """
for _ in $(seq 300); do
    read_it=$({block})
    case $read_it in *completed*) break ;; esac
    sleep 1
done
printf '%s\\n' "$read_it" | grep --quiet completed
"""


@pytest.fixture
def server() -> Iterator[dict[str, str]]:
    """The variables of libpq for a server on localhost with the empty database of the page."""
    port = str(free_port())
    with EmbeddedPostgres(settings={"listen_addresses": "localhost", "port": port}):
        variables = {"PGHOST": "localhost", "PGPORT": port}
        with psycopg.connect(host="localhost", port=port, user="postgres", autocommit=True) as owner:
            owner.execute("CREATE DATABASE app")
        yield variables


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What git has of this checkout, with changes that are not committed yet."""
    there = tmp_path / "draftd"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("needs a git checkout")
    for name in listed.stdout.split("\0"):
        if (CHECKOUT / name).is_file():
            (there / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, there / name)
    return there


def first_minutes(clone: Path) -> list[str]:
    """Return the commands of README's "Try it", without the tests of which this is one."""
    _, _, rest = (clone / "README.md").read_text().partition("## Try it\n")
    page, _, _ = rest.partition("\n## ")
    typed = re.findall(r"^\$ (.+)$", "".join(blocks(page, "console")), re.MULTILINE)
    return [command for command in typed if command != "make test"]


def to_connect(clone: Path) -> list[str]:
    """Return the blocks of docs/connect; the one that reads is repeated, as the page says."""
    page = (clone / "docs/connect/README.md").read_text()
    _, _, rest = page.partition("Read it until its status is `completed`.")
    assert rest
    reading = blocks(rest, "sh")[0]
    return [READ_UNTIL_COMPLETED.format(block=one.strip()) if one == reading else one for one in blocks(page, "sh")]


def reaches_npm() -> bool:
    """Say whether packages of JavaScript can be had; without them, what needs them is left out."""
    asking = ["npm", "view", "pg", "version", "--fetch-retries=0", "--fetch-timeout=20000"]
    with suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(asking, capture_output=True, timeout=60, check=False).returncode == 0
    return False


def typed_in(script: str, clone: Path, **environment: str) -> str:
    """Run commands as typed into one terminal; return what it shows, and end what they leave in the background."""
    own = str(Path(sys.executable).parent)
    path = os.pathsep.join(one for one in os.environ["PATH"].split(os.pathsep) if one != own)
    log = clone.parent / "terminal.log"
    with log.open("wb") as sink:
        shell = subprocess.Popen(
            ["bash", "-euxo", "pipefail", "-c", script],
            cwd=clone,
            env={"PATH": path, "HOME": os.environ["HOME"], "TMPDIR": str(clone.parent), **environment},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    try:
        code = shell.wait(1500)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
    daemon_log = clone / "draftd.log"
    assert code == 0, log.read_text() + (daemon_log.read_text() if daemon_log.exists() else "")
    return log.read_text()


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not all(map(shutil.which, NEEDED)), reason=f"needs {', '.join(NEEDED)}")
def test_a_newcomer_comes_from_a_clone_to_the_replies_of_every_recipe(clone: Path, server: dict[str, str]) -> None:
    has_npm = reaches_npm()
    demo, connect = first_minutes(clone), [one for one in to_connect(clone) if has_npm or "npm install" not in one]
    assert demo == ["make demo"]
    script = "\n".join([*demo, *connect])
    port = str(free_port())
    moved = script.replace("draftd stand-in", f"draftd stand-in --port {port}").replace("8899", port)
    shown = typed_in(moved, clone, **server)
    assert "9 drafts; everything the demo started has been stopped" in shown
    recipes = RECIPE.findall(script)
    assert len(recipes) == (6 if has_npm else 4)
    assert len(DRAFT.findall(shown)) == len(recipes)
