"""Ollama's own chat, a line of JSON for each piece."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from draftd.stand_in.call import Call, picture, schema_in
from draftd.stand_in.completion import MODEL, Completion, Failure
from draftd.stand_in.wires.wire import entries, pieces


@dataclass(frozen=True, slots=True, kw_only=True)
class Ollama:
    """Chat."""

    @property
    def stream_type(self) -> str:
        """Lines of JSON."""
        return "application/x-ndjson"

    def is_question(self, path: str) -> bool:
        """Return whether it is the path of a chat."""
        return path.endswith("/api/chat")

    def read(self, _path: str, raw: Any, /) -> Call:
        """Read the body of a request; Ollama streams unless it is told not to."""
        messages = entries(raw, "messages")
        prompt = "\n\n".join(str(message.get("content") or "") for message in messages)
        pictures = [data for message in messages for data in message.get("images") or ()]
        asked = raw.get("format")
        schema = asked if isinstance(asked, dict) else None
        return Call(
            model=str(raw.get("model", "")),
            stream=raw.get("stream", True),
            include_usage=True,
            user=None,
            max_tokens=(raw.get("options") or {}).get("num_predict"),
            response_format="json_schema" if schema else "json_object" if asked else None,
            prompt=prompt,
            pictures=tuple(picture(data) for data in pictures),
            schema=schema or schema_in(prompt),
            pictures_as="images" if pictures else None,
            schema_as="format" if asked else None,
            first_role=str(messages[0].get("role")),
        )

    def whole(self, completion: Completion) -> dict[str, Any]:
        """Return an answer."""
        return {**_line(completion.text if completion.has_choices else ""), **_end(completion)}

    def events(self, completion: Completion, *, piece_chars: int) -> Iterator[bytes]:
        """Yield the lines; the last has the usage."""
        for piece in pieces(completion.text if completion.has_choices else "", piece_chars):
            yield _encoded(_line(piece))
        yield _encoded({**_line(""), **_end(completion)})

    def error(self, failure: Failure) -> dict[str, Any]:
        """Return an error."""
        return {"error": failure.message}

    def broken(self, failure: Failure) -> bytes:
        """Return an error in mid-stream."""
        return _encoded(self.error(failure))


def _line(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"model": MODEL, "created_at": "2026-01-01T00:00:00Z", "message": message, "done": False}


def _end(completion: Completion) -> dict[str, Any]:
    return {
        "done": True,
        "done_reason": completion.finish_reason,
        "prompt_eval_count": completion.usage.input_tokens,
        "eval_count": completion.usage.output_tokens,
    }


def _encoded(line: dict[str, Any]) -> bytes:
    return json.dumps(line).encode() + b"\n"
