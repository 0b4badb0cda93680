"""One model call through litellm: bounded, metered, without hidden retries. The only importer of litellm.

Owns how a model is called: streaming, prices, the time limit. ``forms`` decides how strictly it is asked, ``response`` reads the
answer, ``errors`` translates failures, and ``reply/`` decides which model is called and with what.

Invariants: a call sends one HTTP request, plus one for each time the provider refuses its form (the answer format, streaming, a
parameter); litellm's hidden retries are off (docs/adr/0003). It ends within its time limit whatever the server does. Cancelling
the caller closes the connection, so that an unread answer costs nothing more. It raises only ``errors.ModelError`` and whatever
``on_text`` and ``before_resend`` raise.

One ``Llm`` per process, on one event loop: litellm keeps its connections per loop and leaks those of a closed loop.
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
from dataclasses import dataclass, replace
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
from draftd.providers.estimate import Estimate, estimate
from draftd.providers.exchange import Exchange
from draftd.providers.forms import MODES, Form, Forms
from draftd.providers.messages import with_schema
from draftd.providers.parameters import LIMITS
from draftd.providers.registry import CACHE_THE_SYSTEM_MESSAGE, Registry
from draftd.providers.report import EXCERPT_CHARS, Report
from draftd.providers.response import (
    MAX_CHARS,
    RawAnswer,
    RefusalCapture,
    cached_tokens,
    conforms,
    tokens,
    window_of_running,
)
from draftd.providers.target import Target
from draftd.sanitize import redact

log = structlog.get_logger(__name__)

OnText = Callable[[str], Awaitable[None]]
BeforeResend = Callable[[], Awaitable[None]]

CLOSE_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 600
"""litellm's own timeout, which applies per read and so bounds no call. A constant, because litellm caches clients by it: with the
time left of an attempt, every call would open new connections."""
_REFUSALS = frozenset({"content_filter", "refusal", "safety"})
_LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy", "openai", "httpx", "httpcore", "aiohttp")

_LATE_IMPORTS = ("openai.resources.chat", "litellm.proxy._types")
"""What the first call would import, and stop the event loop for 0.4 s of CPU."""

_ENVIRONMENT: Mapping[str, str] = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else the import downloads the price list
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",  # else the first call downloads that list
    "LITELLM_MODE": "PRODUCTION",  # else it loads a nearby .env into the environment
    "LITELLM_LOG": "ERROR",
    "MAX_IMAGE_URL_DOWNLOAD_SIZE_MB": "0",  # only draftd fetches pictures
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A model's answer, its cost and its duration."""

    text: str
    model: str
    """The target's name."""
    finish_reason: str
    """``stop``, ``length`` (the text may be empty if reasoning used all tokens), or the provider's own value."""
    spent: Spent
    """The cost is None if a price or the number of tokens is unknown."""
    mode: str
    """The entry of ``MODES`` that the model accepted."""
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One call, in whatever form it is sent."""

    target: Target
    messages: list[dict[str, Any]]
    schema: Mapping[str, Any]
    on_text: OnText | None
    before_resend: BeforeResend | None
    traceparent: str | None

    def request(self, form: Form) -> dict[str, Any]:
        """Return the arguments for litellm."""
        request: dict[str, Any] = {
            **form.params,
            "model": self.target.model,
            "messages": self.messages_in(form),
            "api_base": self.target.api_base,
            "api_key": self.target.api_key,
            "timeout": READ_TIMEOUT_S,
            "num_retries": 0,
            "max_retries": 0,
            "drop_params": form.drop_params,
            "extra_headers": {"traceparent": self.traceparent} if self.traceparent else None,
        }
        if form.streamed:
            request |= {"stream": True, "stream_options": {"include_usage": True}}
        if form.marks_cache:
            request["cache_control_injection_points"] = CACHE_THE_SYSTEM_MESSAGE
        if form.mode == "json_schema":
            json_schema = {"name": "draft", "strict": True, "schema": dict(self.schema)}
            request["response_format"] = {"type": "json_schema", "json_schema": json_schema}
        elif form.mode == "json_object":
            request["response_format"] = {"type": "json_object"}
        return {name: value for name, value in request.items() if value is not None}

    def messages_in(self, form: Form) -> list[dict[str, Any]]:
        """Return the messages as they are sent in a form."""
        return with_schema(self.messages, self.schema) if form.states_schema else self.messages

    def needs(self, form: Form) -> Needs:
        """Return what every call with this prompt needs."""
        system = [str(message.get("content", "")) for message in self.messages if message.get("role") == "system"]
        limits = [limit for name in LIMITS if isinstance(limit := form.params.get(name), int)]
        return Needs(prompt_chars=sum(map(len, system)), output_tokens=max(limits, default=0))

    def has_pictures(self) -> bool:
        """Return whether a picture is sent along."""
        contents = [message["content"] for message in self.messages if isinstance(message.get("content"), list)]
        return any(part.get("type") == "image_url" for content in contents for part in content)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answered:
    """How a call was answered."""

    answer: RawAnswer
    exchange: Exchange
    form: Form


class Llm:
    """Calls models through litellm."""

    def __init__(self, *, litellm: Any) -> None:
        self._litellm = litellm
        self._openai = litellm.exceptions.openai
        self._registry = Registry(table=litellm.model_cost, cost_per_token=litellm.cost_per_token)
        self._forms = Forms(unsupported=litellm.UnsupportedParamsError, registry=self._registry)

    @classmethod
    def load(cls) -> "Llm":
        """Import and configure litellm. Call it in a thread: the import takes about two seconds of CPU.

        Raises:
            ConfigurationError: there is no writable temporary directory, which litellm's import needs.
        """
        try:
            tempfile.gettempdir()
        except FileNotFoundError as error:
            raise ConfigurationError("no writable temporary directory; set TMPDIR, for example to /dev/shm") from error
        os.environ.update(_ENVIRONMENT)
        litellm: Any = importlib.import_module("litellm")
        for name in _LATE_IMPORTS:
            importlib.import_module(name)
        httpx = importlib.import_module("httpx")
        wire.watch(httpx)
        clients.restrain(httpx, importlib.import_module("litellm.llms.custom_httpx.http_handler"))
        litellm.suppress_debug_info = True
        litellm.drop_params = False
        litellm.num_retries = None
        litellm.callbacks = []
        litellm.redact_messages_in_exceptions = True
        # Otherwise it keeps every chunk and counts the pictures' tokens, for callbacks that do not exist.
        litellm.disable_streaming_logging = True
        litellm.disable_token_counter = True
        for name in _LOGGERS:
            # They also raise what they log, and their log lines quote prompts and bodies.
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            # Building these pydantic schemas warns about litellm's own types.
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
        before_resend: BeforeResend | None = None,
        traceparent: str | None = None,
    ) -> Completion:
        """Call a model once and return its answer.

        Args:
            target: which model, where, and with which parameters.
            messages: in OpenAI's format.
            schema: the JSON schema of the answer, requested as strictly as the model accepts.
            time_s: limit for the whole call, ``on_text`` included; above 0.
            on_text: called with the whole text so far whenever it has grown; its presence makes the call a streamed one.
            before_resend: called before each further HTTP request, after the provider has refused the call's form.
            traceparent: the W3C trace context to send to the model's server.

        Raises:
            ModelError: the model gave no usable text, see ``errors.translate``; ``ModelTimeout`` after ``time_s``,
                ``OutputInvalid`` if the answer is empty, ``ModelRefused`` if it is a refusal.
        """
        call = _Call(
            target=target,
            messages=messages,
            schema=schema,
            on_text=on_text,
            before_resend=before_resend,
            traceparent=traceparent,
        )
        began = time.monotonic()
        limit = asyncio.timeout(time_s)
        try:
            async with limit:
                answered = await self._answer(call)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise ModelTimeout(f"{target.name}: no answer within {time_s:g} s", model=target.name) from error
        answer, form = answered.answer, answered.form
        if form.mode == MODES[0] and answer.finish_reason == "stop" and not conforms(answer.text, schema):
            self._forms.state_schema(target)
        spent = self._spent(call, form, answer)
        return _completion(call, answered, spent, time.monotonic() - began)

    def has_known_price(self, target: Target) -> bool:
        """Return whether the cost of a call can be told: by the operator's two prices or by litellm's registry."""
        own = target.input_usd_per_mtok is not None and target.output_usd_per_mtok is not None
        return own or self._registry.has_price(target.model)

    def estimate(
        self, target: Target, messages: Sequence[Mapping[str, Any]], schema: Mapping[str, Any], *, streamed: bool
    ) -> Estimate:
        """Return what a call can use, in the form in which it would be sent now."""
        form = self._forms.of(target, streamed=streamed)
        return estimate(replace(target, params=form.params), messages, schema, self._registry)

    async def ollama_window(self, target: Target) -> int | None:
        """Return how many tokens Ollama has room for in the model that it has just used; None when it does not say."""
        base = target.api_base or os.environ.get("OLLAMA_API_BASE") or "http://localhost:11434"
        headers = {"Authorization": f"Bearer {target.api_key}"} if target.api_key else None
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                response = await self._litellm.module_level_aclient.client.get(f"{base}/api/ps", headers=headers)
            running = response.json()["models"]
        except Exception as error:  # noqa: BLE001 - a server that does not say is none that fails
            log.debug("window not known", model=target.name, error=type(error).__name__)
            return None
        return window_of_running(running, target.model)

    async def aclose(self) -> None:
        """Close the connections and stop litellm's background task, within ``CLOSE_TIMEOUT_S`` seconds."""
        worker = importlib.import_module("litellm.litellm_core_utils.logging_worker").GLOBAL_LOGGING_WORKER
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                # Raised for a task of an earlier event loop, which need not be awaited.
                with suppress(RuntimeError):
                    await worker.stop()
                await self._litellm.close_litellm_async_clients()
        except TimeoutError:
            log.warning("model connections not closed")
        # The cache would hand the closed clients out again.
        self._litellm.in_memory_llm_clients_cache.flush_cache()

    async def _answer(self, call: _Call) -> _Answered:
        """Return the answer, in whichever form the model gave it."""
        target = call.target
        if self._registry.drops_pictures(target.model) and call.has_pictures():
            raise ModelMisconfigured(f"{target.name}: litellm sends {target.model} no pictures", model=target.name)
        while True:
            form = self._forms.of(target, streamed=call.on_text is not None)
            answer, exchange = RawAnswer(), wire.begin()
            try:
                async with aclosing(self._texts(call.request(form), answer)) as texts:
                    async for text in texts:
                        if call.on_text is not None:
                            await call.on_text(text)
            except _CallFailed as failed:
                if self._forms.downgrade(Report(error=failed.error, exchange=exchange), target, form):
                    if call.before_resend is not None:
                        await call.before_resend()
                    continue
                raise translate(
                    failed.error,
                    model=target.name,
                    exchange=exchange,
                    needs=call.needs(form),
                    spent=self._spent(call, form, answer),
                ) from failed.error
            if form.streamed and not answer.text and exchange.media_type == "application/json":
                # The server answered the streamed call with one JSON body, which is lost. Repeating the call here would cost
                # money without being recorded; instead the next call, a repair or a retry, does not stream.
                self._forms.stop_streaming(target)
            return _Answered(answer=answer, exchange=exchange, form=form)

    async def _texts(self, request: dict[str, Any], answer: RawAnswer) -> AsyncGenerator[str]:
        """Send one request, and yield the whole text so far whenever it has grown.

        Raises:
            _CallFailed: litellm raised anything.
        """
        try:
            response = await self._litellm.acompletion(**request)
            if not hasattr(response, "__anext__"):
                answer.read(response)
                return
            if isinstance(response.completion_stream, self._openai.AsyncStream):
                response.completion_stream = RefusalCapture(stream=response.completion_stream, answer=answer)
            try:
                async for chunk in response:
                    has_grown = answer.append(chunk)
                    if answer.is_too_long:
                        return
                    if has_grown:
                        yield answer.text
                answer.end(response)
            finally:
                with suppress(Exception):  # the connection is gone either way
                    await response.aclose()
        except Exception as error:
            # The boundary to litellm, which raises its own exceptions, those of its libraries and Python's.
            answer.broke_off = True
            raise _CallFailed(error) from error

    def _spent(self, call: _Call, form: Form, answer: RawAnswer) -> Spent:
        counted = tokens(answer, call.messages_in(form))
        if counted is None:
            return Spent()
        cost_usd = self._registry.cost_usd(call.target, answer, counted)
        return Spent(
            input_tokens=counted[0],
            cached_tokens=cached_tokens(answer.usage, at_most=counted[0]),
            output_tokens=counted[1],
            cost_usd=cost_usd,
        )


def _completion(call: _Call, answered: _Answered, spent: Spent, elapsed_s: float) -> Completion:
    """Return the answer as a completion.

    Raises:
        ModelError: the answer is unusable.
    """
    name, answer = call.target.name, answered.answer
    if answer.refusal or answer.finish_reason in _REFUSALS:
        why = redact(answer.refusal, EXCERPT_CHARS) or answer.finish_reason
        raise ModelRefused(f"{name}: refused: {why}", model=name, spent=spent)
    if not answer.text and (page := page_instead(answered.exchange)):
        raise ModelUnavailable(f"{name}: {page}", model=name)
    if answer.broke_off:
        where = redact(answered.exchange.address)
        raise ModelUnavailable(f"{name}: the stream from {where} broke off", model=name, spent=spent)
    if answer.is_too_long:
        raise OutputInvalid(f"{name}: the answer is over {MAX_CHARS} characters", model=name, spent=spent)
    if not answer.text.strip() and answer.finish_reason != "length":
        raise OutputInvalid(f"{name}: the answer is empty", model=name, spent=spent)
    return Completion(
        text=answer.text,
        model=name,
        finish_reason=answer.finish_reason,
        spent=spent,
        mode=answered.form.mode,
        elapsed_s=elapsed_s,
    )


class _CallFailed(Exception):
    """A call of litellm raised ``error``."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
