"""What a health check makes of the answer at a daemon's socket."""

import asyncio
import os
import socket

import pytest

from draftd.daemon import liveness


@pytest.mark.parametrize(
    ("answer", "understood"),
    [
        (b'{"in_flight": 2}', True),
        (b"", False),
        (b"no JSON", False),
        (b"[1]", False),
        (b"{}", False),
        (b'{"in_flight": "2"}', False),
        (b'{"in_flight": 2, "more": "' + b"x" * liveness.MAX_ANSWER_BYTES + b'"}', False),
    ],
    ids=["a daemon's", "nothing", "not JSON", "a list", "no facts", "a text for a number", "without end"],
)
async def test_only_what_a_daemon_says_is_understood(answer: bytes, *, understood: bool) -> None:
    async def say(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\0{liveness._prefix()}{os.getpid()}.0")
    async with await asyncio.start_unix_server(say, sock=listener):
        assert bool(await liveness.ask(f"{os.getpid()}.0")) == understood
