"""The door to the models: one call of litellm, made bounded, countable and honest.

Owns how a model is called (streaming, prices, the time limit) and is the only importer of litellm. How strictly it is asked is
``forms``'s matter, how an answer is read ``response``'s, what an error means ``errors``'s; which model is called,
with which prompt, and what becomes of the text is the drafter's.

Invariants: a call sends one HTTP request, or one more for each refusal of its form (the answer's format, streaming, parameters),
and never a hidden retry (docs/adr/0003). It ends within its time limit whatever the server does. A cancelled caller closes the
connection, so that nobody pays for an answer that nobody reads. Only ``errors.ModelError`` comes out of it, and what
``on_text`` raises.

One ``Llm`` per process, on one event loop: litellm keeps connections per loop and leaks those of a loop that ended.
"""

import asyncio
import importlib
import logging
import os
import tempfile
import time
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import structlog

from draftd.errors import (
    ConfigurationError,
    ModelMisconfigured,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
    OutputInvalid,
    Spent,
)
from draftd.providers import clients
from draftd.providers import exchange as wire
from draftd.providers.errors import Needs, page_instead, translate
from draftd.providers.exchange import Exchange
from draftd.providers.forms import Form, Forms
from draftd.providers.parameters import LIMITS
from draftd.providers.registry import CACHE_THE_SYSTEM_MESSAGE, Registry
from draftd.providers.report import EXCERPT_CHARS, Report
from draftd.providers.response import MAX_CHARS, Answer, Overheard, grow, has_broken_off, is_endless, read, tokens
from draftd.sanitize import redact

log = structlog.get_logger(__name__)

OnText = Callable[[str], Awaitable[None]]

CLOSE_S = 2.0
READ_S = 600
"""litellm's own limit, in seconds per read and therefore no limit at all. One value for all calls: it is part of the
key under which a client is kept, and with the time that is left of an attempt every call would open new connections."""
_REFUSALS = frozenset({"content_filter", "refusal", "safety"})
_LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy", "openai", "httpx", "httpcore", "aiohttp")

_ENVIRONMENT: Mapping[str, str] = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else the import fetches the price list
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",  # else the first call fetches that list
    "LITELLM_MODE": "PRODUCTION",  # else a .env nearby is read into the environment
    "LITELLM_LOG": "ERROR",
    "MAX_IMAGE_URL_DOWNLOAD_SIZE_MB": "0",  # pictures are fetched by draftd alone
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A model as the operator configured it."""

    name: str
    """What operators call it: holds, throttles, usage and errors go by it."""
    model: str
    """litellm's name, e.g. ``anthropic/…``, ``ollama_chat/…``."""
    params: Mapping[str, Any] = field(default_factory=dict)
    api_base: str | None = None
    api_key: str | None = field(default=None, repr=False)
    input_usd_per_mtok: Decimal | None = None
    """USD per 1,000,000 input tokens; together with the other price it goes before litellm's registry."""
    output_usd_per_mtok: Decimal | None = None
    """USD per 1,000,000 output tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What a model answered, and what that took."""

    text: str
    model: str
    """The target's name."""
    finish_reason: str
    """``stop``, ``length`` (the text may then be empty: all tokens went into reasoning), or the provider's own word."""
    spent: Spent
    """Its cost is None when a price or the number of tokens is not known."""
    mode: str
    """The rung of ``MODES`` that was answered."""
    elapsed_s: float


class Llm:
    """The models, through litellm."""

    def __init__(self, *, litellm: Any) -> None:
        self._litellm = litellm
        self._openai = litellm.exceptions.openai
        self._registry = Registry(table=litellm.model_cost, cost_per_token=litellm.cost_per_token)
        self._forms = Forms(unsupported=litellm.UnsupportedParamsError, registry=self._registry)

    @classmethod
    def load(cls) -> "Llm":
        """Import litellm, which takes about two seconds of CPU, and set it up; made to be called in a thread.

        Raises:
            ConfigurationError: litellm needs a temporary directory to be imported, and there is none that can be written.
        """
        try:
            tempfile.gettempdir()
        except FileNotFoundError as error:
            raise ConfigurationError("no writable temporary directory; set TMPDIR, for example to /dev/shm") from error
        os.environ.update(_ENVIRONMENT)
        litellm: Any = importlib.import_module("litellm")
        httpx = importlib.import_module("httpx")
        wire.watch(httpx)
        clients.restrain(httpx, importlib.import_module("litellm.llms.custom_httpx.http_handler"))
        litellm.suppress_debug_info = True
        litellm.drop_params = False
        litellm.num_retries = None
        litellm.callbacks = []
        litellm.redact_messages_in_exceptions = True
        # Without these it keeps every chunk and counts the tokens of the pictures, for callbacks that do not exist.
        litellm.disable_streaming_logging = True
        litellm.disable_token_counter = True
        for name in _LOGGERS:
            # What they have to say comes as an exception too; their log lines quote prompts and bodies.
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            # The first of each builds its pydantic schema, with a warning about litellm's own types that helps nobody.
            warnings.simplefilter("ignore", UserWarning)
            litellm.types.utils.Delta()
            litellm.types.utils.Message()
        return cls(litellm=litellm)

    async def complete(
        self,
        target: Target,
        messages: list[dict[str, Any]],
        *,
        schema: Mapping[str, Any],
        time_s: float,
        on_text: OnText | None = None,
        traceparent: str | None = None,
    ) -> Completion:
        """Ask a model once and return its answer.

        Args:
            target: which model, where, and with which parameters.
            messages: in OpenAI's form.
            schema: JSON schema of the answer; asked for as strictly as the model takes it.
            time_s: for all of it, ``on_text`` included; above 0.
            on_text: called with the whole text so far whenever it has grown; makes the call a streamed one.
            traceparent: the W3C trace context that the model's server receives.

        Raises:
            ModelError: no usable text came, see ``errors.translate``; ``ModelTimeout`` when ``time_s`` is over,
                ``OutputInvalid`` when the answer is empty, ``ModelRefused`` when it is a refusal.
        """
        limit = asyncio.timeout(time_s)
        try:
            async with limit:
                return await self._complete(target, messages, schema, on_text, traceparent)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise ModelTimeout(f"{target.name}: no answer within {time_s:g} s", model=target.name) from error

    def has_known_price(self, target: Target) -> bool:
        """Return whether the cost of a call can be told: by the operator's two prices or by litellm's registry."""
        own = target.input_usd_per_mtok is not None and target.output_usd_per_mtok is not None
        return own or self._registry.has_price(target.model)

    async def aclose(self) -> None:
        """Close the connections and end litellm's own task, within ``CLOSE_S`` seconds."""
        worker = importlib.import_module("litellm.litellm_core_utils.logging_worker").GLOBAL_LOGGING_WORKER
        try:
            async with asyncio.timeout(CLOSE_S):
                # Tasks that an earlier event loop left behind cannot be waited for, and need not be.
                with suppress(RuntimeError):
                    await worker.stop()
                await self._litellm.close_litellm_async_clients()
        except TimeoutError:
            log.warning("model connections not closed")
        # A closed client stays in this cache and would be handed out again.
        self._litellm.in_memory_llm_clients_cache.flush_cache()

    async def _complete(
        self,
        target: Target,
        messages: list[dict[str, Any]],
        schema: Mapping[str, Any],
        on_text: OnText | None,
        traceparent: str | None,
    ) -> Completion:
        started = time.monotonic()
        if self._registry.drops_pictures(target.model) and _has_pictures(messages):
            raise ModelMisconfigured(f"{target.name}: litellm sends {target.model} no pictures", model=target.name)
        while True:
            form = self._forms.of(target, streamed=on_text is not None)
            request = _request(target, messages, schema, form, traceparent)
            answer, exchange = Answer(), wire.begin()
            try:
                async with aclosing(self._asked(request, answer)) as growing:
                    async for text in growing:
                        if on_text is not None:
                            await on_text(text)
            except _CallFailed as failed:
                report = Report(error=failed.error, exchange=exchange)
                if self._forms.gives_way(report, target, form):
                    continue
                raise translate(
                    failed.error,
                    model=target.name,
                    exchange=exchange,
                    needs=_needs(messages, form.params),
                    spent=self._spent(target, answer, messages),
                ) from failed.error
            if form.streamed and not answer.text and exchange.media_type == "application/json":
                # What the server said in one piece is lost. Asking again here would be a second paid call that nobody
                # records, so it is the next call (the repair or the retry) that asks without a stream.
                self._forms.ask_unstreamed(target)
            spent = self._spent(target, answer, messages)
            return _completion(target, answer, exchange, spent, form.mode, time.monotonic() - started)

    async def _asked(self, request: dict[str, Any], answer: Answer) -> AsyncGenerator[str]:
        """Ask once, and yield the whole text so far whenever it has grown.

        Raises:
            _CallFailed: whatever litellm raised.
        """
        try:
            response = await self._litellm.acompletion(**request)
            if not hasattr(response, "__anext__"):
                read(response, answer)
                return
            if isinstance(response.completion_stream, self._openai.AsyncStream):
                response.completion_stream = Overheard(stream=response.completion_stream, answer=answer)
            try:
                async for chunk in response:
                    has_grown = grow(answer, chunk)
                    if is_endless(answer):
                        return
                    if has_grown:
                        yield answer.text
                answer.broke_off = has_broken_off(response, answer)
            finally:
                with suppress(Exception):  # the connection is gone either way
                    await response.aclose()
        except Exception as error:
            # The boundary to litellm, which lets out exceptions of its own, of the libraries beneath it and of Python.
            answer.broke_off = True
            raise _CallFailed(error) from error

    def _spent(self, target: Target, answer: Answer, messages: Sequence[Mapping[str, Any]]) -> Spent:
        counted = tokens(answer, messages)
        if counted is None:
            return Spent()
        return Spent(
            input_tokens=counted[0], output_tokens=counted[1], cost_usd=self._registry.cost_usd(target, answer, counted)
        )


def _completion(
    target: Target, answer: Answer, exchange: Exchange, spent: Spent, mode: str, elapsed_s: float
) -> Completion:
    """Return what was answered, if it can be used.

    Raises:
        ModelError: it cannot.
    """
    name = target.name
    if answer.refusal or answer.finish_reason in _REFUSALS:
        why = redact(answer.refusal, EXCERPT_CHARS) or answer.finish_reason
        raise ModelRefused(f"{name}: refused: {why}", model=name, spent=spent)
    if not answer.text and (page := page_instead(exchange)):
        raise ModelUnavailable(f"{name}: {page}", model=name)
    if answer.broke_off:
        where = redact(exchange.address)
        raise ModelUnavailable(f"{name}: the stream from {where} broke off", model=name, spent=spent)
    if is_endless(answer):
        raise OutputInvalid(f"{name}: the answer is over {MAX_CHARS} characters", model=name, spent=spent)
    if not answer.text.strip() and answer.finish_reason != "length":
        raise OutputInvalid(f"{name}: the answer is empty", model=name, spent=spent)
    return Completion(
        text=answer.text,
        model=name,
        finish_reason=answer.finish_reason,
        spent=spent,
        mode=mode,
        elapsed_s=elapsed_s,
    )


class _CallFailed(Exception):
    """A call of litellm raised ``error``."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def _needs(messages: Sequence[Mapping[str, Any]], params: Mapping[str, Any]) -> Needs:
    fixed = [str(one.get("content", "")) for one in messages if one.get("role") == "system"]
    limits = [limit for name in LIMITS if isinstance(limit := params.get(name), int)]
    return Needs(prompt_chars=sum(map(len, fixed)), output_tokens=max(limits, default=0))


def _has_pictures(messages: Sequence[Mapping[str, Any]]) -> bool:
    contents = [one["content"] for one in messages if isinstance(one.get("content"), list)]
    return any(part.get("type") == "image_url" for content in contents for part in content)


def _request(
    target: Target,
    messages: list[dict[str, Any]],
    schema: Mapping[str, Any],
    form: Form,
    traceparent: str | None,
) -> dict[str, Any]:
    request: dict[str, Any] = {
        **form.params,
        "model": target.model,
        "messages": messages,
        "api_base": target.api_base,
        "api_key": target.api_key,
        "timeout": READ_S,
        "num_retries": 0,
        "max_retries": 0,
        "drop_params": form.drop_params,
        "extra_headers": {"traceparent": traceparent} if traceparent else None,
    }
    if form.streamed:
        request |= {"stream": True, "stream_options": {"include_usage": True}}
    if form.marks_cache:
        request["cache_control_injection_points"] = CACHE_THE_SYSTEM_MESSAGE
    if form.mode == "json_schema":
        wire = {"name": "draft", "strict": True, "schema": dict(schema)}
        request["response_format"] = {"type": "json_schema", "json_schema": wire}
    elif form.mode == "json_object":
        request["response_format"] = {"type": "json_object"}
    return {name: value for name, value in request.items() if value is not None}
