"""What came back from a model: litellm's responses and chunks, read with caution.

Owns the reading alone. Invariant: nothing that a provider leaves out makes it raise; what is missing stays empty.
"""

from dataclasses import dataclass
from typing import Any

MAX_TOKENS = 100_000_000
"""Of one call; the largest windows of today are a hundredth of it."""


MAX_CHARS = 262_144
"""Of an answer. One whose every text is as long as it is stored has 240,000; a model or a gateway that knows no end would keep
the event loop busy with reading it."""


@dataclass(slots=True)
class Answer:
    """What has arrived so far."""

    text: str = ""
    refusal: str = ""
    finish_reason: str = ""
    usage: Any = None
    """litellm's object, which also knows what was cached."""
    media_type: str = ""
    """Set for a stream that brought nothing, since then it was perhaps none."""


class Overheard:
    """OpenAI's stream on its way to litellm, which drops the chunks of a refusal as empty ones."""

    def __init__(self, *, stream: Any, answer: Answer) -> None:
        self._stream = stream
        self._answer = answer

    def __aiter__(self) -> "Overheard":
        return self

    async def __anext__(self) -> Any:
        chunk = await anext(self._stream)
        choices = getattr(chunk, "choices", None) or []
        if choices:
            self._answer.refusal += _refusal(choices[0].delta)
        return chunk

    async def aclose(self) -> None:
        """Close the connection of a stream that was not read to its end."""
        await self._stream.close()


def read(response: Any) -> Answer:
    """Read a whole response; it may be None, have no choices, or a message without content."""
    choices = getattr(response, "choices", None) or []
    message = choices[0].message if choices else None
    return Answer(
        text=_text(message),
        refusal=_refusal(message),
        finish_reason=str(getattr(choices[0], "finish_reason", None) or "") if choices else "",
        usage=getattr(response, "usage", None),
    )


def grow(answer: Answer, chunk: Any) -> bool:
    """Add a chunk of a stream to an answer; return whether there is more text than before."""
    answer.usage = getattr(chunk, "usage", None) or answer.usage
    choices = getattr(chunk, "choices", None) or []
    if not choices:
        return False
    answer.finish_reason = choices[0].finish_reason or answer.finish_reason
    more = _text(choices[0].delta)
    answer.text += more
    return bool(more)


def is_endless(answer: Answer) -> bool:
    """Return whether an answer is longer than any that can be used."""
    return len(answer.text) > MAX_CHARS


def tokens(usage: Any) -> tuple[int, int] | None:
    """Return input and output tokens; None when the provider did not say (which looks like a prompt of no tokens).

    What no call can have used (a gateway may say -1 for unknown) was not said either.
    """
    counted = int(getattr(usage, "prompt_tokens", None) or 0)
    written = int(getattr(usage, "completion_tokens", None) or 0)
    return (counted, written) if 0 < counted <= MAX_TOKENS and 0 <= written <= MAX_TOKENS else None


def media_type(stream: Any) -> str:
    """Return the media type of the response beneath a stream, in lower case; empty when it is not known."""
    headers = getattr(stream, "_response_headers", None) or {}
    return str(headers.get("content-type", "")).partition(";")[0].strip().lower()


def _text(message: Any) -> str:
    content = getattr(message, "content", None)
    return content if isinstance(content, str) else ""


def _refusal(message: Any) -> str:
    # OpenAI's own field; in a whole response litellm moves it among the provider's.
    own = getattr(message, "refusal", None)
    moved = (getattr(message, "provider_specific_fields", None) or {}).get("refusal")
    return str(own or moved or "")
