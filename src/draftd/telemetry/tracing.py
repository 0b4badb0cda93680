"""Tracing, as the rest of draftd sees it: spans for an attempt and its model calls.

The classes here do nothing; ``langfuse`` subclasses them.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any
from uuid import UUID


class ImagePart(dict[str, Any]):
    """The part of a message that shows a picture, with the hash and size that a trace contains.

    Make it in a thread. Decoding and hashing up to 19 MB of pictures at each model call would block the event loop.

    Args:
        data: a JPEG.
    """

    def __init__(self, data: bytes) -> None:
        url = "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")
        super().__init__(type="image_url", image_url={"url": url})
        self.summary: dict[str, Any] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}

    def data(self) -> bytes:
        """Return the JPEG; call it in a thread, for the same reason."""
        return base64.b64decode(self["image_url"]["url"].partition(",")[2])


class RequestSpan:
    """One attempt at a request. This class itself is the no-op version."""

    trace_id: str | None = None

    def set_output(self, output: Mapping[str, Any]) -> None:
        """Record the draft."""

    def set_error(self, code: str, message: str) -> None:
        """Record why there is no draft; ``code`` is an error code."""


class GenerationSpan:
    """One model call. This class itself is the no-op version."""

    def set(
        self,
        *,
        text: str | None = None,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cost_usd: Decimal | None = None,
    ) -> None:
        """Record what came back; None stands for unknown."""


class Tracing:
    """No-op tracing, for an installation without Langfuse keys."""

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

    def shutdown(self, *, time_s: float) -> bool:
        """Send what is left, for at most ``time_s`` seconds; return whether all of it went out."""
        del time_s
        return True
