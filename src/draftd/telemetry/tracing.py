"""Tracing, as the rest of draftd sees it: spans for an attempt and its model calls.

The classes here do nothing, ``HeldTrace`` excepted; ``langfuse`` subclasses them.
"""

import contextvars
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable
from uuid import UUID

from draftd.errors import Spent
from draftd.telemetry.scores import Score


@runtime_checkable
class Summarized(Protocol):
    """A part of a message that traces show in a short form, because it contains a picture."""

    summary: dict[str, Any]
    """The short form."""


class HeldTrace:
    """The spans of one attempt, held back until its outcome is stored.

    A request may be deleted while its attempt runs. Then the outcome is never stored, and nothing of the attempt may leave the
    process: whoever deleted the request has already looked for its trace.
    """

    def __init__(self) -> None:
        self._held: list[Callable[[], None]] = []
        self._is_sent = False

    @staticmethod
    def current() -> "HeldTrace | None":
        """Return the trace of the attempt that this code runs in, if that is held back."""
        trace = _current.get()
        return None if trace is None or trace._is_sent else trace  # noqa: SLF001 - of the same class

    def context(self) -> contextvars.Context:
        """Return a context for the attempt's task; the spans that end in it are held back."""
        context = contextvars.copy_context()
        context.run(_current.set, self)
        return context

    def hold(self, send: Callable[[], None]) -> None:
        """Hold back a span; ``send`` sends it."""
        self._held.append(send)

    def send(self) -> None:
        """Send what was held back, and from now on hold nothing back."""
        self._is_sent = True
        held, self._held = self._held, []
        for send in held:
            send()


_current: contextvars.ContextVar[HeldTrace | None] = contextvars.ContextVar("held_trace", default=None)


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

    takes_scores = False
    """Whether ``send_scores`` sends anything."""

    def __init__(self, *, export_check: tuple[bool, str] = (True, "off: no keys")) -> None:
        self._export_check = export_check

    def examine(self) -> tuple[bool, str]:
        """Return whether traces would arrive, or why not. Call it in a thread.

        Uses the exporter itself, so certificates, proxies and addresses are the ones that traces meet.
        """
        return self._export_check

    @contextmanager
    def request(
        self, *, request_id: UUID, requester_id: str, agent: str, attempt: int, traceparent: str | None = None
    ) -> Iterator[RequestSpan]:
        """Trace one attempt and whatever is traced inside it in the same task.

        Args:
            request_id: of the request.
            requester_id: likewise.
            agent: likewise.
            attempt: its number.
            traceparent: the client's trace, which this one continues; None starts a new one.
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

    async def send_scores(self, scores: Sequence[Score]) -> str | None:
        """Send scores of traces; return what was said against some of them, if anything.

        Raises:
            ScoresNotSentError: they were not accepted.
        """
        del scores
        return None

    def shutdown(self, *, time_s: float) -> bool:
        """Send what is left, for at most ``time_s`` seconds; return whether all of it went out."""
        del time_s
        return True
