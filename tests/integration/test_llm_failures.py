"""What a failing provider's call becomes, on every wire, asked through litellm as the daemon asks."""

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from draftd.errors import (
    ContextTooLong,
    ImageUnreadable,
    ModelError,
    ModelMisconfigured,
    ModelRateLimited,
    ModelTimeout,
    ModelUnavailable,
    OutputInvalid,
)
from draftd.providers.llm import Completion, Llm
from draftd.providers.response import TOKENS_PER_PICTURE
from draftd.providers.target import Target
from draftd.stand_in.behaviour import Behaviour
from draftd.stand_in.wires.dialects import DIALECTS, OPENAI, Dialect
from provider_matrix import speaking, target

# litellm reads a pydantic attribute in a deprecated way at every chunk, and hands its own types over in a wrong form.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),
]

SCHEMA = {
    "type": "object",
    "properties": {"short": {"type": "string"}, "medium": {"type": "string"}},
    "required": ["short", "medium"],
    "additionalProperties": False,
}
PICTURE = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "You draft replies. " * 600},
    {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": {"url": PICTURE}},
            {"type": "text", "text": "What would you answer to this?"},
        ],
    },
]
SUSPENDED = "Account a is suspended, possibly due to reaching the monthly spending limit"
SPEAKING = [dialect for dialect in DIALECTS if dialect.title != "OpenAI Responses"]
BY_TITLE = {dialect.title: dialect for dialect in DIALECTS}
STREAMED = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
STREAMED_FIRST = pytest.mark.parametrize(
    "streamed", [pytest.param(False, marks=pytest.mark.long), True], ids=["whole", "streamed"]
)
"""Both forms, of which a daemon's own is the second."""
EVERY_WIRE = pytest.mark.parametrize("dialect", SPEAKING, ids=lambda dialect: dialect.title)


async def ask(llm: Llm, to: Target, *, streamed: bool = True, messages: list[dict[str, Any]] = MESSAGES) -> Completion:
    async def ignore(_text: str) -> None:
        pass

    return await llm.complete(to, messages, schema=SCHEMA, time_s=20, on_text=ignore if streamed else None)


async def failure(llm: Llm, to: Target, *, streamed: bool = True) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await ask(llm, to, streamed=streamed)
    return caught.value


@STREAMED_FIRST
@EVERY_WIRE
@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (400, "Could not process image", ImageUnreadable),
        pytest.param(
            413, "Request exceeds the maximum allowed number of bytes.", ContextTooLong, marks=pytest.mark.long
        ),
        pytest.param(412, SUSPENDED, ModelMisconfigured, marks=pytest.mark.long),
        (500, "Something broke", ModelUnavailable),
    ],
)
async def test_a_message_has_the_true_status_the_address_and_the_providers_own_sentence(
    llm: Llm, dialect: Dialect, status: int, said: str, expected: type[ModelError], *, streamed: bool
) -> None:
    async with speaking(dialect, Behaviour(status=status, message=said)) as server:
        error = await failure(llm, target(dialect, server), streamed=streamed)
        address = server.root_url
        assert type(error) is expected
        # What follows in brackets are the codes of the provider.
        assert error.message.partition(" [")[0] == f"mine: {status} from {address}: {said}"
        assert len(server.received) == 1


@STREAMED_FIRST
@EVERY_WIRE
async def test_a_login_page_is_told_as_one_and_spends_no_attempt(llm: Llm, dialect: Dialect, *, streamed: bool) -> None:
    async with speaking(dialect, Behaviour(html=True)) as server:
        error = await failure(llm, target(dialect, server), streamed=streamed)
        assert type(error) is ModelUnavailable
        assert error.message.startswith(f"mine: text/html instead of an answer from {server.root_url}")
        assert len(server.received) == 1


@EVERY_WIRE
async def test_an_error_in_the_middle_of_a_stream_is_an_outage(llm: Llm, dialect: Dialect) -> None:
    async with speaking(dialect, Behaviour(breaks=True)) as server:
        error = await failure(llm, target(dialect, server))
        assert type(error) is ModelUnavailable
        assert error.spent.output_tokens
        assert len(server.received) == 1


@EVERY_WIRE
async def test_a_stream_that_ends_in_the_middle_is_an_outage_and_is_counted(llm: Llm, dialect: Dialect) -> None:
    async with speaking(dialect, Behaviour(ends_early=True)) as server:
        error = await failure(llm, target(dialect, server))
        assert type(error) is ModelUnavailable
        assert "broke off" in error.message
        assert error.spent.input_tokens
        assert error.spent.output_tokens


async def test_what_nobody_counted_of_a_broken_stream_is_estimated_with_its_cost(llm: Llm) -> None:
    async with speaking(OPENAI, Behaviour(ends_early=True)) as server:
        error = await failure(llm, target(OPENAI, server))
    asked = sum(len(str(part)) for part in ("You draft replies. " * 600, "What would you answer to this?")) // 4
    assert error.spent.input_tokens == asked + TOKENS_PER_PICTURE
    assert error.spent.cost_usd


async def test_a_whole_answer_counts_although_its_stream_never_says_that_it_ends(llm: Llm) -> None:
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    body = "".join(
        f"data: {json.dumps({**chunk, 'choices': [{'index': 0, 'delta': {'content': text}, 'finish_reason': None}]})}\n\n"
        for text in ('{"short": "a", ', '"medium": "b"}')
    )
    async with raw_server(body) as url:
        done = await ask(llm, Target(name="mine", model="openai/m", api_base=url, api_key="x"))
    assert (done.text, done.finish_reason) == ('{"short": "a", "medium": "b"}', "")


async def test_openrouters_documented_error_in_a_stream_is_an_outage(llm: Llm) -> None:
    chunk = {"id": "cmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "provider": "openai"}
    begun = {**chunk, "choices": [{"index": 0, "delta": {"content": '{"short": "a'}, "finish_reason": None}]}
    failed = {
        **chunk,
        "error": {"code": "server_error", "message": "Provider disconnected unexpectedly"},
        "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
    }
    async with raw_server("".join(f"data: {json.dumps(one)}\n\n" for one in (begun, failed))) as url:
        error = await failure(llm, Target(name="mine", model="openrouter/a/b", api_base=url, api_key="x"))
    assert type(error) is ModelUnavailable
    assert error.message.endswith("Provider disconnected unexpectedly")


@asynccontextmanager
async def raw_server(body: str) -> AsyncIterator[str]:
    """Stream a text of events, whatever is asked."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + body.encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


async def test_an_organization_that_may_not_stream_is_asked_without(llm: Llm) -> None:
    body = {
        "error": {
            "message": "Your organization must be verified to stream this model. Please go to: https://platform.openai.com",
            "type": "invalid_request_error",
            "param": "stream",
            "code": "unsupported_value",
        }
    }
    async with speaking(OPENAI, Behaviour(status=400, body=json.dumps(body))) as server:
        to = target(OPENAI, server, params={"temperature": 0.3, "max_tokens": 900})
        for _ in range(2):
            await ask(llm, to)
        assert [call["stream"] for call in server.log] == [True, False, False]
        assert [call["response_format"] for call in server.log] == ["json_schema"] * 3
        assert [call["max_tokens"] for call in server.log] == [900] * 3


@pytest.mark.parametrize(
    "said",
    [
        (
            "litellm.UnsupportedParamsError: gpt-5 models (including gpt-5-codex) don't support temperature=0.3. Only "
            "temperature=1 is supported. For gpt-5.1, temperature is supported when reasoning_effort='none'. To drop unsupported "
            "params set litellm.drop_params = True. Received Model Group=gpt-5-mini\nAvailable Model Group Fallbacks=None"
        ),
        "litellm.UnsupportedParamsError: openai does not support parameters: ['temperature'], for model=o1.",
        "Unsupported value: 'temperature' does not support 0.3 with this model. Only the default (1) value is supported.",
    ],
)
@pytest.mark.parametrize("title", ["LiteLLM proxy", "OpenAI", "OpenRouter", "vLLM", "Azure OpenAI"])
async def test_a_parameter_that_is_refused_is_dropped_alone(llm: Llm, title: str, said: str) -> None:
    dialect = BY_TITLE[title]
    async with speaking(dialect, Behaviour(status=400, message=said)) as server:
        to = target(dialect, server, params={"temperature": 0.3, "max_tokens": 900, "reasoning_effort": "low"})
        await ask(llm, to)
        bodies = [await request.json() for request in server.received]
    assert [body.get("temperature") for body in bodies] == [0.3, None]
    assert [body.get("max_tokens") or body.get("max_completion_tokens") for body in bodies] == [900, 900]


async def test_as_many_output_tokens_are_allowed_as_the_model_can_write(llm: Llm) -> None:
    said = (
        "max_tokens is too large: 8192. This model supports at most 4096 completion tokens, whereas you provided 8192."
    )
    async with speaking(OPENAI, Behaviour(status=400, message=said)) as server:
        for limit in (8_192, 8_192, 1_000):
            await ask(llm, target(OPENAI, server, params={"max_tokens": limit}))
        assert [call["max_tokens"] for call in server.log] == [8_192, 4_096, 4_096, 1_000]


async def test_one_bad_generation_does_not_lower_the_rung(llm: Llm) -> None:
    body = {
        "error": {
            "message": "Failed to generate JSON. Please adjust your prompt. See 'failed_generation' for more details.",
            "type": "invalid_request_error",
            "code": "json_validate_failed",
            "failed_generation": "response_format json_schema is not supported",
        }
    }
    async with speaking(OPENAI, Behaviour(status=400, body=json.dumps(body))) as server:
        assert type(await failure(llm, target(OPENAI, server))) is OutputInvalid
        assert (await ask(llm, target(OPENAI, server))).mode == "json_schema"
        assert len(server.log) == 2


@pytest.mark.parametrize(
    "said",
    [
        "output_config: Extra inputs are not permitted",
        "The compiled grammar is too large, which would cause performance issues.",
        "This model doesn't support tool use.",
    ],
)
@pytest.mark.parametrize("title", ["Anthropic", "OpenAI", "Bedrock"])
async def test_a_refused_format_is_left_for_the_next_rung(llm: Llm, title: str, said: str) -> None:
    dialect = BY_TITLE[title]
    async with speaking(dialect, Behaviour(status=400, message=said)) as server:
        assert (await ask(llm, target(dialect, server))).mode == "json_object"


async def test_a_window_that_cannot_hold_the_prompt_is_the_operators_fault(llm: Llm) -> None:
    small = Behaviour(status=400, message="request (4390 tokens) exceeds the available context size (2048 tokens)")
    large = Behaviour(status=400, message="request (94390 tokens) exceeds the available context size (65536 tokens)")
    in_all = (
        "This model's maximum context length is 6000 tokens. However, you requested 9000 tokens (4904 in the messages, "
        "4096 in the completion)."
    )
    async with speaking(OPENAI, small, large, Behaviour(status=400, message=in_all)) as server:
        to = target(OPENAI, server, params={"max_tokens": 4_096})
        assert type(await failure(llm, to)) is ModelMisconfigured
        assert type(await failure(llm, to)) is ContextTooLong
        assert type(await failure(llm, to)) is ModelMisconfigured


async def test_the_wait_stands_in_geminis_body(llm: Llm) -> None:
    dialect = BY_TITLE["Gemini"]
    body = {
        "error": {
            "code": 429,
            "message": "You exceeded your current quota, please check your plan and billing details.",
            "status": "RESOURCE_EXHAUSTED",
            "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}],
        }
    }
    async with speaking(dialect, *[Behaviour(status=429, body=json.dumps(body))] * 2) as server:
        for streamed in (True, False):
            error = await failure(llm, target(dialect, server), streamed=streamed)
            assert isinstance(error, ModelRateLimited)
            assert (error.retry_after_s, error.is_quota) == (34.5, False)


async def test_nobody_at_the_address_is_told_in_the_systems_words(llm: Llm, unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    error = await failure(llm, Target(name="mine", model="openai/m", api_base=f"{url}/v1", api_key="x"))
    assert error.message == f"mine: no answer from {url}: Connection refused"


async def test_a_secret_in_a_providers_sentence_is_not_told(llm: Llm) -> None:
    said = (
        "Incorrect API key provided: sk-proj-abcdefgh12345678. See https://user:pass@host.example/path?token=abcdefgh"
    )
    async with speaking(OPENAI, Behaviour(status=401, message=said)) as server:
        error = await failure(llm, target(OPENAI, server))
    assert "abcdefgh" not in error.message
    assert "pass" not in error.message


def made(cls: type[Exception]) -> Exception:
    """Make an exception, whatever its class wants to know."""
    known: dict[str, Any] = {
        "message": "No module called so, status 500, response_format, {'error': {'message': [1, {}]}}",
        "model": "m",
        "llm_provider": "openai",
        "response": httpx.Response(500, request=httpx.Request("POST", "https://provider.example")),
        "request": httpx.Request("POST", "https://provider.example"),
        "status_code": 500,
        "body": None,
        "current_cost": 1.0,
        "max_budget": 0.5,
        "custom_llm_provider": "x",
        "num_retries": None,
        "max_retries": None,
    }
    parameters = inspect.signature(cls.__init__).parameters.values()
    wanted = [one for one in parameters if one.name != "self" and one.kind not in {one.VAR_POSITIONAL, one.VAR_KEYWORD}]
    given = {one.name: known.get(one.name, "x") for one in wanted if one.default is one.empty or one.name in known}
    try:
        return cls(**given)
    except (TypeError, AttributeError):
        # One that wants more than words.
        error = cls.__new__(cls)
        vars(error).update(known)
        return error


class Odd(Exception):
    """Lies about itself."""

    status_code = "four hundred"
    message = None
    body = 7
    response = "none"
    litellm_response_headers = 3


FOREIGN: list[Callable[[], Exception]] = [
    lambda: ValueError("invalid literal for int() with base 10: 'server_error'"),
    lambda: KeyError("choices"),
    lambda: TypeError("'NoneType' object is not subscriptable"),
    lambda: AttributeError("content"),
    lambda: ModuleNotFoundError("No module named 'google'"),
    lambda: json.JSONDecodeError("Expecting value", "<html>", 0),
    lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"),
    RecursionError,
    TimeoutError,
    lambda: ConnectionResetError(104, "Connection reset by peer"),
    lambda: httpx.ReadError(""),
    lambda: ExceptionGroup("many", [ValueError("one")]),
    StopAsyncIteration,
    Odd,
]


def every_exception(llm: Llm) -> list[Exception]:
    found = vars(llm._litellm.exceptions).values()
    classes = [one for one in found if isinstance(one, type) and issubclass(one, Exception)]
    sdk = [one for one in list(vars(llm._openai).values()) if type(one) is type and issubclass(one, Exception)]
    return [made(one) for one in dict.fromkeys([*classes, *sdk])] + [make() for make in FOREIGN]


class Raising:
    """A litellm that raises: at once, or after a first piece of text."""

    def __init__(self, litellm: Any, error: Exception, *, amid: bool) -> None:
        self._litellm = litellm
        self._error = error
        self._amid = amid
        self.completion_stream = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._litellm, name)

    async def acompletion(self, **_request: Any) -> Any:
        if not self._amid:
            raise self._error
        return Stream(self._error)


class Stream:
    """Says one word."""

    completion_stream = None

    def __init__(self, error: Exception) -> None:
        self._error = error
        self._said = False

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> Any:
        if self._said:
            raise self._error
        self._said = True
        choice = SimpleNamespace(delta=SimpleNamespace(content="word "), finish_reason=None)
        return SimpleNamespace(choices=[choice], usage=None)

    async def aclose(self) -> None:
        raise RuntimeError("cannot be closed")


@pytest.mark.parametrize("amid", [False, True], ids=["in the call", "amid the stream"])
async def test_nothing_but_an_error_of_draftd_leaves_whatever_litellm_raises(llm: Llm, *, amid: bool) -> None:
    raised = every_exception(llm)
    assert len(raised) > 40
    for error in raised:
        poor = Llm(litellm=Raising(llm._litellm, error, amid=amid))
        to = Target(name="mine", model="openai/m")
        (told,) = await asyncio.gather(ask(poor, to), return_exceptions=True)
        assert isinstance(told, ModelError), f"{type(error)} came out as {told!r}"
        assert "mine: " in told.message
        assert "\n" not in told.message


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ModuleNotFoundError("No module named 'google'"), ModelMisconfigured),
        (ValueError("project is missing"), ModelMisconfigured),
        (TimeoutError(), ModelUnavailable),
        (ConnectionResetError(104, "Connection reset by peer"), ModelUnavailable),
    ],
)
async def test_what_fails_before_anything_is_sent_is_the_operators_fault(
    llm: Llm, error: Exception, expected: type[ModelError]
) -> None:
    poor = Llm(litellm=Raising(llm._litellm, error, amid=False))
    told = await failure(poor, Target(name="mine", model="openai/m"))
    assert type(told) in {expected, ModelTimeout} if isinstance(error, TimeoutError) else type(told) is expected
