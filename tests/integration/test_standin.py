"""The stand-in over HTTP, asked by the clients that draftd's users have."""

import asyncio
import http.client
import importlib
import json
from collections.abc import AsyncIterator
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest

from draftd.demo.samples import EMAIL
from draftd.stand_in.server import StandIn
from draftd.stand_in.threaded import run_in_thread

if TYPE_CHECKING:
    import openai

ASK: dict[str, Any] = {"model": "any", "messages": [{"role": "user", "content": "Draft a reply."}]}


@pytest.fixture
async def stand_in() -> AsyncIterator[StandIn]:
    server = StandIn()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def library() -> ModuleType:
    """OpenAI's library; its import would be a fifth of the collection of all tests."""
    return importlib.import_module("openai")


@pytest.fixture
async def client(stand_in: StandIn, library: ModuleType) -> "AsyncIterator[openai.AsyncOpenAI]":
    async with library.AsyncOpenAI(base_url=stand_in.url, api_key="made-up", max_retries=0) as client:
        yield client


async def streamed(client: "openai.AsyncOpenAI") -> list[Any]:
    stream = await client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True})
    return [one async for one in stream]


def text_of(events: list[Any]) -> str:
    return "".join(event.choices[0].delta.content or "" for event in events if event.choices)


async def test_a_streamed_answer_is_the_whole_answer_and_ends_with_its_usage(
    stand_in: StandIn, client: "openai.AsyncOpenAI"
) -> None:
    whole = await client.chat.completions.create(**ASK)
    events = await streamed(client)
    assert text_of(events) == whole.choices[0].message.content
    assert events[-2].choices[0].finish_reason == "stop"
    assert events[-1].usage == whole.usage
    assert (whole.model, whole.system_fingerprint) == ("stand-in", "draftd-stand-in")
    assert [entry["stream"] for entry in stand_in.log] == [False, True]


async def test_a_connection_is_kept_alive_over_answers_of_every_kind(stand_in: StandIn) -> None:
    stand_in.script([{}, {"status": 500}, {}])
    address = urlsplit(stand_in.root_url)

    def ask_thrice_on_one_connection() -> list[int]:
        connection = http.client.HTTPConnection("127.0.0.1", address.port or 0, timeout=10)
        connection.connect()
        socket = connection.sock
        statuses = []
        for stream in (True, False, False):
            body = json.dumps({**ASK, "stream": stream})
            connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
            assert connection.sock is socket
        connection.close()
        return statuses

    assert await asyncio.to_thread(ask_thrice_on_one_connection) == [200, 500, 200]


@pytest.mark.parametrize(
    ("behaviour", "error", "code"),
    [
        ({"status": 429}, "RateLimitError", "rate_limit_exceeded"),
        ({"error": "insufficient_quota"}, "RateLimitError", "insufficient_quota"),
        ({"status": 401}, "AuthenticationError", "invalid_api_key"),
        ({"status": 404}, "NotFoundError", "model_not_found"),
        ({"status": 500}, "InternalServerError", None),
        ({"status": 529}, "InternalServerError", None),
        ({"error": "context_length_exceeded"}, "BadRequestError", "context_length_exceeded"),
        ({"error": "content_filter"}, "BadRequestError", "content_filter"),
    ],
)
async def test_an_error_is_what_the_client_library_takes_it_for(
    stand_in: StandIn,
    client: "openai.AsyncOpenAI",
    library: ModuleType,
    behaviour: dict[str, Any],
    error: str,
    code: str | None,
) -> None:
    stand_in.script([{**behaviour, "retry_after_s": 2}])
    with pytest.raises(getattr(library, error)) as caught:
        await client.chat.completions.create(**ASK)
    assert caught.value.code == code
    assert caught.value.response.headers["retry-after"] == "2"


async def test_a_model_without_json_schema_answers_to_json_object(
    stand_in: StandIn, client: "openai.AsyncOpenAI", library: ModuleType
) -> None:
    stand_in.script(default={"rejects_json_schema": True})
    schema: Any = {"type": "json_schema", "json_schema": {"name": "draft", "schema": {"properties": {}}}}
    with pytest.raises(library.BadRequestError, match="json_schema"):
        await client.chat.completions.create(**ASK, response_format=schema)
    await client.chat.completions.create(**ASK, response_format={"type": "json_object"})
    assert [entry["response_format"] for entry in stand_in.log] == ["json_schema", "json_object"]


async def test_a_client_that_gives_up_on_a_hanging_call_is_noticed(
    stand_in: StandIn, client: "openai.AsyncOpenAI"
) -> None:
    stand_in.script([{"hang": True}])
    call = asyncio.create_task(client.chat.completions.create(**ASK))
    await stand_in.wait_for_calls(1)
    call.cancel()
    log = await stand_in.wait_for_calls(1, outcome="client_gone")
    assert log[0]["behaviour"] == {"hang": True}


async def test_a_hanging_call_goes_on_when_it_is_released(stand_in: StandIn, client: "openai.AsyncOpenAI") -> None:
    stand_in.script([{"hang": True}])
    call = asyncio.create_task(client.chat.completions.create(**ASK))
    await stand_in.wait_for_calls(1)
    stand_in.release()
    assert (await call).choices[0].finish_reason == "stop"


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_can_break_off_in_the_middle(
    stand_in: StandIn, client: "openai.AsyncOpenAI", library: ModuleType, *, stream: bool
) -> None:
    stand_in.script([{"disconnect": True}, {}])
    with pytest.raises((library.APIConnectionError, httpx.RemoteProtocolError)):
        await (streamed(client) if stream else client.chat.completions.create(**ASK))
    await client.chat.completions.create(**ASK)
    assert [entry["outcome"] for entry in stand_in.log] == ["disconnected", "answered"]


async def test_a_stop_waits_for_no_call_that_hangs(stand_in: StandIn) -> None:
    stand_in.script([{"hang": True}])
    async with httpx.AsyncClient(timeout=100) as client:
        asking = asyncio.create_task(client.post(f"{stand_in.url}/chat/completions", json=ASK))
        await stand_in.wait_for_calls(1)
        async with asyncio.timeout(20):
            await stand_in.stop()
        with pytest.raises(httpx.HTTPError):
            await asking


async def test_a_dripped_answer_takes_a_pause_for_each_byte(stand_in: StandIn) -> None:
    """So it outlives any timeout between two reads that is longer than one pause."""
    drip_s = 0.001
    stand_in.script([{"drip": True, "drip_s": drip_s}])
    async with httpx.AsyncClient(timeout=100) as client:
        response = await client.post(f"{stand_in.url}/chat/completions", json=ASK)
    assert response.json()["choices"]
    assert stand_in.log[0]["seconds"] >= drip_s * (len(response.content) - 1)


async def test_a_token_rate_sets_the_length_of_a_stream(stand_in: StandIn, client: "openai.AsyncOpenAI") -> None:
    stand_in.script([{"tokens_per_s": 400, "says": "word" * 80}])
    assert text_of(await streamed(client)) == "word" * 80
    assert 0.2 <= stand_in.log[0]["seconds"] < 20


async def test_script_log_samples_and_reset_are_served(stand_in: StandIn) -> None:
    async with httpx.AsyncClient(base_url=stand_in.root_url) as client:
        script = {"once": [{"status": 500}], "default": {"says": "later"}}
        assert (await client.post("/script", json=script)).status_code == 200
        statuses = [(await client.post("/v1/chat/completions", json=ASK)).status_code for _ in range(2)]
        log = (await client.get("/log")).json()
        picture = await client.get("/samples/email.png")
        await client.post("/reset")
        emptied = (await client.get("/log")).json()
        wrong = await client.post("/script", json=[{"hangs": True}])
        outside = await client.get("/samples/../samples.py")
        models = (await client.get("/v1/models")).json()
    assert statuses == [500, 200]
    assert [entry["number"] for entry in log] == [1, 2]
    assert (picture.headers["content-type"], picture.content) == ("image/png", EMAIL.path.read_bytes())
    assert emptied == []
    assert (wrong.status_code, "hangs" in wrong.text) == (400, True)
    assert outside.status_code == 404
    assert [model["id"] for model in models["data"]] == ["stand-in"]


def test_a_caller_without_an_event_loop_runs_it_in_a_thread() -> None:
    with run_in_thread() as stand_in:
        stand_in.script([{"says": "from a thread"}])
        answer = httpx.post(f"{stand_in.url}/chat/completions", json=ASK).json()
        assert answer["choices"][0]["message"]["content"] == "from a thread"
        assert len(stand_in.wait_for_calls(1, outcome="answered")) == 1
    with pytest.raises(httpx.ConnectError):
        httpx.get(stand_in.root_url)
