"""The door to the models: one call of litellm, made bounded, countable and honest.

Owns how a model is called (streaming, the ladder of answer formats, prices, the time limit) and is the only importer of
litellm. How an answer is read is ``response``'s matter, what an error means ``errors``'s; which model is called,
with which prompt, and what becomes of the text is the drafter's.

Invariants: a call sends one HTTP request, or one more for each refusal of the answer's format or of parameters, and never a
hidden retry (docs/adr/0003). It ends within its time limit whatever the server does. A cancelled caller closes the
connection, so that nobody pays for an answer that nobody reads. Only ``errors.ModelError`` comes out of it, and what
``on_text`` raises.

One ``Llm`` per process, on one event loop: litellm keeps connections per loop and leaks those of a loop that ended.
"""

import asyncio
import functools
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
from draftd.providers.response import MAX_CHARS, Answer, Overheard, grow, is_endless, media_type, read, tokens
from draftd.sanitize import redact

log = structlog.get_logger(__name__)

OnText = Callable[[str], Awaitable[None]]

MODES = ("json_schema", "json_object", "prompt")
"""The ladder, from the strictest way to ask for JSON to none at all; the schema's text is in the prompt anyway."""
CLOSE_S = 2.0
READ_S = 600
"""litellm's own limit, in seconds per read and therefore no limit at all. One value for all calls: it is part of the
key under which a client is kept, and with the time that is left of an attempt every call would open new connections."""
_REFUSALS = frozenset({"content_filter", "refusal", "safety"})
_PAGES = frozenset({"text/html", "text/plain"})
"""What a proxy answers in with a 200 when the provider behind it is away."""
_LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy", "openai", "httpx", "httpcore", "aiohttp")
_MILLION = Decimal(1_000_000)

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


_Key = tuple[str, str, str | None]
"""Name and meaning: a name that comes to mean another model is learnt anew."""
_ParamsKey = tuple[_Key, str]
"""Also the parameters, as JSON: when the operator changes one, all are tried anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """How one call is sent: as strictly as the model is known to take it."""

    mode: str
    streamed: bool
    drop_params: bool
    """Whether litellm may leave out what it knows the model not to take."""
    params: Mapping[str, Any]


class Llm:
    """The models, through litellm."""

    def __init__(self, *, litellm: Any) -> None:
        self._litellm = litellm
        self._openai = litellm.exceptions.openai
        self._rungs: dict[_Key, int] = {}
        self._dropping: set[_ParamsKey] = set()
        self._refused: dict[_ParamsKey, frozenset[str]] = {}
        self._unstreamed: set[_Key] = set()

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
        _follow_no_redirects(importlib.import_module("httpx"))
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
        if target.input_usd_per_mtok is not None and target.output_usd_per_mtok is not None:
            return True
        entry = self._entry(target.model)
        return bool(entry.get("input_cost_per_token")) and bool(entry.get("output_cost_per_token"))

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
        while True:
            form = self._form(target, streamed=on_text is not None)
            request = _request(target, messages, schema, form, traceparent)
            try:
                answer = await self._ask(request, on_text)
            except self._openai.OpenAIError as error:
                if not self._gives_way(error, target, form):
                    raise translate(error, model=target.name) from error
                continue
            if answer.media_type == "application/json":
                # What the server said in one piece is lost. Asking again here would be a second paid call that nobody
                # records, so it is the next call (the repair or the retry) that asks without a stream.
                self._unstreamed.add(_key(target))
            return self._completion(target, answer, form.mode, time.monotonic() - started)

    def _form(self, target: Target, *, streamed: bool) -> _Form:
        key, params_key = _key(target), _params_key(target)
        refused = self._refused.get(params_key, frozenset())
        return _Form(
            mode=MODES[self._rungs.get(key, 0)],
            streamed=streamed and key not in self._unstreamed,
            drop_params=params_key in self._dropping,
            params={name: one for name, one in target.params.items() if one is not None and name not in refused},
        )

    def _gives_way(self, error: Exception, target: Target, form: _Form) -> bool:
        """Return whether a refused call may go on in a humbler form, and remember that form for this model.

        What counts is the form in which this call was sent: another one may have learnt the same meanwhile.
        """
        rung = MODES.index(form.mode) + 1
        if is_format_refused(error) and rung < len(MODES):
            key = _key(target)
            self._rungs[key] = max(rung, self._rungs.get(key, 0))
            log.info("answer format refused", model=target.name, mode=form.mode, next_mode=MODES[rung])
            return True
        params_key = _params_key(target)
        # Raised by litellm itself, before anything is sent.
        if isinstance(error, self._litellm.UnsupportedParamsError):
            if not form.drop_params and params_key not in self._dropping:
                self._dropping.add(params_key)
                _log_dropped(target, error)
            return not form.drop_params
        # Under a name that litellm does not know, only the provider can say so.
        names, known = refused_parameters(error, form.params), self._refused.get(params_key, frozenset())
        if not known.issuperset(names):
            self._refused[params_key] = known.union(names)
            _log_dropped(target, error)
        return bool(names)

    async def _ask(self, request: dict[str, Any], on_text: OnText | None) -> Answer:
        response = await self._litellm.acompletion(**request)
        if not hasattr(response, "__anext__"):
            return read(response)
        answer = Answer()
        if isinstance(response.completion_stream, self._openai.AsyncStream):
            response.completion_stream = Overheard(stream=response.completion_stream, answer=answer)
        try:
            async for chunk in response:
                if grow(answer, chunk) and on_text is not None and not is_endless(answer):
                    await on_text(answer.text)
                if is_endless(answer):
                    break
        finally:
            await response.aclose()
        if not answer.text and not answer.refusal:
            answer.media_type = media_type(response)
        return answer

    def _completion(self, target: Target, answer: Answer, mode: str, elapsed_s: float) -> Completion:
        counted = tokens(answer.usage)
        spent = Spent(
            input_tokens=counted and counted[0],
            output_tokens=counted and counted[1],
            cost_usd=self._cost_usd(target, answer.usage, counted),
        )
        if answer.refusal or answer.finish_reason in _REFUSALS:
            why = redact(answer.refusal, EXCERPT_CHARS) or answer.finish_reason
            raise ModelRefused(f"{target.name}: refused: {why}", model=target.name, spent=spent)
        if answer.media_type in _PAGES:
            raise ModelUnavailable(f"{target.name}: {answer.media_type} instead of an answer", model=target.name)
        if is_endless(answer):
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
        except Exception as error:  # noqa: BLE001 - litellm raises bare Exceptions here; an answer is worth more than its price
            log.warning("price not computed", model=target.name, error=type(error).__name__)
            return None
        return Decimal(f"{cost_usd:.9f}") if cost_usd else None

    def _entry(self, model: str) -> Mapping[str, Any]:
        """Return litellm's registry entry of a model, or an empty one.

        Read from the table itself: the functions around it ask the local Ollama server over HTTP, blocking the loop.
        """
        provider, _, name = model.partition("/")
        registry: Mapping[str, Mapping[str, Any]] = self._litellm.model_cost
        entry = registry.get(model)
        if entry is None and (bare := registry.get(name)) is not None and bare.get("litellm_provider") == provider:
            entry = bare
        return entry or {}


def _follow_no_redirects(httpx: Any) -> None:
    """Let no client of a model go where a server sends it: the prompt, the pictures and often the key would go along.

    litellm and the providers' libraries follow redirects by default, each in its own way; all of them send through this method.
    """
    send = httpx.AsyncClient.send
    if getattr(send, "follows_no_redirects", False):
        return

    @functools.wraps(send)
    async def send_here(client: Any, request: Any, **how: Any) -> Any:
        return await send(client, request, **how | {"follow_redirects": False})

    send_here.follows_no_redirects = True  # type: ignore[attr-defined]  # loaded twice in one process, by tests
    httpx.AsyncClient.send = send_here


def _key(target: Target) -> _Key:
    return target.name, target.model, target.api_base


def _params_key(target: Target) -> _ParamsKey:
    return _key(target), json.dumps(target.params, sort_keys=True)


def _log_dropped(target: Target, error: Exception) -> None:
    log.warning("unsupported parameters dropped", model=target.name, detail=redact(str(error), 200))


def _request(
    target: Target,
    messages: list[dict[str, Any]],
    schema: Mapping[str, Any],
    form: _Form,
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
    if form.mode == "json_schema":
        wire = {"name": "draft", "strict": True, "schema": dict(schema)}
        request["response_format"] = {"type": "json_schema", "json_schema": wire}
    elif form.mode == "json_object":
        request["response_format"] = {"type": "json_object"}
    return {name: value for name, value in request.items() if value is not None}
