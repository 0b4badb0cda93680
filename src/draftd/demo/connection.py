"""One connection of the stand-in, from its first request to its last.

Owns keeping it alive, and noticing that the client is gone while its answer is still being made.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from draftd.demo.http1 import BadRequest, HttpRequest, Response, read_request

Respond = Callable[[HttpRequest, asyncio.StreamWriter], Coroutine[Any, Any, bool]]
"""Answers one request; returns whether the connection can be used again."""


async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, respond: Respond) -> None:
    """Answer the requests of one connection until either side ends it."""
    ahead: bytes | None = b""
    reusable = True
    while reusable and ahead is not None:
        try:
            request = await read_request(reader, writer, ahead=ahead)
        except BadRequest as error:
            writer.write(Response.of({"error": {"message": str(error)}}, status=400).encode(keep_alive=False))
            await writer.drain()
            return
        if request is None:
            return
        reusable, ahead = await _unless_gone(respond(request, writer), reader)


async def _unless_gone(work: Coroutine[Any, Any, bool], reader: asyncio.StreamReader) -> tuple[bool, bytes | None]:
    """Do the work, but give it up when the client closes the connection: a hanging call would never notice.

    Returns:
        Whether the connection can be used again, and what was read ahead on it; None when the client is gone.
    """
    working = asyncio.create_task(work)
    watching = asyncio.create_task(reader.read(1))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if watching.done() and watching.result():
            await asyncio.wait({working})
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)
    ahead = b"" if watching.cancelled() else watching.result() or None
    return not working.cancelled() and working.result(), ahead


async def send(response: Response, request: HttpRequest, writer: asyncio.StreamWriter) -> bool:
    """Send a response in one piece; return whether the connection can be used again."""
    writer.write(response.encode(keep_alive=request.keep_alive))
    await writer.drain()
    return request.keep_alive
