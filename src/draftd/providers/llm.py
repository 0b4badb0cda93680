"""One model call through litellm: bounded, metered, without hidden retries. The only importer of litellm.

Owns how a model is called: streaming, the answer format, prices, the time limit. ``response`` reads the answer, ``errors``
translates failures, and ``reply/`` decides which model is called and with what.

Invariants: a call sends one HTTP request, plus one for each time the provider refuses the answer format or a parameter; litellm's
hidden retries are off (docs/adr/0003). It ends within its time limit whatever the server does. Cancelling the caller closes the
connection, so that an unread answer costs nothing more. It raises only ``errors.ModelError`` and whatever ``on_text`` raises.

One ``Llm`` per process, on one event loop: litellm keeps its connections per loop and leaks those of a closed loop.
"""

import asyncio
import importlib
import json
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import structlog

from draftd.errors import ConfigurationError, ModelRefused, ModelTimeout, ModelUnavailable, OutputInvalid, Spent
from draftd.providers.errors import EXCERPT_CHARS, is_format_refused, refused_parameters, translate
from draftd.providers.messages import with_cache_mark, with_schema
from draftd.providers.redirects import disable_redirects
from draftd.providers.response import MAX_CHARS, RawAnswer, RefusalCapture, conforms, media_type, tokens
from draftd.sanitize import redact

log = structlog.get_logger(__name__)

OnText = Callable[[str], Awaitable[None]]

MODES = ("json_schema", "json_object", "prompt")
"""Ways to request JSON, strictest first."""
CACHING_PROVIDERS = ("anthropic/", "bedrock/", "openrouter/")
"""The prefixes of models whose provider caches only what is marked. Others cache by themselves, or not at all."""
CLOSE_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 600
"""litellm's own timeout, which applies per read and so bounds no call. A constant, because litellm caches clients by it: with the
time left of an attempt, every call would open new connections."""
_REFUSALS = frozenset({"content_filter", "refusal", "safety"})
_PROXY_MEDIA_TYPES = frozenset({"text/html", "text/plain"})
"""The media types of a proxy's 200 response when the provider behind it is down."""
_LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy", "openai", "httpx", "httpcore", "aiohttp")
_MILLION = Decimal(1_000_000)

_ENVIRONMENT: Mapping[str, str] = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else the import downloads the price list
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",  # else the first call downloads that list
    "LITELLM_MODE": "PRODUCTION",  # else it loads a nearby .env into the environment
    "LITELLM_LOG": "ERROR",
    "MAX_IMAGE_URL_DOWNLOAD_SIZE_MB": "0",  # only draftd fetches pictures
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A model to call, as the operator configured it."""

    name: str
    """The operator's name for it, used in holds, throttles, usage and errors."""
    model: str
    """The litellm name, e.g. ``anthropic/…``, ``ollama_chat/…``."""
    params: Mapping[str, Any] = field(default_factory=dict)
    api_base: str | None = None
    api_key: str | None = field(default=None, repr=False)
    input_usd_per_mtok: Decimal | None = None
    """USD per 1,000,000 input tokens; if both prices are set, they override litellm's registry."""
    output_usd_per_mtok: Decimal | None = None
    """USD per 1,000,000 output tokens."""


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


_Key = tuple[str, str, str | None]
"""Name, litellm name and address: what was learnt about a name does not outlive a change of its definition."""
_ParamsKey = tuple[_Key, str]
"""The same and the parameters as JSON: after a change, all parameters are tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _CallFormat:
    """How one call is sent: as strictly as the model is known to accept."""

    mode: str
    streamed: bool
    drop_params: bool
    """Whether litellm may leave out parameters that it knows the model does not accept."""
    states_schema: bool
    """Whether the messages state the schema, because nothing else makes the model follow it."""
    marks_cache: bool
    """Whether the system message is marked for the provider's cache."""
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One call, in whatever format it is sent."""

    target: Target
    messages: list[dict[str, Any]]
    schema: Mapping[str, Any]
    on_text: OnText | None
    traceparent: str | None

    def request(self, call_format: _CallFormat) -> dict[str, Any]:
        """Return the arguments for litellm."""
        request: dict[str, Any] = {
            **call_format.params,
            "model": self.target.model,
            "messages": self._messages(call_format),
            "api_base": self.target.api_base,
            "api_key": self.target.api_key,
            "timeout": READ_TIMEOUT_S,
            "num_retries": 0,
            "max_retries": 0,
            "drop_params": call_format.drop_params,
            "extra_headers": {"traceparent": self.traceparent} if self.traceparent else None,
        }
        if call_format.streamed:
            request |= {"stream": True, "stream_options": {"include_usage": True}}
        if call_format.mode == "json_schema":
            json_schema = {"name": "draft", "strict": True, "schema": dict(self.schema)}
            request["response_format"] = {"type": "json_schema", "json_schema": json_schema}
        elif call_format.mode == "json_object":
            request["response_format"] = {"type": "json_object"}
        return {name: value for name, value in request.items() if value is not None}

    def _messages(self, call_format: _CallFormat) -> list[dict[str, Any]]:
        messages = with_schema(self.messages, self.schema) if call_format.states_schema else self.messages
        return with_cache_mark(messages) if call_format.marks_cache else messages


class Llm:
    """Calls models through litellm."""

    def __init__(self, *, litellm: Any) -> None:
        self._litellm = litellm
        self._openai = litellm.exceptions.openai
        self._modes: dict[_Key, int] = {}
        self._drops_params: set[_ParamsKey] = set()
        self._refused_params: dict[_ParamsKey, frozenset[str]] = {}
        self._unstreamed: set[_Key] = set()
        self._unschooled: set[_Key] = set()
        """Models that were sent a schema to be enforced, and answered something else."""

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
        disable_redirects(importlib.import_module("httpx"))
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
        traceparent: str | None = None,
    ) -> Completion:
        """Call a model once and return its answer.

        Args:
            target: which model, where, and with which parameters.
            messages: in OpenAI's format.
            schema: the JSON schema of the answer, requested as strictly as the model accepts.
            time_s: limit for the whole call, ``on_text`` included; above 0.
            on_text: called with the whole text so far whenever it has grown; its presence makes the call a streamed one.
            traceparent: the W3C trace context to send to the model's server.

        Raises:
            ModelError: the model gave no usable text, see ``errors.translate``; ``ModelTimeout`` after ``time_s``,
                ``OutputInvalid`` if the answer is empty, ``ModelRefused`` if it is a refusal.
        """
        call = _Call(target=target, messages=messages, schema=schema, on_text=on_text, traceparent=traceparent)
        began = time.monotonic()
        limit = asyncio.timeout(time_s)
        try:
            async with limit:
                answer, mode = await self._answer(call)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise ModelTimeout(f"{target.name}: no answer within {time_s:g} s", model=target.name) from error
        if mode == MODES[0] and answer.finish_reason == "stop" and not conforms(answer.text, schema):
            self._learn_that_schema_is_ignored(target)
        return self._completion(target, answer, mode, time.monotonic() - began)

    def has_known_price(self, target: Target) -> bool:
        """Return whether both prices of a model are known, from the operator or from litellm's registry."""
        if target.input_usd_per_mtok is not None and target.output_usd_per_mtok is not None:
            return True
        entry = self._registry_entry(target.model)
        return bool(entry.get("input_cost_per_token")) and bool(entry.get("output_cost_per_token"))

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

    async def _answer(self, call: _Call) -> tuple[RawAnswer, str]:
        """Return the answer, and the mode in which it was requested."""
        target = call.target
        while True:
            call_format = self._format(target, streamed=call.on_text is not None)
            try:
                answer = await self._send(call.request(call_format), call.on_text)
            except self._openai.OpenAIError as error:
                if not self._downgrade(error, target, call_format):
                    raise translate(error, model=target.name) from error
                continue
            if answer.media_type == "application/json":
                # The server answered the streamed call with one JSON body, which is lost. Repeating the call here would cost
                # money without being recorded; instead the next call, a repair or a retry, does not stream.
                self._unstreamed.add(_key(target))
            return answer, call_format.mode

    def _format(self, target: Target, *, streamed: bool) -> _CallFormat:
        key, params_key = _key(target), _params_key(target)
        refused = self._refused_params.get(params_key, frozenset())
        mode, drop_params = MODES[self._modes.get(key, 0)], params_key in self._drops_params
        return _CallFormat(
            mode=mode,
            streamed=streamed and key not in self._unstreamed,
            drop_params=drop_params,
            # Where litellm drops parameters, it may drop the schema without saying so.
            states_schema=mode != MODES[0] or drop_params or key in self._unschooled,
            marks_cache=target.model.startswith(CACHING_PROVIDERS) and self._caches_prompts(target.model),
            params={name: value for name, value in target.params.items() if value is not None and name not in refused},
        )

    def _learn_that_schema_is_ignored(self, target: Target) -> None:
        """Remember to state the schema to a model whose server ignores the parameter; the next call is usually a repair."""
        if _key(target) not in self._unschooled:
            self._unschooled.add(_key(target))
            log.info("answer format ignored", model=target.name)

    def _downgrade(self, error: Exception, target: Target, call_format: _CallFormat) -> bool:
        """Return whether a refused call can be sent again in a less demanding format, which is remembered for the model.

        Compares with the format that this call was sent in, since a concurrent call may have learnt the same.
        """
        next_mode = MODES.index(call_format.mode) + 1
        if is_format_refused(error) and next_mode < len(MODES):
            key = _key(target)
            self._modes[key] = max(next_mode, self._modes.get(key, 0))
            log.info("answer format refused", model=target.name, mode=call_format.mode, next_mode=MODES[next_mode])
            return True
        params_key = _params_key(target)
        # Raised by litellm itself, before anything is sent.
        if isinstance(error, self._litellm.UnsupportedParamsError):
            if not call_format.drop_params and params_key not in self._drops_params:
                self._drops_params.add(params_key)
                _log_dropped(target, error)
            return not call_format.drop_params
        # litellm does not know every model; then the provider refuses the parameter.
        names, known = refused_parameters(error, call_format.params), self._refused_params.get(params_key, frozenset())
        if not known.issuperset(names):
            self._refused_params[params_key] = known.union(names)
            _log_dropped(target, error)
        return bool(names)

    async def _send(self, request: dict[str, Any], on_text: OnText | None) -> RawAnswer:
        response = await self._litellm.acompletion(**request)
        if not hasattr(response, "__anext__"):
            return RawAnswer.from_response(response)
        answer = RawAnswer()
        if isinstance(response.completion_stream, self._openai.AsyncStream):
            response.completion_stream = RefusalCapture(stream=response.completion_stream, answer=answer)
        try:
            async for chunk in response:
                if answer.append(chunk) and on_text is not None and not answer.is_too_long:
                    await on_text(answer.text)
                if answer.is_too_long:
                    break
        finally:
            await response.aclose()
        if not answer.text and not answer.refusal:
            answer.media_type = media_type(response)
        return answer

    def _completion(self, target: Target, answer: RawAnswer, mode: str, elapsed_s: float) -> Completion:
        counted = tokens(answer.usage)
        spent = Spent(
            input_tokens=counted and counted[0],
            output_tokens=counted and counted[1],
            cost_usd=self._cost_usd(target, answer.usage, counted),
        )
        if answer.refusal or answer.finish_reason in _REFUSALS:
            why = redact(answer.refusal, EXCERPT_CHARS) or answer.finish_reason
            raise ModelRefused(f"{target.name}: refused: {why}", model=target.name, spent=spent)
        if answer.media_type in _PROXY_MEDIA_TYPES:
            raise ModelUnavailable(f"{target.name}: {answer.media_type} instead of an answer", model=target.name)
        if answer.is_too_long:
            raise OutputInvalid(
                f"{target.name}: the answer is over {MAX_CHARS} characters", model=target.name, spent=spent
            )
        if not answer.text.strip() and answer.finish_reason != "length":
            raise OutputInvalid(f"{target.name}: the answer is empty", model=target.name, spent=spent)
        return Completion(
            text=answer.text,
            model=target.name,
            finish_reason=answer.finish_reason,
            spent=spent,
            mode=mode,
            elapsed_s=elapsed_s,
        )

    def _cost_usd(self, target: Target, usage: Any, counted: tuple[int, int] | None) -> Decimal | None:
        if counted is None:
            return None
        if target.input_usd_per_mtok is not None and target.output_usd_per_mtok is not None:
            return (counted[0] * target.input_usd_per_mtok + counted[1] * target.output_usd_per_mtok) / _MILLION
        if not self.has_known_price(target):
            return None
        try:
            cost_usd = sum(self._litellm.cost_per_token(model=target.model, usage_object=usage))
        except Exception as error:  # noqa: BLE001 - litellm raises bare Exceptions here; a missing price must not cost the answer
            log.warning("price not computed", model=target.name, error=type(error).__name__)
            return None
        return Decimal(f"{cost_usd:.9f}") if cost_usd else None

    def _caches_prompts(self, model: str) -> bool:
        """Return whether a model is known to accept a mark for its provider's cache; others may refuse the call for it."""
        return "claude" in model or bool(self._registry_entry(model).get("supports_prompt_caching"))

    def _registry_entry(self, model: str) -> Mapping[str, Any]:
        """Return litellm's registry entry for a model, or an empty one.

        Reads the table itself, since litellm's accessors may call a local Ollama server and block the event loop.
        """
        provider, _, name = model.partition("/")
        registry: Mapping[str, Mapping[str, Any]] = self._litellm.model_cost
        entry = registry.get(model)
        if entry is None and (bare := registry.get(name)) is not None and bare.get("litellm_provider") == provider:
            entry = bare
        return entry or {}


def _key(target: Target) -> _Key:
    return target.name, target.model, target.api_base


def _params_key(target: Target) -> _ParamsKey:
    return _key(target), json.dumps(target.params, sort_keys=True)


def _log_dropped(target: Target, error: Exception) -> None:
    log.warning("unsupported parameters dropped", model=target.name, detail=redact(str(error), 200))
