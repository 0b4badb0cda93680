"""The units before systemd's own judge, and a daemon before a supervisor."""

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from draftd.cli.systemd_unit import program, reaper_units, service_unit
from draftd.stand_in.behaviour import Behaviour
from draftd.stand_in.threaded import ThreadedStandIn
from fix_daemon import START_TIME_S, Client, Fleet, draftd, environment, sample_url

MAX_EXPOSURE_TENTHS = 20
NOBODYS_URL = "postgresql://127.0.0.1:1/nothing"
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed: the units cannot be judged here"
)


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=100, check=False)


def printed_units(directory: Path) -> list[Path]:
    """Write what ``draftd systemd-unit`` prints into files, as its reader does."""
    service = directory / "draftd.service"
    service.write_text(draftd("systemd-unit", env=environment(NOBODYS_URL)).stdout)
    files = [service]
    for line in draftd("systemd-unit", "--timer", env=environment(NOBODYS_URL)).stdout.splitlines(keepends=True):
        if line.startswith("# /etc/systemd/system/"):
            files.append(directory / Path(line.strip()).name)
            files[-1].touch()
        files[-1].write_text(files[-1].read_text() + line)
    return files


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    return printed_units(tmp_path)


@needs_systemd
def test_systemd_understands_every_line_of_every_unit(units: list[Path]) -> None:
    assert [path.name for path in units] == ["draftd.service", "draftd-reap.service", "draftd-reap.timer"]
    verified = analyze("verify", "--man=no", "--recursive-errors=no", *units)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


@needs_systemd
def test_the_services_are_rated_two_or_better(units: list[Path]) -> None:
    for service in (path for path in units if path.suffix == ".service"):
        rated = analyze("security", "--offline=true", f"--threshold={MAX_EXPOSURE_TENTHS}", "--no-pager", service)
        assert rated.returncode == 0, rated.stdout + rated.stderr


@needs_systemd
def test_a_program_in_a_folder_with_a_difficult_name_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "100%h my programs"
    folder.mkdir()
    (folder / "draftd").symlink_to(Path(sys.executable))
    made_with = {"program": program(str(folder / "draftd")), "user": "draftd", "environment_file": "/etc/draftd.env"}
    unit, reaper = tmp_path / "draftd.service", tmp_path / "draftd-reap.service"
    unit.write_text(service_unit(**made_with))
    reaper.write_text(reaper_units(**made_with).partition("# /etc/systemd/system/draftd-reap.timer")[0])
    verified = analyze("verify", "--man=no", "--recursive-errors=no", unit, reaper)
    assert (verified.returncode, verified.stderr) == (0, "")


@dataclass
class Watcher:
    """Plays the supervisor: hears what a daemon says about itself."""

    socket: socket.socket
    heard: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        """The value of ``NOTIFY_SOCKET``."""
        name: bytes = self.socket.getsockname()
        return "@" + name[1:].decode()

    def wait_for(self, message: str, time_s: float = START_TIME_S) -> None:
        """Wait until it has said this, now or before."""
        ends_at = time.monotonic() + time_s
        while message not in self.heard:
            self.socket.settimeout(max(ends_at - time.monotonic(), 0.001))
            try:
                self.heard.append(self.socket.recv(4096).decode())
            except TimeoutError:
                pytest.fail(f"no {message!r} within {time_s} s: {self.heard}")

    def drain(self) -> list[str]:
        """Return all that was said until now."""
        self.socket.setblocking(False)
        while True:
            try:
                self.heard.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return self.heard


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as opened:
        opened.bind("")  # the kernel chooses a free abstract name
        yield Watcher(opened)


def test_a_daemon_is_ready_when_the_fleet_knows_it_and_says_so_until_it_stops(
    fleet: Fleet, client: Client, database: str, stand_in: ThreadedStandIn, watcher: Watcher
) -> None:
    env = environment(database, stand_in, NOTIFY_SOCKET=watcher.address, WATCHDOG_USEC="2000000")
    daemon = fleet.start(env, wait=False)
    watcher.wait_for("READY=1")
    (worker,) = client.query("SELECT pid, state FROM draft_workers")
    assert worker == {"pid": daemon.pid, "state": "running"}
    watcher.wait_for("STATUS=0 in flight")
    watcher.heard.remove("READY=1")
    watcher.heard.clear()
    watcher.wait_for("WATCHDOG=1")
    assert daemon.stop() == 0
    said = watcher.drain()
    assert "READY=1" not in said
    assert said.index("STOPPING=1") < said.index("STATUS=draining")


def test_the_status_shows_what_is_in_flight_and_which_model_is_on_hold(
    fleet: Fleet, client: Client, database: str, stand_in: ThreadedStandIn, watcher: Watcher
) -> None:
    stand_in.script(Behaviour(hang=True), default=Behaviour(status=503))
    fleet.start(environment(database, stand_in, NOTIFY_SOCKET=watcher.address, WATCHDOG_USEC="2000000"))
    client.insert(sample_url(stand_in))
    watcher.wait_for("STATUS=1 in flight")
    client.insert(sample_url(stand_in))
    watcher.wait_for("STATUS=1 in flight; openai/stand-in on hold: model_unavailable")
    assert client.query("SELECT model, code FROM draft_holds") == [
        {"model": "openai/stand-in", "code": "model_unavailable"}
    ]


def test_the_watchdog_is_fed_by_the_event_loop_through_the_whole_drain(
    fleet: Fleet, client: Client, database: str, stand_in: ThreadedStandIn, watcher: Watcher
) -> None:
    stand_in.script(Behaviour(hang=True))
    daemon = fleet.start(environment(database, stand_in, NOTIFY_SOCKET=watcher.address, WATCHDOG_USEC="2000000"))
    client.insert(sample_url(stand_in))
    watcher.wait_for("STATUS=1 in flight")
    # What has not been asked yet would not be released, and would hang for as long as the grace lasts.
    stand_in.wait_for_calls(1)
    daemon.process.send_signal(signal.SIGTERM)
    watcher.wait_for("STATUS=draining")
    watcher.heard.clear()
    watcher.wait_for("WATCHDOG=1")
    stand_in.release()
    assert daemon.wait() == 0


def test_a_daemon_without_its_schema_is_never_ready_and_is_not_started_again(
    empty_database: str, stand_in: ThreadedStandIn, watcher: Watcher
) -> None:
    ended = draftd("run", env=environment(empty_database, stand_in, NOTIFY_SOCKET=watcher.address))
    assert (ended.returncode, watcher.drain()) == (78, [])
    assert "draftd migrate" in ended.stderr


def test_a_daemon_without_its_database_is_never_ready_and_is_started_again(
    stand_in: ThreadedStandIn, watcher: Watcher
) -> None:
    ended = draftd("run", env=environment(NOBODYS_URL, stand_in, NOTIFY_SOCKET=watcher.address))
    assert (ended.returncode, watcher.drain()) == (69, [])


def test_a_daemon_without_a_model_is_never_ready(database: str, watcher: Watcher) -> None:
    ended = draftd("run", env=environment(database, NOTIFY_SOCKET=watcher.address))
    assert (ended.returncode, watcher.drain()) == (78, [])
