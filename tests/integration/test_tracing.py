import asyncio
import hashlib
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from draftd.errors import ModelRateLimited, Spent
from draftd.reply.prompts import PicturePart
from draftd.telemetry import langfuse as implementation
from draftd.telemetry.export_errors import ExportErrorLog
from draftd.telemetry.langfuse import Content, load_tracing
from draftd.telemetry.tracing import Tracing
from fix_otlp import OtlpReceiver, otlp_receiver
from fix_tls import Certificate

PICTURE = b"\xff\xd8\xff" + b"picture" * 50
SHOWN = PicturePart(PICTURE)
SECRET = "sk-live-0123456789abcdef"
MESSAGES = [
    {"role": "system", "content": "Line one.\n\nLine three."},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": f"My key is {SECRET}; see https://example.com/bot123/secret.png"},
            SHOWN,
        ],
    },
]
REQUEST: dict[str, Any] = {"requester_id": "user-1", "agent": "comment_generator", "attempt": 1}
CALL: dict[str, Any] = {
    "name": "draft",
    "model": "openai/stand-in",
    "messages": MESSAGES,
    "prompt_version": "abc123",
    "params": {"temperature": 0.2},
}


@pytest.fixture(autouse=True)
def none_outlives_its_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Wait for clients whose server is gone to give up: what they have to say later would be heard by another test."""
    sleep = time.sleep
    with monkeypatch.context() as patch:
        # Between two tries to upload a picture.
        patch.setattr("backoff._sync.time", SimpleNamespace(sleep=lambda seconds: sleep(min(seconds, 0.05))))
        yield
        for thread in threading.enumerate():
            if thread.name == "langfuse-shutdown":
                thread.join(60)
                assert not thread.is_alive()


@pytest.fixture(autouse=True)
def fresh_export_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(implementation._export_errors, "_next_at", 0.0)


@pytest.fixture
def langfuse() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as receiver:
        yield receiver


def load(url: str, content: Content = "text", sample_rate: str | None = None) -> Tracing:
    # The SDK keeps one client per public key for the life of the process.
    return load_tracing(
        public_key=f"pk-{uuid4()}",
        secret_key="secret",
        host=url,
        content=content,
        release="1.2.3",
        sample_rate=sample_rate,
    )


def trace_one(traces: Tracing, request_id: UUID | None = None, **over: Any) -> str | None:
    with traces.request(request_id=request_id or uuid4(), **{**REQUEST, **over}) as span:
        with traces.generation(**CALL) as generation:
            generation.set(text="hello", spent=Spent(input_tokens=10, output_tokens=5, cost_usd=Decimal("0.25")))
        span.set_output({"options": [{"text": "hello"}]})
    return span.trace_id


def test_a_request_arrives_as_a_trace_with_its_generation(langfuse: OtlpReceiver) -> None:
    traces = load(langfuse.url)
    trace_id = trace_one(traces)
    assert traces.shutdown(time_s=60)
    request, generation = langfuse.named("comment_generator"), langfuse.named("draft")
    assert request.trace_id == generation.trace_id == trace_id
    assert generation.parent_id == request.span_id
    assert generation.attributes["user.id"] == request.attributes["user.id"] == "user-1"
    assert generation.attributes["langfuse.observation.type"] == "generation"
    assert generation.attributes["langfuse.observation.model.name"] == "openai/stand-in"
    assert generation.attributes["langfuse.version"] == "abc123"
    assert generation.attributes["langfuse.release"] == "1.2.3"
    assert generation.json("usage_details") == {"input": 10, "output": 5}
    assert generation.json("cost_details") == {"total": 0.25}
    assert generation.attributes["langfuse.observation.output"] == "hello"
    assert request.json("output") == {"options": [{"text": "hello"}]}


def test_all_attempts_of_a_request_share_a_trace(langfuse: OtlpReceiver) -> None:
    traces = load(langfuse.url)
    request_id = uuid4()
    first, second = trace_one(traces, request_id), trace_one(traces, request_id, attempt=2)
    other = trace_one(traces)
    assert traces.shutdown(time_s=60)
    assert first == second != other
    assert len(langfuse.spans) == 6


def test_a_clients_trace_goes_on(langfuse: OtlpReceiver) -> None:
    traces = load(langfuse.url)
    trace_id, span_id = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    assert trace_one(traces, traceparent=f"00-{trace_id}-{span_id}-01") == trace_id
    assert traces.shutdown(time_s=60)
    request, generation = langfuse.named("comment_generator"), langfuse.named("draft")
    assert (request.trace_id, request.parent_id) == (trace_id, span_id)
    assert (generation.trace_id, generation.parent_id) == (trace_id, request.span_id)


def test_text_holds_prompts_but_neither_pictures_nor_secrets_nor_paths(langfuse: OtlpReceiver) -> None:
    traces = load(langfuse.url)
    trace_one(traces)
    assert traces.shutdown(time_s=60)
    system, user = langfuse.named("draft").json("input")
    assert system["content"] == "Line one.\n\nLine three."
    text, picture = user["content"]
    assert text["text"].startswith("My key is [redacted]")
    sha256 = hashlib.sha256(PICTURE).hexdigest()
    assert picture == {"type": "image_url", "image_url": {"sha256": sha256, "bytes": len(PICTURE)}}
    assert SECRET.encode() not in langfuse.raw
    assert b"bot123" not in langfuse.raw
    assert SHOWN["image_url"]["url"][40:80].encode() not in langfuse.raw
    assert not langfuse.media


def test_a_picture_is_not_decoded_to_be_told(langfuse: OtlpReceiver) -> None:
    traces, shown = load(langfuse.url), PicturePart(PICTURE)
    shown["image_url"]["url"] = "what nobody looks at"
    with traces.generation(**CALL | {"messages": [{"role": "user", "content": [shown]}]}):
        pass
    assert traces.shutdown(time_s=60)
    ((part,),) = (message["content"] for message in langfuse.named("draft").json("input"))
    assert part["image_url"] == {"sha256": hashlib.sha256(PICTURE).hexdigest(), "bytes": len(PICTURE)}


def test_a_parameter_with_the_name_of_a_secret_is_told_without_its_value(langfuse: OtlpReceiver) -> None:
    traces = load(langfuse.url)
    params = {"temperature": 0.2, "vertex_credentials": "hunter2", "extra_body": {"credentials": {"pin": "hunter2"}}}
    with traces.request(request_id=uuid4(), **REQUEST), traces.generation(**CALL | {"params": params}):
        pass
    assert traces.shutdown(time_s=60)
    told = langfuse.named("draft").json("model.parameters")
    assert (told["temperature"], told["vertex_credentials"]) == ("0.2", "[redacted]")
    assert b"hunter2" not in langfuse.raw


def test_off_holds_figures_only(langfuse: OtlpReceiver) -> None:
    traces = load(langfuse.url, "off")
    trace_one(traces)
    with traces.request(request_id=uuid4(), **REQUEST) as span:
        span.set_error("model_refused", "the prompt said Line one.")
    assert traces.shutdown(time_s=60)
    assert langfuse.named("draft").json("usage_details") == {"input": 10, "output": 5}
    for said in (b"Line one", b"My key", b"hello", b"image_url"):
        assert said not in langfuse.raw


def test_full_sends_the_prepared_pictures_as_media(langfuse: OtlpReceiver) -> None:
    traces = load(langfuse.url, "full")
    trace_one(traces)
    assert traces.shutdown(time_s=60)
    (upload,) = langfuse.media
    assert (upload["contentType"], upload["contentLength"]) == ("image/jpeg", len(PICTURE))
    assert SECRET.encode() not in langfuse.raw


def test_full_falls_back_to_hashes_while_uploads_do_not_get_through(langfuse: OtlpReceiver) -> None:
    langfuse.mood = "hanging"
    traces = load(langfuse.url, "full")
    for _ in range(implementation.MAX_PENDING_PICTURES + 20):
        trace_one(traces)
    queue = traces._client._resources._media_upload_queue  # type: ignore[attr-defined] # of the private subclass
    assert queue.qsize() <= implementation.MAX_PENDING_PICTURES
    traces.shutdown(time_s=0.1)


def test_a_failed_call_is_marked_with_its_code_and_passes_unchanged(langfuse: OtlpReceiver) -> None:
    traces = load(langfuse.url)
    error = ModelRateLimited(f"slow down, {SECRET}")
    with traces.request(request_id=uuid4(), **REQUEST) as span:
        with pytest.raises(ModelRateLimited) as caught, traces.generation(**CALL):
            raise error
        span.set_error(error.code, error.message)
    assert caught.value is error
    assert traces.shutdown(time_s=60)
    for found in langfuse.spans:
        assert found.attributes["langfuse.observation.level"] == "ERROR"
        assert found.attributes["langfuse.observation.status_message"] == "model_rate_limited: slow down, [redacted]"
        assert found.events == 0
    assert SECRET.encode() not in langfuse.raw


async def test_requests_on_one_event_loop_do_not_mix(langfuse: OtlpReceiver) -> None:
    traces = load(langfuse.url)
    both_inside = asyncio.Barrier(8)

    async def one(number: int) -> tuple[str, str | None]:
        with traces.request(request_id=uuid4(), **{**REQUEST, "requester_id": f"user-{number}"}) as span:
            await both_inside.wait()
            with traces.generation(**{**CALL, "name": f"draft-{number}"}) as generation:
                await both_inside.wait()
                generation.set(text=str(number), spent=Spent())
        return f"draft-{number}", span.trace_id

    told = await asyncio.gather(*(one(number) for number in range(8)))
    assert await asyncio.to_thread(traces.shutdown, time_s=60)
    for name, trace_id in told:
        found = langfuse.named(name)
        assert found.trace_id == trace_id
        assert found.attributes["user.id"] == name.replace("draft", "user")


def test_attributes_that_langfuse_would_drop_are_made_to_fit(langfuse: OtlpReceiver) -> None:
    traces = load(langfuse.url)
    with capture_logs() as logs:
        trace_one(traces, requester_id="Zo\xeb" + "x" * 500)
        assert traces.shutdown(time_s=60)
    dropped = [line for line in logs if "ropagated" in line.get("detail", "")]
    user_id = langfuse.named("draft").attributes["user.id"]
    assert user_id.startswith("Zo\\xebxxx")
    assert len(user_id) == 200
    assert not dropped


def test_spans_of_other_libraries_stay_out(langfuse: OtlpReceiver) -> None:
    from opentelemetry import trace  # noqa: PLC0415 - only here

    traces = load(langfuse.url)
    with traces.request(request_id=uuid4(), **REQUEST), trace.get_tracer("litellm").start_as_current_span("foreign"):
        pass
    assert traces.shutdown(time_s=60)
    assert [span.name for span in langfuse.spans] == ["comment_generator"]


@pytest.mark.parametrize(
    "away", ["hanging", *(pytest.param(one, marks=pytest.mark.long) for one in ("refusing", "closed"))]
)
def test_a_langfuse_that_is_away_costs_a_request_nothing(away: Any, unused_tcp_port: int) -> None:
    with otlp_receiver("well" if away == "closed" else away) as receiver, capture_logs() as logs:
        traces = load(f"http://127.0.0.1:{unused_tcp_port}" if away == "closed" else receiver.url)
        trace_one(traces)
        used_s, started = time.thread_time(), time.monotonic()
        for _ in range(300):
            trace_one(traces)
        used_s, elapsed_s = time.thread_time() - used_s, time.monotonic() - started
        started = time.monotonic()
        traces.shutdown(time_s=0.5)
        # The SDK's own waits for a minute and more.
        assert time.monotonic() - started < 20
    assert used_s < 300 * 0.02
    assert elapsed_s < 20
    assert len(logs) <= 2


def test_shutdown_says_whether_everything_went_out() -> None:
    with otlp_receiver("hanging") as receiver:
        traces = load(receiver.url)
        trace_one(traces)
        assert not traces.shutdown(time_s=0.2)
    assert load("http://127.0.0.1:9").shutdown(time_s=5)


def test_an_sdk_that_raises_harms_no_request(langfuse: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("a defect of the SDK")

    traces = load(langfuse.url)
    monkeypatch.setattr(traces._client, "start_as_current_observation", broken)  # type: ignore[attr-defined] # as above
    monkeypatch.setattr(traces._sdk, "propagate_attributes", broken)  # type: ignore[attr-defined] # as above
    # Its own, since clients of other tests may complain at any time.
    monkeypatch.setattr(implementation, "_export_errors", ExportErrorLog())
    with capture_logs() as logs:
        assert trace_one(traces)
    assert len([line for line in logs if line["event"] == "tracing failed"]) == 1
    assert traces.shutdown(time_s=60)


def test_without_keys_nothing_is_imported_and_nothing_traced() -> None:
    code = (
        "import sys, uuid; from draftd.telemetry.langfuse import load_tracing\n"
        "traces = load_tracing(public_key=None, secret_key=None, host=None, content='text', release='1')\n"
        "with traces.request(request_id=uuid.uuid4(), requester_id='', agent='a', attempt=1) as span:\n"
        "    assert span.trace_id is None\n"
        "assert traces.shutdown(time_s=0)\n"
        "sys.exit(any(name.split('.')[0] in ('langfuse', 'opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_process_that_ends_without_shutdown_does_not_hang() -> None:
    code = (
        "import sys, uuid; from draftd.telemetry.langfuse import load_tracing\n"
        "traces = load_tracing(public_key='pk', secret_key='sk', host=sys.argv[1], content='text', release='1')\n"
        "with traces.request(request_id=uuid.uuid4(), requester_id='', agent='a', attempt=1): pass\n"
        "print('traced', flush=True)"
    )
    with otlp_receiver("hanging") as receiver:
        child = subprocess.Popen([sys.executable, "-c", code, receiver.url], stdout=subprocess.PIPE)
        with child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"traced\n"
            started = time.monotonic()
            assert child.wait(timeout=60) == 0
            assert time.monotonic() - started < 20


def examined(url: str, sample_rate: str | None = None) -> tuple[bool, str]:
    traces = load(url, sample_rate=sample_rate)
    try:
        return traces.examine()
    finally:
        traces.shutdown(time_s=5)


def test_an_examination_sends_nothing_by_the_way_of_the_traces(langfuse: OtlpReceiver) -> None:
    assert examined(langfuse.url) == (True, "the keys are accepted")
    assert (langfuse.posts, langfuse.spans, langfuse.media) == (1, [], [])


def test_an_examination_says_what_a_trace_would_meet(unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with otlp_receiver("refusing") as receiver:
        assert examined(receiver.url) == (False, "answered 401")
    ok, detail = examined(f"http://127.0.0.1:{unused_tcp_port}")
    assert (ok, detail[:18]) == (False, "cannot be reached:")
    with otlp_receiver() as receiver:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{unused_tcp_port}")
        assert examined(receiver.url)[0] is False
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert examined(receiver.url)[0] is True


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_an_examination_trusts_whom_the_exporter_trusts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = Certificate(tmp_path, "localhost")
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)
    with otlp_receiver(tls=certificate.context) as receiver:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.file))
        assert examined(receiver.url) == (
            False,
            "the certificate was refused: self-signed certificate; set REQUESTS_CA_BUNDLE to its certificate authorities",
        )
        assert receiver.posts == 0
        for variable in ("REQUESTS_CA_BUNDLE", "OTEL_EXPORTER_OTLP_CERTIFICATE"):
            with monkeypatch.context() as patch:
                patch.setenv(variable, str(certificate.file))
                assert examined(receiver.url) == (True, "the keys are accepted"), variable


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_a_refused_certificate_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(implementation, "EXPORT_S", 3)
    with otlp_receiver(tls=Certificate(tmp_path, "localhost").context) as receiver:
        traces = load(receiver.url)
        monkeypatch.setattr(implementation._export_errors, "_next_at", 0.0)
        told = implementation._export_errors.emit
        # A client of another test may still give up its uploads, and would be the one that is told.
        monkeypatch.setattr(
            implementation._export_errors, "emit", lambda one: "upload" in one.getMessage() or told(one)
        )
        with capture_logs() as logs:
            for _ in range(2):
                trace_one(traces)
                traces._provider.force_flush(10_000)  # type: ignore[attr-defined] # as above
        traces.shutdown(time_s=5)
    assert [line["detail"] for line in logs] == ["the certificate was refused: self-signed certificate"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_SDK_DISABLED", "true"),
        pytest.param("LANGFUSE_TRACING_ENABLED", "false", marks=pytest.mark.long),
        pytest.param("OTEL_TRACES_SAMPLER", "always_off", marks=pytest.mark.long),
        pytest.param("LANGFUSE_SAMPLE_RATE", "0", marks=pytest.mark.long),
    ],
)
def test_where_nothing_is_sent_nobody_is_asked(
    langfuse: OtlpReceiver, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    rate = value if variable == "LANGFUSE_SAMPLE_RATE" else None
    ok, detail = examined(langfuse.url, rate)
    assert ok
    assert detail.startswith("off: ")
    assert variable in detail
    traces = load(langfuse.url, sample_rate=rate)
    trace_one(traces)
    traces.shutdown(time_s=5)
    assert langfuse.posts == 0


def test_a_small_share_is_sent(langfuse: OtlpReceiver) -> None:
    assert examined(langfuse.url, "0.001") == (True, "the keys are accepted")


def test_tracing_that_cannot_be_set_up_is_no_reason_not_to_draft(langfuse: OtlpReceiver) -> None:
    traces = load(langfuse.url, sample_rate="often")
    assert trace_one(traces) is None
    assert traces.examine()[0] is False
