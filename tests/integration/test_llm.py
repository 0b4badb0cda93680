import asyncio
import contextlib
import importlib
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from draftd.errors import (
    ConfigurationError,
    ContextTooLong,
    LeaseLost,
    ModelError,
    ModelMisconfigured,
    ModelRateLimited,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
    OutputInvalid,
    Spent,
)
from draftd.providers.errors import QUOTA_EXHAUSTED
from draftd.providers.llm import Completion, Llm
from draftd.providers.target import Target
from draftd.stand_in.behaviour import Behaviour
from draftd.stand_in.server import StandIn

# litellm reads a pydantic attribute in a deprecated way at every chunk.
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")

SCHEMA = {
    "type": "object",
    "properties": {"short": {"type": "string"}, "medium": {"type": "string"}},
    "required": ["short", "medium"],
    "additionalProperties": False,
}
MESSAGES = [{"role": "user", "content": [{"type": "text", "text": "What would you answer to this?"}]}]
MOST_TRIES = 5
STREAMED = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@pytest.fixture
async def standin() -> AsyncIterator[StandIn]:
    server = StandIn()
    await server.start()
    yield server
    await server.stop()


def target(standin: StandIn, **over: Any) -> Target:
    given = {"model": "openai/stand-in", "api_base": standin.url, "api_key": "x", **over}
    return Target(**{"name": given["model"], **given})


async def ask(
    llm: Llm, to: Target, *, streamed: bool = True, time_s: float = 20.0, traceparent: str | None = None
) -> Completion:
    async def ignore(_text: str) -> None:
        pass

    on_text = ignore if streamed else None
    return await llm.complete(to, MESSAGES, schema=SCHEMA, time_s=time_s, on_text=on_text, traceparent=traceparent)


@STREAMED
async def test_an_answer_comes_with_its_tokens_and_its_format(llm: Llm, standin: StandIn, *, streamed: bool) -> None:
    done = await ask(llm, target(standin), streamed=streamed)
    assert done.text.startswith('{"short": "')
    assert done.text.endswith("}")
    assert (done.finish_reason, done.mode, done.model) == ("stop", "json_schema", "openai/stand-in")
    assert done.spent.input_tokens
    assert done.spent.output_tokens
    assert done.spent.cost_usd is None
    assert done.elapsed_s > 0
    (call,) = standin.log
    assert (call["stream"], call["response_format"], call["has_schema"]) == (streamed, "json_schema", True)


async def test_a_streamed_text_only_grows_and_ends_as_the_answer(llm: Llm, standin: StandIn) -> None:
    seen: list[str] = []

    async def on_text(text: str) -> None:
        seen.append(text)

    done = await llm.complete(target(standin), MESSAGES, schema=SCHEMA, time_s=20, on_text=on_text)
    assert len(seen) > 1
    assert all(later.startswith(earlier) for earlier, later in pairwise(seen))
    assert seen[-1] == done.text


FAILURES: list[tuple[Behaviour, type[ModelError]]] = [
    (Behaviour(status=500), ModelUnavailable),
    (Behaviour(status=503), ModelUnavailable),
    (Behaviour(status=529), ModelUnavailable),
    (Behaviour(disconnect=True), ModelUnavailable),
    (Behaviour(html=True), ModelUnavailable),
    (Behaviour(status=429), ModelRateLimited),
    (Behaviour(error="insufficient_quota"), ModelRateLimited),
    (Behaviour(status=401), ModelMisconfigured),
    (Behaviour(status=403), ModelMisconfigured),
    (Behaviour(status=404), ModelMisconfigured),
    (Behaviour(status=400), OutputInvalid),
    (Behaviour(status=422), OutputInvalid),
    (Behaviour(empty=True), OutputInvalid),
    (Behaviour(says=""), OutputInvalid),
    (Behaviour(refusal=True), ModelRefused),
    (Behaviour(filtered=True), ModelRefused),
    (Behaviour(error="content_filter"), ModelRefused),
    (Behaviour(error="context_length_exceeded"), ContextTooLong),
]


@STREAMED
@pytest.mark.parametrize(("behaviour", "expected"), FAILURES, ids=[str(case[0].said()) for case in FAILURES])
async def test_a_failure_is_told_by_its_name_after_one_request(
    llm: Llm, standin: StandIn, behaviour: Behaviour, expected: type[ModelError], *, streamed: bool
) -> None:
    standin.script(default=behaviour)
    with pytest.raises(ModelError) as caught:
        await ask(llm, target(standin), streamed=streamed)
    assert type(caught.value) is expected
    assert len(standin.log) == 1, repr(caught.value)


async def test_a_rate_limit_says_how_long_to_wait_and_whether_waiting_helps(llm: Llm, standin: StandIn) -> None:
    standin.script([Behaviour(status=429, retry_after_s=7), Behaviour(error="insufficient_quota")])
    with pytest.raises(ModelRateLimited) as limited:
        await ask(llm, target(standin))
    with pytest.raises(ModelRateLimited) as broke:
        await ask(llm, target(standin))
    assert limited.value.retry_after_s == 7.0
    assert not limited.value.message.startswith(QUOTA_EXHAUSTED)
    assert broke.value.message.startswith(QUOTA_EXHAUSTED)


async def test_a_picture_that_the_model_cannot_see_is_a_misconfiguration(llm: Llm, standin: StandIn) -> None:
    standin.script(Behaviour(rejects_images=True))
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    with pytest.raises(ModelMisconfigured):
        await llm.complete(target(standin), [{"role": "user", "content": [picture]}], schema=SCHEMA, time_s=20)


async def test_a_closed_port_is_an_unavailable_model(llm: Llm, unused_tcp_port: int) -> None:
    to = Target(
        name="openai/stand-in", model="openai/stand-in", api_base=f"http://127.0.0.1:{unused_tcp_port}/v1", api_key="x"
    )
    with pytest.raises(ModelUnavailable):
        await ask(llm, to)


@asynccontextmanager
async def serving_tls(folder: Path) -> AsyncIterator[str]:
    """Serve nothing behind a certificate that signs itself; yield the address."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), *subject]
    await asyncio.to_thread(subprocess.run, [*command, "-out", str(certificate)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(close, "127.0.0.1", 0, ssl=context) as running:
        yield f"https://localhost:{running.sockets[0].getsockname()[1]}"


@STREAMED
@pytest.mark.parametrize(
    "provider", ["openai", *(pytest.param(one, marks=pytest.mark.long) for one in ("anthropic", "ollama_chat"))]
)
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
async def test_a_refused_certificate_is_a_misconfiguration_and_named_as_such(
    llm: Llm, tmp_path: Path, provider: str, *, streamed: bool
) -> None:
    async with serving_tls(tmp_path) as url:
        to = Target(name="mine", model=f"{provider}/m", api_base=url, api_key="x")
        with pytest.raises(
            ModelMisconfigured, match=r"^mine: the server's certificate is refused: self.signed certificate$"
        ):
            await ask(llm, to, streamed=streamed)


@pytest.mark.parametrize(
    "model", ["openai/some-model", "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash", "no/such"]
)
async def test_a_missing_key_or_an_unknown_provider_is_a_misconfiguration(
    llm: Llm, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.endswith("_API_KEY")]:
        monkeypatch.delenv(name)
    with pytest.raises(ModelMisconfigured, match=rf"^{model}: nothing was sent: "):
        await ask(llm, Target(name=model, model=model))


@STREAMED
@pytest.mark.parametrize(
    "behaviour", [Behaviour(hang=True), Behaviour(drip=True), Behaviour(stall=True)], ids=["hang", "drip", "stall"]
)
async def test_a_server_that_hangs_drips_or_stalls_is_left_in_time(
    llm: Llm, standin: StandIn, behaviour: Behaviour, *, streamed: bool
) -> None:
    await ask(llm, target(standin))
    standin.script(behaviour)
    for _ in range(MOST_TRIES):
        started = time.monotonic()
        with pytest.raises(ModelTimeout):
            await ask(llm, target(standin), streamed=streamed, time_s=0.5)
        assert time.monotonic() - started < 20
        # Where the machine stood still, the time may have been over before anything was asked.
        if len(standin.log) > 1:
            break
    await asyncio.wait_for(standin.wait_for_calls(1, outcome="client_gone"), 20)


@pytest.mark.parametrize("behaviour", [Behaviour(hang=True), Behaviour(stall=True)], ids=["before", "amid the stream"])
async def test_a_cancelled_caller_closes_the_connection(llm: Llm, standin: StandIn, behaviour: Behaviour) -> None:
    standin.script(behaviour)
    call = asyncio.create_task(ask(llm, target(standin)))
    await standin.wait_for_calls(1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.wait_for(standin.wait_for_calls(1, outcome="client_gone"), 20)


async def test_what_on_text_raises_comes_out_as_it_is_and_ends_the_call(llm: Llm, standin: StandIn) -> None:
    standin.script(Behaviour(stall=True))

    async def lose(_text: str) -> None:
        raise LeaseLost

    with pytest.raises(LeaseLost):
        await llm.complete(target(standin), MESSAGES, schema=SCHEMA, time_s=20, on_text=lose)
    await asyncio.wait_for(standin.wait_for_calls(1, outcome="client_gone"), 20)


async def test_a_timeout_of_on_text_is_not_taken_for_the_models(llm: Llm, standin: StandIn) -> None:
    async def slow(_text: str) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await llm.complete(target(standin), MESSAGES, schema=SCHEMA, time_s=20, on_text=slow)


async def test_the_call_steps_down_the_ladder_and_the_next_starts_where_it_ended(llm: Llm, standin: StandIn) -> None:
    standin.script(default=Behaviour(rejects_json_schema=True, rejects_json_object=True))
    first = await ask(llm, target(standin))
    assert first.mode == "prompt"
    assert [call["response_format"] for call in standin.log] == ["json_schema", "json_object", None]
    standin.log.clear()
    assert (await ask(llm, target(standin))).mode == "prompt"
    assert [call["response_format"] for call in standin.log][-1] is None
    assert len(standin.log) in {1, 4}


async def test_the_ladder_is_remembered_for_that_model_alone(llm: Llm, standin: StandIn) -> None:
    standin.script(default=Behaviour(rejects_json_schema=True, when_model="poor"))
    assert (await ask(llm, target(standin, model="openai/poor"))).mode == "json_object"
    assert (await ask(llm, target(standin))).mode == "json_schema"


async def test_another_refusal_does_not_move_the_ladder(llm: Llm, standin: StandIn) -> None:
    standin.script(Behaviour(status=400))
    with pytest.raises(OutputInvalid):
        await ask(llm, target(standin))
    assert (await ask(llm, target(standin))).mode == "json_schema"


async def test_parameters_that_only_the_provider_refuses_are_left_out_for_that_model(
    llm: Llm, standin: StandIn
) -> None:
    standin.script(default=Behaviour(rejects_max_tokens=True))
    params = {"temperature": 0.2, "max_tokens": 99}
    for _ in range(2):
        assert (await ask(llm, target(standin, model="openai/deployment", params=params))).mode == "json_schema"
    assert [call["max_tokens"] for call in standin.log] == [99, None, None]
    standin.script()
    await ask(llm, target(standin, model="openai/other", params=params))
    assert standin.log[-1]["max_tokens"] == 99


async def test_a_parameter_that_the_model_does_not_know_is_left_out(llm: Llm, standin: StandIn) -> None:
    done = await ask(llm, target(standin, model="openai/o1", params={"temperature": 0.2, "max_tokens": 99}))
    assert done.mode == "json_schema"
    (call,) = standin.log
    assert call["max_tokens"] == 99


@STREAMED
async def test_the_operators_prices_go_before_the_registry(llm: Llm, standin: StandIn, *, streamed: bool) -> None:
    to = target(
        standin, model="openai/gpt-4o-mini", input_usd_per_mtok=Decimal(1_000_000), output_usd_per_mtok=Decimal(0)
    )
    done = await ask(llm, to, streamed=streamed)
    assert done.spent.cost_usd == done.spent.input_tokens


@STREAMED
async def test_a_registered_model_has_a_cost_and_an_unknown_one_has_none(
    llm: Llm, standin: StandIn, *, streamed: bool
) -> None:
    known = await ask(llm, target(standin, model="openai/gpt-4o-mini"), streamed=streamed)
    unknown = await ask(llm, target(standin), streamed=streamed)
    assert known.spent.cost_usd is not None
    assert Decimal(0) < known.spent.cost_usd < Decimal("0.01")
    assert unknown.spent.cost_usd is None


def test_the_registry_answers_without_asking_a_server() -> None:
    llm = Llm.load()
    assert llm.has_known_price(Target(name="m", model="openai/gpt-4o-mini"))
    assert llm.has_known_price(Target(name="m", model="anthropic/claude-sonnet-4-5"))
    assert not llm.has_known_price(Target(name="m", model="ollama_chat/llava"))
    assert not llm.has_known_price(Target(name="m", model="openai/self-hosted", input_usd_per_mtok=Decimal(1)))
    assert llm.has_known_price(
        Target(name="m", model="openai/self-hosted", input_usd_per_mtok=Decimal(1), output_usd_per_mtok=Decimal(2))
    )


@contextlib.asynccontextmanager
async def plain_server(
    body: str, content_type: str = "application/json", heads: list[str] | None = None
) -> AsyncIterator[tuple[str, Callable[[], int]]]:
    """Serve the same body for whatever is asked, streams included; note the heads of what was asked."""
    calls = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
        calls += 1
        if heads is not None:
            heads.append(head)
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n".encode())
        writer.write(f"Connection: close\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", lambda: calls


@STREAMED
@pytest.mark.parametrize("model", ["openai/m", "hosted_vllm/m", "anthropic/claude-sonnet-4-5", "ollama_chat/m"])
async def test_the_clients_trace_is_sent_on_to_the_models_server(llm: Llm, model: str, *, streamed: bool) -> None:
    heads: list[str] = []
    traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    async with plain_server("", "text/plain", heads) as (url, _):
        to = Target(name="m", model=model, api_base=url, api_key="x")
        for sent in (traceparent, None):
            with pytest.raises(ModelError):
                await ask(llm, to, streamed=streamed, traceparent=sent)
    with_trace, without = heads
    assert f"\r\ntraceparent: {traceparent}\r\n" in with_trace
    assert "traceparent" not in without


async def test_a_server_that_cannot_stream_is_asked_without_from_the_second_call_on(llm: Llm) -> None:
    message = '{"role": "assistant", "content": "{}"}'
    body = f'{{"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [{{"index": 0, "message": {message}, "finish_reason": "stop"}}]}}'  # noqa: E501 - one body on one line
    async with plain_server(body) as (url, calls):
        to = Target(name="m", model="openai/m", api_base=url, api_key="x")
        with pytest.raises(OutputInvalid):
            await ask(llm, to)
        done = await ask(llm, to)
        assert calls() == 2
    assert (done.text, done.spent) == ("{}", Spent())


@STREAMED
@pytest.mark.parametrize("provider", ["openai", "openrouter", "hosted_vllm"])
@pytest.mark.parametrize("body", ["upstream connect error", ""])
async def test_a_proxys_plain_words_are_no_answer(llm: Llm, provider: str, body: str, *, streamed: bool) -> None:
    async with plain_server(body, "text/plain; charset=utf-8") as (url, _):
        with pytest.raises(ModelUnavailable):
            await ask(llm, Target(name="m", model=f"{provider}/m", api_base=url, api_key="x"), streamed=streamed)


@pytest.mark.parametrize(
    ("over", "named"),
    [
        ({"api_key": "sk-secret12345\n"}, "the key"),
        ({"api_key": "“sk-secret12345”"}, "the key"),
        ({"api_base": "gateway:8000/v1"}, "address"),
        ({"api_base": "http://127.0.0.1:99999/v1"}, "address"),
        ({"api_base": "http://127.0.0.1:port/v1"}, "address"),
        ({"api_base": "http://[::1/v1"}, "address"),
        ({"api_base": "ftp://127.0.0.1/v1"}, "address"),
    ],
)
async def test_what_cannot_be_sent_is_the_operators_mistake(
    llm: Llm, standin: StandIn, over: dict[str, str], named: str
) -> None:
    with pytest.raises(ModelMisconfigured, match=named) as caught:
        await ask(llm, target(standin, **over))
    assert "secret" not in caught.value.message
    assert standin.log == []


@STREAMED
async def test_an_answer_without_an_end_is_given_up(
    llm: Llm, standin: StandIn, monkeypatch: pytest.MonkeyPatch, *, streamed: bool
) -> None:
    monkeypatch.setattr("draftd.providers.response.MAX_CHARS", 1_000)
    seen = ""

    async def watch(text: str) -> None:
        nonlocal seen
        seen = text

    standin.script(Behaviour(says=" ".join(map(str, range(1_000)))))
    with pytest.raises(OutputInvalid, match="characters"):
        await llm.complete(target(standin), MESSAGES, schema=SCHEMA, time_s=20.0, on_text=watch if streamed else None)
    assert (900 < len(seen) <= 1_000) is streamed


async def test_a_key_shows_neither_in_the_target_nor_in_an_error(llm: Llm, standin: StandIn) -> None:
    to = target(standin, api_key="sk-verysecret0123456789")
    standin.script(Behaviour(status=401))
    with pytest.raises(ModelMisconfigured) as caught:
        await ask(llm, to)
    assert "verysecret" not in repr(to) + repr(caught.value)


def test_the_module_alone_does_not_import_litellm() -> None:
    code = "import sys, draftd.providers.llm; sys.exit('litellm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_a_temporary_directory_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> str:
        raise FileNotFoundError

    monkeypatch.setattr("tempfile.gettempdir", nowhere)
    with pytest.raises(ConfigurationError, match="TMPDIR"):
        Llm.load()


def test_what_an_earlier_event_loop_left_behind_does_not_hinder_the_close() -> None:
    loaded = Llm.load()
    worker = importlib.import_module("litellm.litellm_core_utils.logging_worker").GLOBAL_LOGGING_WORKER

    async def leave() -> None:
        worker._running_tasks.add(asyncio.create_task(asyncio.sleep(0)))
        await asyncio.sleep(0.01)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave())
    loop.close()
    asyncio.run(loaded.aclose())
    assert not loaded._litellm.in_memory_llm_clients_cache.cache_dict, "closed clients would be handed out again"
    worker._running_tasks.clear()


@STREAMED
@pytest.mark.parametrize("provider", ["openai", "anthropic", "ollama_chat", "mistral", "gemini", "hosted_vllm"])
async def test_a_redirect_is_not_followed_by_any_providers_client(llm: Llm, provider: str, *, streamed: bool) -> None:
    elsewhere: list[bytes] = []

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        elsewhere.append(await reader.read(1_000))
        writer.close()

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:%d/x\r\n" % port_of(thief)
            + b"Content-Length: 0\r\nConnection: close\r\n\r\n"
        )
        await writer.drain()
        writer.close()

    thief = await asyncio.start_server(receive, "127.0.0.1", 0)
    async with thief, await asyncio.start_server(redirect, "127.0.0.1", 0) as server:
        base = f"http://127.0.0.1:{port_of(server)}"
        target = Target(name="mine", model=f"{provider}/m", api_base=base, api_key="made-up")
        with pytest.raises(ModelMisconfigured, match="redirect"):
            await ask(llm, target, streamed=streamed)
    assert elsewhere == []


def port_of(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port
