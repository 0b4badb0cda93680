"""Real ``draftd`` processes for tests, and the stand-in model server that they ask."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.rows import dict_row

from draftd.cli import main
from draftd.demo.samples import LINKEDIN_POST
from fix_database import cloned
from nursery import TRUST, close, completed, nursery

if TYPE_CHECKING:
    from draftd.stand_in.threaded import ThreadedStandIn

START_TIME_S = 120.0
END_TIME_S = 100.0
"""A drain begins with a start, of two seconds of CPU; on a machine with many others they can take long."""
DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens URLs past whatever proxy the environment names."""
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR", *TRUST)


def pytest_unconfigure() -> None:
    """End what forks daemons with the run."""
    close()


def stand_in_thread() -> "AbstractContextManager[ThreadedStandIn]":
    """Run a stand-in model server in a thread of its own."""
    from draftd.stand_in.threaded import run_in_thread  # noqa: PLC0415 - imports aiohttp, which takes half a second

    return run_in_thread()


@pytest.fixture
def stand_in() -> "Iterator[ThreadedStandIn]":
    """The stand-in model server, answering at once."""
    with stand_in_thread() as server:
        yield server


def sample_url(stand_in: "ThreadedStandIn", name: str = LINKEDIN_POST.name) -> str:
    """Return where the stand-in serves one of the sample screenshots."""
    return f"{stand_in.root_url}/samples/{name}.png"


def environment(database_url: str, stand_in: "ThreadedStandIn | None" = None, **over: str) -> dict[str, str]:
    """Return a clean environment for a draftd process: nothing of the developer's own settings."""
    variables = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    variables |= {"DRAFTD_DATABASE_URL": database_url, "PYTHONUNBUFFERED": "1"}
    if stand_in is not None:
        variables |= {
            "DRAFTD_MODEL": "openai/stand-in",
            "OPENAI_BASE_URL": stand_in.url,
            "OPENAI_API_KEY": "stand-in",
            "DRAFTD_ALLOW_PRIVATE_IMAGE_HOSTS": "127.0.0.1",
        }
    return variables | over


def draftd(
    *arguments: str, env: Mapping[str, str], time_s: float = 120.0, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a draftd command to its end, in a process of its own."""
    return completed(arguments, env=env, time_s=time_s, cwd=cwd)


@dataclass
class Daemon:
    """A running ``draftd run``."""

    process: "subprocess.Popen[bytes]"
    log_path: Path

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self.log_path.read_text()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def wait_for(self, text: str, time_s: float = START_TIME_S) -> None:
        """Wait until its log contains a text."""
        wait_until(lambda: text in self.log or self.process.poll() is not None, time_s, what=lambda: self.log)
        assert text in self.log, self.log

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; return the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end; return the exit code."""
        try:
            return self.process.wait(END_TIME_S)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"it still runs: {self.log}") from error


def free_port() -> int:
    """Return a TCP port that nobody has, where possible one that the system gives to nobody who asks for any."""
    lowest_of_the_systems = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.SystemRandom().sample(range(10_000, max(lowest_of_the_systems, 20_000)), 100):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("there is no free port")


@dataclass
class Fleet:
    """Starts daemons, and ends them with the test."""

    directory: Path
    daemons: list[Daemon] = field(default_factory=list)
    before: str = ""
    """Code that changes something of draftd before the daemon begins, in its process alone."""

    def start(self, env: Mapping[str, str], *arguments: str, wait: bool = True) -> Daemon:
        """Start a daemon and wait until it can work."""
        return self.begin(self.forked(["run", *arguments], env), wait=wait)

    def begin(self, process: "subprocess.Popen[bytes]", *, wait: bool) -> Daemon:
        """Note a daemon that ends with the test, and wait until it can work."""
        daemon = Daemon(process, self._log_path)
        self.daemons.append(daemon)
        if wait:
            daemon.wait_for('"started"')
        return daemon

    def forked(
        self, command: Sequence[str], env: Mapping[str, str], sabotage: Sequence[str] = ()
    ) -> "subprocess.Popen[bytes]":
        """Fork a draftd command, which costs a tenth of a start."""
        log = self._log_path
        return nursery().fork(command, env=env, stdout=log, stderr=log, sabotage=sabotage, before=self.before)

    def executed(self, command: Sequence[str], env: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        """Start Python with a command."""
        with self._log_path.open("wb") as sink:
            return subprocess.Popen([sys.executable, *command], env=dict(env), stdout=sink, stderr=sink)

    @property
    def _log_path(self) -> Path:
        return self.directory / f"draftd-{len(self.daemons)}.log"

    def end(self) -> None:
        """Kill what still runs."""
        for daemon in self.daemons:
            if daemon.process.poll() is None:
                daemon.process.kill()
            daemon.process.wait()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A starter of daemons that ends them with the test."""
    started = Fleet(tmp_path)
    yield started
    started.end()


def in_flight(
    fleet: Fleet, client: "Client", stand_in: "ThreadedStandIn", env: Mapping[str, str]
) -> tuple[Daemon, str]:
    """Start a daemon, and return it with the id of a request that waits for its model."""
    stand_in.script({"hang": True})
    daemon = fleet.start(env)
    request_id = client.insert(sample_url(stand_in))
    stand_in.wait_for_calls(1)
    return daemon, request_id


def wait_until(
    condition: Callable[[], bool], time_s: float, *, what: Callable[[], object] = lambda: "", look_s: float = 0.02
) -> None:
    """Wait until a condition holds; fail with a picture of the state when it does not in time."""
    ends_at = time.monotonic() + time_s
    while not condition():
        assert time.monotonic() < ends_at, f"not within {time_s} s: {what()}"
        time.sleep(look_s)


@contextmanager
def standstill() -> Iterator[Callable[[], float]]:
    """Yield what returns for how many seconds the machine has let nobody work since: of those no promise speaks."""
    look_s, stood_s, ends = 0.05, 0.0, threading.Event()

    def look() -> None:
        nonlocal stood_s
        while not ends.is_set():
            began = time.monotonic()
            ends.wait(look_s)
            stood_s += max(0.0, time.monotonic() - began - look_s)

    watching = threading.Thread(target=look, daemon=True)
    watching.start()
    try:
        yield lambda: stood_s
    finally:
        ends.set()
        watching.join()


class Client:
    """An app's side of the table: plain SQL on one synchronous connection."""

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True, row_factory=dict_row)

    def query(self, statement: str, *params: Any) -> list[dict[str, Any]]:
        """Execute a statement and return its rows."""
        cursor = self.connection.execute(statement.encode(), params or None)
        return cursor.fetchall() if cursor.description else []

    def insert(self, image_url: str, **over: Any) -> str:
        """Insert a request and return its id."""
        columns = {"image_urls": [image_url], **over}
        names, values = ", ".join(columns), ", ".join(["%s"] * len(columns))
        rows = self.query(f"INSERT INTO draft_requests ({names}) VALUES ({values}) RETURNING id", *columns.values())
        return str(rows[0]["id"])

    def row(self, request_id: str) -> dict[str, Any]:
        """Return a request as it stands."""
        (row,) = self.query("SELECT * FROM draft_requests WHERE id = %s", request_id)
        return row

    def wait_for(self, request_id: str, *statuses: str, time_s: float = 100.0) -> dict[str, Any]:
        """Wait until a request has one of these statuses, and return it."""
        wait_until(lambda: self.row(request_id)["status"] in statuses, time_s, what=lambda: self.row(request_id))
        return self.row(request_id)


@pytest.fixture
def client(database: str) -> Iterator[Client]:
    """An app that inserts and polls."""
    opened = Client(database)
    yield opened
    opened.connection.close()


Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Call]:
    """Run a draftd command inside this process, from its entry point on: fifty times as fast as a process of its own."""

    def run(*arguments: str, env: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
        for name in os.environ:
            monkeypatch.delenv(name)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["draftd", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return subprocess.CompletedProcess(sys.argv, int(ended.value.code or 0), *capsys.readouterr())

    before = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, before)


@dataclass
class Running:
    """A daemon that the tests of one module share (its start costs seconds), its database and its model server."""

    url: str
    env: dict[str, str]
    stand_in: "ThreadedStandIn"
    daemon: Daemon
    client: Client

    def draftd(self, *arguments: str, **over: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the daemon's environment."""
        return draftd(*arguments, env=self.env | over)


@contextmanager
def run_shared(
    server_url: str, template: str, directory: Path, *, start: Callable[[Fleet, dict[str, str]], Daemon]
) -> Iterator[Running]:
    """Start a daemon with a database and a model server of its own, and end all of them with the context."""
    fleet = Fleet(directory)
    with cloned(server_url, template) as url, stand_in_thread() as stand_in:
        env = environment(url, stand_in)
        client = Client(url)
        try:
            yield Running(url, env, stand_in, start(fleet, env), client)
        finally:
            fleet.end()
            client.connection.close()


@pytest.fixture(scope="module")
def running(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A running daemon with a database of this module's own."""
    with run_shared(server_url, template, tmp_path_factory.mktemp("running"), start=Fleet.start) as shared:
        yield shared
