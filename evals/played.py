"""A model that a person plays: an OpenAI-compatible server that waits for answers in files.

python -m evals.played CALLS [--port 8899]

Each call becomes a folder ``CALLS/001`` with ``system.txt``, ``user.txt``, ``schema.json`` and the pictures as a model would get
them. The call is answered with the text of ``answer.txt`` once that file is there: write it under another name, then rename it.
The server listens on the loopback interface only. Point ``OPENAI_BASE_URL`` at it; see docs/drafts.md.
"""

import argparse
import asyncio
import base64
import itertools
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, overload

from aiohttp import web

LOOK_S = 0.3
KEEP_ALIVE_S = 20.0
"""Clients give up a stream that is silent for ten minutes, and send the call again."""
MAX_BODY_BYTES = 64 << 20
_PICTURE = re.compile(r"data:image/([a-z]{3,5});base64,")
_CALLS = web.AppKey("calls", Path)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Let a person play the model.")
    parser.add_argument("calls", type=Path, help="a folder for the calls")
    parser.add_argument("--port", type=int, default=8899)
    arguments = parser.parse_args()
    web.run_app(application(arguments.calls), host="127.0.0.1", port=arguments.port)


def application(calls: Path) -> web.Application:
    """Return the server.

    Args:
        calls: the folder in which each call becomes a numbered one; made if it is missing.
    """
    calls.mkdir(parents=True, exist_ok=True)
    made = web.Application(client_max_size=MAX_BODY_BYTES)
    made[_CALLS] = calls
    made.router.add_post("/v1/chat/completions", _complete)
    return made


async def _complete(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    folder = await asyncio.to_thread(_lay_out, request.app[_CALLS], body)
    if not body.get("stream"):
        return _whole(body["model"], await _answered(folder))
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    while (text := await _answered(folder, within_s=KEEP_ALIVE_S)) is None:
        await response.write(b": somebody is writing\n\n")
    return await _streamed(response, body["model"], text)


@overload
async def _answered(folder: Path) -> str: ...


@overload
async def _answered(folder: Path, *, within_s: float) -> str | None: ...


async def _answered(folder: Path, *, within_s: float = math.inf) -> str | None:
    """Return the answer once it is there, or None after ``within_s`` seconds."""
    answer = folder / "answer.txt"
    looks = itertools.count() if math.isinf(within_s) else range(int(within_s / LOOK_S))
    for _ in looks:
        if answer.exists():
            return await asyncio.to_thread(answer.read_text)
        await asyncio.sleep(LOOK_S)
    return None


def _lay_out(calls: Path, body: dict[str, Any]) -> Path:
    """Write a call's folder and return it."""
    folder = _next_folder(calls)
    texts: dict[str, list[str]] = defaultdict(list)
    pictures = itertools.count(1)
    for role, part in _parts(body["messages"]):
        if part["type"] == "text":
            texts[role].append(part["text"])
        elif found := _PICTURE.match(part["image_url"]["url"]):
            number = next(pictures)
            data = base64.b64decode(part["image_url"]["url"][found.end() :])
            (folder / f"image-{number}.{found[1]}").write_bytes(data)
            texts[role].append(f"<picture {number}>")
    for role, said in texts.items():
        (folder / f"{role}.txt").write_text("\n\n".join(said))
    (folder / "schema.json").write_text(json.dumps(body.get("response_format"), indent=1))
    return folder


def _next_folder(calls: Path) -> Path:
    for number in itertools.count(1):
        folder = calls / f"{number:03d}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError


def _parts(messages: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for message in messages:
        content = message["content"]
        for part in content if isinstance(content, list) else [{"type": "text", "text": content}]:
            yield message["role"], part


def _whole(model: str, text: str) -> web.Response:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    return web.json_response(_head(model, "chat.completion") | {"choices": [choice], "usage": _usage(text)})


async def _streamed(response: web.StreamResponse, model: str, text: str) -> web.StreamResponse:
    head = _head(model, "chat.completion.chunk")
    for delta, finish in (({"role": "assistant", "content": text}, None), ({}, "stop")):
        await _send(response, head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
    await _send(response, head | {"choices": [], "usage": _usage(text)})
    await response.write(b"data: [DONE]\n\n")
    return response


async def _send(response: web.StreamResponse, event: dict[str, Any]) -> None:
    await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")


def _head(model: str, kind: str) -> dict[str, Any]:
    return {"id": "played", "object": kind, "created": 0, "model": model}


def _usage(text: str) -> dict[str, int]:
    # Nobody counts what a person reads.
    return {"prompt_tokens": 1, "completion_tokens": len(text) // 4, "total_tokens": 1 + len(text) // 4}


if __name__ == "__main__":
    main()
