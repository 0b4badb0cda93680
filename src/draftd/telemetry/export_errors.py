"""What the Langfuse SDK reports when traces do not arrive: rarely in the log, at once for the doctor.

Owns how much is reported, and in which words. ``tracing`` owns what is traced.
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
COMPLAINT_INTERVAL_S = 300.0

_CERTIFICATE = re.compile(r"certificate verify failed: (?P<why>.*?)(?: \(_ssl|'\)|$)")
_ANSWERED = re.compile(r"batch code: (?P<status>[0-9]{3})")


def check_export(provider: Any, processors: Sequence[Any], host: str | None) -> tuple[bool, str]:
    """Send an empty batch the way traces are sent; return whether it arrived, and what was reported.

    Args:
        provider: of OpenTelemetry's SDK.
        processors: of Langfuse's SDK, as it has added them to the provider.
        host: base URL of Langfuse; None means its cloud.
    """
    if (why := _silence(provider, processors)) is not None:
        return True, f"off: {why}"
    requests: Any = importlib.import_module("requests")
    try:
        requests.Request("POST", host or LANGFUSE_CLOUD).prepare()
    except ValueError:  # its message quotes the address
        return False, "is invalid; write https://host or http://host:port"
    exporter = processors[0].span_exporter
    # The SDK's own wrapper does not send an empty batch.
    exporter = getattr(exporter, "_exporter", exporter)
    with _overheard() as said:
        outcome = exporter.export([])
    return (True, "the keys are accepted") if outcome.name == "SUCCESS" else (False, _reason(said[0] if said else ""))


def _silence(provider: Any, processors: Sequence[Any]) -> str | None:
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


def _told(message: str) -> str:
    """Return the exporter's error; of a refused certificate only the reason, which it hides behind its retries."""
    refused = _CERTIFICATE.search(message)
    return f"the certificate was refused: {refused['why']}" if refused else message


def _reason(message: str) -> str:
    """Return why a batch did not arrive, from the exporter's first message."""
    if answered := _ANSWERED.search(message):
        return f"answered {answered['status']}"
    if (refused := _told(message)) != message:
        return f"{redact(refused, 200)}; set REQUESTS_CA_BUNDLE to its certificate authorities"
    return f"cannot be reached: {redact(message, 300)}"


@contextmanager
def _overheard() -> Iterator[list[str]]:
    """Collect the SDK's messages instead of logging them."""
    said: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logger = logging.getLogger("opentelemetry")
    before, logger.handlers = logger.handlers, [Ear(logging.WARNING)]
    try:
        yield said
    finally:
        logger.handlers = before


class ExportErrorLog(logging.Handler):
    """The handler of the SDK's loggers: at most one line in five minutes, with the number suppressed."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._next_at = 0.0
        self._held_back = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record of the SDK's loggers."""
        self.tell("langfuse error", record.name, _told(record.getMessage()))

    def tell(self, event: str, source: str, detail: str) -> None:
        """Log it, unless something was logged a moment ago."""
        now = time.monotonic()
        if now < self._next_at:
            self._held_back += 1
            return
        held_back, self._held_back = self._held_back, 0
        self._next_at = now + COMPLAINT_INTERVAL_S
        log.warning(event, source=source, detail=redact(detail, 200), held_back=held_back)
