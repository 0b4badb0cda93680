"""Sending an answer of the stand-in, as fast and as broken as its behaviour says.

Owns pace, framing and the ways to break off. What is said is ``answers``' matter.
"""

import asyncio
import itertools
import json
import math
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from draftd.stand_in.answers import answer
from draftd.stand_in.behaviour import Behaviour
from draftd.stand_in.call import Call
from draftd.stand_in.completion import CHARS_PER_TOKEN, Completion, Failure, usage_of
from draftd.stand_in.wires.wire import Wire

_UNPACED_PIECE_CHARS = 64
_HTML = b"<!doctype html><title>Sign in</title><p>Please sign in to use this network."


def completion_of(
    call: Call, behaviour: Behaviour, *, number: int, content: Mapping[str, Any] | None = None
) -> Completion:
    """Return the answer to a call, with this content or that of its scene."""
    text = answer(call, behaviour, content)
    finish_reason = "length" if behaviour.truncated else "content_filter" if behaviour.filtered else "stop"
    return Completion(
        number=number,
        created=int(time.time()),
        text=text,
        finish_reason=finish_reason,
        refusal="I'm sorry, I can't assist with that request." if behaviour.refusal else None,
        usage=usage_of(call, text, behaviour),
        has_choices=not behaviour.empty,
        includes_usage=call.include_usage,
        tool=call.tool,
    )


def error_response(wire: Wire, failure: Failure, behaviour: Behaviour) -> web.Response:
    """Return an error in the provider's form; ``Retry-After`` counts whole seconds (RFC 9110, 10.2.3)."""
    headers = dict(behaviour.headers)
    if behaviour.retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(behaviour.retry_after_s))
    body = json.dumps(wire.error(failure)) if behaviour.body is None else behaviour.body
    media_type = "text/html" if body.startswith("<") else "application/json"
    return web.Response(text=body, status=failure.status, headers=headers, content_type=media_type)


def html_response() -> web.Response:
    """Return a page that is no answer at all."""
    return web.Response(body=_HTML, content_type="text/html")


@dataclass(slots=True, kw_only=True)
class Player:
    """Answers one request."""

    request: web.Request
    wire: Wire
    behaviour: Behaviour
    tokens_per_s: float | None
    released: asyncio.Event
    """Set when a stalled answer may go on."""
    was_cut: bool = False
    """Whether the connection was cut in the middle of the answer, as the behaviour asked."""

    async def send(self, response: web.Response) -> web.Response:
        """Send a response to its end: a handler's return would leave that to the server, after the log's entry."""
        await response.prepare(self.request)
        await response.write_eof()
        return response

    async def send_whole(self, completion: Completion) -> web.StreamResponse:
        """Send a completion in one body."""
        if self.tokens_per_s:
            await asyncio.sleep(len(completion.text) / CHARS_PER_TOKEN / self.tokens_per_s)
        body = json.dumps(self.wire.whole(completion)).encode()
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
        middle = len(body) // 2
        return await self._send(response, [body[:middle], body[middle:]], pace_s=0.0, stall_at=1)

    async def send_stream(self, completion: Completion) -> web.StreamResponse:
        """Send a completion piece by piece."""
        paced = self.tokens_per_s or 0.0
        piece_chars = CHARS_PER_TOKEN if paced else _UNPACED_PIECE_CHARS
        if self.behaviour.pieces:
            piece_chars = -(-len(completion.text) // self.behaviour.pieces)
        events = list(self.wire.events(completion, piece_chars=piece_chars))
        stall_at = len(events) // 2
        if after := self.behaviour.stall_after:
            # The first event has no text.
            stall_at = 2 + (completion.text.index(after) + len(after) - 1) // piece_chars
        if self.behaviour.breaks:
            words = self.behaviour.message or "The server had an error while processing your request."
            failure = Failure(status=500, type="server_error", code="server_error", message=words)
            events = [*events[: len(events) // 2], self.wire.broken(failure)]
        if self.behaviour.ends_early:
            events = events[: len(events) // 2]
        response = web.StreamResponse(headers={"Content-Type": self.wire.stream_type})
        return await self._send(response, events, pace_s=1 / paced if paced else 0.0, stall_at=stall_at)

    def reset(self) -> web.Response:
        """Reset the connection: the client's library sees no orderly end, and nothing of an answer."""
        transport = self.request.transport
        if transport is not None:
            # A close with no time to linger sends RST instead of FIN.
            own: socket.socket = transport.get_extra_info("socket")
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._cut()
        return web.Response()

    async def _send(
        self, response: web.StreamResponse, pieces: Sequence[bytes], *, pace_s: float, stall_at: int
    ) -> web.StreamResponse:
        await response.prepare(self.request)
        if self.behaviour.drip:
            pieces = [bytes([one]) for one in itertools.chain.from_iterable(pieces)]
            pace_s = self.behaviour.drip_s
        middle = len(pieces) // 2
        start = time.monotonic()
        for number, piece in enumerate(pieces):
            if number == middle and self.behaviour.disconnect:
                self._cut()
                return response
            if number == stall_at and (self.behaviour.stall or self.behaviour.stall_after):
                await self.released.wait()
            # By the clock since the start, so that the time of sending itself does not slow the answer.
            early_s = start + number * pace_s - time.monotonic()
            if early_s > 0:
                await asyncio.sleep(early_s)
            await response.write(piece)
        await response.write_eof()
        return response

    def _cut(self) -> None:
        self.was_cut = True
        if self.request.transport is not None:
            self.request.transport.abort()
