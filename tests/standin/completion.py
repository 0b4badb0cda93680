"""The bodies of OpenAI's chat completions interface, as far as the stand-in speaks it.

Owns the shapes: a completion, the chunks of a streamed one, an error. The forms follow OpenAI's API reference.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from standin.behaviour import Behaviour
from standin.call import Call

MODEL = "stand-in"
FINGERPRINT = "draftd-stand-in"
CHARS_PER_TOKEN = 4
_TOKENS_PER_IMAGE = 765
"""A 1024x1024 picture in high detail: 85 + 4 * 170 tokens (OpenAI, "Images and vision")."""

_ERRORS: dict[int, tuple[str, str | None, str]] = {
    400: ("invalid_request_error", None, "Invalid request."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("invalid_request_error", "unsupported_country_region_territory", "Not available to you."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist or you do not have access to it."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests. Please try again later."),
    500: ("server_error", None, "The server had an error while processing your request."),
    503: ("server_error", None, "The engine is currently unavailable."),
    529: ("overloaded_error", None, "Overloaded"),
}
_CODES: dict[str, tuple[int, str, str]] = {
    "rate_limit_exceeded": (429, "requests", "Rate limit reached for requests. Please try again later."),
    "insufficient_quota": (
        429,
        "insufficient_quota",
        "You exceeded your current quota, please check your plan and billing details.",
    ),
    "context_length_exceeded": (
        400,
        "invalid_request_error",
        "This model's maximum context length is 128000 tokens. However, your messages resulted in 150000 tokens.",
    ),
    "content_filter": (
        400,
        "invalid_request_error",
        "The response was filtered due to the prompt triggering the content management policy.",
    ),
    "invalid_api_key": (401, "invalid_request_error", "Incorrect API key provided."),
    "model_not_found": (404, "invalid_request_error", "The model does not exist or you do not have access to it."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error of the interface."""

    status: int
    type: str
    code: str | None
    message: str
    param: str | None = None

    def body(self) -> dict[str, Any]:
        """Return its JSON."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


def failure_for(behaviour: Behaviour, call: Call) -> Failure | None:
    """Return the error that this behaviour plays for this call, or None if it answers."""
    if behaviour.error is not None:
        status, kind, message = _CODES.get(behaviour.error, (400, "invalid_request_error", "Invalid request."))
        return Failure(status=behaviour.status or status, type=kind, code=behaviour.error, message=message)
    if behaviour.status is not None:
        kind, code, message = _ERRORS.get(behaviour.status, ("server_error", None, "The request failed."))
        return Failure(status=behaviour.status, type=kind, code=code, message=message)
    refused = {
        "json_schema": behaviour.rejects_json_schema,
        "json_object": behaviour.rejects_json_object,
    }
    if call.response_format is not None and refused.get(call.response_format):
        message = f"'response_format' of type '{call.response_format}' is not supported with this model."
        return _invalid(f"Invalid parameter: {message}", param="response_format")
    if behaviour.rejects_max_tokens and call.max_tokens is not None:
        return _invalid(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
            param="max_tokens",
        )
    if behaviour.rejects_images and call.pictures:
        return _invalid("Invalid content type. image_url is only supported by certain models.", param="messages")
    return None


def _invalid(message: str, *, param: str) -> Failure:
    return Failure(status=400, type="invalid_request_error", code=None, message=message, param=param)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One answer, ready to be put into either shape."""

    number: int
    created: int
    """Unix time in seconds."""
    text: str
    finish_reason: str
    refusal: str | None
    usage: dict[str, int]
    has_choices: bool

    def whole(self) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""
        message = {"role": "assistant", "content": None if self.refusal else self.text, "refusal": self.refusal}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish_reason}
        return {
            **self._envelope("chat.completion"),
            "choices": [choice] if self.has_choices else [],
            "usage": self.usage,
        }

    def encoded(self) -> bytes:
        """Return that body as it is sent."""
        return json.dumps(self.whole()).encode()

    def events(self, *, piece_chars: int, include_usage: bool) -> Iterator[bytes]:
        """Yield the server-sent events of a streamed answer, the last one being ``[DONE]``."""
        if self.has_choices:
            yield self._event({"role": "assistant", "content": "", "refusal": None})
            kind, text = ("refusal", self.refusal) if self.refusal else ("content", self.text)
            for at in range(0, len(text), piece_chars):
                yield self._event({kind: text[at : at + piece_chars]})
            yield self._event({}, finish_reason=self.finish_reason)
        if include_usage:
            yield _sse({**self._envelope("chat.completion.chunk"), "choices": [], "usage": self.usage})
        yield b"data: [DONE]\n\n"

    def _event(self, delta: dict[str, Any], *, finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _sse({**self._envelope("chat.completion.chunk"), "choices": [choice]})

    def _envelope(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-stand-in-{self.number}",
            "object": kind,
            "created": self.created,
            "model": MODEL,
            "system_fingerprint": FINGERPRINT,
        }


def _sse(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def usage_of(call: Call, text: str) -> dict[str, int]:
    """Return plausible figures: a token per four characters, and a flat number per picture."""
    prompt = len(call.prompt) // CHARS_PER_TOKEN + _TOKENS_PER_IMAGE * len(call.pictures)
    completion = max(1, len(text) // CHARS_PER_TOKEN)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
