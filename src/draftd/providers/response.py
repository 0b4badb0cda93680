"""What came back from a model: litellm's responses and chunks, read with caution.

Owns the reading alone. Invariant: nothing that a provider leaves out makes it raise; what is missing stays empty.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_TOKENS = 100_000_000
"""Of one call; the largest windows of today are a hundredth of it."""


CHARS_PER_TOKEN = 4
"""Of text, roughly, in any of the languages that are written with spaces."""
TOKENS_PER_PICTURE = 1_600
"""Of 1,568 pixels squared at Anthropic, which counts 750 pixels for one; other providers count fewer."""
_ENDS = ("}", "```")
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
    broke_off: bool = False
    """The stream ended without saying so, in the middle of the answer."""


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


def read(response: Any, answer: Answer) -> None:
    """Read a whole response; it may be None, have no choices, or a message without content."""
    choices = getattr(response, "choices", None) or []
    message = choices[0].message if choices else None
    answer.text = _text(message)
    answer.refusal = _refusal(message)
    answer.finish_reason = str(getattr(choices[0], "finish_reason", None) or "") if choices else ""
    answer.usage = getattr(response, "usage", None)


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


def has_broken_off(stream: Any, answer: Answer) -> bool:
    """Return whether a stream has ended in the middle, which litellm takes for its end.

    Some servers never say why they end; theirs is whole if its JSON is.
    """
    if getattr(stream, "received_finish_reason", None):
        return False
    answer.finish_reason = ""
    return bool(answer.text.strip()) and not answer.text.rstrip().endswith(_ENDS)


def tokens(answer: Answer, messages: Sequence[Mapping[str, Any]]) -> tuple[int, int] | None:
    """Return input and output tokens; None when the provider did not say (which looks like a prompt of no tokens).

    What no call can have used (a gateway may say -1 for unknown) was not said either. Of an answer that broke off, most providers
    have counted little or nothing, and charge for it: the rest is estimated.
    """
    counted = int(getattr(answer.usage, "prompt_tokens", None) or 0)
    written = int(getattr(answer.usage, "completion_tokens", None) or 0)
    if answer.broke_off and answer.text:
        counted = counted or _tokens_of(messages)
        written = max(written, len(answer.text) // CHARS_PER_TOKEN)
    return (counted, written) if 0 < counted <= MAX_TOKENS and 0 <= written <= MAX_TOKENS else None


def _tokens_of(messages: Sequence[Mapping[str, Any]]) -> int:
    contents = [message.get("content") for message in messages]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    texts = [content for content in contents if isinstance(content, str)]
    texts += [str(part["text"]) for part in parts if part.get("type") == "text"]
    pictures = len([part for part in parts if part.get("type") == "image_url"])
    return sum(map(len, texts)) // CHARS_PER_TOKEN + pictures * TOKENS_PER_PICTURE


def _text(message: Any) -> str:
    content = getattr(message, "content", None)
    return content if isinstance(content, str) else ""


def _refusal(message: Any) -> str:
    # OpenAI's own field; in a whole response litellm moves it among the provider's.
    own = getattr(message, "refusal", None)
    moved = (getattr(message, "provider_specific_fields", None) or {}).get("refusal")
    return str(own or moved or "")
