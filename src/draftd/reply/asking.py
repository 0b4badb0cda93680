"""Asking the models: a call repeated after a hiccup, one repair of a bad answer, the next model when one cannot.

Which of these an error calls for is ``failure_policy``'s to say; what a good answer is, the reply format's.
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
from draftd.providers.failure_policy import REPEAT_WAIT_S, Action, Facts, judge, outcome_of
from draftd.providers.holds import Holds
from draftd.providers.llm import Completion, Target
from draftd.providers.models import Models
from draftd.queue.attempts import Scribe
from draftd.queue.outcome import Done, Draft, Outcome
from draftd.reply.attempt import Attempt
from draftd.reply.inputs import Inputs
from draftd.reply.metered_call import MeteredCalls
from draftd.reply.progress import Progress
from draftd.reply.reply_format import Unacceptable
from draftd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

CALL_TRIES = 2
CUT_OFF = "length"
"""The ``finish_reason`` of an answer that met its limit of output tokens."""
DEFAULT_MAX_TOKENS = 4_096
MOST_ROOM = 4
"""So many times the limit that was set is tried; what is not written then, is not for want of room."""


class Asking:
    """Asks models until one gives an acceptable answer.

    Args:
        calls: where a model is called.
        models: which models answer.
        holds: where the models' successes and failures are noted.
        scribe: writes progress.
        metrics: what is counted.
    """

    def __init__(self, *, calls: MeteredCalls, models: Models, holds: Holds, scribe: Scribe, metrics: Metrics) -> None:
        self._calls = calls
        self._models = models
        self._holds = holds
        self._scribe = scribe
        self._metrics = metrics

    async def ask(self, attempt: Attempt, inputs: Inputs, targets: Sequence[Target]) -> Outcome:
        """Ask models one after the other, at least one, and return what came of it.

        Raises:
            LeaseLost: the row is no longer ours.
        """
        claim, waiting, numbers = attempt.claim, deque(targets), itertools.count(1)
        progress = Progress(attempt=attempt, scribe=self._scribe, metrics=self._metrics)
        while True:
            target, most_tokens = _with_params(waiting.popleft(), inputs)
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
                state = await self._holds.failed(error, model=target.name, claim=claim, began=turn.asked_at)
                facts = Facts(
                    can_ask_next=bool(waiting) and attempt.can_ask(),
                    is_one_left_out=self._models.left_out(claim.agent),
                    model=state,
                )
                verdict = judge(error, claim, facts)
                if verdict.action is not Action.ASK_NEXT:
                    return outcome_of(error, verdict)
                log.info("trying the next model", model=target.name, code=error.code)
            else:
                await self._holds.succeeded(target.name)
                return Done(draft=draft, model=target.name, prompt_version=inputs.prompt_version)


@dataclass(slots=True, kw_only=True)
class _Turn:
    """One model's turn."""

    calls: MeteredCalls
    attempt: Attempt
    inputs: Inputs
    target: Target
    most_tokens: int
    """The highest limit of output tokens that is tried."""
    numbers: Iterator[int]
    progress: Progress
    asked_at: float = field(default_factory=time.monotonic)
    """When the latest call began, on the monotonic clock; of one that was repeated, when it had failed first."""

    async def draft(self) -> Draft:
        first = await self._first_answer()
        try:
            return self.inputs.reply_format.read(first.text)
        except Unacceptable as refusal:
            if first.finish_reason == CUT_OFF:
                return await self._with_more_room(first)
            return await self._repaired(first, refusal.problems)

    async def _first_answer(self) -> Completion:
        tries = 1
        while True:
            # A reader per try: what a broken stream had begun is no part of the next one's answer.
            show = self.progress.of(self.inputs.reply_format.partial())
            number, began = next(self.numbers), time.monotonic()
            try:
                return await self.calls.call(
                    self.attempt, self.inputs, self.target, number=number, name="draft", on_text=show
                )
            except ModelError as error:
                facts = Facts(
                    can_repeat=tries < CALL_TRIES and self.attempt.can_ask(after_s=max(REPEAT_WAIT_S)),
                    failed_after_s=time.monotonic() - began,
                )
                verdict = judge(error, self.attempt.claim, facts)
                if verdict.action is not Action.REPEAT_CALL:
                    raise
            tries += 1
            self.asked_at = time.monotonic()
            await asyncio.sleep(verdict.delay_s)

    async def _with_more_room(self, first: Completion) -> Draft:
        """Ask the same once more, with twice the output tokens; later attempts begin with more than was not enough.

        Raises:
            OutputInvalid: the answer was cut off with the most that is tried, or is not acceptable.
        """
        target, limit = self.target, parameters.limit_of(self.target.params)
        if limit is not None:
            if limit >= self.most_tokens:
                raise _cut_off(first, limit)
            limit = self._keep_limit(2 * limit)
            target = replace(target, params=parameters.with_limit_of_at_least(limit, target.params))
        log.info("answer cut off", model=target.name, next_max_tokens=limit)
        second = await self._asked_again(self.inputs, target)
        try:
            return self.inputs.reply_format.read(second.text)
        except Unacceptable as refusal:
            if second.finish_reason != CUT_OFF:
                raise OutputInvalid("; ".join(refusal.problems), model=target.name) from refusal
            if limit is not None:
                self._keep_limit(2 * limit)
            raise _cut_off(second, limit) from refusal

    def _keep_limit(self, limit: int) -> int:
        """Keep for later attempts how many output tokens the model needs; return how many are tried."""
        kept = min(limit, self.most_tokens)
        self.attempt.max_tokens[self.target.name] = kept
        return kept

    async def _repaired(self, first: Completion, problems: Sequence[str]) -> Draft:
        """Ask once more, saying what was wrong."""
        log.info("answer repaired", model=self.target.name, problems=list(problems), finish_reason=first.finish_reason)
        said = [
            {"role": "assistant", "content": first.text or "(nothing)"},
            {"role": "user", "content": self.inputs.reply_format.repair_request(problems)},
        ]
        inputs = replace(self.inputs, messages=[*self.inputs.messages, *said])
        second = await self._asked_again(inputs, self.target)
        try:
            return inputs.reply_format.read(second.text)
        except Unacceptable as refusal:
            raise OutputInvalid("; ".join(refusal.problems), model=self.target.name) from refusal

    async def _asked_again(self, inputs: Inputs, target: Target) -> Completion:
        self.asked_at = time.monotonic()
        return await self.calls.call(self.attempt, inputs, target, number=next(self.numbers), name="repair")


def _cut_off(answer: Completion, limit: int | None) -> OutputInvalid:
    where = f"{limit:,} output tokens" if limit else "the model's own limit"
    before = "" if answer.text.strip() else " before its first word: all went into reasoning"
    return OutputInvalid(f"{answer.model}: the answer was cut off at {where}{before}", model=answer.model)


def _with_params(target: Target, inputs: Inputs) -> tuple[Target, int]:
    """Return a model with the parameters that are set, and the highest limit of output tokens that is tried."""
    params = parameters.overlay({"max_tokens": DEFAULT_MAX_TOKENS}, inputs.params, target.params)
    most = MOST_ROOM * (parameters.limit_of(params) or 0)
    needed = min(inputs.max_tokens.get(target.name, 0), most)
    return replace(target, params=parameters.with_limit_of_at_least(needed, params)), most
