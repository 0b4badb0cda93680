"""A PgBouncer of a test's own: the one that is installed, or Debian's package unpacked into a cache folder."""

import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from draftd.demo.embedded import _account as account_to_become
from fix_daemon import free_port
from fix_database import server_parts

POOL_SIZE = 3
START_TIME_S = 60.0
FETCH_TIME_S = 50.0
WHERE = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
REMEDY = "PgBouncer is not installed (on Debian and Ubuntu: apt-get install pgbouncer)"


class Unavailable(Exception):
    """There is no PgBouncer here; the message says how to get one."""


def program(cache: Path) -> Path:
    """Return PgBouncer's program.

    Raises:
        Unavailable: it is neither installed nor to be had from a Debian archive.
    """
    if found := shutil.which("pgbouncer", path=WHERE):
        return Path(found)
    unpacked = cache / "unpacked"
    if not unpacked.exists():
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            _fetch(Path(folder))
            (Path(folder) / "unpacked").rename(unpacked)
    return unpacked / "usr/sbin/pgbouncer"


def _fetch(folder: Path) -> None:
    """Unpack Debian's package, and the libraries of it that are not there, without installing anything.

    Raises:
        Unavailable: there are no such packages here.
    """
    if not all(map(shutil.which, ("apt-get", "apt-cache", "dpkg-deb", "dpkg-query"))):
        raise Unavailable(REMEDY)
    try:
        depends = re.findall(r"^\s+Depends: (lib[^\s<]+)$", _output("apt-cache", "depends", "pgbouncer"), re.MULTILINE)
        missing = [library for library in depends if not _is_installed(library)]
        _output("apt-get", "download", "pgbouncer", *missing, cwd=folder)
        for package in folder.glob("*.deb"):
            _output("dpkg-deb", "-x", str(package), str(folder / "unpacked"))
    except (subprocess.SubprocessError, OSError) as error:
        raise Unavailable(f"{REMEDY}, and cannot be fetched: {type(error).__name__}") from error


def _output(*command: str, cwd: Path | None = None) -> str:
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True, timeout=FETCH_TIME_S).stdout


def _is_installed(package: str) -> bool:
    status = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Status}", package],
        capture_output=True,
        text=True,
        timeout=FETCH_TIME_S,
        check=False,
    )
    return "ok installed" in status.stdout


class PgBouncer:
    """A running pooler in front of one server.

    Args:
        port: where it listens, on the loopback.
    """

    def __init__(self, port: int) -> None:
        self.port = port

    def url(self, database_url: str) -> str:
        """Return the URL of the same database, through the pooler."""
        return f"postgresql://pooled@127.0.0.1:{self.port}/{quote(server_parts(database_url)['dbname'])}"


@contextmanager
def pgbouncer(binary: Path, server_url: str, *, pool_mode: str = "transaction") -> Iterator[PgBouncer]:
    """Run PgBouncer in front of a server, until the context ends."""
    account, port = account_to_become(), free_port()
    with _private_directory(account) as directory:
        configuration = directory / "pgbouncer.ini"
        configuration.write_text(_configuration(server_url, port, pool_mode, directory))
        process = subprocess.Popen(
            [str(_made_reachable(binary, directory)), str(configuration)],
            env={"LD_LIBRARY_PATH": ":".join(map(str, directory.glob("usr/lib/*")))},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=directory,
            start_new_session=True,
            # It refuses to run as root.
            user=None if account is None else account.pw_uid,
            group=None if account is None else account.pw_gid,
            extra_groups=None if account is None else [],
        )
        try:
            _await_port(port, process, directory)
            yield PgBouncer(port)
        finally:
            process.kill()
            process.wait()


@contextmanager
def _private_directory(account: pwd.struct_passwd | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="draftd-pooler-", dir="/tmp") as name:
        if account is not None:
            os.chown(name, account.pw_uid, account.pw_gid)
        yield Path(name)


def _made_reachable(binary: Path, directory: Path) -> Path:
    """Return the program where the account that runs it can reach it: what was fetched may lie below a private folder."""
    root = binary.parents[2]
    if root == Path("/") or not (root / "usr/lib").exists():
        return binary
    shutil.copytree(root / "usr", directory / "usr", ignore=shutil.ignore_patterns("share"))
    return directory / binary.relative_to(root)


def _configuration(server_url: str, port: int, pool_mode: str, directory: Path) -> str:
    parts = server_parts(server_url)
    target: dict[str, Any] = {name: parts[name] for name in ("host", "port", "user", "password") if name in parts}
    target.setdefault("user", "postgres")
    server = " ".join(f"{name}='{value}'" for name, value in target.items())
    return f"""
[databases]
* = {server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {pool_mode}
default_pool_size = {POOL_SIZE}
max_client_conn = 100
logfile = {directory}/log
"""


def _await_port(port: int, process: "subprocess.Popen[bytes]", directory: Path) -> None:
    ends_at = time.monotonic() + START_TIME_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            log = directory / "log"
            assert process.poll() is None, log.read_text() if log.exists() else "PgBouncer did not start"
            assert time.monotonic() < ends_at, "PgBouncer is not ready"
            time.sleep(0.02)
        else:
            return
