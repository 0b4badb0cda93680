from collections.abc import Callable
from typing import Any

import httpx
import pytest

from draftd.errors import (
    ContextTooLong,
    Kind,
    ModelError,
    ModelMisconfigured,
    ModelRateLimited,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
    OutputInvalid,
)
from draftd.providers.errors import QUOTA_EXHAUSTED, translate
from draftd.providers.llm import Llm
from draftd.providers.report import Report

MODEL = "openai/some-model"
BY = {"model": "some-model", "llm_provider": "openai"}
Make = Callable[[Any], Exception]


@pytest.fixture(scope="module")
def exceptions() -> Any:
    return Llm.load()._litellm.exceptions


def response(status: int, **headers: str) -> httpx.Response:
    request = httpx.Request("POST", "https://provider.example/v1/chat/completions")
    return httpx.Response(
        status, headers={name.replace("_", "-"): text for name, text in headers.items()}, request=request
    )


def bad_request(message: str, status: int = 400, **body: str) -> Make:
    return lambda e: e.BadRequestError(message, response=response(status), body=body or None, **BY)


def api_error(status: int, message: str = "no") -> Make:
    return lambda e: e.APIError(status, message, **BY)


def mid_stream(inner: Make) -> Make:
    return lambda e: e.MidStreamFallbackError("broken", original_exception=inner(e), **BY)


CASES: list[tuple[str, Make, type[ModelError]]] = [
    ("a wrong key", lambda e: e.AuthenticationError("Incorrect API key provided", **BY), ModelMisconfigured),
    ("a key without rights", lambda e: e.PermissionDeniedError("no", response=response(403), **BY), ModelMisconfigured),
    (
        "a moderated prompt",
        lambda e: e.PermissionDeniedError("Your input was flagged", response=response(403), **BY),
        ModelRefused,
    ),
    ("an unknown model", lambda e: e.NotFoundError("The model does not exist", **BY), ModelMisconfigured),
    (
        "no OpenAI key, which litellm calls a 500",
        lambda e: e.InternalServerError("OpenAIException - Missing credentials. Please pass an `api_key`", **BY),
        ModelMisconfigured,
    ),
    (
        "no Gemini key, which litellm calls a broken connection",
        lambda e: e.APIConnectionError("Missing Gemini API key. Set the GEMINI_API_KEY", **BY),
        ModelMisconfigured,
    ),
    ("Gemini's wrong key", bad_request("API key not valid. Please pass a valid API key."), ModelMisconfigured),
    ("an unknown provider", lambda e: e.LiteLLMUnknownProvider("foo/bar"), ModelMisconfigured),
    ("an unknown provider in words", bad_request("LLM Provider NOT provided. Pass in the LLM"), ModelMisconfigured),
    ("an unsupported parameter", lambda e: e.UnsupportedParamsError("no logprobs", **BY), ModelMisconfigured),
    (
        "a parameter that the provider refuses",
        bad_request("Unsupported value: 'temperature' does not support 5.", code="unsupported_value"),
        ModelMisconfigured,
    ),
    ("a temperature out of range", bad_request("temperature: must be in [0, 1]"), ModelMisconfigured),
    ("a repair that asks for too much", bad_request("max_tokens is too large: 8192"), OutputInvalid),
    (
        "a blind model at OpenAI",
        bad_request("Invalid content type. image_url is only supported by certain models."),
        ModelMisconfigured,
    ),
    ("a blind model at vLLM", bad_request("some-model is not a multimodal model"), ModelMisconfigured),
    ("a blind model at Ollama", bad_request("this model does not support image input"), ModelMisconfigured),
    ("a rate limit", lambda e: e.RateLimitError("slow down", **BY), ModelRateLimited),
    ("an APIError that is a rate limit", api_error(429), ModelRateLimited),
    ("Anthropic's empty purse", bad_request("Your credit balance is too low"), ModelRateLimited),
    ("a bill to pay", lambda e: e.PaymentRequiredError("pay", **BY), ModelRateLimited),
    ("a long prompt", lambda e: e.ContextWindowExceededError("maximum context length is 8", **BY), ContextTooLong),
    ("a long prompt that litellm missed", bad_request("prompt is too long: 9 tokens > 8"), ContextTooLong),
    ("a body that is too large", bad_request("Request exceeds the maximum size", 413), ContextTooLong),
    ("a content policy", lambda e: e.ContentPolicyViolationError("rejected", **BY), ModelRefused),
    ("a content filter in words", bad_request("filtered by the content management policy"), ModelRefused),
    ("a timeout", lambda e: e.Timeout("too slow", **BY), ModelTimeout),
    ("a 500", lambda e: e.InternalServerError("oops", **BY), ModelUnavailable),
    ("a 502", lambda e: e.BadGatewayError("oops", **BY), ModelUnavailable),
    ("a 503", lambda e: e.ServiceUnavailableError("oops", **BY), ModelUnavailable),
    ("Anthropic's overload", api_error(529, "Overloaded"), ModelUnavailable),
    ("a refused connection", lambda e: e.APIConnectionError("Connection error.", **BY), ModelUnavailable),
    ("DeepSeek's unknown model", bad_request("Model Not Exist"), ModelMisconfigured),
    ("Bedrock's unknown model", bad_request("The provided model identifier is invalid."), ModelMisconfigured),
    (
        "Groq's retired model",
        bad_request("The model `m` has been decommissioned and is no longer supported."),
        ModelMisconfigured,
    ),
    ("a retired model", api_error(410, "Gone"), ModelMisconfigured),
    ("a country, by its own status", api_error(451), ModelMisconfigured),
    ("an address that has moved", api_error(301), ModelMisconfigured),
    ("a gateway that redirects to its login", bad_request("Found", 302), ModelMisconfigured),
    ("a success that is no JSON", api_error(200, "Unable to get json response"), ModelUnavailable),
    ("an unexplained 400", bad_request("Invalid request."), OutputInvalid),
    ("an unexplained 422", bad_request("Unprocessable", 422), OutputInvalid),
    ("an unexplained 409", api_error(409), OutputInvalid),
    ("a country, which litellm calls a 400", bad_request("Not available to you.", 403), ModelMisconfigured),
    ("a server error, which litellm calls a 400", bad_request("invalid_request_error", 500), ModelUnavailable),
    (
        "a model that says the same for ever, which litellm calls a 500",
        mid_stream(
            lambda e: e.InternalServerError("The model is repeating the same chunk = no api key, no api key.", **BY)
        ),
        OutputInvalid,
    ),
    ("a rate limit in a stream", mid_stream(lambda e: e.RateLimitError("slow down", **BY)), ModelRateLimited),
    ("a broken stream", mid_stream(lambda e: e.APIConnectionError("gone", **BY)), ModelUnavailable),
]


@pytest.mark.parametrize(("make", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_an_error_of_litellm_becomes_one_of_the_contract(
    exceptions: Any, make: Make, expected: type[ModelError]
) -> None:
    translated = translate(make(exceptions), model=MODEL)
    assert type(translated) is expected
    assert translated.model == MODEL


def test_an_unexplained_refusal_of_one_request_does_not_hold_the_model(exceptions: Any) -> None:
    assert translate(bad_request("Invalid request.")(exceptions), model=MODEL).kind is Kind.RETRY


@pytest.mark.parametrize(
    ("make", "exhausted"),
    [
        (lambda e: e.RateLimitError("check your plan", body={"code": "insufficient_quota"}, **BY), True),
        (bad_request("Your credit balance is too low to access the API."), True),
        (lambda e: e.PaymentRequiredError("pay", **BY), True),
        (lambda e: e.RateLimitError("Rate limit reached for requests", **BY), False),
        (lambda e: e.RateLimitError("You exceeded your current quota. Please retry in 9.1s.", **BY), False),
    ],
    ids=["OpenAI", "Anthropic", "402", "a rate limit", "Gemini's limit per minute"],
)
def test_an_exhausted_quota_is_told_from_a_rate_limit(exceptions: Any, make: Make, *, exhausted: bool) -> None:
    error = make(exceptions)
    found = translate(error, model=MODEL)
    assert isinstance(found, ModelRateLimited)
    assert (found.message.startswith(QUOTA_EXHAUSTED), found.is_quota) == (exhausted, exhausted)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"date": "Sun, 06 Nov 1994 08:49:37 GMT", "retry-after": "Sun, 06 Nov 1994 08:50:07 GMT"}, 30.0),
        ({"date": "Sun, 06 Nov 1994 08:49:37 GMT", "retry-after": "Sun, 06 Nov 1994 08:49:07 GMT"}, 0.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0.0),
        ({"retry-after": "1e9"}, 86_400.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"x-other": "1"}, None),
        (None, None),
    ],
)
def test_the_wait_is_read_in_every_form_that_http_allows(
    exceptions: Any, headers: dict[str, str] | None, seconds: float | None
) -> None:
    error = exceptions.RateLimitError("slow down", **BY)
    error.litellm_response_headers = httpx.Headers(headers) if headers is not None else None
    assert translate(error, model=MODEL).retry_after_s == seconds


def test_the_wait_is_found_in_the_response_when_litellm_kept_no_headers(exceptions: Any) -> None:
    error = exceptions.RateLimitError("slow down", response=response(429, retry_after="3"), **BY)
    assert Report(error=error).retry_after_s() == 3.0


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (bad_request("'response_format' of type 'json_schema' is not supported with this model."), True),
        (bad_request("Invalid schema", param="response_format"), True),
        (bad_request("json_schema: extra inputs are not permitted", 422), True),
        (lambda e: e.UnsupportedParamsError("no support for parameters: ['response_format']", **BY), True),
        (bad_request("Invalid request."), False),
        (lambda e: e.InternalServerError("response_format broke us", **BY), False),
        (lambda e: e.AuthenticationError("response_format", **BY), False),
    ],
)
def test_only_a_refusal_that_names_the_format_is_one_of_the_format(
    exceptions: Any, make: Make, *, expected: bool
) -> None:
    assert Report(error=make(exceptions)).is_format_refused is expected


def test_a_message_is_one_short_line_without_secrets_paths_or_litellms_own_names(exceptions: Any) -> None:
    said = "OpenAIException - Incorrect key sk-proj-abcdefgh12345678 " + "very " * 200 + "long\nsecond line"
    message = translate(exceptions.InternalServerError(said, **BY), model=MODEL).message
    assert message.startswith(f"{MODEL}: 500: Incorrect key [redacted] very")
    assert "\n" not in message
    assert len(message) < 350


def test_a_traceback_that_litellm_puts_into_its_message_is_cut(exceptions: Any) -> None:
    said = 'boom\nTraceback (most recent call last):\n  File "/secret/place.py", line 1'
    assert translate(exceptions.APIConnectionError(said, **BY), model=MODEL).message == f"{MODEL}: 500: boom"


@pytest.mark.parametrize(
    ("said", "extra"),
    [
        ("No module named 'mcp'", "responses"),
        ("No module named 'google.auth'", "vertex"),
        ("Google Cloud SDK not found. Install it with: pip install 'litellm[google]'", "vertex"),
    ],
)
def test_a_missing_package_is_named_by_the_extra_that_brings_it(exceptions: Any, said: str, extra: str) -> None:
    found = translate(exceptions.APIConnectionError(f"OpenAIException - {said}", **BY), model="m")
    assert type(found) is ModelMisconfigured
    assert found.message == f"m: install draftd[{extra}], which this model needs"
