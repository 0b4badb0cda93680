"""litellm's responses and stream chunks, read defensively.

Invariant: a missing field never raises; it stays empty.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_TOKENS = 100_000_000
"""Per call; today's largest context windows are a hundredth of it."""

CHARS_PER_TOKEN = 4
"""A rough average for text."""
TOKENS_PER_PICTURE = 1_600
"""Anthropic's count for the largest picture that is sent; other providers count fewer."""
_ENDS = ("}", "```")
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
    broke_off: bool = False
    """The stream ended in the middle, in an error or without a ``finish_reason``."""

    def read(self, response: Any) -> None:
        """Read a complete response; it may be None, have no choices, or a message without content."""
        choices = getattr(response, "choices", None) or []
        message = choices[0].message if choices else None
        self.text = _text(message)
        self.refusal = _refusal(message)
        self.finish_reason = str(getattr(choices[0], "finish_reason", None) or "") if choices else ""
        self.usage = getattr(response, "usage", None)

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

    def end(self, stream: Any) -> None:
        """Note the end of a stream, which litellm reports as ``stop`` even if the provider gave no reason.

        Some servers never give one; their answer is complete if its JSON is.
        """
        if getattr(stream, "received_finish_reason", None) or self.finish_reason not in {"", "stop"}:
            return
        self.finish_reason = ""
        self.broke_off = bool(self.text.strip()) and not self.text.rstrip().endswith(_ENDS)

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


def tokens(answer: RawAnswer, messages: Sequence[Mapping[str, Any]]) -> tuple[int, int] | None:
    """Return input and output tokens, or None if the provider did not report them.

    Zero input tokens and impossible numbers (some gateways send -1 for unknown) count as not reported. For an answer that broke
    off, most providers report little or nothing, yet charge for it; the rest is estimated.
    """
    prompt = int(getattr(answer.usage, "prompt_tokens", None) or 0)
    output = int(getattr(answer.usage, "completion_tokens", None) or 0)
    if answer.broke_off and answer.text:
        prompt = prompt or estimated_tokens(messages)
        output = max(output, len(answer.text) // CHARS_PER_TOKEN)
    return (prompt, output) if 0 < prompt <= MAX_TOKENS and 0 <= output <= MAX_TOKENS else None


def cached_tokens(usage: Any, *, at_most: int) -> int | None:
    """Return the input tokens that came from the provider's cache; None if none are reported, or more than were sent."""
    cached = getattr(getattr(usage, "prompt_tokens_details", None), "cached_tokens", None)
    return cached if isinstance(cached, int) and 0 < cached <= at_most else None


def window_of_running(running: Any, model: str) -> int | None:
    """Return the window of a model among those that an Ollama server has loaded; None when it is not told.

    Args:
        running: what ``/api/ps`` lists.
        model: litellm's name.
    """
    name = model.partition("/")[2]
    for one in running if isinstance(running, list) else ():
        if isinstance(one, dict) and one.get("name") in {name, f"{name}:latest"}:
            window = one.get("context_length")
            return window if isinstance(window, int) and window > 0 else None
    return None


def estimated_tokens(messages: Sequence[Mapping[str, Any]]) -> int:
    """Return how many tokens messages are likely to have."""
    contents = [message.get("content") for message in messages]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    texts = [content for content in contents if isinstance(content, str)]
    texts += [str(part["text"]) for part in parts if part.get("type") == "text"]
    pictures = len([part for part in parts if part.get("type") == "image_url"])
    return sum(map(len, texts)) // CHARS_PER_TOKEN + pictures * TOKENS_PER_PICTURE


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
