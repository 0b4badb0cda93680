"""OpenAI's Responses interface, which some of its models speak alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from draftd.stand_in.call import Call, picture_at, schema_in
from draftd.stand_in.completion import MODEL, Completion, Failure
from draftd.stand_in.wires.wire import entries, pieces, sse


@dataclass(frozen=True, slots=True, kw_only=True)
class Responses:
    """Responses."""

    @property
    def stream_type(self) -> str:
        """Server-sent events."""
        return "text/event-stream"

    def is_question(self, path: str) -> bool:
        """Return whether it is the path of a response."""
        return path.endswith("/responses")

    def read(self, _path: str, raw: Any, /) -> Call:
        """Read the body of a request."""
        messages = entries(raw, "input")
        parts = [part for message in messages for part in _content(message)]
        texts = [str(raw["instructions"])] if raw.get("instructions") else []
        texts += [part["text"] for part in parts if part.get("type") in {"input_text", "output_text"}]
        urls = [part["image_url"] for part in parts if part.get("type") == "input_image"]
        text_format = (raw.get("text") or {}).get("format") or {}
        prompt = "\n\n".join(texts)
        return Call(
            model=str(raw.get("model", "")),
            stream=bool(raw.get("stream")),
            include_usage=True,
            user=raw.get("user"),
            max_tokens=raw.get("max_output_tokens"),
            response_format=text_format.get("type"),
            prompt=prompt,
            pictures=tuple(picture_at(url) for url in urls),
            schema=text_format.get("schema") or schema_in(prompt),
            pictures_as="input_image" if urls else None,
            schema_as=f"text.format.{text_format['type']}" if text_format else None,
            first_role="system" if raw.get("instructions") else str(messages[0].get("role")),
        )

    def whole(self, completion: Completion) -> dict[str, Any]:
        """Return a response."""
        return _response(completion, [_message(completion)] if completion.has_choices else [])

    def events(self, completion: Completion, *, piece_chars: int) -> Iterator[bytes]:
        """Yield the events; each has its type twice."""
        at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        begun = {**_response(completion, []), "status": "in_progress", "usage": None}
        yield _event("response.created", response=begun)
        if completion.has_choices:
            kind, text = ("refusal", completion.refusal) if completion.refusal else ("output_text", completion.text)
            item = {**_message(completion), "status": "in_progress", "content": []}
            yield _event("response.output_item.added", output_index=0, item=item)
            for piece in pieces(text, piece_chars):
                yield _event(f"response.{kind}.delta", **at, delta=piece)
            yield _event("response.output_item.done", output_index=0, item=_message(completion))
        ended = "completed" if completion.finish_reason == "stop" else "incomplete"
        yield _event(f"response.{ended}", response=self.whole(completion))

    def error(self, failure: Failure) -> dict[str, Any]:
        """Return an error."""
        named = {"message": failure.message, "type": failure.type, "param": failure.param, "code": failure.code}
        return {"error": named}

    def broken(self, failure: Failure) -> bytes:
        """Return an error in mid-stream."""
        return _event("error", code=failure.code or failure.type, message=failure.message, param=None)


def _content(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    return [{"type": "input_text", "text": content}] if isinstance(content, str) else list(content or [])


def _event(kind: str, **body: Any) -> bytes:
    return sse({"type": kind, "sequence_number": 0, **body}, event=kind)


def _message(completion: Completion) -> dict[str, Any]:
    content: dict[str, Any] = {"type": "output_text", "text": completion.text, "annotations": []}
    if completion.refusal:
        content = {"type": "refusal", "refusal": completion.refusal}
    return {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [content]}


def _response(completion: Completion, output: list[dict[str, Any]]) -> dict[str, Any]:
    usage, reasons = completion.usage, {"length": "max_output_tokens", "content_filter": "content_filter"}
    why = reasons.get(completion.finish_reason)
    return {
        "id": f"resp_{completion.number}",
        "object": "response",
        "created_at": completion.created,
        "status": "incomplete" if why else "completed",
        "error": None,
        "incomplete_details": {"reason": why} if why else None,
        "instructions": None,
        "model": MODEL,
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "metadata": {},
        "usage": {
            "input_tokens": usage.input_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens},
            "output_tokens": usage.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.input_tokens + usage.output_tokens,
        },
    }
