"""Google's generateContent, of Gemini and of Vertex."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from draftd.stand_in.call import Call, picture, schema_in
from draftd.stand_in.completion import MODEL, Completion, Failure
from draftd.stand_in.wires.wire import entries, pieces, sse

_QUESTION = re.compile(
    r"models/([^/:]+):(generateContent|streamGenerateContent)$|:(generateContent|streamGenerateContent)$"
)
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}
_REASONS = {"length": "MAX_TOKENS", "content_filter": "SAFETY"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemini:
    """generateContent; streamed when the path says so."""

    @property
    def stream_type(self) -> str:
        """Server-sent events."""
        return "text/event-stream"

    def is_question(self, path: str) -> bool:
        """Return whether it is the path of a question."""
        return _QUESTION.search(path) is not None

    def read(self, path: str, raw: Any, /) -> Call:
        """Read the body of a request."""
        contents = entries(raw, "contents")
        system = raw.get("system_instruction") or raw.get("systemInstruction") or {}
        parts = [part for content in (system, *contents) for part in content.get("parts", ())]
        prompt = "\n\n".join(part["text"] for part in parts if "text" in part)
        pictures = [inline["data"] for part in parts if (inline := part.get("inline_data") or part.get("inlineData"))]
        config: Mapping[str, Any] = raw.get("generationConfig") or {}
        schema_as = next((name for name in config if "schema" in name.lower()), None)
        mime_type = config.get("response_mime_type") or config.get("responseMimeType")
        return Call(
            model=path.rpartition("/")[2].partition(":")[0],
            stream=path.endswith(":streamGenerateContent"),
            include_usage=True,
            user=None,
            max_tokens=config.get("max_output_tokens") or config.get("maxOutputTokens"),
            response_format="json_schema" if schema_as else "json_object" if mime_type else None,
            prompt=prompt,
            pictures=tuple(picture(data) for data in pictures),
            schema=(schema_as and config[schema_as]) or schema_in(prompt),
            pictures_as="inline_data" if pictures else None,
            schema_as=f"generationConfig.{schema_as or 'response_mime_type'}" if mime_type else None,
            first_role="system" if system else str(contents[0].get("role")),
        )

    def whole(self, completion: Completion) -> dict[str, Any]:
        """Return an answer."""
        return _answer(completion, completion.text, finish_reason=_finish_reason(completion), usage=_usage(completion))

    def events(self, completion: Completion, *, piece_chars: int) -> Iterator[bytes]:
        """Yield answers, each with more of the text; the last has the usage."""
        for piece in pieces(completion.text, piece_chars):
            yield sse(_answer(completion, piece))
        yield sse(_answer(completion, "", finish_reason=_finish_reason(completion), usage=_usage(completion)))

    def error(self, failure: Failure) -> dict[str, Any]:
        """Return an error."""
        status = _STATUSES.get(failure.status, "INTERNAL")
        return {"error": {"code": failure.status, "message": failure.message, "status": status}}

    def broken(self, failure: Failure) -> bytes:
        """Return an error in mid-stream."""
        return sse(self.error(failure))


def _finish_reason(completion: Completion) -> str:
    return "SAFETY" if completion.refusal else _REASONS.get(completion.finish_reason, "STOP")


def _answer(
    completion: Completion, text: str, *, finish_reason: str | None = None, usage: dict[str, int] | None = None
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    if completion.refusal:
        candidate["content"] = {"role": "model"}
    if finish_reason:
        candidate["finishReason"] = finish_reason
    answer: dict[str, Any] = {"candidates": [candidate] if completion.has_choices else [], "modelVersion": MODEL}
    return {**answer, "usageMetadata": usage} if usage else answer


def _usage(completion: Completion) -> dict[str, int]:
    usage = completion.usage
    return {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": usage.output_tokens,
        "cachedContentTokenCount": usage.cached_tokens,
        "totalTokenCount": usage.input_tokens + usage.output_tokens,
    }
