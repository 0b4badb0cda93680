"""Liveness: how ``draftd health`` finds the daemons of this user on this host and asks them, without the database.

Every daemon answers on an abstract unix socket. It is the event loop that answers, so an answer means that it turns; and a
database that is away cannot make a healthy daemon look dead. An abstract socket needs no directory: a read-only root works.

Anyone in the network namespace can bind such a name and connect to it, so names prove nothing. Invariant: only the kernel's
word on the peer (``SO_PEERCRED``) decides whose daemon it is, before anything is waited for, and a daemon answers its own user
alone. The name carries the pid namespace, because containers that share a network are all process 1 of their own.
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
MAX_BACKLOG = 4096
CONNECT_TIME_S = 0.5
"""How long a socket that takes no more connections is tried: whose it is cannot be known without one."""
CONNECT_PAUSE_S = 0.01
_SOCKETS = Path("/proc/self/net/unix")
"""Not below /proc/net, which a sandbox with ``ProcSubset=pid`` does not show."""
_PEER = struct.Struct("3i")
"""The kernel's ``struct ucred``: pid, uid, gid."""


class Liveness:
    """Answers for this process.

    Args:
        facts: what to tell: a small JSON object.
    """

    def __init__(self, *, facts: Callable[[], dict[str, Any]]) -> None:
        self._facts = facts
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        """Answer from now on."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"\0{_prefix()}{os.getpid()}.{secrets.token_hex(4)}")
        self._server = await asyncio.start_unix_server(self._answer, sock=listener)
        # After asyncio, which would accept as many in one go. A stuck daemon is known for one while its queue has room.
        listener.listen(MAX_BACKLOG)

    async def aclose(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.close()

    async def _answer(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            if _uid_of(writer.get_extra_info("socket")) == os.geteuid():
                writer.write(json.dumps(self._facts()).encode())
                await writer.drain()
        writer.close()


def daemons() -> list[str]:
    """Return the names of this user's daemons in this pid namespace of the host: ``PID.RANDOM``."""
    return [name for name, uid in _owners().items() if uid == os.geteuid()]


def neighbours() -> set[int]:
    """Return the ids of other users whose daemons seem to run here; what they say of themselves is not proven."""
    return set(_owners().values()) - {os.geteuid()}


async def ask(name: str, *, time_s: float = ANSWER_TIME_S) -> dict[str, Any] | None:
    """Ask one daemon for its facts; None when it does not answer in time, or is not this user's."""
    try:
        async with asyncio.timeout(time_s):
            reader, writer = await asyncio.open_unix_connection(path=f"\0{_prefix()}{name}")
            with closing(writer):
                if _uid_of(writer.get_extra_info("socket")) != os.geteuid():
                    return None
                answer = await reader.read()
            facts: dict[str, Any] = json.loads(answer)
            return facts
    except (OSError, TimeoutError, ValueError):
        return None


def _prefix() -> str:
    return f"{PREFIX}{os.stat('/proc/self/ns/pid').st_ino}."  # noqa: PTH116  # a path object would add nothing


def _owners() -> dict[str, int]:
    """Return the sockets with a daemon's name, and who listens there by the word of the kernel."""
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
                    continue  # its queue is full
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
