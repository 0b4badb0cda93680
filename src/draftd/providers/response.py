"""litellm's responses and stream chunks, read defensively.

Invariant: a missing field never raises; it stays empty.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

MAX_TOKENS = 100_000_000
"""Per call; today's largest context windows are a hundredth of it."""

MAX_CHARS = 262_144
"""Per answer. An answer with every text at its maximum length has 240,000; reading a runaway one would block the event loop."""


@dataclass(slots=True)
class RawAnswer:
    """What has arrived so far of a model's answer."""

    text: str = ""
    refusal: str = ""
    finish_reason: str = ""
    usage: Any = None
    """litellm's object, which includes cached tokens."""
    media_type: str = ""
    """Set only if a stream was empty: the response may not have been a stream at all."""

    @classmethod
    def from_response(cls, response: Any) -> Self:
        """Read a complete response; it may be None, have no choices, or a message without content."""
        choices = getattr(response, "choices", None) or []
        message = choices[0].message if choices else None
        return cls(
            text=_text(message),
            refusal=_refusal(message),
            finish_reason=str(getattr(choices[0], "finish_reason", None) or "") if choices else "",
            usage=getattr(response, "usage", None),
        )

    def append(self, chunk: Any) -> bool:
        """Append a stream chunk; return whether it added text."""
        self.usage = getattr(chunk, "usage", None) or self.usage
        choices = getattr(chunk, "choices", None) or []
        if not choices:
            return False
        self.finish_reason = choices[0].finish_reason or self.finish_reason
        text = _text(choices[0].delta)
        self.text += text
        return bool(text)

    @property
    def is_too_long(self) -> bool:
        """Whether the text exceeds ``MAX_CHARS``."""
        return len(self.text) > MAX_CHARS


class RefusalCapture:
    """Wraps OpenAI's stream to capture refusals, whose chunks litellm drops as empty."""

    def __init__(self, *, stream: Any, answer: RawAnswer) -> None:
        self._stream = stream
        self._answer = answer

    def __aiter__(self) -> "RefusalCapture":
        return self

    async def __anext__(self) -> Any:
        chunk = await anext(self._stream)
        choices = getattr(chunk, "choices", None) or []
        if choices:
            self._answer.refusal += _refusal(choices[0].delta)
        return chunk

    async def aclose(self) -> None:
        """Close the connection of a stream that was not read to the end."""
        await self._stream.close()


def tokens(usage: Any) -> tuple[int, int] | None:
    """Return input and output tokens, or None if the provider did not report them.

    Zero input tokens and impossible numbers (some gateways send -1 for unknown) count as not reported.
    """
    prompt = int(getattr(usage, "prompt_tokens", None) or 0)
    output = int(getattr(usage, "completion_tokens", None) or 0)
    return (prompt, output) if 0 < prompt <= MAX_TOKENS and 0 <= output <= MAX_TOKENS else None


def media_type(stream: Any) -> str:
    """Return the media type of a stream's HTTP response in lower case, or an empty text if it is unknown."""
    headers = getattr(stream, "_response_headers", None) or {}
    return str(headers.get("content-type", "")).partition(";")[0].strip().lower()


def conforms(text: str, schema: Mapping[str, Any]) -> bool:
    """Return whether a text is an object with every key that a schema requires."""
    try:
        answer = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return False
    return isinstance(answer, dict) and answer.keys() >= set(schema.get("required", ()))


def _text(message: Any) -> str:
    content = getattr(message, "content", None)
    return content if isinstance(content, str) else ""


def _refusal(message: Any) -> str:
    # OpenAI's field; in a complete response litellm moves it to the provider-specific fields.
    own = getattr(message, "refusal", None)
    moved = (getattr(message, "provider_specific_fields", None) or {}).get("refusal")
    return str(own or moved or "")
