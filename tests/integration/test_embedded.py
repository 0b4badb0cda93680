"""The embedded PostgreSQL: that it runs, and above all that nothing of it is left."""

import contextlib
import os
import pwd
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import pytest

from draftd.demo import embedded
from draftd.demo.embedded import EmbeddedPostgres
from draftd.errors import ConfigurationError

PROGRAM = """
import logging, signal, structlog, sys
from draftd.demo.embedded import EmbeddedPostgres
def interrupted(*_): raise SystemExit(3)
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
if sys.argv[1] == "handled":
    signal.signal(signal.SIGTERM, interrupted)
with EmbeddedPostgres() as postgres:
    print(postgres.directory, flush=True)
    signal.pause()
"""


def processes_of(directory: Path) -> list[str]:
    """Return the command lines of the living processes that belong to a server's directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            folder = (entry / "cwd").readlink()
        except OSError:
            continue
        if str(directory).encode() in b" ".join(words) or folder.is_relative_to(directory):
            found.append(b" ".join(words).decode(errors="replace"))
    return found


def wait_until_gone(directory: Path) -> None:
    """Wait for processes that are no children of this one, so that there is nothing to join."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (directory.exists() or processes_of(directory)):
        time.sleep(0.05)
    assert not directory.exists()
    assert processes_of(directory) == []


def end_its_owner(how: str, number: signal.Signals) -> tuple[int, Path]:
    """Start a server in a process of its own, send that process a signal, and return its exit code."""
    command = [sys.executable, "-c", PROGRAM, how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        directory = Path(owner.stdout.readline().strip())
        running = processes_of(directory)
        owner.send_signal(number)
        assert any("bin/postgres" in line for line in running)
        return owner.wait(timeout=60), directory


def test_it_serves_and_leaves_nothing() -> None:
    with EmbeddedPostgres(max_connections=50, settings={"work_mem": "5MB"}) as postgres:
        directory = postgres.directory
        with psycopg.connect(postgres.url) as connection:
            settings = connection.execute(
                "SELECT current_setting('max_connections'), current_setting('work_mem'), current_setting('fsync'), "
                "current_setting('server_encoding'), upper('ä'), current_setting('server_version_num')::int / 10000"
            ).fetchone()
        assert settings == ("50", "5MB", "off", "UTF8", "Ä", 18)
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert not directory.exists()
    assert processes_of(directory) == []


@pytest.mark.long
def test_whatever_port_the_environment_names_its_url_leads_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "9")
    with EmbeddedPostgres() as postgres, psycopg.connect(postgres.url) as connection:
        assert connection.info.port == 5432


@pytest.mark.long
def test_a_durable_one_syncs() -> None:
    with EmbeddedPostgres(durable=True) as postgres, psycopg.connect(postgres.url) as connection:
        row = connection.execute("SELECT current_setting('fsync'), current_setting('synchronous_commit')").fetchone()
    assert row == ("on", "on")


@pytest.mark.long
def test_an_open_connection_does_not_hold_up_the_stop() -> None:
    postgres = EmbeddedPostgres()
    with contextlib.closing(psycopg.connect(postgres.start())) as connection:
        connection.execute("SELECT 1")
        began = time.monotonic()
        postgres.stop()
        took_s = time.monotonic() - began
        with pytest.raises(psycopg.errors.AdminShutdown):
            connection.execute("SELECT 1")
    postgres.stop()
    assert took_s < embedded._STOP_TIMEOUT_S


def test_one_that_is_not_made_in_time_says_so_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    original = embedded._make_directory

    def make_directory(account: pwd.struct_passwd | None) -> Path:
        made.append(original(account))
        return made[-1]

    monkeypatch.setattr(embedded, "_make_directory", make_directory)
    monkeypatch.setattr(embedded, "_START_TIMEOUT_S", 0)
    with pytest.raises(ConfigurationError, match="initdb has not finished"):
        EmbeddedPostgres().start()
    wait_until_gone(made[0])


@pytest.mark.long
def test_an_exception_in_the_context_stops_it() -> None:
    postgres = EmbeddedPostgres()

    def interrupted() -> None:
        with postgres:
            started.append(postgres.directory)
            raise KeyboardInterrupt

    started: list[Path] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    (directory,) = started
    assert not directory.exists()
    assert processes_of(directory) == []


@pytest.mark.long
def test_a_sigterm_whose_handler_raises_leaves_nothing() -> None:
    code, directory = end_its_owner("handled", signal.SIGTERM)
    assert code == 3
    assert not directory.exists()
    assert processes_of(directory) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_an_owner_that_dies_without_a_word_takes_it_along(number: signal.Signals) -> None:
    code, directory = end_its_owner("unhandled", number)
    assert code == -number
    wait_until_gone(directory)


def test_a_server_that_does_not_start_says_why_and_leaves_nothing() -> None:
    with tempfile.TemporaryDirectory(prefix="pg-") as folder, pytest.MonkeyPatch.context() as patch:
        Path(folder).chmod(0o711)
        patch.setattr(tempfile, "tempdir", folder)
        with pytest.raises(ConfigurationError, match="no_such_setting"):
            EmbeddedPostgres(settings={"no_such_setting": "1"}).start()
        assert list(Path(folder).iterdir()) == []
        assert processes_of(Path(folder)) == []


def test_without_the_extra_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match="its extra `demo`"):
        EmbeddedPostgres().start()


@pytest.mark.long
def test_a_temporary_directory_too_long_for_a_socket_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with EmbeddedPostgres() as postgres, psycopg.connect(postgres.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_as_root_it_opens_no_private_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_is_open", lambda path: "pixeltable" not in str(path))
    with EmbeddedPostgres() as postgres:
        assert any(f"{postgres.directory}/programs/" in line for line in processes_of(postgres.directory))
        with psycopg.connect(postgres.url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
