"""The model calls of an attempt: repeat a failed call, repair a bad answer once, fall back to the next model.

``failure_policy`` decides which of these an error calls for; the reply format decides whether an answer is acceptable.
"""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from draftd.errors import ModelError, NoRoomNow, NotReserved, OutputInvalid, RequestError
from draftd.providers import parameters
from draftd.providers.failure_policy import REPEAT_DELAY_S, Action, Facts, judge, outcome_of
from draftd.providers.holds import Holds
from draftd.providers.llm import Completion
from draftd.providers.messages import with_text
from draftd.providers.models import Models
from draftd.providers.target import Target
from draftd.queue.attempts import AttemptWriter
from draftd.queue.outcome import Done, Draft, Outcome
from draftd.reply.attempt import Attempt
from draftd.reply.inputs import Inputs
from draftd.reply.metered_call import MeteredCalls
from draftd.reply.progress import Progress
from draftd.reply.reply_format import AnswerRejected
from draftd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

CALL_TRIES = 2
CUT_OFF = "length"
"""The ``finish_reason`` of an answer that reached its output token limit."""
DEFAULT_MAX_TOKENS = 4_096
MOST_ROOM = 4
"""The highest limit tried, as a multiple of the configured one: an answer that needs more will not end."""


class ModelFallback:
    """Calls an agent's models in order until one gives an acceptable answer.

    Args:
        calls: makes model calls.
        models: which models answer an agent.
        holds: where models' successes and failures are recorded.
        writer: writes progress.
        metrics: this process's metrics.
    """

    def __init__(
        self, *, calls: MeteredCalls, models: Models, holds: Holds, writer: AttemptWriter, metrics: Metrics
    ) -> None:
        self._calls = calls
        self._models = models
        self._holds = holds
        self._writer = writer
        self._metrics = metrics

    async def run(self, attempt: Attempt, inputs: Inputs, targets: Sequence[Target]) -> Outcome:
        """Call models in order and return the attempt's outcome.

        Args:
            attempt: the attempt.
            inputs: the input of each call.
            targets: at least one model.

        Raises:
            LeaseLost: the claim no longer holds the row.
        """
        claim, remaining, numbers = attempt.claim, deque(targets), itertools.count(1)
        progress = Progress(attempt=attempt, writer=self._writer, metrics=self._metrics)
        latest: tuple[RequestError, Facts] | None = None
        while True:
            target, most_tokens = _with_params(remaining.popleft(), inputs)
            turn = _Turn(
                calls=self._calls,
                attempt=attempt,
                inputs=inputs,
                target=target,
                most_tokens=most_tokens,
                numbers=numbers,
                progress=progress,
            )
            try:
                draft = await turn.draft()
            except RequestError as error:
                if isinstance(error, NoRoomNow) and latest is not None:
                    # What the model before it did counts: the attempt was not kept from anything.
                    return outcome_of(latest[0], judge(latest[0], claim, replace(latest[1], has_next_model=False)))
                state = await self._holds.failed(error, model=target.name, claim=claim, began=turn.called_at)
                facts = Facts(
                    has_next_model=bool(remaining) and attempt.can_call(),
                    has_held_model=self._models.has_held_model(claim.agent),
                    model=state,
                    expires_in_s=attempt.expires_in_s(),
                )
                verdict = judge(error, claim, facts)
                if verdict.action is not Action.NEXT_MODEL:
                    return outcome_of(error, verdict)
                latest = error, facts
                log.info("trying the next model", model=target.name, code=error.code)
            else:
                await self._holds.succeeded(target.name)
                return Done(draft=draft, model=target.name, prompt_version=inputs.prompt_version)


@dataclass(slots=True, kw_only=True)
class _Turn:
    """One model's turn: a call, repeated at most once, and at most one repair."""

    calls: MeteredCalls
    attempt: Attempt
    inputs: Inputs
    target: Target
    most_tokens: int
    """The highest output token limit that is tried."""
    numbers: Iterator[int]
    """Numbers the attempt's calls."""
    progress: Progress
    called_at: float = field(default_factory=time.monotonic)
    """The ``time.monotonic()`` at which the latest call began; for a repeated call, when its first try failed."""

    async def draft(self) -> Draft:
        first = await self._first_answer()
        try:
            return await self._read(first.text)
        except AnswerRejected as rejection:
            return await self._repaired_or_acceptable(first, rejection)

    async def _repaired_or_acceptable(self, first: Completion, rejection: AnswerRejected) -> Draft:
        try:
            if first.finish_reason == CUT_OFF:
                return await self._call_with_more_tokens(first)
            return await self._repair(first, rejection.problems)
        except (ModelError, NotReserved) as error:
            if rejection.draft is not None:
                log.info("repair failed; the first answer is used", model=self.target.name, error=error.message)
                return rejection.draft
            if isinstance(error, NoRoomNow):
                # The attempt counts, because its answer was paid for.
                raise OutputInvalid("; ".join(rejection.problems), model=self.target.name) from error
            raise

    async def _first_answer(self) -> Completion:
        tries, failure = 1, None
        while True:
            # A new reader for each try, since a broken stream's text is not part of the next answer.
            on_text = self.progress.on_text(self.inputs.reply_format.partial())
            number, began = next(self.numbers), time.monotonic()
            try:
                return await self.calls.call(
                    self.attempt,
                    _with_published(self.inputs),
                    self.target,
                    number=number,
                    name="draft",
                    on_text=on_text,
                )
            except NoRoomNow:
                if failure is not None:
                    raise failure from None
                raise
            except ModelError as error:
                failure = error
                facts = Facts(
                    can_repeat=tries < CALL_TRIES and self.attempt.can_call(after_s=max(REPEAT_DELAY_S)),
                    failed_after_s=time.monotonic() - began,
                )
                verdict = judge(error, self.attempt.claim, facts)
                if verdict.action is not Action.REPEAT_CALL:
                    raise
            tries += 1
            self.called_at = time.monotonic()
            await asyncio.sleep(verdict.delay_s)

    async def _call_with_more_tokens(self, first: Completion) -> Draft:
        """Make the same call again with twice the output tokens; later attempts start with more than was not enough.

        Raises:
            OutputInvalid: the answer was cut off at the highest limit that is tried, or is not acceptable.
        """
        target, limit = self.target, parameters.limit_of(self.target.params)
        if limit is not None:
            if limit >= self.most_tokens:
                raise _cut_off(first, limit)
            limit = self._keep_limit(2 * limit)
            target = replace(target, params=parameters.with_limit_of_at_least(limit, target.params))
        log.info("answer cut off", model=target.name, next_max_tokens=limit)
        second = await self._call_again(_with_published(self.inputs), target)
        try:
            return await self._read(second.text, is_repaired=True)
        except AnswerRejected as rejection:
            if second.finish_reason != CUT_OFF:
                raise OutputInvalid("; ".join(rejection.problems), model=target.name) from rejection
            if limit is not None:
                self._keep_limit(2 * limit)
            raise _cut_off(second, limit) from rejection

    def _keep_limit(self, limit: int) -> int:
        """Keep the output token limit that the model needs for later attempts; return it, bounded by what is tried."""
        kept = min(limit, self.most_tokens)
        self.attempt.max_tokens[self.target.name] = kept
        return kept

    async def _repair(self, first: Completion, problems: Sequence[str]) -> Draft:
        """Call once more with the problems."""
        log.info("answer repaired", model=self.target.name, problems=list(problems), finish_reason=first.finish_reason)
        exchange = [
            {"role": "assistant", "content": first.text or "(nothing)"},
            {"role": "user", "content": self.inputs.reply_format.repair_request(problems)},
        ]
        inputs = replace(self.inputs, messages=[*self.inputs.messages, *exchange])
        second = await self._call_again(inputs, self.target)
        try:
            return await self._read(second.text, is_repaired=True)
        except AnswerRejected as rejection:
            raise OutputInvalid("; ".join(rejection.problems), model=self.target.name) from rejection

    async def _read(self, text: str, *, is_repaired: bool = False) -> Draft:
        # In a thread: the facts of 100,000 characters of sources take most of a second.
        return await asyncio.to_thread(self.inputs.reply_format.read, text, is_repaired=is_repaired)

    async def _call_again(self, inputs: Inputs, target: Target) -> Completion:
        self.called_at = time.monotonic()
        return await self.calls.call(self.attempt, inputs, target, number=next(self.numbers), name="repair")


def _cut_off(answer: Completion, limit: int | None) -> OutputInvalid:
    where = f"{limit:,} output tokens" if limit else "the model's own limit"
    before = "" if answer.text.strip() else " before its first word: all went into reasoning"
    return OutputInvalid(f"{answer.model}: the answer was cut off at {where}{before}", model=answer.model)


def _with_params(target: Target, inputs: Inputs) -> tuple[Target, int]:
    """Return the model with its parameters, and the highest output token limit that is tried."""
    params = call_params(target, inputs.params)
    most = MOST_ROOM * (parameters.limit_of(params) or 0)
    needed = min(inputs.max_tokens.get(target.name, 0), most)
    return replace(target, params=parameters.with_limit_of_at_least(needed, params)), most


def call_params(target: Target, prompt_params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a call: the target's override those of the agent's prompt."""
    return parameters.overlay({"max_tokens": DEFAULT_MAX_TOKENS}, prompt_params, target.params)


def _with_published(inputs: Inputs) -> Inputs:
    """Tell a model that starts over which options an earlier call has published."""
    note = inputs.reply_format.published_note()
    return replace(inputs, messages=with_text(inputs.messages, note)) if note else inputs
