"""Structured logs on stderr: JSON for machines, one readable line for a terminal.

Invariants: every text in a line has passed ``redact``; a traceback never shows locals (they contain keys and screenshots);
libraries' ``logging`` records get the same form. draftd's own lines bypass ``logging``, which would take most of the CPU time of
a request without a model.
"""

import logging
import sys
import traceback
from contextlib import suppress
from functools import partial
from typing import Any, Literal
from uuid import UUID

import structlog
from structlog.typing import EventDict, Processor

from draftd.sanitize import redact
from draftd.streams import NonBlockingStream

MAX_VALUE_CHARS = 2_000
MAX_CAUSES = 5
LIBRARY_LEVEL = logging.WARNING


def configure_logging(*, level: str, style: Literal["auto", "console", "json"], colours: bool = False) -> None:
    """Send structlog's and the standard library's records to stderr, in one form.

    Args:
        level: the minimum level.
        style: ``auto`` is ``console`` on a terminal, else ``json``.
        colours: whether ``console`` lines are coloured.
    """
    console = style == "console" or (style == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.format_exc_info,
        _redact_values,
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(
            colors=colours,
            timestamp_key="at",
            exception_formatter=structlog.dev.plain_traceback,
        )
        if console
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=lambda *_names: _Writer(sys.stderr),
        # A cached logger would keep this configuration after another one is set.
        cache_logger_on_first_use=False,
    )
    if isinstance(sys.stderr, NonBlockingStream):
        sys.stderr.set_loss_message(partial(_lost_lines, [*shared, renderer]))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LIBRARY_LEVEL)
    logging.getLogger("draftd").setLevel(getattr(logging, level.upper()))


def traceback_of(error: BaseException) -> str:
    """Return where an error came from, without any message: that of a bug may quote a row or a model's answer."""
    parts: list[str] = []
    one: BaseException | None = error
    while one is not None and len(parts) < MAX_CAUSES:
        parts.append("".join(traceback.format_tb(one.__traceback__)) + type(one).__name__)
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return "\ncaused:\n".join(reversed(parts))


class _Writer(structlog.WriteLogger):
    """Writes lines; one that cannot be written is lost, as with ``logging``, and the caller continues."""

    def msg(self, message: str) -> None:
        with suppress(OSError):
            super().msg(message)

    log = debug = info = warn = warning = fatal = failure = err = error = critical = exception = msg


def _lost_lines(processors: list[Processor], count: int) -> str:
    logger = structlog.wrap_logger(structlog.ReturnLogger(), processors=processors)
    return f"{logger.warning('log lines dropped', lines=count)}\n"


def _redact_values(_logger: Any, _method: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if key not in {"at", "level"} and not key.startswith("_"):
            event[key] = _redacted(value)
    return event


def _redacted(value: Any) -> Any:
    match value:
        case str():
            return _redacted_text(value)
        case bool() | int() | float() | None:
            return value
        case UUID():
            return str(value)
        case dict():
            return {str(key): _redacted(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_redacted(item) for item in value]
        case _:
            # A renderer would call repr() on it, and an exception's repr contains its message.
            return _redacted(repr(value) if isinstance(value, BaseException) else str(value))


def _redacted_text(text: str) -> str:
    return "\n".join(redact(line, MAX_VALUE_CHARS) if line.strip() else line for line in _lines(text))


def _lines(text: str) -> list[str]:
    # A traceback keeps its lines, and their indentation is not worth keeping.
    return text.splitlines()[:200] or [""]
