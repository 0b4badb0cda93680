"""What is known of a failed model call: the exception, what happened on the wire, and what the provider said.

Owns the reading of all three together: the status that the server answered, the provider's own sentence, the wait it asks for,
and which humbler form of the call it would take. What a failure means to its request is ``errors``'s to say.
"""

import math
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property

from draftd.providers import provider_text
from draftd.providers.exchange import Exchange
from draftd.providers.parameters import LIMITS
from draftd.providers.provider_text import ProviderText
from draftd.providers.token_limits import ceiling_of
from draftd.providers.wordings import Meaning, meaning_of
from draftd.sanitize import redact

EXCERPT_CHARS = 300
MAX_RETRY_AFTER_S = 86_400.0
MAX_CAUSES = 20

_UNAUTHORIZED, _TOO_MANY_REQUESTS = 401, 429
_REFUSALS = frozenset({400, 403, 404, 409, 412, 413, 415, 422, 424})
"""Where a word about formats, parameters or policies says what was refused."""
_BESIDE_RATE_LIMITS = frozenset({Meaning.QUOTA, Meaning.TOO_LONG, Meaning.BAD_GENERATION})
"""What a 429 may mean beside a rate limit."""
_ONE_OF_THEM = re.compile(r"cannot both be|only one of|use only one|not both", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Report:
    """A failed call."""

    error: Exception
    exchange: Exchange = field(default_factory=Exchange)
    """What happened on the wire; without an address, nothing was seen there."""

    @cached_property
    def cause(self) -> Exception:
        """The exception itself: a stream that breaks is wrapped for litellm's router, as a 503 whatever it was."""
        original = getattr(self.error, "original_exception", None)
        return original if isinstance(original, Exception) else self.error

    @cached_property
    def said(self) -> ProviderText:
        """What the provider said: its body where there is one, else what litellm made of it."""
        if not self.exchange.is_success and (body := self.exchange.body):
            return provider_text.read(body)
        found = provider_text.read(_spoken(self.cause))
        coded = getattr(self.cause, "body", None)
        if isinstance(coded, Mapping):
            found.codes += [str(coded[key])[:200] for key in ("code", "type", "param") if coded.get(key)]
        return found

    @cached_property
    def status(self) -> int | None:
        """The status that the server answered; without an exchange, the one that litellm names."""
        if self.exchange.address:
            return self.exchange.status
        status = getattr(self.cause, "status_code", None)
        return status if isinstance(status, int) else None

    @cached_property
    def telling_status(self) -> int | None:
        """The status to judge by: within a success, that of the error in it, if it names one."""
        return self.said.status if self.exchange.is_success else self.status

    @cached_property
    def meaning(self) -> Meaning | None:
        """What the provider's words mean; None when they say nothing beyond the status."""
        status = self.telling_status
        if status == _UNAUTHORIZED:
            return Meaning.KEY
        found = meaning_of(self.said.words, is_refusal=status is None or status in _REFUSALS)
        if status != _TOO_MANY_REQUESTS:
            return found
        # Gemini says "exceeded your current quota" of a limit per minute too, but then names the wait.
        is_passing = found is Meaning.QUOTA and self.said.retry_after_s is not None
        return found if found in _BESIDE_RATE_LIMITS and not is_passing else None

    @property
    def is_format_refused(self) -> bool:
        """Whether the provider refused the way the answer's format was asked for, and nothing else."""
        return self.meaning in {Meaning.FORMAT, Meaning.ABOUT_FORMAT} and self._may_be_asked_otherwise

    @property
    def is_stream_refused(self) -> bool:
        """Whether the provider refused to stream, and nothing else."""
        return self.meaning is Meaning.STREAM and self._may_be_asked_otherwise

    @property
    def ceiling(self) -> int | None:
        """How many output tokens the model can write, if the provider refused more."""
        is_refused = self.meaning is Meaning.CEILING and self._may_be_asked_otherwise
        return ceiling_of(self.said.words) if is_refused else None

    def refused_parameters(self, sent: Collection[str]) -> list[str]:
        """Return the parameters that a refused call had better go without; none when something else was refused.

        Where the provider names none of them it may mean any, but hardly the limit of output tokens: it goes last.

        Args:
            sent: the names of the parameters that the call was sent with.
        """
        if self.meaning is not Meaning.PARAMETER or not self._may_be_asked_otherwise:
            return []
        # What follows the first sentence names what is taken instead.
        first = self.said.sentence.partition(". ")[0]
        named = _names_in(self.said.codes, sent) or _names_in([first], sent) or _names_in([self.said.words], sent)
        if len(named) > 1 and _ONE_OF_THEM.search(self.said.words):
            named = named[-1:]
        unlimited = [name for name in sent if name not in LIMITS]
        return [name for name in named if name not in LIMITS] or named or unlimited or list(sent)

    @property
    def _may_be_asked_otherwise(self) -> bool:
        return self.status is None or self.status in {400, 404, 415, 422, 500, 501}

    def told(self) -> str:
        """Return the failure for an operator: status, address, the provider's own sentence and codes; redacted."""
        sentence = redact(self.said.sentence, EXCERPT_CHARS)
        where = f" from {redact(self.exchange.address)}" if self.exchange.address else ""
        if self.exchange.address and self.exchange.response is None:
            return f"no answer{where}: {redact(_network_words(self.cause), EXCERPT_CHARS) or sentence}"
        if self.exchange.is_watched and not self.exchange.address:
            # litellm gives even these a status.
            return f"nothing was sent: {sentence}"
        codes = " ".join(code for code in dict.fromkeys(self.said.codes) if code not in sentence)
        noted = f" [{redact(codes, 100)}]" if codes else ""
        return f"{self.status or type(self.cause).__name__}{where}: {sentence}{noted}"

    def retry_after_s(self) -> float | None:
        """Return how long the provider asks to wait, in seconds from now (0 to one day); None when it does not say."""
        headers = self.exchange.headers or _headers(self.error)
        seconds = _number(headers.get("retry-after-ms"))
        if seconds is not None:
            seconds /= 1000
        else:
            seconds = _number(headers.get("retry-after"))
        if seconds is None:
            seconds = _until(headers.get("retry-after"), since=headers.get("date"))
        if seconds is None:
            seconds = self.said.retry_after_s
        return None if seconds is None else min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def behind(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it came from."""
    one: BaseException | None = error
    for _ in range(MAX_CAUSES):
        if one is None:
            return
        yield one
        one = one.__cause__ or one.__context__


def _spoken(error: Exception) -> str:
    """Return the text of the first error that is a provider's: one of Python's own hides it where litellm stumbled over it."""
    for one in behind(error):
        if isinstance(text := getattr(one, "message", None), str) and text:
            return text
    return str(error)


def _network_words(error: Exception) -> str:
    """Return why no answer came, in the system's words rather than in those of three libraries."""
    numbers = [number for one in behind(error) if isinstance(one, OSError) and (number := one.errno or 0) > 0]
    return os.strerror(numbers[-1]) if numbers else ""


def _names_in(texts: Collection[str], names: Collection[str]) -> list[str]:
    return [name for name in names if any(re.search(rf"\b{re.escape(name)}\b", text) for text in texts)]


def _headers(error: Exception) -> dict[str, str]:
    inner = getattr(error, "original_exception", None) or error
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
    """Return the seconds from one HTTP date to another; the server's own ``Date`` spares us the clocks' difference."""
    end = _date(text)
    return None if end is None else (end - (_date(since) or datetime.now(UTC))).total_seconds()


def _date(text: str | None) -> datetime | None:
    try:
        parsed = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
