"""What may leave the process: ``storable`` for the database, ``redact`` for every reader, ``without_secrets`` for parameters.

Owns the filters for everything that draftd did not write itself: models' answers, error bodies, text from screenshots, parameters
of model calls. Invariants: the result of ``storable`` can be stored as ``text`` or ``jsonb``; the result of ``redact`` contains
no key, and no credentials, path or query of a URL.
"""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

MAX_TEXT_CHARS = 20_000
"""The longest text that is stored; a detailed reply has about 1,500 characters."""
MAX_ITEMS = 200
MAX_DEPTH = 12

_WHOLE = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What moves the cursor, changes colours or shows text in another order than it is stored; not tabs and line breaks."""
_CUT = "…"
_TOO_LARGE = 1e300
"""Most JSON readers cannot handle larger numbers, and Python refuses to print an integer of 4,300 digits."""

# Every pattern takes linear time on any text: a repetition that could start at many positions has a lookbehind or a bound.
# Otherwise a provider's answer could block the event loop for minutes.
_URL = re.compile(
    r"\b(?P<scheme>[a-z][a-z0-9+.-]{1,20})://(?:[^\s/?#'\"<>]*@)?"
    r"(?P<host>(?:\[[0-9a-f:.%]+\]|[^\s/?#'\"<>()\[\]{}:]|:(?=\d{1,5}\b|\s|$))+)"
    # A colon without a port means that the host was a user name, and this is a password with a slash.
    r"(?P<rest>(?:[/?#]|:(?=\S))[^\s'\"<>]*)?",
    re.IGNORECASE,
)
_DATA_URL = re.compile(r"data:[\w.+/-]+(?:;[\w=.+-]+)*,[A-Za-z0-9+/=_%-]*", re.IGNORECASE)
_SECRETS = (
    # OpenAI, Anthropic and the like, xAI, Cerebras, Perplexity, NVIDIA, GitLab, Slack; Groq, Hugging Face, GitHub, Replicate,
    # Stripe, Supabase; Langfuse; Google, AWS.
    re.compile(
        r"(?<![A-Za-z0-9])(?:(?:sk|xai|csk|pplx|nvapi|glpat|xox[abeprs])-|(?:sk|gsk|hf|gh[opsur]|github_pat|r8|sb_secret)_"
        r"|[pr]k_(?:live|test)_|pk-lf-|AIza|AKIA|ASIA|ya29\.)[A-Za-z0-9*_.-]{8,}"
    ),
    re.compile(r"(?<![\w-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?"),
    re.compile(r"(?i)\bbearer\s+[^\s'\",;]+"),
    # Base64 of a text changes its case in the middle; "basic authentication" does not.
    re.compile(r"\b[Bb]asic (?=\S*[a-z0-9][A-Z])[A-Za-z0-9+/_-]{8,}={0,2}"),
    re.compile(
        r"(?i)(?:(?<![\w-])[\w-]{1,64}?)?"
        r"(?:api[-_ ]?key|authorization|secret(?:[-_ ]?(?:access[-_ ]?)?key)?|passw(?:or)?d|token)"
        r"\\*['\"]?\s*(?:[=:]|\bprovided:)\s*"
        r"(?:\"[^\"]{4,}\"|'[^']{4,}'"
        r"|\\*['\"]?(?:(?:basic|bearer|token|digest)\s+)?(?!\d{1,9}\b)[^\s'\"}]{4,})"
    ),
)
_USERINFO = re.compile(r"(?<=://)[^\s/?#]*@")
# Searched in a name without separators and case: ``aws_secret_access_key``, ``X-Api-Key``, ``clientSecret``. "tokens" is a number
# (max_tokens), and a cache key (prompt_cache_key) is no secret.
_SECRET_NAME = re.compile(
    r"secret|passw|passphrase|credential|authorization|apikey|accesskey|privatekey|(?:(?<!cache)keys?|token|auth|cookie)$"
)
_REDACTED = "[redacted]"


def storable(value: Any) -> Any:
    """Return a copy of a JSON-like value that PostgreSQL can store.

    Removes NUL and lone surrogates (``text`` and ``jsonb`` refuse both, which would fail the very statement that ends the
    request); cuts texts at ``MAX_TEXT_CHARS``, collections at ``MAX_ITEMS`` and nesting at ``MAX_DEPTH``; replaces numbers that
    JSON lacks (NaN, the infinities, those of 300 digits) by null.
    """
    return _storable(value, MAX_DEPTH)


def _storable(value: Any, depth: int) -> Any:
    match value:
        case str():
            return storable_text(value)
        case bool() | None:
            return value
        case int() | float():
            # False for NaN and the infinities too.
            return value if abs(value) < _TOO_LARGE else None
        case dict() if depth:
            return {storable_text(str(k)): _storable(v, depth - 1) for k, v in list(value.items())[:MAX_ITEMS]}
        case list() | tuple() if depth:
            return [_storable(v, depth - 1) for v in value[:MAX_ITEMS]]
        case _:
            return None if isinstance(value, dict | list | tuple) else storable_text(str(value))


def storable_json(value: Any) -> str:
    """Return JSON text that PostgreSQL can store: of the value itself if possible, else of ``storable(value)``.

    Nearly every value is storable unchanged. Checking its JSON text is faster than walking through it, which took a third of the
    daemon's CPU time in ``make bench-queue`` (docs/adr/0021).
    """
    with suppress(ValueError, TypeError, RecursionError):
        text = _WHOLE.encode(value)
        # Then no text in it is too long, and encoding fails for a lone surrogate.
        if len(text) <= MAX_TEXT_CHARS and "\\u0000" not in text:
            text.encode()
            return text
    return json.dumps(storable(value), ensure_ascii=False)


def storable_text(text: str, max_chars: int = MAX_TEXT_CHARS) -> str:
    """Return a text without NUL and lone surrogates, cut at ``max_chars`` characters."""
    clean = _UNSTORABLE.sub("", text)
    return clean if len(clean) <= max_chars else clean[: max_chars - 1] + _CUT


def printable(text: str) -> str:
    """Return a text with its ``CONTROLS`` replaced."""
    return CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def redact(text: str, max_chars: int = 500) -> str:
    """Return an error or log text without secrets, printable, on one line of at most ``max_chars`` characters.

    Keeps only scheme and host of a URL (paths contain bot tokens, queries contain signatures). Replaces data URLs, bearer tokens,
    JWTs, keys in the providers' formats, and ``key=value`` pairs with a secret's name.
    """
    # Truncate first: a provider's body can be megabytes, and the patterns should not scan all of it. Remove unstorable characters
    # before the patterns run: removing them later would join the halves of a key.
    text = " ".join(_UNSTORABLE.sub("", text[: max_chars * 20]).split())
    text = _DATA_URL.sub("data:[redacted]", text)
    text = _URL.sub(lambda m: f"{m['scheme']}://{m['host']}" + ("/…" if m["rest"] and m["rest"] != "/" else ""), text)
    return storable_text(printable(_without_keys(text)), max_chars)


def _without_keys(text: str) -> str:
    for pattern in _SECRETS:
        text = pattern.sub(_REDACTED, text)
    return text


def without_secrets(value: Any) -> Any:
    """Return a JSON-like value with every secret replaced: values under a secret's name, and keys in texts.

    A value without secrets is returned equal.
    """
    match value:
        case str():
            return _without_keys(_USERINFO.sub(f"{_REDACTED}@", value))
        case Mapping():
            return {
                name: _REDACTED if _names_secret(str(name)) else without_secrets(item) for name, item in value.items()
            }
        case list() | tuple():
            return [without_secrets(item) for item in value]
        case _:
            return value


def _names_secret(name: str) -> bool:
    return _SECRET_NAME.search(re.sub("[^a-z0-9]", "", name.lower())) is not None
