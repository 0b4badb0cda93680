"""The drafter: from a claimed request to a finished draft.

Owns the order of the steps of an attempt and how they share its time; each step is another module's. Invariants: no
connection is held while a picture is fetched or a model is asked; every model call is recorded before anything else is done
with its answer; a step that would begin without time ends with its own error code.
"""

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_random

from draftd import db
from draftd.errors import (
    ContextTooLong,
    Expired,
    ImageGone,
    InvalidRequest,
    Kind,
    ModelError,
    ModelMisconfigured,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
    NothingToReplyTo,
    OutputInvalid,
    Spent,
)
from draftd.images import ByteBudget, ImageLoader, Picture
from draftd.providers import parameters
from draftd.providers.holds import Holds
from draftd.providers.llm import Completion, Llm, OnText, Target
from draftd.providers.models import Models
from draftd.queue.attempts import Scribe, Usage, read_request
from draftd.queue.outcome import Draft
from draftd.reply import answer
from draftd.reply.kept_pictures import Album, PictureStore
from draftd.reply.partial import PartialReader
from draftd.reply.prompts import Prompt, render
from draftd.request import Claim, Options, Request
from draftd.telemetry.metrics import Metrics
from draftd.telemetry.tracing import RequestSpan, Tracing

log = structlog.get_logger(__name__)

SHORTEST_CALL_S = 2.0
"""A model call that has less time than this is not begun."""
CALL_TRIES = 2
"""A provider's single hiccup is cheaper to repeat here than to give the row back and prepare its pictures again."""
DEFAULT_MAX_TOKENS = 4_096
PUBLISH_S = 1.0
"""How long an attempt waits for its progress, or a change of a hold, to be written."""

Message = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One try at one request: its clock, and what it leaves behind whatever comes of it."""

    claim: Claim
    ends_at: float
    """On the monotonic clock, in seconds."""
    span: RequestSpan
    began: float = field(default_factory=time.monotonic)
    """Likewise."""
    targets: list[Target] = field(default_factory=list)
    """What may be asked, in order."""
    images: list[dict[str, Any]] | None = None
    calls: int = 0
    options_shown: int = 0
    asked_at: float = 0.0
    """When the latest model call began, likewise; of one that was repeated at once, when the first had failed."""

    def time_left_s(self) -> float:
        """Return the seconds until this attempt must be over; never negative."""
        return max(0.0, self.ends_at - time.monotonic())

    def has_expired(self) -> bool:
        """Return whether the request's ``expires_at`` has passed: a draft is worth nothing any more."""
        expires_in_s = self.claim.expires_in_s
        return expires_in_s is not None and time.monotonic() - self.began >= expires_in_s


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """What is asked of the models, whichever of them is asked."""

    prompt: Prompt
    terms: answer.Terms
    schema: Mapping[str, Any]
    messages: list[Message]


class Drafter:
    """Drafts.

    Args:
        reads: the connection that inputs are read on.
        budget: bounds the bytes of rows' pictures in this process.
        loader: fetches and prepares pictures.
        pictures: have what an earlier attempt fetched, and keeps it for the next one.
        prompts: agent → prompt.
        models: which model answers.
        holds: where the models' successes and failures are noted.
        llm: the door to the models.
        scribe: writes progress and usage.
        tracing: where a call becomes an observation.
        metrics: what is counted.
        model_timeout_s: the longest single model call.
    """

    def __init__(
        self,
        *,
        reads: db.Link,
        budget: ByteBudget,
        loader: ImageLoader,
        pictures: PictureStore,
        prompts: Mapping[str, Prompt],
        models: Models,
        holds: Holds,
        llm: Llm,
        scribe: Scribe,
        tracing: Tracing,
        metrics: Metrics,
        model_timeout_s: float,
    ) -> None:
        self._reads = reads
        self._budget = budget
        self._loader = loader
        self._pictures = pictures
        self._prompts = prompts
        self._models = models
        self._holds = holds
        self._llm = llm
        self._scribe = scribe
        self._tracing = tracing
        self._metrics = metrics
        self._model_timeout_s = model_timeout_s
        self._beside: set[asyncio.Task[None]] = set()

    async def draft(self, attempt: Attempt) -> Draft:
        """Carry out one attempt.

        Raises:
            RequestError: it ended without a draft.
            LeaseLost: the row is no longer ours.
        """
        try:
            return await self._draft(attempt)
        finally:
            await self.decline(attempt)

    async def decline(self, attempt: Attempt) -> None:
        """Let another request probe, if this one was to and has brought no answer about the model."""
        if attempt.claim.probe is not None:
            await self._carry_out(self._holds.return_probe(attempt.claim.probe))

    async def _draft(self, attempt: Attempt) -> Draft:
        prompt = self._prompts.get(attempt.claim.agent)
        if prompt is None:
            raise InvalidRequest(f"there is no prompt for the agent {attempt.claim.agent!r}")
        attempt.targets = self._models.targets(attempt.claim.agent, probe=attempt.claim.probe)
        if not attempt.targets:
            missing = "no model is configured: set DRAFTD_MODEL, or use `draftd agents set`"
            raise ModelMisconfigured(missing, kind=Kind.RETRY)
        # What the pictures have become has its room until the answer is there: many requests ask at a time.
        async with AsyncExitStack() as rooms, self._pictures.album(attempt.claim) as album:
            task = await self._task(attempt, prompt, rooms, album)
            return await self._ask(attempt, task)

    async def _task(self, attempt: Attempt, prompt: Prompt, rooms: AsyncExitStack, album: Album) -> _Task:
        async with self._budget.reserve(attempt.claim.image_bytes, time_s=_time_for_images_s(attempt)):
            request = await read_request(self._reads, attempt.claim)
            options = Options.read(request.options)
            pictures = await self._load(attempt, request, rooms, album)
            terms = _terms(request, options, pictures)
            schema = answer.wire_schema(terms)
            # In a thread: twelve large parts take 30 ms to become base64, and other requests would wait for as long.
            messages = await asyncio.to_thread(
                render, prompt, request=request, options=options, pictures=pictures, schema=schema
            )
            album.show(pictures, messages)
        return _Task(prompt=prompt, terms=terms, schema=schema, messages=messages)

    async def _load(self, attempt: Attempt, request: Request, rooms: AsyncExitStack, album: Album) -> list[Picture]:
        if request.parent is not None:
            return []
        if not request.image_urls:
            raise InvalidRequest("the request to refine has no drafts")
        if any(url.startswith("sha256:") for url in request.image_urls):
            raise ImageGone
        album.begin(request.image_urls)
        pictures = await self._loader.load(
            request.image_urls, album=album, rooms=rooms, time_s=_time_for_images_s(attempt)
        )
        attempt.images = [picture.record() for picture in pictures]
        return pictures

    async def _ask(self, attempt: Attempt, task: _Task) -> Draft:
        """Ask the agent's models one after the other until one of them gives an acceptable answer."""
        for target in attempt.targets[:-1]:
            try:
                return await self._ask_one(attempt, task, target)
            except ModelError as error:
                if not _another_may_do(error):
                    raise
                log.info("asking the next model", model=target.name, code=error.code)
        try:
            return await self._ask_one(attempt, task, attempt.targets[-1])
        except (ModelRefused, ContextTooLong) as error:
            if self._models.left_out(attempt.claim.agent):
                error.kind = Kind.RETRY
            raise

    async def _ask_one(self, attempt: Attempt, task: _Task, target: Target) -> Draft:
        """Ask one model, and let it be held if that is what its error calls for."""
        attempt.asked_at = time.monotonic()
        try:
            draft = await self._draft_with(attempt, task, target)
        except ModelError as error:
            # Not written in time, it stays an error that gives the attempt back.
            await self._carry_out(self._holds.failed(error, claim=attempt.claim, began=attempt.asked_at))
            raise
        except NothingToReplyTo:
            await self._carry_out(self._holds.succeeded(target.name))
            raise
        await self._carry_out(self._holds.succeeded(target.name))
        return draft

    async def _carry_out(self, change: Coroutine[Any, Any, None]) -> None:
        """Wait ``PUBLISH_S`` for a change of a hold, which goes on beside the attempt if it takes longer."""
        # What came of an attempt, a draft that is paid or an error, waits for no database.
        task = asyncio.create_task(change, name="hold")
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)
        if (await asyncio.wait({task}, timeout=PUBLISH_S))[0]:
            task.result()

    async def _draft_with(self, attempt: Attempt, task: _Task, target: Target) -> Draft:
        params = parameters.overlay({"max_tokens": DEFAULT_MAX_TOKENS}, task.prompt.params, target.params)
        target = replace(target, params=params)
        completion = await self._call_with_retry(attempt, task, target)
        try:
            accepted = answer.read(completion.text, task.terms)
        except answer.Unacceptable as refusal:
            accepted = await self._repair(attempt, task, target, completion, refusal.problems)
        return Draft(
            result=accepted.result.as_json(),
            reading=accepted.reading,
            model=target.name,
            prompt_version=task.prompt.version,
        )

    async def _repair(
        self, attempt: Attempt, task: _Task, target: Target, first: Completion, problems: Sequence[str]
    ) -> answer.Accepted:
        """Ask once more, saying what was wrong; an answer that was cut off gets twice the room instead."""
        log.info("answer repaired", model=target.name, problems=list(problems), finish_reason=first.finish_reason)
        if first.finish_reason == "length":
            doubled = {name: 2 * most for name in parameters.LIMITS if isinstance(most := target.params.get(name), int)}
            again = replace(target, params={**target.params, **doubled})
            messages = task.messages
        else:
            again = target
            messages = [
                *task.messages,
                {"role": "assistant", "content": first.text or "(nothing)"},
                {"role": "user", "content": answer.repair_request(problems)},
            ]
        attempt.asked_at = time.monotonic()
        second = await self._call(attempt, replace(task, messages=messages), again, name="repair")
        try:
            return answer.read(second.text, task.terms)
        except answer.Unacceptable as refusal:
            raise OutputInvalid("; ".join(refusal.problems), model=target.name) from refusal

    async def _call_with_retry(self, attempt: Attempt, task: _Task, target: Target) -> Completion:
        def failed_first(_state: RetryCallState) -> None:
            attempt.asked_at = time.monotonic()

        # A probe is one call: the fleet waits for what it says, and many of them must not add up.
        tries = 1 if attempt.claim.probe == target.name else CALL_TRIES
        async for this_try in AsyncRetrying(
            stop=stop_after_attempt(tries),
            wait=wait_random(0.2, 1.0),
            retry=retry_if_exception_type(ModelUnavailable),
            before_sleep=failed_first,
            reraise=True,
        ):
            with this_try:
                # A reader per try: what a broken stream had begun is not a part of the next one's answer.
                publish = self._publisher(attempt, PartialReader(task.terms))
                completion = await self._call(attempt, task, target, name="draft", on_text=publish)
        return completion

    def _publisher(self, attempt: Attempt, progress: PartialReader) -> OnText:
        async def publish(text: str) -> None:
            if (partial := progress.feed(text)) is not None:
                await self._publish(attempt, partial)

        return publish

    async def _call(
        self, attempt: Attempt, task: _Task, target: Target, *, name: str, on_text: OnText | None = None
    ) -> Completion:
        if attempt.has_expired():
            raise Expired
        time_s = min(self._model_timeout_s, attempt.time_left_s())
        if time_s < SHORTEST_CALL_S:
            raise ModelTimeout("the attempt's time was over before the model could be asked", model=target.name)
        attempt.calls += 1
        call, began = attempt.calls, time.monotonic()
        spent, code = Spent(), "aborted"
        try:
            with self._tracing.generation(
                name=name,
                model=target.name,
                messages=task.messages,
                prompt_version=task.prompt.version,
                params=target.params,
            ) as span:
                completion = await self._llm.complete(
                    target, task.messages, schema=task.schema, time_s=time_s, on_text=on_text
                )
                spent, code = completion.spent, ""
                span.set(
                    text=completion.text,
                    input_tokens=spent.input_tokens,
                    output_tokens=spent.output_tokens,
                    cost_usd=spent.cost_usd,
                )
        except ModelError as error:
            spent, code = error.spent, error.code
            raise
        finally:
            self._record(attempt, target, call, spent, code or None, time.monotonic() - began)
        return completion

    def _record(
        self, attempt: Attempt, target: Target, call: int, spent: Spent, code: str | None, elapsed_s: float
    ) -> None:
        usage = Usage(
            request_id=attempt.claim.id,
            requester_id=attempt.claim.requester_id,
            attempt=attempt.claim.attempt,
            lease_token=attempt.claim.lease_token,
            call=call,
            model=target.name,
            code=code,
            input_tokens=spent.input_tokens,
            output_tokens=spent.output_tokens,
            cost_usd=spent.cost_usd,
            elapsed_s=elapsed_s,
            trace_id=attempt.span.trace_id,
        )
        self._scribe.record(usage, until=attempt.ends_at)
        self._metrics.model_called(
            model=target.name,
            input_tokens=spent.input_tokens,
            output_tokens=spent.output_tokens,
            cost_usd=spent.cost_usd,
        )

    async def _publish(self, attempt: Attempt, partial: dict[str, Any]) -> None:
        # A second model begins at its first option again: what a reader has seen must not become less.
        if (count := len(partial["options"])) <= attempt.options_shown:
            return
        if attempt.options_shown == 0:
            self._metrics.first_option(time.monotonic() - attempt.began)
        attempt.options_shown = count
        # It is carried out all the same; but the model's time is not for a database that stands still.
        with suppress(TimeoutError):
            async with asyncio.timeout(PUBLISH_S):
                await self._scribe.publish(attempt.claim, partial)


def _another_may_do(error: ModelError) -> bool:
    return error.default_kind is Kind.HOLD or isinstance(error, ModelRefused | ContextTooLong | ModelTimeout)


def _time_for_images_s(attempt: Attempt) -> float:
    return max(attempt.time_left_s() - SHORTEST_CALL_S, 0)


def _terms(request: Request, options: Options, pictures: Sequence[Picture]) -> answer.Terms:
    seen: tuple[str, ...] = options.voice_samples
    if request.parent is not None:
        seen += (*request.parent.reading, *(option["text"] for option in request.parent.result.get("options", ())))
    return answer.Terms(
        options=options,
        context=request.context,
        # Or what the drafts to be refined were made from had been cut.
        truncated=any(picture.truncated for picture in pictures)
        or (request.parent is not None and "image_truncated" in request.parent.result.get("warnings", ())),
        seen=seen,
    )
