"""Changes to the messages of a model call that do not depend on what they say."""

from collections.abc import Sequence
from typing import Any

Message = dict[str, Any]


def with_text(messages: Sequence[Message], text: str) -> list[Message]:
    """Append a text to the first user message, after its pictures; some models accept no second one in a row."""
    changed = list(messages)
    for place, message in enumerate(messages):
        if message["role"] == "user":
            changed[place] = message | {"content": _joined(message["content"], text)}
            break
    return changed


def _joined(content: Any, text: str) -> Any:
    if isinstance(content, str):
        return f"{content}\n\n{text}"
    return [*content, {"type": "text", "text": text}]


def with_cache_mark(messages: Sequence[Message]) -> list[Message]:
    """Mark the end of the system message as the end of what the provider is to cache."""
    return [
        message | {"content": [{"type": "text", "text": message["content"], "cache_control": {"type": "ephemeral"}}]}
        if message["role"] == "system" and isinstance(message["content"], str)
        else message
        for message in messages
    ]
