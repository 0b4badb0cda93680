"""Translates every exception of a model call into one of draftd's.

Owns the way from litellm's classes, HTTP statuses and the meanings of texts (``wordings``) to ``errors.ModelError``. It imports
nothing of litellm: classes are recognised by their names, which litellm shares with the OpenAI SDK it derives from, so that only
``llm`` pays for that import.

Invariants: a message is one line, holds the status that the server answered, its address and at most ``EXCERPT_CHARS`` of what
it said, redacted. An operator's mistake or an outage becomes a ``hold``; what only concerns this one request never does.
"""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from draftd.errors import (
    ContextTooLong,
    ImageUnreadable,
    ModelError,
    ModelMisconfigured,
    ModelRateLimited,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
    OutputInvalid,
    Spent,
)
from draftd.providers import provider_text
from draftd.providers.exchange import Exchange
from draftd.providers.report import EXCERPT_CHARS, Report, behind
from draftd.providers.token_limits import counts_output, window_of
from draftd.providers.wordings import Meaning
from draftd.sanitize import redact

QUOTA_EXHAUSTED = "the quota is exhausted"
"""How the message of a ``ModelRateLimited`` begins when waiting does not help, but paying does."""
_PAGES = frozenset({"text/html", "text/plain", "application/xhtml+xml"})
"""What a proxy answers in with a 200 when the provider behind it is away, or wants a login."""

_BY_MEANING: Mapping[Meaning, type[ModelError]] = {
    # A screenshot can bring a model to repeat itself; as an outage it would hold the model for everybody.
    Meaning.LOOPING: OutputInvalid,
    Meaning.BAD_GENERATION: OutputInvalid,
    Meaning.REFUSED: ModelRefused,
    Meaning.IMAGE: ImageUnreadable,
    Meaning.TOO_LONG: ContextTooLong,
    Meaning.KEY: ModelMisconfigured,
    Meaning.QUOTA: ModelRateLimited,
    Meaning.ACCOUNT: ModelMisconfigured,
    Meaning.MODEL: ModelMisconfigured,
    Meaning.BLIND: ModelMisconfigured,
    Meaning.SETUP: ModelMisconfigured,
    Meaning.STREAM: ModelMisconfigured,
    Meaning.FORMAT: OutputInvalid,
    Meaning.ABOUT_FORMAT: OutputInvalid,
    Meaning.CEILING: OutputInvalid,
    Meaning.PARAMETER: ModelMisconfigured,
    Meaning.ABOUT_POLICY: ModelRefused,
    Meaning.RATE_LIMIT: ModelRateLimited,
    Meaning.BUSY: ModelUnavailable,
}

_BY_CLASS: Mapping[str, type[ModelError]] = {
    "ContextWindowExceededError": ContextTooLong,
    "ContentPolicyViolationError": ModelRefused,
    "RejectedRequestError": ModelRefused,
    "GuardrailRaisedException": ModelRefused,
    "BlockedPiiEntityError": ModelRefused,
    "BudgetExceededError": ModelRateLimited,
    "AuthenticationError": ModelMisconfigured,
    "PermissionDeniedError": ModelMisconfigured,
    "NotFoundError": ModelMisconfigured,
    "LiteLLMUnknownProvider": ModelMisconfigured,
    "ModelNotMappedError": ModelMisconfigured,
    "UnsupportedParamsError": ModelMisconfigured,
    "ImportError": ModelMisconfigured,
    "PaymentRequiredError": ModelRateLimited,
    "RateLimitError": ModelRateLimited,
    "Timeout": ModelTimeout,
    "APITimeoutError": ModelTimeout,
    "BadRequestError": OutputInvalid,
    "UnprocessableEntityError": OutputInvalid,
    "APIResponseValidationError": OutputInvalid,
    "ServiceUnavailableError": ModelUnavailable,
    "BadGatewayError": ModelUnavailable,
    "InternalServerError": ModelUnavailable,
    "APIConnectionError": ModelUnavailable,
}
"""Looked up along the exception's MRO, so that a subclass takes precedence over its base."""

_BY_STATUS: Mapping[int, type[ModelError]] = {
    401: ModelMisconfigured,
    402: ModelRateLimited,
    403: ModelMisconfigured,
    404: ModelMisconfigured,
    405: ModelMisconfigured,
    408: ModelTimeout,
    410: ModelMisconfigured,
    412: ModelMisconfigured,
    413: ContextTooLong,
    429: ModelRateLimited,
    451: ModelMisconfigured,
}

# Of httpx and aiohttp, and what urllib and yarl say without a class of their own.
_BAD_ADDRESS = frozenset({"InvalidURL", "InvalidUrlClientError", "NonHttpUrlClientError", "UnsupportedProtocol"})
_BAD_PORT = re.compile("Port (?:out of range|could not be cast)|Invalid IPv6 URL")
_EXTRAS = (
    (re.compile(r"No module named '(?:mcp|httpx2)\b"), "responses"),
    (re.compile(r"No module named 'google\b|Google Cloud SDK not found"), "vertex"),
)
_TELLING = frozenset({ContextTooLong, ModelRefused, ModelRateLimited, ModelTimeout})
"""The classes of litellm that say more than the status does."""
_PAYMENT_REQUIRED = 402
MOST_CHARS_PER_TOKEN = 5
"""Of an English prompt with a schema; it has about four."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What every request with one prompt needs of the model's window, pictures and context not counted."""

    prompt_chars: int = 0
    output_tokens: int = 0
    """The limit, which some providers count as used."""


NO_NEEDS = Needs()


def translate(
    error: Exception,
    *,
    model: str,
    exchange: Exchange | None = None,
    needs: Needs = NO_NEEDS,
    spent: Spent | None = None,
) -> ModelError:
    """Return what an exception of a model call means to a request.

    An unexplained 4xx becomes ``OutputInvalid``, a retry, although there was no output: the provider rejects this one
    request. As a hold, one odd picture would stop the model for all requests; as final, a transient fault would lose the
    request. A retry is cheap (a rejected request is not billed) and ends at ``max_attempts``.

    Args:
        error: as raised by litellm or a library beneath it.
        model: the name that the operator configured.
        exchange: what happened on the wire, if that was seen.
        needs: what every request with this prompt needs; a window that cannot hold it is the operator's fault.
        spent: what the call has cost until it failed.
    """
    exchange = exchange or Exchange()
    if why := _setup_fault(error, exchange):
        return ModelMisconfigured(f"{model}: {why}", model=model)
    if page := page_instead(exchange):
        return ModelUnavailable(f"{model}: {page}", model=model)
    report = Report(error=error, exchange=exchange)
    kind, message, wait_s = _class_of(report, needs), f"{model}: {report.told()}", report.retry_after_s()
    if kind is ModelRateLimited and (report.meaning is Meaning.QUOTA or report.status == _PAYMENT_REQUIRED):
        message = f"{QUOTA_EXHAUSTED}: {message}"
        return ModelRateLimited(message, model=model, retry_after_s=wait_s, spent=spent, is_quota=True)
    return kind(message, model=model, retry_after_s=wait_s, spent=spent)


def _setup_fault(error: Exception, exchange: Exchange) -> str | None:
    """Return what is wrong with an address, a key or an installation; None when the provider is to say what went wrong."""
    if why := _distrusted(error):
        return f"the server's certificate is refused: {why}"
    if what := _unsendable(error):
        return f"{what} is not one that can be sent"
    if status := _redirected(error, exchange):
        return f"{status}: the server redirects, which draftd does not follow"
    if extra := _missing_extra(error):
        return f"install draftd[{extra}], which this model needs"
    return None


def page_instead(exchange: Exchange) -> str:
    """Return what came instead of an answer, if it was a page that people read: of a login, or of a proxy in trouble."""
    if not exchange.is_success or exchange.media_type not in _PAGES:
        return ""
    title = redact(provider_text.read(exchange.body).sentence, EXCERPT_CHARS)
    return f"{exchange.media_type} instead of an answer from {redact(exchange.address)}" + (
        f": {title}" if title else ""
    )


def _class_of(report: Report, needs: Needs) -> type[ModelError]:
    if report.meaning is not None:
        is_hopeless = report.meaning is Meaning.TOO_LONG and _holds_no_prompt(report, needs)
        return ModelMisconfigured if is_hopeless else _BY_MEANING[report.meaning]
    named, status = _named(report.cause), report.telling_status
    if not report.exchange.address:
        return _class_unseen(report, named, status)
    # litellm knows some wordings, too. An error in the middle of a stream has no status, or names its own; a body that no answer
    # could be made of is a proxy's, as a rule.
    return named if named in _TELLING else _of_status(status)


def _class_unseen(report: Report, named: type[ModelError] | None, status: int | None) -> type[ModelError]:
    if named is not None and named is not OutputInvalid:
        return named
    if named is None and status is None and not isinstance(report.cause, OSError):
        # No error of a provider, and nothing was sent: a defect of the configuration or of a library.
        return ModelMisconfigured
    # litellm makes a BadRequestError of many a status; the status itself is kept.
    return _of_status(status)


def _holds_no_prompt(report: Report, needs: Needs) -> bool:
    """Return whether the window is too small for what every request brings along: none can be answered."""
    words = report.said.words
    window = window_of(words)
    at_least = needs.prompt_chars // MOST_CHARS_PER_TOKEN + (needs.output_tokens if counts_output(words) else 0)
    return window is not None and window <= at_least


def _named(error: Exception) -> type[ModelError] | None:
    return next((_BY_CLASS[cls.__name__] for cls in type(error).__mro__ if cls.__name__ in _BY_CLASS), None)


def _of_status(status: int | None) -> type[ModelError]:
    if status is None or not 300 <= status < 500:  # noqa: PLR2004 - 529 is Anthropic's "overloaded"; a success had no answer in it
        return ModelUnavailable
    if status < 400:  # noqa: PLR2004 - a redirect that was not followed: the address is another
        return ModelMisconfigured
    return _BY_STATUS.get(status, OutputInvalid)


def _unsendable(error: BaseException) -> str | None:
    """Return what prevented a call from being sent, which litellm reports as a connection error or a 500, or None.

    For example a key with a trailing line break, or an address without a scheme. Judged by the underlying errors, whose texts
    are not shown because they quote the key or the address.
    """
    for one in behind(error):
        if isinstance(one, UnicodeEncodeError) and one.encoding == "ascii":
            return "the key"
        if type(one) is ValueError and "header" in str(one):
            return "the key"
        if type(one).__name__ in _BAD_ADDRESS or (type(one) is ValueError and _BAD_PORT.match(str(one))):
            return "the provider's address"
    return None


def _missing_extra(error: BaseException) -> str | None:
    """Return the extra of draftd that would bring what litellm failed to import; None when it is something else."""
    texts = [str(one) if isinstance(one, ImportError) else str(getattr(one, "message", "")) for one in behind(error)]
    return next((extra for words, extra in _EXTRAS if any(words.search(text) for text in texts)), None)


def _distrusted(error: BaseException) -> str | None:
    """Return why the server's certificate was rejected, which litellm reports as a connection error, or None.

    Unlike an outage, this needs an operator: the address is wrong, the certificate has expired, or its authority is unknown.
    """
    refused = [one for one in behind(error) if isinstance(one, ssl.SSLCertVerificationError)]
    # aiohttp's own error is one by name only and has no words of OpenSSL's.
    reasons = (str(getattr(one, "verify_message", "")) for one in refused)
    return next((redact(why, EXCERPT_CHARS) for why in reasons if why), "it cannot be verified") if refused else None


def _redirected(error: BaseException, exchange: Exchange) -> int | None:
    """Return the status of a redirect, which litellm calls a broken connection or a 500; None when it was none."""
    statuses = [getattr(getattr(one, "response", None), "status_code", None) for one in behind(error)]
    redirects = (one for one in [exchange.status, *statuses] if isinstance(one, int) and 300 <= one < 400)  # noqa: PLR2004 - HTTP's
    return next(redirects, None)
