"""Amazon Bedrock's converse, with its event stream."""

import json
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from draftd.stand_in.call import Call, picture, schema_in
from draftd.stand_in.completion import Completion, Failure
from draftd.stand_in.wires.wire import as_object, entries, pieces

_QUESTION = re.compile(r"/model/([^/]+)/converse(-stream)?$")
_PRELUDE, _CHECKSUM, _LENGTH = struct.Struct(">II"), struct.Struct(">I"), struct.Struct(">H")
_STRING = 7
"""The type of a header's value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Converse:
    """Converse; streamed when the path says so."""

    @property
    def stream_type(self) -> str:
        """Amazon's binary event stream."""
        return "application/vnd.amazon.eventstream"

    def is_question(self, path: str) -> bool:
        """Return whether it is the path of a question."""
        return _QUESTION.search(path) is not None

    def read(self, path: str, raw: Any, /) -> Call:
        """Read the body of a request."""
        found = _QUESTION.search(path)
        if found is None:
            raise ValueError("not a path of converse")
        messages = entries(raw, "messages")
        said = [("system", part) for part in raw.get("system") or ()]
        said += [(str(one["role"]), part) for one in messages for part in one["content"]]
        prompt = "\n\n".join(part["text"] for _, part in said if "text" in part)
        pictures = [part["image"]["source"]["bytes"] for _, part in said if "image" in part]
        schema_as, schema, tool = _schema(raw)
        return Call(
            model=unquote(found[1]),
            stream=found[2] is not None,
            include_usage=True,
            user=None,
            max_tokens=(raw.get("inferenceConfig") or {}).get("maxTokens"),
            response_format="json_schema" if schema else None,
            prompt=prompt,
            pictures=tuple(picture(data) for data in pictures),
            schema=schema or schema_in(prompt),
            pictures_as="image.source.bytes" if pictures else None,
            schema_as=schema_as,
            tool=tool,
            cached=tuple(dict.fromkeys(role for role, part in said if "cachePoint" in part)),
            first_role=said[0][0],
        )

    def whole(self, completion: Completion) -> dict[str, Any]:
        """Return an answer."""
        block: dict[str, Any] = {"text": completion.text}
        if completion.tool:
            block = {"toolUse": {**_tool_use(completion.tool), "input": as_object(completion.text)}}
        return {
            "output": {"message": {"role": "assistant", "content": [block] if completion.has_choices else []}},
            "stopReason": _stop_reason(completion),
            "usage": _usage(completion),
            "metrics": {"latencyMs": 1},
        }

    def events(self, completion: Completion, *, piece_chars: int) -> Iterator[bytes]:
        """Yield the messages of the event stream."""
        yield _message("messageStart", {"role": "assistant"})
        if completion.has_choices:
            if completion.tool:
                start = {"start": {"toolUse": _tool_use(completion.tool)}, "contentBlockIndex": 0}
                yield _message("contentBlockStart", start)
            for piece in pieces(completion.text, piece_chars):
                delta = {"toolUse": {"input": piece}} if completion.tool else {"text": piece}
                yield _message("contentBlockDelta", {"delta": delta, "contentBlockIndex": 0})
            yield _message("contentBlockStop", {"contentBlockIndex": 0})
        yield _message("messageStop", {"stopReason": _stop_reason(completion)})
        yield _message("metadata", {"usage": _usage(completion), "metrics": {"latencyMs": 1}})

    def error(self, failure: Failure) -> dict[str, Any]:
        """Return an error."""
        return {"message": failure.message}

    def broken(self, failure: Failure) -> bytes:
        """Return an exception in mid-stream."""
        return _message("modelStreamErrorException", {"message": failure.message}, is_exception=True)


def _schema(raw: Mapping[str, Any]) -> tuple[str | None, Mapping[str, Any] | None, str | None]:
    asked = ((raw.get("outputConfig") or {}).get("textFormat") or {}).get("structure")
    if asked:
        return "outputConfig.textFormat", json.loads(asked["jsonSchema"]["schema"]), None
    tools = raw.get("toolConfig") or {}
    choice = (tools.get("toolChoice") or {}).get("tool")
    if choice:
        return "toolConfig", tools["tools"][0]["toolSpec"]["inputSchema"]["json"], str(choice["name"])
    return None, None, None


def _tool_use(name: str) -> dict[str, Any]:
    return {"toolUseId": "tooluse_1", "name": name}


def _stop_reason(completion: Completion) -> str:
    if completion.refusal:
        return "content_filtered"
    reasons = {"length": "max_tokens", "content_filter": "content_filtered"}
    return reasons.get(completion.finish_reason, "tool_use" if completion.tool else "end_turn")


def _usage(completion: Completion) -> dict[str, int]:
    usage = completion.usage
    return {
        "inputTokens": usage.input_tokens - usage.cached_tokens,
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.input_tokens + usage.output_tokens,
        "cacheReadInputTokens": usage.cached_tokens,
        "cacheWriteInputTokens": 0,
    }


def _message(kind: str, body: dict[str, Any], *, is_exception: bool = False) -> bytes:
    """Return a message of the event stream: lengths, headers and payload, each with a checksum."""
    named = {":exception-type" if is_exception else ":event-type": kind, ":content-type": "application/json"}
    headers = b"".join(
        bytes([len(name)]) + name.encode() + bytes([_STRING]) + _LENGTH.pack(len(value)) + value.encode()
        for name, value in {**named, ":message-type": "exception" if is_exception else "event"}.items()
    )
    payload = json.dumps(body).encode()
    overhead = _PRELUDE.size + 2 * _CHECKSUM.size
    prelude = _PRELUDE.pack(overhead + len(headers) + len(payload), len(headers))
    message = prelude + _CHECKSUM.pack(zlib.crc32(prelude)) + headers + payload
    return message + _CHECKSUM.pack(zlib.crc32(message))
