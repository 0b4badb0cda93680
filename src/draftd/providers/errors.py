"""Translates every exception of a model call into one of draftd's.

Owns the mapping from litellm's classes, HTTP statuses and messages to ``errors.ModelError``. It does not import litellm, which is
slow: it recognises classes by name, which litellm shares with the OpenAI SDK.

Invariants: a message is one line and contains the provider's status and at most ``EXCERPT_CHARS`` of its text, redacted. A
misconfiguration or an outage becomes a ``hold``; a problem of one request never does.
"""

import math
import re
import ssl
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice

from draftd.errors import (
    ContextTooLong,
    ModelError,
    ModelMisconfigured,
    ModelRateLimited,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
    OutputInvalid,
)
from draftd.providers.parameters import LIMITS
from draftd.sanitize import redact

EXCERPT_CHARS = 300
QUOTA_EXHAUSTED = "the quota is exhausted"
"""Prefix of a ``ModelRateLimited`` message when only paying helps, not waiting."""
MAX_RETRY_AFTER_S = 86_400.0

_BY_CLASS: Mapping[str, type[ModelError]] = {
    "ContextWindowExceededError": ContextTooLong,
    "ContentPolicyViolationError": ModelRefused,
    "RejectedRequestError": ModelRefused,
    "AuthenticationError": ModelMisconfigured,
    "PermissionDeniedError": ModelMisconfigured,
    "NotFoundError": ModelMisconfigured,
    "LiteLLMUnknownProvider": ModelMisconfigured,
    "UnsupportedParamsError": ModelMisconfigured,
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
    413: ContextTooLong,
    429: ModelRateLimited,
    451: ModelMisconfigured,
}

# Providers disagree about the status of these, so the text takes precedence over class and status.
_MISSING_KEY = re.compile(
    r"""
      api_key\ client\ option\ must\ be\ set | missing\ credentials | api_key_invalid
    | (?:missing|no|invalid|incorrect)\ (?:[\w-]+\ )?(?:x-)?api[ _-]?key
    | api[ _-]?key\ (?:is\ )?(?:not\ valid|required|missing|not\ found)
    """,
    re.IGNORECASE | re.VERBOSE,
)
_UNKNOWN_MODEL = re.compile(
    r"""
      llm\ provider\ not\ provided | model_not_found | not\ a\ valid\ model
    | model\ [^.]{0,120}?(?:not\ exist|not\ found|decommissioned|retired|no\ longer\ (?:supported|available))
    | model\ (?:id|identifier|name)\ is\ (?:invalid|not\ valid)
    | (?:unknown|no\ such|invalid)\ model
    """,
    re.IGNORECASE | re.VERBOSE,
)
_BLIND = re.compile(
    r"""
      (?:not|n't|cannot)\ (?:support|accept|take|process|allow)\w*\ (?:\w+\ ){0,4}(?:image|vision|multi-?modal)
    | (?:image|vision)[\w ]{0,40}\ (?:not|un)[ -]?(?:supported|available|allowed|enabled)
    | endpoints\ found\ that\ support\ image | not\ a\ multimodal\ model | at\ most\ 0\ image
    | image_url[^.]{0,60}only\ supported\ by\ certain\ models
    """,
    re.IGNORECASE | re.VERBOSE,
)
_TOO_LONG = re.compile(
    r"""
      context[ _-]?(?:length|window|size) | maximum\ number\ of\ tokens
    | too\ many\ (?:input\ )?tokens | (?:prompt|input)\ is\ too\ long
    """,
    re.IGNORECASE | re.VERBOSE,
)
# Parameters that every call of a target sends. A ``max_tokens`` that is too large is not among them: a repair doubles it.
_PARAMETER = re.compile(
    r"""
      unsupported[ _](?:parameter|value)
    | (?:unknown|unrecognized|unexpected)\ (?:request\ )?(?:parameter|argument|keyword)
    | \b(?:temperature|top_p)\b[^.]{0,60}?\b(?:unsupported|deprecated|must\ be|should\ be|not\ (?:supported|allowed))
    """,
    re.IGNORECASE | re.VERBOSE,
)
_REFUSED = re.compile(
    r"content[ _]?(?:policy|filter|management)|safety system|moderation|flagged|usage polic(?:y|ies)", re.IGNORECASE
)
_QUOTA = re.compile(
    r"""
      insufficient[ _](?:quota|credit|balance|funds) | credit\ balance\ is\ too\ low | billing_hard_limit
    | out\ of\ credits | exceeded\ your\ current\ quota
    """,
    re.IGNORECASE | re.VERBOSE,
)
_RETRY_HINT = re.compile(r"(?:retry|try again) (?:in|after) ", re.IGNORECASE)
_RESPONSE_FORMAT = re.compile(
    r"response[_ ]?format|json[_ ]?schema|json[_ ]?object|json mode|structured[_ ]outputs?", re.IGNORECASE
)

# Of httpx and aiohttp, and what urllib and yarl say without a class of their own.
_BAD_ADDRESS = frozenset({"InvalidURL", "InvalidUrlClientError", "NonHttpUrlClientError", "UnsupportedProtocol"})
_BAD_PORT = re.compile("Port (?:out of range|could not be cast)|Invalid IPv6 URL")
MAX_CAUSES = 20

# litellm's own words for the hundredth chunk in a row with the same text, which it calls a 500 and quotes.
_LOOPING = re.compile("The model is repeating the same chunk")

# litellm prefixes what the provider said with up to three names of its own.
_PREFIXES = re.compile(
    r"^(?:litellm\.\w+: )*(?:\w+(?:Error|Exception)(?: Error)?(?:: | - |:(?=\w)))*(?:Error code: \d{3} - )?"
)


def translate(error: Exception, *, model: str) -> ModelError:
    """Translate an exception of litellm.

    An unexplained 4xx becomes ``OutputInvalid``, a retry, although there was no output: the provider rejects this one
    request. As a hold, one odd picture would stop the model for all requests; as final, a transient fault would lose the
    request. A retry is cheap (a rejected request is not billed) and ends at ``max_attempts``.

    Args:
        error: as raised by litellm or the OpenAI SDK beneath it.
        model: the name that the operator configured.
    """
    error = _cause(error)
    if why := _distrusted(error):
        return ModelMisconfigured(f"{model}: the server's certificate is refused: {why}", model=model)
    if what := _unsendable(error):
        return ModelMisconfigured(f"{model}: {what} is not one that can be sent", model=model)
    if status := _redirected(error):
        return ModelMisconfigured(f"{model}: {status}: the server redirects, which draftd does not follow", model=model)
    said, status = _said(error), _status(error)
    kind = _class_of(error, said, status)
    excerpt = redact(_PREFIXES.sub("", said.split("Traceback (most recent call last)")[0]), EXCERPT_CHARS)
    where = f"{model}: {status or type(error).__name__}"
    wait_s = retry_after_s(error)
    if kind is ModelRateLimited and is_quota(error):
        message = f"{QUOTA_EXHAUSTED}: {where}: {excerpt}"
        return ModelRateLimited(message, model=model, retry_after_s=wait_s, is_quota=True)
    return kind(f"{where}: {excerpt}", model=model, retry_after_s=wait_s)


def is_quota(error: Exception) -> bool:
    """Return whether a rate limit is an exhausted quota, which waiting does not fix."""
    error = _cause(error)
    text = _said(error)
    if _status(error) == 402:  # noqa: PLR2004 - Payment Required
        return True
    # Gemini also says "exceeded your current quota" for a limit per minute, but then adds a retry delay.
    return bool(_QUOTA.search(text)) and not _RETRY_HINT.search(text)


def is_format_refused(error: Exception) -> bool:
    """Return whether the provider refused only the ``response_format``."""
    rejected = _class_of_name(_cause(error)) in {OutputInvalid, ModelMisconfigured} and (_status(error) or 400) in {
        400,
        404,
        415,
        422,
    }
    return rejected and bool(_RESPONSE_FORMAT.search(_said(error)))


def refused_parameters(error: Exception, sent: Collection[str]) -> list[str]:
    """Return the parameters to drop before repeating a refused call; empty if something else was refused.

    If the provider names none of them, drops all except the output token limit, which goes last.

    Args:
        error: as raised by litellm or the OpenAI SDK beneath it.
        sent: the names of the parameters that the call was sent with.
    """
    error = _cause(error)
    said = _said(error)
    if _class_of_name(error) is not OutputInvalid or not _PARAMETER.search(said):
        return []
    named = [name for name in sent if re.search(rf"\b{re.escape(name)}\b", said)]
    return named or [name for name in sent if name not in LIMITS] or list(sent)


def retry_after_s(error: Exception) -> float | None:
    """Return the provider's Retry-After in seconds from now (0 to one day), or None."""
    headers = _headers(error)
    seconds = _number(headers.get("retry-after-ms"))
    if seconds is not None:
        seconds /= 1000
    else:
        seconds = _number(headers.get("retry-after"))
    if seconds is None:
        seconds = _until(headers.get("retry-after"), since=headers.get("date"))
    return None if seconds is None else min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def _cause(error: Exception) -> Exception:
    # litellm wraps any error in mid-stream as a 503 (MidStreamFallbackError) for its router.
    original = getattr(error, "original_exception", None)
    return original if isinstance(original, Exception) else error


def _unsendable(error: BaseException) -> str | None:
    """Return what prevented a call from being sent, which litellm reports as a connection error or a 500, or None.

    For example a key with a trailing line break, or an address without a scheme. Judged by the underlying errors, whose texts
    are not shown because they quote the key or the address.
    """
    for behind in islice(_behind(error), MAX_CAUSES):
        if isinstance(behind, UnicodeEncodeError) and behind.encoding == "ascii":
            return "the key"
        if type(behind) is ValueError and "header" in str(behind):
            return "the key"
        if type(behind).__name__ in _BAD_ADDRESS or (type(behind) is ValueError and _BAD_PORT.match(str(behind))):
            return "the provider's address"
    return None


def _distrusted(error: BaseException) -> str | None:
    """Return why the server's certificate was rejected, which litellm reports as a connection error, or None.

    Unlike an outage, this needs an operator: the address is wrong, the certificate has expired, or its authority is unknown.
    """
    refused = [one for one in islice(_behind(error), MAX_CAUSES) if isinstance(one, ssl.SSLCertVerificationError)]
    # aiohttp's subclass does not carry OpenSSL's message.
    reasons = (str(getattr(one, "verify_message", "")) for one in refused)
    return next((redact(why, EXCERPT_CHARS) for why in reasons if why), "it cannot be verified") if refused else None


def _redirected(error: BaseException) -> int | None:
    """Return the status of a redirect, which litellm reports as a connection error or a 500, or None."""
    statuses = (
        getattr(getattr(one, "response", None), "status_code", None) for one in islice(_behind(error), MAX_CAUSES)
    )
    return next((status for status in statuses if isinstance(status, int) and 300 <= status < 400), None)  # noqa: PLR2004 - HTTP's


def _behind(error: BaseException) -> Iterator[BaseException]:
    behind: BaseException | None = error
    while behind is not None:
        yield behind
        behind = behind.__cause__ or behind.__context__


def _said(error: Exception) -> str:
    body = getattr(error, "body", None)
    marks = [str(body[key]) for key in ("code", "type", "param") if body.get(key)] if isinstance(body, Mapping) else []
    text = str(getattr(error, "message", "") or error)
    return text if not marks else f"{text} [{' '.join(dict.fromkeys(marks))}]"


def _status(error: Exception) -> int | None:
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) else None


def _class_of(error: Exception, said: str, status: int | None) -> type[ModelError]:
    if _LOOPING.search(said):
        # A screenshot can cause this; as an outage it would put the model on hold for all requests.
        return OutputInvalid
    if _MISSING_KEY.search(said):
        return ModelMisconfigured
    found = _class_of_name(error)
    if found in {None, OutputInvalid}:
        # litellm raises BadRequestError for many statuses, but keeps the status.
        found = _class_of_status(status)
    if found is OutputInvalid or status == 403:  # noqa: PLR2004 - Forbidden is a key without rights or a moderated request
        return _class_of_refusal(said) or found or OutputInvalid
    return found or OutputInvalid


def _class_of_refusal(said: str) -> type[ModelError] | None:
    """Classify a rejected request by its text, most specific pattern first."""
    meanings: tuple[tuple[re.Pattern[str], type[ModelError]], ...] = (
        (_QUOTA, ModelRateLimited),
        (_UNKNOWN_MODEL, ModelMisconfigured),
        (_BLIND, ModelMisconfigured),
        (_TOO_LONG, ContextTooLong),
        (_PARAMETER, ModelMisconfigured),
        (_REFUSED, ModelRefused),
    )
    return next((meaning for words, meaning in meanings if words.search(said)), None)


def _class_of_name(error: Exception) -> type[ModelError] | None:
    return next((_BY_CLASS[cls.__name__] for cls in type(error).__mro__ if cls.__name__ in _BY_CLASS), None)


def _class_of_status(status: int | None) -> type[ModelError]:
    if status is None or status >= 500:  # noqa: PLR2004 - the server's errors; 529 is Anthropic's "overloaded"
        return ModelUnavailable
    if status < 300:  # noqa: PLR2004 - a success with an unusable body, usually from a proxy
        return ModelUnavailable
    if status < 400:  # noqa: PLR2004 - a redirect, which draftd does not follow: the address is wrong
        return ModelMisconfigured
    return _BY_STATUS.get(status, OutputInvalid)


def _headers(error: Exception) -> dict[str, str]:
    inner = _cause(error)
    for found in (
        getattr(error, "litellm_response_headers", None),
        getattr(inner, "litellm_response_headers", None),
        getattr(getattr(inner, "response", None), "headers", None),
    ):
        if isinstance(found, Mapping) and found:
            return {str(name).lower(): str(value) for name, value in found.items()}
    return {}


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _until(text: str | None, *, since: str | None) -> float | None:
    """Return the seconds until an HTTP date; counting from the server's ``Date`` avoids clock skew."""
    end = _date(text)
    return None if end is None else (end - (_date(since) or datetime.now(UTC))).total_seconds()


def _date(text: str | None) -> datetime | None:
    try:
        parsed = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
