"""The stand-in model server: returns prepared answers, streamed like a model's; those of the demo, unless it is given others.

There is no model behind it, and every reply says so. It implements the part of OpenAI's chat completions that a daemon uses, on
the loopback interface, in its own thread.
"""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from draftd.demo.samples import SAMPLES
from draftd.demo.scenes import SAMPLE_SCENES, Scene

MODEL = "stand-in"
CHARS_PER_TOKEN = 4
LATENCY_S = 0.3
TOKENS_PER_S = 250.0
MAX_BODY_BYTES = 64 * 1024 * 1024


Answer = Callable[[Mapping[str, Any], Mapping[str, str]], Mapping[str, Any]]
"""From the body and the headers of a call to the object that is answered; raises ``ValueError`` for a call it does not know."""


def demo_answer(call: Mapping[str, Any], _headers: Mapping[str, str]) -> Scene:
    """Return the scene of the sample whose context the prompt contains.

    Raises:
        ValueError: it contains none.
    """
    prompt = json.dumps(call["messages"], ensure_ascii=False)
    for sample in SAMPLES:
        if sample.context in prompt:
            return SAMPLE_SCENES[sample.name]
    raise ValueError("the demo answers for its own samples only")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answerer:
    answer: Answer
    latency_s: float
    tokens_per_s: float

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Answer ``POST /v1/chat/completions``, streamed or whole."""
        call = await request.json()
        try:
            text = json.dumps(_ordered(self.answer(call, request.headers), call))
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        usage = {"prompt_tokens": 1_000, "completion_tokens": len(text) // CHARS_PER_TOKEN}
        usage["total_tokens"] = sum(usage.values())
        await asyncio.sleep(self.latency_s)
        if not call.get("stream"):
            message = {"role": "assistant", "content": text}
            return web.json_response(_body("chat.completion", [_choice(message=message, finish_reason="stop")], usage))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for start in range(0, len(text), CHARS_PER_TOKEN):
            await _send(response, [_choice(delta={"content": text[start : start + CHARS_PER_TOKEN]})])
            await asyncio.sleep(1 / self.tokens_per_s)
        await _send(response, [_choice(delta={}, finish_reason="stop")])
        await _send(response, [], usage)
        await response.write(b"data: [DONE]\n\n")
        return response


def _ordered(answer: Mapping[str, Any], call: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values in the order of the requested schema."""
    schema = call.get("response_format", {}).get("json_schema", {}).get("schema", {})
    return {name: answer[name] for name in schema.get("properties", answer)}


def _choice(*, finish_reason: str | None = None, **said: Any) -> dict[str, Any]:
    return {"index": 0, "finish_reason": finish_reason, **said}


def _body(kind: str, choices: list[dict[str, Any]], usage: Mapping[str, int] | None) -> dict[str, Any]:
    created = int(time.time())
    body = {"id": "chatcmpl-demo", "object": kind, "created": created, "model": MODEL, "choices": choices}
    return body | ({"usage": usage} if usage else {})


async def _send(
    response: web.StreamResponse, choices: list[dict[str, Any]], usage: Mapping[str, int] | None = None
) -> None:
    await response.write(b"data: " + json.dumps(_body("chat.completion.chunk", choices, usage)).encode() + b"\n\n")


@contextmanager
def running(
    answer: Answer = demo_answer, *, latency_s: float = LATENCY_S, tokens_per_s: float = TOKENS_PER_S
) -> Iterator[str]:
    """Serve in a thread until the context ends; yield the base URL for an OpenAI client.

    Args:
        answer: what is answered to a call.
        latency_s: seconds before an answer begins.
        tokens_per_s: how fast an answer is streamed.
    """
    answerer = _Answerer(answer=answer, latency_s=latency_s, tokens_per_s=tokens_per_s)
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_post("/v1/chat/completions", answerer.complete)
        # A timeout of 0 would mean no limit.
        server = web.AppRunner(app, shutdown_timeout=0.01, access_log=None)
        runner.run(server.setup())
        runner.run(web.TCPSite(server, "127.0.0.1", 0).start())
        thread = threading.Thread(target=loop.run_forever, name="answerer", daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.addresses[0][1]}/v1"
        finally:
            asyncio.run_coroutine_threadsafe(server.cleanup(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
