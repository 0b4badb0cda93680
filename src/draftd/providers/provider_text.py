"""What a provider said of a failure: its own sentence, its codes and the wait it asks for, out of whatever it came in.

Providers, gateways and litellm wrap one sentence in JSON, in JSON within the text of JSON, in Python's notation of either, or in
a web page. Invariants: only texts about the error are read, never what an error quotes of the request (``input``,
``flagged_input``), because what an error means is told by its words; and no text makes it raise.
"""

import ast
import json
import re
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

MAX_CHARS = 2_000
"""Of a sentence; the meaning of none is told later than that."""
MAX_DEPTH = 12
MAX_PARTS = 20

_MESSAGES = ("message", "Message", "msg", "detail", "error_message", "error_msg", "errorMessage", "title")
_CODES = ("code", "type", "status", "param", "reason", "__type", "error_type")
_INNER = ("error", "errors", "innererror", "metadata", "raw", "details", "previous_errors")

# litellm prefixes what the provider said with up to three names of its own.
_PREFIXES = re.compile(
    r"^(?:litellm\.\w+: )*(?:\w+(?:Error|Exception)(?: \w+(?:Error|Exception)| Error)?(?:: | - |:(?=\w)))*"
    r"(?:Error code: \d{3} - )?(?:Message: )?"
)
_SUFFIXES = re.compile(
    r"(?:\. Handle with `litellm\..*|,? Metadata: \{.*|\.? ?Received Model Group=.*|\.? Received=.*)$", re.DOTALL
)
_TITLE = re.compile(r"<title[^>]{0,200}>([^<]{1,300})", re.IGNORECASE)
_TAG = re.compile(r"^\s*<(?:!doctype|html|head|body|\?xml)", re.IGNORECASE)
_DELAY = re.compile(r"^(\d{1,9}(?:\.\d{1,9})?)s$")
_WAIT = re.compile(
    r"(?:retry|try again|wait|resets?) (?:in|after|for) (?:(\d{1,4})h)?(?:(\d{1,4})m(?!s))?"
    r"(?:(\d{1,9}(?:\.\d{1,9})?) ?(ms|s|sec|m))?",
    re.IGNORECASE,
)


@dataclass(slots=True)
class ProviderText:
    """What was found."""

    sentences: list[str] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    status: int | None = None
    """A status of HTTP that stands in the text: of a provider behind a gateway, or of an error within a stream."""
    retry_after_s: float | None = None

    @property
    def sentence(self) -> str:
        """What it said, in its own words; the innermost where one error wraps another."""
        return self.sentences[-1] if self.sentences else ""

    @property
    def words(self) -> str:
        """All that tells what an error means: sentences and codes."""
        return " | ".join([*self.sentences, *self.codes])[:MAX_CHARS]


def read(text: str) -> ProviderText:
    """Read what was said of an error."""
    found = ProviderText()
    _read_text(text, found, MAX_DEPTH)
    found.sentences = list(dict.fromkeys(found.sentences))
    found.codes = list(dict.fromkeys(found.codes))
    if found.retry_after_s is None:
        found.retry_after_s = next((wait for one in found.sentences if (wait := _wait_s(one)) is not None), None)
    return found


def _read_text(text: str, found: ProviderText, depth: int) -> None:
    text = text.partition("Traceback (most recent call last)")[0].strip()
    if _TAG.match(text):
        title = _TITLE.search(text)
        found.sentences.append(f"a web page: {title[1].strip()}" if title else "a web page")
        return
    value = _parsed(text) if depth else None
    count = len(found.sentences)
    if value is not None:
        _read_value(value, found, depth - 1)
    if len(found.sentences) == count and (plain := _plain(text)):
        found.sentences.append(plain[:MAX_CHARS])


def _plain(text: str) -> str:
    return _SUFFIXES.sub("", _PREFIXES.sub("", text)).strip()


def _read_value(value: Any, found: ProviderText, depth: int) -> None:
    if value is None or depth < 0 or len(found.sentences) >= MAX_PARTS:
        return
    match value:
        case str() if value.strip():
            _read_text(value, found, depth)
        case list():
            for one in value[:MAX_PARTS]:
                _read_value(one, found, depth - 1)
        case dict():
            _read_object(value, found, depth)


def _read_object(value: dict[str, Any], found: ProviderText, depth: int) -> None:
    for name in _CODES:
        _read_code(value.get(name), found)
    delay = _DELAY.match(str(value.get("retryDelay", "")))
    if delay:
        found.retry_after_s = float(delay[1])
    for name in _MESSAGES:
        _read_value(value.get(name), found, depth - 1)
    if isinstance(loc := value.get("loc"), list):
        # FastAPI's way to say which field it means.
        found.codes.append(".".join(str(part)[:80] for part in loc[:MAX_PARTS]))
    for name in _INNER:
        _read_value(value.get(name), found, depth - 1)


def _read_code(code: Any, found: ProviderText) -> None:
    if isinstance(code, bool) or not isinstance(code, str | int):
        return
    if str(code).isdecimal():
        number = int(str(code)[:9])
        found.status = number if 400 <= number < 600 else found.status  # noqa: PLR2004 - HTTP's errors
    elif code not in {"", "None", "error"}:
        found.codes.append(str(code)[:200])


def _parsed(text: str) -> Any:
    """Return the JSON in a text, or what Python would write for it; None when there is none."""
    if text[:2] in {"b'", 'b"'}:
        quoted = _literal(text[: 10 * MAX_CHARS])
        text = quoted.decode(errors="replace") if isinstance(quoted, bytes) else text
    for start in _starts(text):
        with suppress(ValueError, RecursionError):
            value, _ = json.JSONDecoder().raw_decode(text, start)
            return value if isinstance(value, list | dict) and value else None
        end = max(text.rfind("}"), text.rfind("]")) + 1
        value = _literal(text[start : min(end, start + 10 * MAX_CHARS)])
        if isinstance(value, list | dict) and value:
            return value
    return None


def _literal(text: str) -> Any:
    """Return what Python's notation stands for; None where it is none."""
    with warnings.catch_warnings(), suppress(ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        warnings.simplefilter("ignore")  # a backslash of somebody else's
        return ast.literal_eval(text)
    return None


def _starts(text: str) -> Iterator[int]:
    if text[:1] == "[":
        yield 0
    brace = text.find("{")
    if brace >= 0:
        yield brace


def _wait_s(sentence: str) -> float | None:
    match = _WAIT.search(sentence)
    if match is None or not any(match.groups()):
        return None
    hours, minutes, rest, unit = match.groups()
    last = float(rest or 0) * {"ms": 0.001, "m": 60.0}.get((unit or "s").lower(), 1.0)
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + last
