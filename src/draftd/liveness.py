"""Liveness: how ``draftd health`` finds the daemons of this host and asks them, without the database.

Every daemon answers on an abstract unix socket that carries its pid. It is the event loop that answers, so an answer means
that it turns; and a database that is away cannot make a healthy daemon look dead. An abstract socket needs no directory: a
read-only root works.
"""

import asyncio
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

PREFIX = "draftd.health."
ANSWER_TIME_S = 5.0
_SOCKETS = Path("/proc/net/unix")


class Liveness:
    """Answers for this process.

    Args:
        facts: what to tell: a small JSON object.
    """

    def __init__(self, *, facts: Callable[[], dict[str, Any]]) -> None:
        self._facts = facts

    async def run(self) -> None:
        """Answer until cancelled."""
        server = await asyncio.start_unix_server(self._answer, path=f"\0{PREFIX}{os.getpid()}")
        async with server:
            await server.serve_forever()

    async def _answer(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            writer.write(json.dumps(self._facts()).encode())
            await writer.drain()
        writer.close()


def daemons() -> list[int]:
    """Return the pids of the daemons of this host (of this network namespace)."""
    names = [line.rpartition(" ")[2] for line in _SOCKETS.read_text().splitlines()]
    pids = {name.removeprefix(f"@{PREFIX}") for name in names if name.startswith(f"@{PREFIX}")}
    return sorted(int(pid) for pid in pids if pid.isdigit())


async def ask(pid: int, *, time_s: float = ANSWER_TIME_S) -> dict[str, Any] | None:
    """Ask one daemon for its facts; None when it does not answer in time."""
    try:
        async with asyncio.timeout(time_s):
            reader, writer = await asyncio.open_unix_connection(path=f"\0{PREFIX}{pid}")
            answer = await reader.read()
            writer.close()
            facts: dict[str, Any] = json.loads(answer)
            return facts
    except (OSError, TimeoutError, ValueError):
        return None
