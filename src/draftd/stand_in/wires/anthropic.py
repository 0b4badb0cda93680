"""Anthropic's messages."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from draftd.stand_in.call import Call, picture, schema_in
from draftd.stand_in.completion import MODEL, Completion, Failure
from draftd.stand_in.wires.wire import as_object, entries, pieces, sse

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Anthropic:
    """Messages."""

    @property
    def stream_type(self) -> str:
        """Server-sent events."""
        return "text/event-stream"

    def is_question(self, path: str) -> bool:
        """Return whether it is the path of a message, or Vertex's name for it."""
        return path.endswith(("/messages", ":rawPredict", ":streamRawPredict"))

    def read(self, _path: str, raw: Any, /) -> Call:
        """Read the body of a request."""
        messages = entries(raw, "messages")
        said = [("system", part) for part in _content(raw.get("system"))]
        said += [(str(one["role"]), part) for one in messages for part in _content(one["content"])]
        prompt = "\n\n".join(part["text"] for _, part in said if part.get("type") == "text")
        pictures = [part["source"]["data"] for _, part in said if part.get("type") == "image"]
        schema_as, schema, tool = _schema(raw)
        return Call(
            model=str(raw.get("model", "")),
            stream=bool(raw.get("stream")),
            include_usage=True,
            user=None,
            max_tokens=raw.get("max_tokens"),
            response_format="json_schema" if schema else None,
            prompt=prompt,
            pictures=tuple(picture(data) for data in pictures),
            schema=schema or schema_in(prompt),
            pictures_as="image.source.base64" if pictures else None,
            schema_as=schema_as,
            tool=tool,
            cached=tuple(dict.fromkeys(role for role, part in said if "cache_control" in part)),
            first_role=said[0][0],
        )

    def whole(self, completion: Completion) -> dict[str, Any]:
        """Return a message."""
        content: list[dict[str, Any]] = [{"type": "text", "text": completion.text}]
        if completion.tool:
            content = [{**_tool_use(completion.tool), "input": as_object(completion.text)}]
        return {
            **_head(completion),
            "content": content if completion.has_choices else [],
            "stop_reason": _stop_reason(completion),
            "usage": {**_input_usage(completion), "output_tokens": completion.usage.output_tokens},
        }

    def events(self, completion: Completion, *, piece_chars: int) -> Iterator[bytes]:
        """Yield the events of a message."""
        usage = {**_input_usage(completion), "output_tokens": 1}
        head = {**_head(completion), "content": [], "stop_reason": None, "usage": usage}
        yield _event("message_start", message=head)
        if completion.has_choices:
            block = _tool_use(completion.tool) if completion.tool else {"type": "text", "text": ""}
            yield _event("content_block_start", index=0, content_block=block)
            yield _event("ping")
            for piece in pieces(completion.text, piece_chars):
                delta = {"type": "text_delta", "text": piece}
                if completion.tool:
                    delta = {"type": "input_json_delta", "partial_json": piece}
                yield _event("content_block_delta", index=0, delta=delta)
            yield _event("content_block_stop", index=0)
        end = {"stop_reason": _stop_reason(completion), "stop_sequence": None}
        yield _event("message_delta", delta=end, usage={"output_tokens": completion.usage.output_tokens})
        yield _event("message_stop")

    def error(self, failure: Failure) -> dict[str, Any]:
        """Return an error."""
        kind = _KINDS.get(failure.status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": failure.message}, "request_id": "req_1"}

    def broken(self, failure: Failure) -> bytes:
        """Return an error in mid-stream."""
        return sse(self.error(failure), event="error")


def _content(given: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": given}] if isinstance(given, str) else list(given or [])


def _schema(raw: Mapping[str, Any]) -> tuple[str | None, Mapping[str, Any] | None, str | None]:
    for name, asked in (
        ("output_format", raw.get("output_format")),
        ("output_config.format", (raw.get("output_config") or {}).get("format")),
    ):
        if asked:
            return name, asked["schema"], None
    choice = raw.get("tool_choice") or {}
    if choice.get("type") == "tool":
        return "tools", raw["tools"][0]["input_schema"], str(choice["name"])
    return None, None, None


def _tool_use(name: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": "toolu_1", "name": name, "input": {}}


def _event(kind: str, **body: Any) -> bytes:
    return sse({"type": kind, **body}, event=kind)


def _head(completion: Completion) -> dict[str, Any]:
    return {"id": f"msg_{completion.number}", "type": "message", "role": "assistant", "model": MODEL}


def _stop_reason(completion: Completion) -> str:
    if completion.refusal:
        return "refusal"
    reasons = {"length": "max_tokens", "content_filter": "refusal"}
    return reasons.get(completion.finish_reason, "tool_use" if completion.tool else "end_turn")


def _input_usage(completion: Completion) -> dict[str, int]:
    cached = completion.usage.cached_tokens
    return {
        "input_tokens": completion.usage.input_tokens - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
    }
