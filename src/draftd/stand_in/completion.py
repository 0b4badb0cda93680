"""What the stand-in answers, in no format yet: a completion, or a failure.

Owns the facts alone; how they look on a wire is ``wires``' matter. The failures' words follow OpenAI's API reference.
"""

from dataclasses import dataclass

from draftd.stand_in.behaviour import Behaviour
from draftd.stand_in.call import Call

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
    """An error."""

    status: int
    type: str
    code: str | None
    message: str
    param: str | None = None


def failure_for(behaviour: Behaviour, call: Call) -> Failure | None:
    """Return the error that this behaviour plays for this call, or None if it answers."""
    if behaviour.error is not None:
        status, kind, message = _CODES.get(behaviour.error, (400, "invalid_request_error", "Invalid request."))
        message = behaviour.message or message
        return Failure(status=behaviour.status or status, type=kind, code=behaviour.error, message=message)
    if behaviour.status is not None:
        kind, code, message = _ERRORS.get(behaviour.status, ("server_error", None, "The request failed."))
        message = behaviour.message or message
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
class Usage:
    """What a call took."""

    input_tokens: int
    """All of them, also those from the cache."""
    output_tokens: int
    cached_tokens: int = 0
    cost_usd: float | None = None
    """What the provider itself says that the call cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One answer, ready to be written in any format."""

    number: int
    created: int
    """Unix time in seconds."""
    text: str
    finish_reason: str
    """OpenAI's word."""
    refusal: str | None
    usage: Usage
    has_choices: bool
    includes_usage: bool = True
    """Whether the client wants the usage of a streamed answer."""
    tool: str | None = None
    """The tool whose arguments the text is."""


def usage_of(call: Call, text: str, behaviour: Behaviour) -> Usage:
    """Return plausible figures: a token per four characters, and a flat number per picture."""
    prompt = len(call.prompt) // CHARS_PER_TOKEN + _TOKENS_PER_IMAGE * len(call.pictures)
    return Usage(
        input_tokens=prompt + behaviour.cached_tokens,
        output_tokens=max(1, len(text) // CHARS_PER_TOKEN),
        cached_tokens=behaviour.cached_tokens,
        cost_usd=behaviour.cost_usd,
    )
