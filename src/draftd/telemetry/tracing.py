"""Langfuse tracing: what happened to a request, for later inspection.

Owns what is traced, when, and how little it may cost; the only importer of langfuse. Invariants (docs/adr/0004): tracing never
delays, fails or prolongs a request, whatever Langfuse or its SDK does; without keys nothing of the SDK is imported; no secret, no
path of an image URL and, unless the operator asked for it, no picture leaves the process.
"""

import atexit
import hashlib
import importlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, Protocol, runtime_checkable
from uuid import UUID

import structlog
from pydantic import SecretStr

from draftd.errors import Spent
from draftd.sanitize import redact, without_secrets
from draftd.telemetry.complaints import Complaints, examined

log = structlog.get_logger(__name__)

Content = Literal["off", "text", "full"]

ATTRIBUTE_CHARS = 200
"""Langfuse drops propagated values that are longer, or not ASCII (Langfuse, "Propagating attributes")."""
TEXT_CHARS = 100_000
EXPORT_S = 5
"""How long one batch is tried, on the exporter's own thread, before it is dropped."""
EXIT_S = 2.0
"""How long a process that ends without ``shutdown`` waits; the SDK's own hook waits for a minute and more."""
MAX_PENDING_PICTURES = 64
"""The SDK's queue of uploads holds 100,000 pictures; with Langfuse away that is all the memory there is."""


@runtime_checkable
class Summarized(Protocol):
    """A part of a message that traces show in a short form, because it contains a picture."""

    summary: dict[str, Any]
    """The short form."""


class RequestSpan:
    """One attempt at a request. This class itself is the no-op version."""

    trace_id: str | None = None

    def set_output(self, output: Mapping[str, Any]) -> None:
        """Record the draft."""

    def set_error(self, code: str, message: str) -> None:
        """Record why there is no draft; ``code`` is an error code."""


class GenerationSpan:
    """One model call. This class itself is the no-op version."""

    def set(self, *, text: str, spent: Spent) -> None:
        """Record the answer, its tokens and its cost."""


class Tracing:
    """No-op tracing, for an installation without Langfuse keys."""

    _finding: tuple[bool, str] = True, "off: no keys"

    @classmethod
    def load(
        cls,
        *,
        public_key: str | None,
        secret_key: SecretStr | str | None,
        host: str | None,
        content: Content,
        release: str,
        sample_rate: str | None = None,
    ) -> "Tracing":
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
            return cls()
        _quieten()
        try:
            return _Langfuse(
                public_key=public_key,
                secret_key=secret,
                host=host,
                content=content,
                release=release,
                sample_rate=sample_rate,
            )
        except Exception as error:  # noqa: BLE001 - a daemon that cannot trace still drafts
            log.warning("tracing off", error=type(error).__name__, detail=redact(str(error), 200))
            off = cls()
            off._finding = False, f"cannot be set up: {type(error).__name__}: {redact(str(error), 200)}"
            return off

    def examine(self) -> tuple[bool, str]:
        """Return whether traces would arrive, or why not. Call it in a thread.

        Uses the exporter itself, so certificates, proxies and addresses are the ones that traces meet.
        """
        return self._finding

    @contextmanager
    def request(
        self, *, request_id: UUID, requester_id: str, agent: str, attempt: int, traceparent: str | None = None
    ) -> Iterator[RequestSpan]:
        """Trace one attempt, including whatever is traced inside it in the same task.

        Args:
            request_id: whose attempt.
            requester_id: likewise.
            agent: likewise.
            attempt: its number.
            traceparent: the client's trace, which this one continues; None for a trace of its own.
        """
        del request_id, requester_id, agent, attempt, traceparent
        yield RequestSpan()

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
        """Trace one model call; an exception marks it as failed."""
        del name, model, messages, prompt_version, params
        yield GenerationSpan()

    def shutdown(self, *, time_s: float) -> bool:
        """Send what is left, for at most ``time_s`` seconds; return whether all of it went out."""
        del time_s
        return True


class _Guarded:
    """An observation of the SDK, whose errors stay here."""

    def __init__(self, *, observation: Any, content: Content) -> None:
        self._observation = observation
        self._content = content

    def _update(self, **fields: Any) -> None:
        if self._observation is not None:
            _quietly(lambda: self._observation.update(**fields))

    def _fail(self, code: str, message: str) -> None:
        # A provider's message can quote the prompt.
        status = code if self._content == "off" else f"{code}: {redact(message)}"
        self._update(level="ERROR", status_message=status, metadata={"code": code})

    def _text(self, value: Any) -> Any:
        return None if self._content == "off" else _clean(value)


class _RequestSpan(_Guarded, RequestSpan):
    def __init__(self, *, observation: Any, content: Content, trace_id: str) -> None:
        super().__init__(observation=observation, content=content)
        self.trace_id = trace_id

    def set_output(self, output: Mapping[str, Any]) -> None:
        self._update(output=self._text(dict(output)))

    def set_error(self, code: str, message: str) -> None:
        self._fail(code, message)


class _GenerationSpan(_Guarded, GenerationSpan):
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


class _Langfuse(Tracing):
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
        self._sdk: Any = importlib.import_module("langfuse")
        otel: Any = importlib.import_module("opentelemetry.sdk.trace")
        resources: Any = importlib.import_module("opentelemetry.sdk.resources")
        sampling: Any = importlib.import_module("opentelemetry.sdk.trace.sampling")
        self._content = content
        self._host = host
        # A separate provider: no other library's spans come in, ours go nowhere else, and none delays the exit.
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
        )
        self._ended = False
        _quieten()
        # Hooks run in reverse order: this one runs before the SDK's, which the SDK removes when it is shut down.
        atexit.register(self._end_at_exit)

    @contextmanager
    def request(
        self, *, request_id: UUID, requester_id: str, agent: str, attempt: int, traceparent: str | None = None
    ) -> Iterator[RequestSpan]:
        trace_context = _trace_context(request_id, traceparent)
        metadata = {"request_id": str(request_id), "agent": _attribute(agent), "attempt": str(attempt)}
        with (
            _entered(
                lambda: self._client.start_as_current_observation(
                    trace_context=trace_context, name=_attribute(agent), as_type="span", metadata=metadata
                )
            ) as observation,
            _entered(
                lambda: self._sdk.propagate_attributes(
                    user_id=_attribute(requester_id) or None, trace_name=_attribute(agent), metadata=metadata
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
                name=_attribute(name),
                as_type="generation",
                model=model,
                input=self._input(messages),
                version=_attribute(prompt_version),
                model_parameters={key: redact(str(value)) for key, value in without_secrets(params).items()},
            )
        ) as observation:
            span = _GenerationSpan(observation=observation, content=self._content)
            try:
                yield span
            except BaseException as error:
                span.fail(error)
                raise

    def examine(self) -> tuple[bool, str]:
        return examined(self._provider, self._processors, self._host)

    def shutdown(self, *, time_s: float) -> bool:
        """Send what is left, for at most ``time_s`` seconds; return whether all of it went out."""
        if self._ended:
            return True
        self._ended = True
        atexit.unregister(self._end_at_exit)
        # flush() and shutdown() have no time limit; a daemon thread that is left behind ends with the process.
        thread = threading.Thread(target=_quietly, args=(self._finish,), name="langfuse-shutdown", daemon=True)
        thread.start()
        thread.join(time_s)
        if thread.is_alive():
            log.warning("traces not flushed", time_s=time_s)
        return not thread.is_alive()

    def _finish(self) -> None:
        self._client.shutdown()
        # The SDK leaves a provider that it was given running.
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


def _trace_context(request_id: UUID, traceparent: str | None) -> dict[str, str]:
    """Return the trace of a request: the client's, else one that its attempts share."""
    if traceparent is None:
        return {"trace_id": hashlib.sha256(str(request_id).encode()).digest()[:16].hex()}
    _version, trace_id, parent_span_id, _flags = traceparent.split("-")
    return {"trace_id": trace_id, "parent_span_id": parent_span_id}


@contextmanager
def _entered(make: Callable[[], AbstractContextManager[Any]]) -> Iterator[Any]:
    """Enter a context manager of the SDK: its errors stay here, and it never sees an exception from inside.

    OpenTelemetry would record that exception with its message and traceback, unredacted.
    """
    manager = _quietly(make)
    # In a tuple, since None is also what some of them give on entering.
    entered = None if manager is None else _quietly(lambda: (manager.__enter__(),))
    try:
        yield None if entered is None else entered[0]
    finally:
        if entered is not None:
            _quietly(lambda: manager.__exit__(None, None, None))


def _quietly(act: Callable[[], Any]) -> Any:
    try:
        return act()
    except Exception as error:  # noqa: BLE001 - whatever the SDK raises, the request continues
        _complaints.tell("tracing failed", type(error).__name__, str(error))
        return None


def _attribute(text: str) -> str:
    """Return a text as Langfuse takes it for an attribute: ASCII, of bounded length."""
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
            # By lines, since redact makes one line of what it is given.
            return "\n".join(redact(line, TEXT_CHARS) for line in value[:TEXT_CHARS].split("\n"))
        case bool() | int() | float() | None:
            return value
        case _:
            return redact(str(value))


_complaints = Complaints()


def _quieten() -> None:
    for name in ("langfuse", "opentelemetry"):
        logger = logging.getLogger(name)
        logger.handlers = [_complaints]
        logger.propagate = False
    # The SDK gives httpx, which it shares with others, a console of its own; urllib3 warns of every retry.
    logging.getLogger("httpx").handlers = []
    for name in ("urllib3", "backoff"):
        logging.getLogger(name).setLevel(logging.ERROR)
