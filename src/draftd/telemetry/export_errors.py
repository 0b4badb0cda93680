"""The errors that the Langfuse SDK logs when traces do not arrive.

Owns how often they reach draftd's log, what the doctor reports, and the wording of both. ``langfuse`` owns what is traced.
"""

import importlib
import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import structlog

from draftd.sanitize import redact

log = structlog.get_logger(__name__)

LANGFUSE_CLOUD = "https://cloud.langfuse.com"
LOG_INTERVAL_S = 300.0

_CERTIFICATE = re.compile(r"certificate verify failed: (?P<why>.*?)(?: \(_ssl|'\)|$)")
_ANSWERED = re.compile(r"batch code: (?P<status>[0-9]{3})")


def check_export(provider: Any, processors: Sequence[Any], host: str | None) -> tuple[bool, str]:
    """Send an empty batch the way traces are sent; return whether it arrived, and why or why not.

    Args:
        provider: of OpenTelemetry's SDK.
        processors: of Langfuse's SDK, as it has added them to the provider.
        host: base URL of Langfuse; None means its cloud.
    """
    if (why := why_off(provider, processors)) is not None:
        return True, f"off: {why}"
    requests: Any = importlib.import_module("requests")
    try:
        requests.Request("POST", host or LANGFUSE_CLOUD).prepare()
    except ValueError:  # its message quotes the address
        return False, "is invalid; write https://host or http://host:port"
    exporter = processors[0].span_exporter
    # The SDK's own wrapper does not send an empty batch.
    exporter = getattr(exporter, "_exporter", exporter)
    with _captured_messages() as messages:
        outcome = exporter.export([])
    if outcome.name == "SUCCESS":
        return True, "the keys are accepted"
    return False, _reason(messages[0] if messages else "")


def why_off(provider: Any, processors: Sequence[Any]) -> str | None:
    """Return why nothing is sent at all; None if something is."""
    api: Any = importlib.import_module("opentelemetry.trace")
    if isinstance(provider.get_tracer("draftd"), api.NoOpTracer):
        return "OTEL_SDK_DISABLED"
    if not processors:
        return "LANGFUSE_TRACING_ENABLED"
    # The trace id that is sampled if any is.
    if not provider.sampler.should_sample(None, 0, "draftd").decision.is_sampled():
        return "the sampler drops every trace (LANGFUSE_SAMPLE_RATE, OTEL_TRACES_SAMPLER)"
    return None


def _readable(message: str) -> str:
    """Return the exporter's error; for a refused certificate only the reason, which is buried in its retries."""
    refused = _CERTIFICATE.search(message)
    return f"the certificate was refused: {refused['why']}" if refused else message


def _reason(message: str) -> str:
    """Return why a batch did not arrive, from the exporter's first message."""
    if answered := _ANSWERED.search(message):
        return f"answered {answered['status']}"
    if (refused := _readable(message)) != message:
        return f"{redact(refused, 200)}; set REQUESTS_CA_BUNDLE to its certificate authorities"
    return f"cannot be reached: {redact(message, 300)}"


@contextmanager
def _captured_messages() -> Iterator[list[str]]:
    """Collect the SDK's messages instead of logging them."""
    messages: list[str] = []

    class Capture(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger = logging.getLogger("opentelemetry")
    before, logger.handlers = logger.handlers, [Capture(logging.WARNING)]
    try:
        yield messages
    finally:
        logger.handlers = before


class ExportErrorLog(logging.Handler):
    """The handler of the SDK's loggers: logs at most one line in five minutes, with the number of those suppressed."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._next_at = 0.0
        self._suppressed = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record of the SDK's loggers."""
        self.report("langfuse error", record.name, _readable(record.getMessage()))

    def report(self, event: str, source: str, detail: str) -> None:
        """Log an error, unless one was logged in the last ``LOG_INTERVAL_S`` seconds."""
        now = time.monotonic()
        if now < self._next_at:
            self._suppressed += 1
            return
        suppressed, self._suppressed = self._suppressed, 0
        self._next_at = now + LOG_INTERVAL_S
        log.warning(event, source=source, detail=redact(detail, 200), suppressed=suppressed)
