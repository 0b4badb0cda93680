"""OpenAI's chat completions, and the ways in which others who speak it differ."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from draftd.stand_in.call import Call, picture_at, schema_in
from draftd.stand_in.completion import FINGERPRINT, MODEL, Completion, Failure, Usage
from draftd.stand_in.wires.wire import entries, pieces, sse


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """Chat completions; the defaults are OpenAI's own."""

    path: str = "/chat/completions"
    """How the path of a question ends."""
    usage_in: Literal["own chunk", "last chunk"] = "own chunk"
    """Where a stream has its usage; ``own chunk`` only when the client asks for it."""
    cached_as: Literal["prompt_tokens_details", "prompt_cache_hit_tokens"] = "prompt_tokens_details"
    """Where the usage has the tokens from the cache."""
    error_as: Literal["openai", "flat", "strings", "number"] = "openai"
    """``openai`` is an object under ``error``; ``flat`` has its keys at the top (Mistral, vLLM); ``strings`` are xAI's two texts;
    ``number`` has the status as its code (OpenRouter)."""
    broken_as: Literal["error", "chunk"] = "error"
    """An error in mid-stream: an event of its own, or a chunk that has an ``error`` beside its choices (OpenRouter)."""
    comment: str = ""
    """A comment that comes before the first event."""
    service_tier: str | None = None
    """Stands in every answer of Groq's, and litellm does not do without it."""

    @property
    def stream_type(self) -> str:
        """Server-sent events."""
        return "text/event-stream"

    def is_question(self, path: str) -> bool:
        """Return whether it is the path of a completion."""
        return path.endswith(self.path)

    def read(self, _path: str, raw: Any, /) -> Call:
        """Read the body of a completion request."""
        return read_chat(raw)

    def whole(self, completion: Completion) -> dict[str, Any]:
        """Return a completion."""
        message: dict[str, Any] = {"role": "assistant", "content": completion.text, "refusal": completion.refusal}
        if completion.refusal or completion.tool:
            message["content"] = None
        if completion.tool:
            message["tool_calls"] = [_tool_call(completion.tool, completion.text)]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish_reason(completion)}
        return {
            **_envelope(completion, "chat.completion"),
            "choices": [choice] if completion.has_choices else [],
            "usage": self._usage(completion.usage),
            **({"service_tier": self.service_tier} if self.service_tier else {}),
        }

    def events(self, completion: Completion, *, piece_chars: int) -> Iterator[bytes]:
        """Yield the chunks, the last event being ``[DONE]``."""
        if self.comment:
            yield f": {self.comment}\n\n".encode()
        if completion.has_choices:
            yield sse(_chunk(completion, {"role": "assistant", "content": "", "refusal": None}))
            text = completion.refusal or completion.text
            for number, piece in enumerate(pieces(text, piece_chars)):
                yield sse(_chunk(completion, _delta(completion, piece, is_first=number == 0)))
            last = _chunk(completion, {}, finish_reason=_finish_reason(completion))
            yield sse({**last, **self._usage_of_last(completion.usage)})
        if self.usage_in == "own chunk" and completion.includes_usage:
            body = {"choices": [], "usage": self._usage(completion.usage)}
            yield sse({**_envelope(completion, "chat.completion.chunk"), **body})
        yield b"data: [DONE]\n\n"

    def error(self, failure: Failure) -> dict[str, Any]:
        """Return an error in this provider's form."""
        named = {"message": failure.message, "type": failure.type, "param": failure.param, "code": failure.code}
        match self.error_as:
            case "flat":
                return {"object": "error", **named, "code": failure.code or failure.status}
            case "strings":
                return {"code": failure.type, "error": failure.message}
            case "number":
                return {"error": {"message": failure.message, "code": failure.status}}
            case _:
                return {"error": named}

    def broken(self, failure: Failure) -> bytes:
        """Return an error in mid-stream."""
        if self.broken_as == "error":
            return sse(self.error(failure))
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
        error = {"code": failure.code or failure.type, "message": failure.message}
        head = {"id": "gen-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "provider": "stand-in"}
        return sse({**head, "error": error, "choices": [choice]})

    def _usage_of_last(self, usage: Usage) -> dict[str, Any]:
        return {"usage": self._usage(usage)} if self.usage_in == "last chunk" else {}

    def _usage(self, usage: Usage) -> dict[str, Any]:
        counted: dict[str, Any] = {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
        }
        if usage.cost_usd is not None:
            counted["cost"] = usage.cost_usd
        if self.cached_as == "prompt_cache_hit_tokens":
            missed = usage.input_tokens - usage.cached_tokens
            return {**counted, self.cached_as: usage.cached_tokens, "prompt_cache_miss_tokens": missed}
        return {**counted, self.cached_as: {"cached_tokens": usage.cached_tokens}}


def read_chat(raw: Any) -> Call:
    """Read the body of a completion request.

    Raises:
        ValueError: it is not such a request; the message says why.
    """
    messages = entries(raw, "messages")
    parts = [(role, part) for message in messages for role, part in _parts(message)]
    prompt = "\n\n".join(part["text"] for _, part in parts if part.get("type") == "text")
    urls = [part["image_url"]["url"] for _, part in parts if part.get("type") == "image_url"]
    asked_as, schema = _schema(raw)
    return Call(
        model=str(raw.get("model", "")),
        stream=bool(raw.get("stream")),
        include_usage=bool((raw.get("stream_options") or {}).get("include_usage")),
        user=raw.get("user"),
        max_tokens=raw.get("max_completion_tokens") or raw.get("max_tokens"),
        response_format=(raw.get("response_format") or {}).get("type"),
        prompt=prompt,
        pictures=tuple(picture_at(url) for url in urls),
        schema=schema or schema_in(prompt),
        pictures_as="image_url" if urls else None,
        schema_as=asked_as,
        tool=_chosen_tool(raw),
        cached=tuple(dict.fromkeys(role for role, part in parts if "cache_control" in part)),
        first_role=str(messages[0].get("role")),
    )


def _parts(message: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(message, dict) or "role" not in message:
        raise ValueError("every message needs a 'role'")
    content = message.get("content")
    marks = {"cache_control": message["cache_control"]} if "cache_control" in message else {}
    if isinstance(content, str):
        yield message["role"], {"type": "text", "text": content, **marks}
    for part in content if isinstance(content, list) else ():
        _check_part(part)
        yield message["role"], part


def _check_part(part: Any) -> None:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return
    image = part.get("image_url") if kind == "image_url" else None
    if not isinstance(image, dict) or not isinstance(image.get("url"), str):
        raise ValueError("a content part is neither a text nor an image_url")  # noqa: TRY004 - malformed, not misused


def _schema(raw: Mapping[str, Any]) -> tuple[str | None, Mapping[str, Any] | None]:
    response_format = raw.get("response_format") or {}
    match response_format.get("type"):
        case "json_schema":
            return "response_format.json_schema", (response_format.get("json_schema") or {}).get("schema")
        case "json_object":
            return "response_format.json_object", response_format.get("schema")
    if _chosen_tool(raw):
        return "tools", raw["tools"][0]["function"]["parameters"]
    return None, None


def _chosen_tool(raw: Mapping[str, Any]) -> str | None:
    choice = raw.get("tool_choice")
    return str(choice["function"]["name"]) if isinstance(choice, dict) else None


def _finish_reason(completion: Completion) -> str:
    return "tool_calls" if completion.tool and completion.finish_reason == "stop" else completion.finish_reason


def _tool_call(name: str, arguments: str) -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}


def _delta(completion: Completion, piece: str, *, is_first: bool) -> dict[str, Any]:
    if completion.refusal:
        return {"refusal": piece}
    if completion.tool is None:
        return {"content": piece}
    call = _tool_call(completion.tool, piece) if is_first else {"function": {"arguments": piece}}
    return {"tool_calls": [{"index": 0, **call}]}


def _chunk(completion: Completion, delta: dict[str, Any], *, finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return {**_envelope(completion, "chat.completion.chunk"), "choices": [choice]}


def _envelope(completion: Completion, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-stand-in-{completion.number}",
        "object": kind,
        "created": completion.created,
        "model": MODEL,
        "system_fingerprint": FINGERPRINT,
    }
