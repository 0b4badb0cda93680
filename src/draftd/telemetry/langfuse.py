"""Langfuse: what is sent to it, when, and how little that may cost.

With ``trace_deletion``, the only importer of the SDK. Invariants (docs/adr/0004): whatever Langfuse or its SDK does, tracing
never delays, fails or prolongs a request; without keys nothing of the SDK is imported; no secret, no path of an image URL and,
unless the operator asked for it, no picture leaves the process; no span of an attempt does before its outcome is stored
(``HeldTrace``).
"""

import atexit
import hashlib
import importlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal
from uuid import UUID

import structlog
from pydantic import SecretStr

from draftd.errors import Spent
from draftd.sanitize import redact, without_secrets
from draftd.telemetry.export_errors import LANGFUSE_CLOUD, ExportErrorLog, check_export, why_off
from draftd.telemetry.scores import Score, ScoreSender
from draftd.telemetry.tracing import GenerationSpan, HeldTrace, RequestSpan, Summarized, Tracing

log = structlog.get_logger(__name__)

Content = Literal["off", "text", "full"]

ATTRIBUTE_CHARS = 200
"""Langfuse drops propagated values that are longer, or not ASCII (Langfuse, "Propagating attributes")."""
TEXT_CHARS = 100_000
EXPORT_S = 5
"""How long the exporter's own thread tries to send a batch before it drops it."""
EXIT_S = 2.0
"""How long a process that ends without ``shutdown`` waits; the SDK's own hook waits for a minute and more."""
MAX_PENDING_PICTURES = 64
"""The SDK queues up to 100,000 pictures for upload; with Langfuse away they would use up all memory."""

_export_errors = ExportErrorLog()


def load_tracing(
    *,
    public_key: str | None,
    secret_key: SecretStr | str | None,
    host: str | None,
    content: Content,
    release: str,
    sample_rate: str | None = None,
) -> Tracing:
    """Return tracing to Langfuse if its keys are set. Call it in a thread: the import takes a second.

    Args:
        public_key: of the Langfuse project.
        secret_key: likewise.
        host: base URL; None means Langfuse's cloud.
        content: ``off`` sends figures, ``text`` also prompts and drafts, ``full`` also the prepared pictures.
        release: draftd's version, as Langfuse shows it.
        sample_rate: the share of requests that is traced, from 0 to 1; None leaves it to OpenTelemetry's variables.
    """
    secret = secret_key.get_secret_value() if isinstance(secret_key, SecretStr) else secret_key
    if not public_key or not secret:
        return Tracing()
    _take_over_logging()
    try:
        return _LangfuseTracing(
            public_key=public_key,
            secret_key=secret,
            host=host,
            content=content,
            release=release,
            sample_rate=sample_rate,
        )
    except Exception as error:  # noqa: BLE001 - a daemon that cannot trace still drafts
        log.warning("tracing off", error=type(error).__name__, detail=redact(str(error), 200))
        reason = f"cannot be set up: {type(error).__name__}: {redact(str(error), 200)}"
        return Tracing(export_check=(False, reason))


class _GuardedSpan:
    """An observation of the SDK; errors of the SDK stop here."""

    def __init__(self, *, observation: Any, content: Content) -> None:
        self._observation = observation
        self._content = content

    def _update(self, **fields: Any) -> None:
        if self._observation is not None:
            _guarded(lambda: self._observation.update(**fields))

    def _fail(self, code: str, message: str) -> None:
        # A provider's message can quote the prompt.
        status = code if self._content == "off" else f"{code}: {redact(message)}"
        self._update(level="ERROR", status_message=status, metadata={"code": code})

    def _text(self, value: Any) -> Any:
        return None if self._content == "off" else _clean(value)


class _RequestSpan(_GuardedSpan, RequestSpan):
    def __init__(self, *, observation: Any, content: Content, trace_id: str) -> None:
        super().__init__(observation=observation, content=content)
        self.trace_id = trace_id

    def set_output(self, output: Mapping[str, Any]) -> None:
        self._update(output=self._text(dict(output)))

    def set_error(self, code: str, message: str) -> None:
        self._fail(code, message)


class _GenerationSpan(_GuardedSpan, GenerationSpan):
    def set(self, *, text: str, spent: Spent) -> None:
        usage = {"input": spent.input_tokens, "output": spent.output_tokens}
        self._update(
            output=self._text(text),
            usage_details={kind: count for kind, count in usage.items() if count is not None} or None,
            cost_details=None if spent.cost_usd is None else {"total": float(spent.cost_usd)},
        )

    def fail(self, error: BaseException) -> None:
        """Mark the call as failed, by the contract's code where there is one."""
        self._fail(getattr(error, "code", "") or type(error).__name__, str(error))


class _LangfuseTracing(Tracing):
    def __init__(
        self,
        *,
        public_key: str,
        secret_key: str,
        host: str | None,
        content: Content,
        release: str,
        sample_rate: str | None,
    ) -> None:
        super().__init__()
        self._sdk: Any = importlib.import_module("langfuse")
        self._is_ours: Callable[[Any], bool] = importlib.import_module("langfuse.span_filter").is_default_export_span
        otel: Any = importlib.import_module("opentelemetry.sdk.trace")
        resources: Any = importlib.import_module("opentelemetry.sdk.resources")
        sampling: Any = importlib.import_module("opentelemetry.sdk.trace.sampling")
        self._content = content
        self._host = host
        # A provider of our own: no other library's spans come in, ours go nowhere else, and the exit is not delayed.
        self._provider = otel.TracerProvider(
            resource=resources.Resource({"service.name": "draftd", "service.version": release}),
            shutdown_on_exit=False,
            # The SDK sets this up only for a provider of its own.
            sampler=None if sample_rate is None else sampling.TraceIdRatioBased(float(sample_rate)),
        )
        self._processors: list[Any] = []
        add_processor = self._provider.add_span_processor

        def add(processor: Any) -> None:
            self._processors.append(processor)
            add_processor(processor)

        self._provider.add_span_processor = add
        self._client = self._sdk.Langfuse(
            public_key=public_key,
            secret_key=secret_key,
            base_url=host,
            timeout=EXPORT_S,
            release=release,
            tracer_provider=self._provider,
            should_export_span=self._may_leave,
        )
        self._scores = ScoreSender(
            host=host or LANGFUSE_CLOUD,
            public_key=public_key,
            secret_key=secret_key,
            environment=getattr(self._client, "_environment", None),
        )
        self.takes_scores = why_off(self._provider, self._processors) is None
        self._ended = False
        _take_over_logging()
        # Exit hooks run in reverse order: this one runs before the SDK's, which shutting the SDK down removes.
        atexit.register(self._end_at_exit)

    @contextmanager
    def request(
        self, *, request_id: UUID, requester_id: str, agent: str, attempt: int, traceparent: str | None = None
    ) -> Iterator[RequestSpan]:
        trace_context = _trace_context(request_id, traceparent)
        metadata = {"request_id": str(request_id), "agent": attribute(agent), "attempt": str(attempt)}
        with (
            _entered(
                lambda: self._client.start_as_current_observation(
                    trace_context=trace_context, name=attribute(agent), as_type="span", metadata=metadata
                )
            ) as observation,
            _entered(
                lambda: self._sdk.propagate_attributes(
                    user_id=attribute(requester_id) or None, trace_name=attribute(agent), metadata=metadata
                )
            ),
        ):
            yield _RequestSpan(observation=observation, content=self._content, trace_id=trace_context["trace_id"])

    @contextmanager
    def generation(
        self,
        *,
        name: str,
        model: str,
        messages: list[dict[str, Any]],
        prompt_version: str,
        params: Mapping[str, Any],
    ) -> Iterator[GenerationSpan]:
        with _entered(
            lambda: self._client.start_as_current_observation(
                name=attribute(name),
                as_type="generation",
                model=model,
                input=self._input(messages),
                version=attribute(prompt_version),
                model_parameters={key: redact(str(value)) for key, value in without_secrets(params).items()},
            )
        ) as observation:
            span = _GenerationSpan(observation=observation, content=self._content)
            try:
                yield span
            except BaseException as error:
                span.fail(error)
                raise

    def _may_leave(self, span: Any) -> bool:
        """Return whether a span may be sent now; hold it back otherwise."""
        if not self._is_ours(span):
            return False
        trace = HeldTrace.current()
        # The SDK asks at a span's start as well.
        if trace is None or span.end_time is None:
            return True
        trace.hold(lambda: _guarded(lambda: [processor.on_end(span) for processor in self._processors]))
        return False

    def examine(self) -> tuple[bool, str]:
        return check_export(self._provider, self._processors, self._host)

    async def send_scores(self, scores: Sequence[Score]) -> str | None:
        # Of a trace that is not sampled Langfuse knows nothing.
        sampled = [score for score in scores if self._is_sampled(score.trace_id)]
        return await self._scores.send(sampled) if sampled else None

    def _is_sampled(self, trace_id: str) -> bool:
        sampler = self._provider.sampler
        decision = _guarded(lambda: sampler.should_sample(None, int(trace_id, 16), "draftd").decision)
        return decision is not None and bool(decision.is_sampled())

    def shutdown(self, *, time_s: float) -> bool:
        """Send what is left, for at most ``time_s`` seconds; return whether all of it went out."""
        if self._ended:
            return True
        self._ended = True
        atexit.unregister(self._end_at_exit)
        # The SDK's flush() and shutdown() have no time limit. A daemon thread left behind ends with the process.
        thread = threading.Thread(target=_guarded, args=(self._finish,), name="langfuse-shutdown", daemon=True)
        thread.start()
        thread.join(time_s)
        if thread.is_alive():
            log.warning("traces not flushed", time_s=time_s)
        return not thread.is_alive()

    def _finish(self) -> None:
        self._client.shutdown()
        # The SDK does not shut down a provider that it was given.
        self._provider.shutdown()

    def _end_at_exit(self) -> None:
        self.shutdown(time_s=EXIT_S)

    def _input(self, messages: list[dict[str, Any]]) -> Any:
        if self._content == "off":
            return None
        return _clean(messages, pictures=self._content == "full" and self._has_room())

    def _has_room(self) -> bool:
        queue = getattr(getattr(self._client, "_resources", None), "_media_upload_queue", None)
        return queue is not None and queue.qsize() < MAX_PENDING_PICTURES


def trace_id_of(request_id: UUID, traceparent: str | None) -> str:
    """Return the trace of a request: the client's, or one shared by all its attempts.

    ``draft_feedback_begin()`` in the database computes the same for a request that is not finished.
    """
    if traceparent is None:
        return hashlib.sha256(str(request_id).encode()).digest()[:16].hex()
    return traceparent.split("-")[1]


def _trace_context(request_id: UUID, traceparent: str | None) -> dict[str, str]:
    context = {"trace_id": trace_id_of(request_id, traceparent)}
    return context if traceparent is None else context | {"parent_span_id": traceparent.split("-")[2]}


@contextmanager
def _entered(make: Callable[[], AbstractContextManager[Any]]) -> Iterator[Any]:
    """Enter a context manager of the SDK: its errors stop here, and exceptions from inside the block never reach it.

    OpenTelemetry would record such an exception with its message and traceback, unredacted.
    """
    manager = _guarded(make)
    # In a tuple: entering some of them returns None.
    entered = None if manager is None else _guarded(lambda: (manager.__enter__(),))
    try:
        yield None if entered is None else entered[0]
    finally:
        if entered is not None:
            _guarded(lambda: manager.__exit__(None, None, None))


def _guarded(act: Callable[[], Any]) -> Any:
    try:
        return act()
    except Exception as error:  # noqa: BLE001 - whatever the SDK raises, the request continues
        _export_errors.report("tracing failed", type(error).__name__, str(error))
        return None


def attribute(text: str) -> str:
    """Return a text as Langfuse accepts it for an attribute: ASCII, of bounded length."""
    return redact(text, ATTRIBUTE_CHARS * 2).encode("ascii", "backslashreplace").decode()[:ATTRIBUTE_CHARS]


def _clean(value: Any, *, pictures: bool = False) -> Any:
    """Return a JSON-like value with its texts redacted and its pictures reduced to hash and size, or kept."""
    match value:
        case Summarized():
            return value if pictures else value.summary
        case Mapping():
            return {str(key): _clean(item, pictures=pictures) for key, item in value.items()}
        case list() | tuple():
            return [_clean(item, pictures=pictures) for item in value]
        case str():
            # Line by line: redact joins lines.
            return "\n".join(redact(line, TEXT_CHARS) for line in value[:TEXT_CHARS].split("\n"))
        case bool() | int() | float() | None:
            return value
        case _:
            return redact(str(value))


def _take_over_logging() -> None:
    for name in ("langfuse", "opentelemetry"):
        logger = logging.getLogger(name)
        logger.handlers = [_export_errors]
        logger.propagate = False
    # The SDK makes httpx, which others use too, log to the console; urllib3 warns of every retry.
    logging.getLogger("httpx").handlers = []
    for name in ("urllib3", "backoff"):
        logging.getLogger(name).setLevel(logging.ERROR)
