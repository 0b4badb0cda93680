"""The wheel, installed into an environment of its own, does everything away from the checkout."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from email import message_from_bytes
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from draftd.daemon import liveness
from draftd.stand_in.threaded import ThreadedStandIn
from fix_daemon import Client, environment, sample_url

CHECKOUT = Path(__file__).parents[2]


def build(target: str, directory: Path, *, project: Path = CHECKOUT) -> Path:
    """Build a distribution with the backend that pyproject.toml names."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(directory)]
    subprocess.run(command, cwd=project, check=True, capture_output=True, timeout=150)
    (built,) = directory.iterdir()
    return built


def files_of(wheel: Path) -> set[str]:
    """Return what a wheel brings, without its own records."""
    with ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def files_below(directory: Path, *patterns: str) -> set[str]:
    return {
        path.relative_to(directory).as_posix()
        for pattern in patterns
        for path in directory.rglob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel in it; its dependencies are lent by the environment of the tests.

    Lent by a path file: the path files of the lender, its editable draftd among them, are not read then.
    """
    home = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True, timeout=150)
    python = home / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", str(python)]
    command += ["install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(command, check=True, capture_output=True, timeout=150)
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home


def run(installed: Path, *arguments: str, env: Mapping[str, str], cwd: Path) -> str:
    """Run the installed draftd to a good end and return what it printed."""
    command = [str(installed / "bin" / "draftd"), *arguments]
    ended = subprocess.run(command, env=dict(env), cwd=cwd, capture_output=True, text=True, timeout=150, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel: Path) -> None:
    package = files_below(CHECKOUT / "src", "*")
    migrations = files_below(CHECKOUT / "alembic", "*.py", "*.mako")
    prompts = files_below(CHECKOUT / "prompts", "*.md")
    assert migrations
    assert prompts
    wanted = package | {f"draftd/_data/alembic/{name}" for name in migrations}
    assert files_of(wheel) == wanted | {f"draftd/_data/prompts/{name}" for name in prompts}


def test_the_wheel_tells_type_checkers_and_brings_the_samples_and_statements(wheel: Path) -> None:
    assert {"draftd/py.typed", "draftd/demo/samples/email.png"} <= files_of(wheel)
    statements = {f"draftd/{name}" for name in files_below(CHECKOUT / "src" / "draftd", "*.sql")}
    assert "draftd/queue/sql/reaping.sql" in statements
    assert statements <= files_of(wheel)


@pytest.mark.long
def test_the_source_distribution_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    archive = build("sdist", tmp_path / "sdist")
    subprocess.run(["tar", "-xzf", archive, "-C", tmp_path], check=True, timeout=100)
    again = build("wheel", tmp_path / "wheel", project=tmp_path / archive.name.removesuffix(".tar.gz"))
    assert files_of(again) == files_of(wheel)


def test_the_lock_satisfies_every_dependency_of_the_wheel(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(name))
    lock = (CHECKOUT / "requirements.txt").read_text()
    locked = dict(re.findall(r"^([a-z0-9.-]+)==([^\s;]+)", lock, re.MULTILINE))
    required = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    wanted = [one for one in required if one.marker is None or one.marker.evaluate({"extra": ""})]
    assert wanted
    assert [str(one) for one in wanted if not one.specifier.contains(locked.get(one.name, "0"))] == []


@pytest.mark.long
def test_the_installed_draftd_is_the_wheels(installed: Path, tmp_path: Path) -> None:
    code = "import draftd; print(draftd.__file__)"
    command = [str(installed / "bin" / "python"), "-I", "-c", code]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=100).stdout
    assert Path(found.strip()).is_relative_to(installed)


@pytest.mark.long
def test_the_installed_draftd_migrates_and_drafts_away_from_the_checkout(
    installed: Path, empty_database: str, stand_in: ThreadedStandIn, tmp_path: Path
) -> None:
    env = environment(empty_database, stand_in)
    run(installed, "migrate", env=env, cwd=tmp_path)
    app = Client(empty_database)
    request_id = app.insert(sample_url(stand_in))
    run(installed, "run", "--drain", env=env, cwd=tmp_path)
    row = app.row(request_id)
    app.connection.close()
    assert (row["status"], row["error_message"]) == ("completed", None)
    assert [option["length"] for option in row["result"]["options"]] == ["short", "medium", "detailed"]


def test_the_dockerfile_copies_only_what_is_there_and_sent() -> None:
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", (CHECKOUT / "Dockerfile").read_text(), re.MULTILINE)
    sources = {PurePosixPath(source).parts[0] for line in copies for source in line.split()}
    sent = {line[1:] for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sources == sent
    assert [name for name in sorted(sources) if not (CHECKOUT / name).exists()] == []


def test_the_dockerfile_names_every_package_that_the_build_tool_needs() -> None:
    kept = re.search(r"\^\(([^)]+)\)==", (CHECKOUT / "Dockerfile").read_text())
    assert kept is not None
    lock = (CHECKOUT / "requirements-dev.txt").read_text()
    blocks = re.findall(r"^([a-z0-9.-]+)==[^\n]+\n((?:[ ]+[^\n]+\n)+)", lock, re.MULTILINE)
    wanted = {name for name, block in blocks if re.search(r"# (?:via |  )hatchling$", block, re.MULTILINE)}
    assert set(kept[1].split("|")) == wanted | {"hatchling"}


async def test_daemons_with_the_same_pid_in_one_network_can_each_be_asked() -> None:
    several = [liveness.Liveness(facts=facts) for facts in (lambda: {"in_flight": 1}, lambda: {"in_flight": 2})]
    try:
        for one in several:
            await one.listen()
        assert sorted([await liveness.ask(name) for name in ours()], key=str) == [{"in_flight": 1}, {"in_flight": 2}]
    finally:
        for one in several:
            await one.aclose()


def ours() -> list[str]:
    return [name for name in liveness.daemons() if name.partition(".")[0] == str(os.getpid())]


def test_make_says_in_one_line_which_python_it_needs(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "requirements-dev.txt"):
        shutil.copy(CHECKOUT / name, tmp_path)
    made = subprocess.run(
        ["make", "--no-print-directory", "PYTHON=python9.99", "install"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert made.returncode == 2
    assert made.stdout.startswith("draftd needs Python 3.11 to 3.14, and found none of: python9.99. Name one: ")
    assert made.stdout.count("\n") == 1
    assert not (tmp_path / ".venv").exists()
