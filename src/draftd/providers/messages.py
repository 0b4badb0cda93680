"""Changes to the messages of a model call that do not depend on what they say."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

Message = dict[str, Any]

SCHEMA_TEXT = "Answer with exactly one JSON object, all keys in the order of this JSON schema, nothing around it:\n"


def with_text(messages: Sequence[Message], text: str) -> list[Message]:
    """Append a text to the first user message, after its pictures; some models accept no second one in a row."""
    changed = list(messages)
    for place, message in enumerate(messages):
        if message["role"] == "user":
            changed[place] = message | {"content": _joined(message["content"], text)}
            break
    return changed


def with_schema(messages: Sequence[Message], schema: Mapping[str, Any]) -> list[Message]:
    """State the schema of the answer after everything that is the same for all requests of an agent."""
    return with_text(messages, SCHEMA_TEXT + json.dumps(schema, ensure_ascii=False))


def _joined(content: Any, text: str) -> Any:
    if isinstance(content, str):
        return f"{content}\n\n{text}"
    return [*content, {"type": "text", "text": text}]
