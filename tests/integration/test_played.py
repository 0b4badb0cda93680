"""A model that a person plays: calls become folders, and files become answers."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from evals.played import application

from draftd.providers.llm import Llm
from draftd.providers.target import Target
from fix_daemon import wait_until
from fix_images import make_png

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"short": {"type": "string"}}, "required": ["short"]}


async def played(calls: Path, number: str, answer: str) -> None:
    """Answer a call as a person does: under another name first."""
    await asyncio.to_thread(wait_until, (calls / number / "schema.json").exists, 60)
    (calls / number / "answer.tmp").write_text(answer)
    (calls / number / "answer.tmp").rename(calls / number / "answer.txt")


async def ignore(_text: str) -> None:
    """Read a stream to its end."""


@pytest.mark.parametrize("stream", [True, False])
async def test_a_call_becomes_a_folder_and_a_file_becomes_its_answer(tmp_path: Path, *, stream: bool) -> None:
    picture = make_png()
    url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Write replies."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": url}}],
        },
    ]
    llm = await asyncio.to_thread(Llm.load)
    async with TestServer(application(tmp_path), host="127.0.0.1") as server:
        target = Target(name="m", model="openai/played", api_key="played", api_base=str(server.make_url("/v1")))
        playing = asyncio.create_task(played(tmp_path, "001", '{"short": "Sí, claro"}'))
        completion = await llm.complete(target, messages, schema=SCHEMA, time_s=60, on_text=ignore if stream else None)
        await playing
    await llm.aclose()
    assert json.loads(completion.text) == {"short": "Sí, claro"}
    call = tmp_path / "001"
    assert (call / "system.txt").read_text() == "Write replies."
    assert (call / "user.txt").read_text() == "Look:\n\n<picture 1>"
    assert (call / "image-1.png").read_bytes() == picture
    assert json.loads((call / "schema.json").read_text())["json_schema"]["schema"]["required"] == ["short"]


async def test_calls_of_an_earlier_run_stay(tmp_path: Path) -> None:
    (tmp_path / "001").mkdir()
    async with TestClient(TestServer(application(tmp_path), host="127.0.0.1")) as client:
        playing = asyncio.create_task(played(tmp_path, "002", "{}"))
        async with client.post("/v1/chat/completions", json={"model": "m", "messages": []}) as response:
            answered = await response.json()
        await playing
    assert answered["choices"][0]["message"]["content"] == "{}"
