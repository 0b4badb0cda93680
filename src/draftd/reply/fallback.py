"""The model calls of an attempt: repeat a failed call, repair a bad answer once, fall back to the next model.

``failure_policy`` decides which of these an error calls for; the reply format decides whether an answer is acceptable.
"""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import structlog

from draftd.errors import ModelError, OutputInvalid, RequestError
from draftd.providers import parameters
from draftd.providers.failure_policy import REPEAT_DELAY_S, Action, Facts, judge, outcome_of
from draftd.providers.holds import Holds
from draftd.providers.llm import Completion, Target
from draftd.providers.messages import with_text
from draftd.providers.models import Models
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
DEFAULT_MAX_TOKENS = 4_096


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
        while True:
            target = _with_params(remaining.popleft(), inputs)
            turn = _Turn(
                calls=self._calls, attempt=attempt, inputs=inputs, target=target, numbers=numbers, progress=progress
            )
            try:
                draft = await turn.draft()
            except RequestError as error:
                state = await self._holds.failed(error, model=target.name, claim=claim, began=turn.called_at)
                facts = Facts(
                    has_next_model=bool(remaining) and attempt.can_call(),
                    has_held_model=self._models.has_held_model(claim.agent),
                    model=state,
                )
                verdict = judge(error, claim, facts)
                if verdict.action is not Action.NEXT_MODEL:
                    return outcome_of(error, verdict)
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
    numbers: Iterator[int]
    """Numbers the attempt's calls."""
    progress: Progress
    called_at: float = field(default_factory=time.monotonic)
    """The ``time.monotonic()`` at which the latest call began; for a repeated call, when its first try failed."""

    async def draft(self) -> Draft:
        first = await self._first_answer()
        try:
            return self.inputs.reply_format.read(first.text)
        except AnswerRejected as rejection:
            return await self._repaired_or_acceptable(first, rejection)

    async def _repaired_or_acceptable(self, first: Completion, rejection: AnswerRejected) -> Draft:
        try:
            return await self._repair(first, rejection.problems)
        except ModelError as error:
            if rejection.draft is None:
                raise
            log.info("repair failed; the first answer is used", model=self.target.name, code=error.code)
            return rejection.draft

    async def _first_answer(self) -> Completion:
        tries, inputs = 1, self.inputs
        while True:
            # A new reader for each try, since a broken stream's text is not part of the next answer.
            on_text = self.progress.on_text(inputs.reply_format.partial())
            number, began = next(self.numbers), time.monotonic()
            try:
                return await self.calls.call(
                    self.attempt,
                    _with_published(inputs),
                    self.target,
                    number=number,
                    name="draft",
                    on_text=on_text,
                )
            except ModelError as error:
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

    async def _repair(self, first: Completion, problems: Sequence[str]) -> Draft:
        """Call once more with the problems; for a truncated answer, call again with twice the output tokens instead."""
        inputs, target = self.inputs, self.target
        log.info("answer repaired", model=target.name, problems=list(problems), finish_reason=first.finish_reason)
        if first.finish_reason == "length":
            target = replace(target, params=parameters.with_doubled_limit(target.params))
            inputs = _with_published(inputs)
        else:
            exchange = [
                {"role": "assistant", "content": first.text or "(nothing)"},
                {"role": "user", "content": inputs.reply_format.repair_request(problems)},
            ]
            inputs = replace(inputs, messages=[*inputs.messages, *exchange])
        self.called_at = time.monotonic()
        second = await self.calls.call(self.attempt, inputs, target, number=next(self.numbers), name="repair")
        try:
            return inputs.reply_format.read(second.text, is_repaired=True)
        except AnswerRejected as rejection:
            raise OutputInvalid("; ".join(rejection.problems), model=target.name) from rejection


def _with_published(inputs: Inputs) -> Inputs:
    """Tell a model that starts over which options an earlier call has published."""
    note = inputs.reply_format.published_note()
    return replace(inputs, messages=with_text(inputs.messages, note)) if note else inputs


def _with_params(target: Target, inputs: Inputs) -> Target:
    params = parameters.overlay({"max_tokens": DEFAULT_MAX_TOKENS}, inputs.params, target.params)
    return replace(target, params=params)
