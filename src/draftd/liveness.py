"""Liveness: how ``draftd health`` finds the daemons of this host and asks them, without the database.

Every daemon answers on an abstract unix socket that carries its pid and a random part (containers that share a network
namespace are all pid 1). It is the event loop that answers, so an answer means that it turns; and a database that is away
cannot make a healthy daemon look dead. An abstract socket needs no directory: a read-only root works.
"""

import asyncio
import json
import os
import secrets
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

PREFIX = "draftd.health."
ANSWER_TIME_S = 5.0
_SOCKETS = Path("/proc/self/net/unix")
"""Not below /proc/net, which a sandbox with ``ProcSubset=pid`` does not show."""


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
        name = f"{os.getpid()}.{secrets.token_hex(4)}"
        self._server = await asyncio.start_unix_server(self._answer, path=f"\0{PREFIX}{name}")

    async def aclose(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.close()

    async def _answer(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            writer.write(json.dumps(self._facts()).encode())
            await writer.drain()
        writer.close()


def daemons() -> list[str]:
    """Return the names of the daemons of this host (of this network namespace): ``PID.RANDOM``."""
    sockets = [line.rpartition(" ")[2] for line in _SOCKETS.read_text().splitlines()]
    return sorted({name.removeprefix(f"@{PREFIX}") for name in sockets if name.startswith(f"@{PREFIX}")})


async def ask(name: str, *, time_s: float = ANSWER_TIME_S) -> dict[str, Any] | None:
    """Ask one daemon for its facts; None when it does not answer in time."""
    try:
        async with asyncio.timeout(time_s):
            reader, writer = await asyncio.open_unix_connection(path=f"\0{PREFIX}{name}")
            with closing(writer):
                answer = await reader.read()
            facts: dict[str, Any] = json.loads(answer)
            return facts
    except (OSError, TimeoutError, ValueError):
        return None
