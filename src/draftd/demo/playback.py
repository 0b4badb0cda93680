"""Sending an answer of the stand-in, as fast and as broken as its behaviour says.

Owns pace, framing and the ways to break off. What is said is ``answers``' matter.
"""

import asyncio
import itertools
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from draftd.demo.answers import answer
from draftd.demo.behaviour import Behaviour
from draftd.demo.call import Call
from draftd.demo.completion import CHARS_PER_TOKEN, Completion, Failure, usage_of
from draftd.demo.http1 import Response, chunk, head

_UNPACED_PIECE_CHARS = 64
_HTML = b"<!doctype html><title>Sign in</title><p>Please sign in to use this network."


def completion_of(call: Call, behaviour: Behaviour, *, number: int) -> Completion:
    """Return the answer to a call."""
    text = answer(call, behaviour)
    finish_reason = "length" if behaviour.truncated else "content_filter" if behaviour.filtered else "stop"
    return Completion(
        number=number,
        created=int(time.time()),
        text=text,
        finish_reason=finish_reason,
        refusal="I'm sorry, I can't assist with that request." if behaviour.refusal else None,
        usage=usage_of(call, text),
        has_choices=not behaviour.empty,
    )


def error_response(failure: Failure, *, retry_after_s: float | None = None) -> Response:
    """Return an error in the provider's form; ``Retry-After`` counts whole seconds (RFC 9110, 10.2.3)."""
    headers = {} if retry_after_s is None else {"Retry-After": str(math.ceil(retry_after_s))}
    return Response.of(failure.body(), status=failure.status, headers=headers)


def html_response() -> Response:
    """Return a page that is no answer at all."""
    return Response(body=_HTML, content_type="text/html", headers={})


@dataclass(frozen=True, slots=True, kw_only=True)
class Player:
    """Sends one completion over one connection."""

    writer: asyncio.StreamWriter
    behaviour: Behaviour
    tokens_per_s: float | None
    released: asyncio.Event
    """Set when a stalled answer may go on."""

    async def send_whole(self, completion: Completion) -> bool:
        """Send it in one body; return whether the connection can be used again."""
        if self.tokens_per_s:
            await asyncio.sleep(len(completion.text) / CHARS_PER_TOKEN / self.tokens_per_s)
        body = json.dumps(completion.whole()).encode()
        self.writer.write(head(200, {"Content-Type": "application/json", "Content-Length": str(len(body))}))
        middle = len(body) // 2
        return await self._send([body[:middle], body[middle:]], pace_s=0.0, framed=bytes)

    async def send_stream(self, completion: Completion, *, include_usage: bool) -> bool:
        """Send it as server-sent events; return whether the connection can be used again."""
        paced = self.tokens_per_s or 0.0
        piece_chars = CHARS_PER_TOKEN if paced else _UNPACED_PIECE_CHARS
        events = list(completion.events(piece_chars=piece_chars, include_usage=include_usage))
        self.writer.write(head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}))
        if not await self._send(events, pace_s=1 / paced if paced else 0.0, framed=chunk):
            return False
        self.writer.write(chunk(b""))
        await self.writer.drain()
        return True

    async def _send(self, pieces: Sequence[bytes], *, pace_s: float, framed: Callable[[bytes], bytes]) -> bool:
        if self.behaviour.drip:
            pieces = [bytes([one]) for one in itertools.chain.from_iterable(pieces)]
            pace_s = self.behaviour.drip_s
        middle = len(pieces) // 2
        start = time.monotonic()
        for number, piece in enumerate(pieces):
            if number == middle and self.behaviour.disconnect:
                self.writer.transport.abort()
                return False
            if number == middle and self.behaviour.stall:
                await self.released.wait()
            # By the clock since the start, so that the time of sending itself does not slow the answer.
            early_s = start + number * pace_s - time.monotonic()
            if early_s > 0:
                await asyncio.sleep(early_s)
            self.writer.write(framed(piece))
            await self.writer.drain()
        return True
