"""Liveness: how ``draftd health`` finds this user's daemons on this host and queries them, without the database.

Every daemon answers on an abstract Unix socket. The event loop answers, so an answer proves that it is alive, and a database
outage cannot make a healthy daemon look dead. An abstract socket needs no directory, so a read-only root filesystem works.

Anyone in the network namespace can bind such a name and connect to it, so names prove nothing. Invariant: only the peer
credentials from the kernel (``SO_PEERCRED``) decide whose daemon it is, before anything is read, and a daemon answers only its
own user. The name contains the pid namespace, because in each of several containers that share a network the daemon may be
process 1.
"""

import asyncio
import json
import os
import re
import secrets
import socket
import struct
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

PREFIX = "draftd.health."
ANSWER_TIME_S = 5.0
MAX_ANSWER_BYTES = 65_536
MAX_BACKLOG = 4096
CONNECT_TIME_S = 0.5
"""How long to retry a socket with a full backlog: its owner is unknown until it accepts a connection."""
CONNECT_PAUSE_S = 0.01
_SOCKETS = Path("/proc/self/net/unix")
"""Not in /proc/net, which a sandbox with ``ProcSubset=pid`` hides."""
_PEER = struct.Struct("3i")
"""The kernel's ``struct ucred``: pid, uid, gid."""


class Liveness:
    """Answers health checks of this process.

    Args:
        facts: returns the answer, a small JSON object.
    """

    def __init__(self, *, facts: Callable[[], dict[str, Any]]) -> None:
        self._facts = facts
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        """Start answering."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"\0{_prefix()}{os.getpid()}.{secrets.token_hex(4)}")
        self._server = await asyncio.start_unix_server(self._answer, sock=listener)
        # After asyncio, which would also accept as many at once. A stuck daemon can be recognized while its backlog has room.
        listener.listen(MAX_BACKLOG)

    async def aclose(self) -> None:
        """Stop answering."""
        if self._server is not None:
            self._server.close()

    async def _answer(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            if _uid_of(writer.get_extra_info("socket")) == os.geteuid():
                writer.write(json.dumps(self._facts()).encode())
                await writer.drain()
        writer.close()


def daemons() -> list[str]:
    """Return the names (``PID.RANDOM``) of this user's daemons in this host's pid namespace."""
    return [name for name, uid in _owners().items() if uid == os.geteuid()]


def other_users() -> set[int]:
    """Return the ids of other users who seem to run daemons here; that these are daemons is unproven."""
    return set(_owners().values()) - {os.geteuid()}


async def ask(name: str, *, time_s: float = ANSWER_TIME_S) -> dict[str, Any] | None:
    """Return one daemon's facts; None if it does not answer in time, or is not this user's."""
    try:
        async with asyncio.timeout(time_s):
            reader, writer = await asyncio.open_unix_connection(path=f"\0{_prefix()}{name}")
            with closing(writer):
                if _uid_of(writer.get_extra_info("socket")) != os.geteuid():
                    return None
                await reader.readexactly(MAX_ANSWER_BYTES)
    except asyncio.IncompleteReadError as ended:
        return _facts_in(ended.partial)
    except (OSError, TimeoutError):
        pass
    return None


async def ask_all(*, pid: int | None = None) -> dict[str, dict[str, Any] | None]:
    """Ask this user's daemons, all at once; return each one's facts by name, None for one that is stuck.

    Args:
        pid: ask only the daemon with this process id; None asks all.
    """
    names = [name for name in daemons() if pid is None or name.partition(".")[0] == str(pid)]
    answers = dict(zip(names, await asyncio.gather(*map(ask, names)), strict=True))
    # A daemon that has just ended is gone, not stuck.
    ended = {name for name, answer in answers.items() if answer is None} - set(daemons())
    return {name: answer for name, answer in answers.items() if name not in ended}


def _facts_in(answer: bytes) -> dict[str, Any] | None:
    """Return a daemon's facts; None for what no daemon says."""
    try:
        facts = json.loads(answer)
    except ValueError:
        return None
    return facts if isinstance(facts, dict) and isinstance(facts.get("in_flight"), int) else None


def _prefix() -> str:
    return f"{PREFIX}{os.stat('/proc/self/ns/pid').st_ino}."  # noqa: PTH116  # a path object would add nothing


def _owners() -> dict[str, int]:
    """Return the sockets with a daemon's name, and the user behind each as the kernel reports it."""
    form = re.compile(rf" @{re.escape(_prefix())}(\d+\.[0-9a-f]+)$")
    names = {found[1] for line in _SOCKETS.read_text(errors="replace").splitlines() if (found := form.search(line))}
    owners: dict[str, int] = {}
    ends_at = time.monotonic() + CONNECT_TIME_S
    while names:
        for name in sorted(names):
            with socket.socket(socket.AF_UNIX) as peer:
                peer.setblocking(False)
                try:
                    peer.connect(f"\0{_prefix()}{name}")
                    owners[name] = _uid_of(peer)
                except BlockingIOError:
                    continue  # its backlog is full
                except OSError:
                    pass  # it is gone
            names.discard(name)
        if time.monotonic() > ends_at:
            break
        time.sleep(CONNECT_PAUSE_S if names else 0)
    return owners


def _uid_of(peer: Any) -> int:
    _pid, uid, _gid = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return int(uid)
