"""One metered model call: its time limit, its trace, its usage and cost.

Every model call for a request goes through here, so this is the place for conditions that must hold before each call (time is
left, the draft is still wanted, budgets and ceilings have room) and for records of each call. Invariants: every call that began
is recorded, however it ends, before its answer is used. No call that a budget or a ceiling applies to is made without a
reservation.
"""

import itertools
import time
from dataclasses import asdict

from draftd.errors import Expired, ModelError, ModelTimeout, Spent
from draftd.providers.llm import BeforeResend, Completion, Llm, OnText
from draftd.providers.reservations import PlannedCall, Reservations
from draftd.providers.target import Target
from draftd.queue.attempts import AttemptWriter, Usage
from draftd.reply.attempt import MIN_CALL_S, Attempt
from draftd.reply.inputs import Inputs
from draftd.telemetry.metrics import Metrics
from draftd.telemetry.tracing import Tracing

FIRST_WAIT_S = 10.0
"""How long the first call of an attempt waits for room at most: the row may as well wait in the queue. A later call waits as long
as the attempt can, because the answers so far were paid for."""


class MeteredCalls:
    """Makes model calls and records them.

    Args:
        llm: calls models.
        reservations: reserves what calls may use.
        writer: writes usage.
        tracing: records each call as an observation.
        metrics: this process's metrics.
        model_timeout_s: time limit of a single call, in seconds.
    """

    def __init__(
        self,
        *,
        llm: Llm,
        reservations: Reservations,
        writer: AttemptWriter,
        tracing: Tracing,
        metrics: Metrics,
        model_timeout_s: float,
    ) -> None:
        self._llm = llm
        self._reservations = reservations
        self._writer = writer
        self._tracing = tracing
        self._metrics = metrics
        self._model_timeout_s = model_timeout_s

    async def call(
        self, attempt: Attempt, inputs: Inputs, target: Target, *, number: int, name: str, on_text: OnText | None = None
    ) -> Completion:
        """Call a model once.

        Args:
            attempt: the attempt that the call belongs to.
            inputs: the input of the call.
            target: the model.
            number: the number of the call within the attempt, from 1.
            name: the purpose of the call, for the trace.
            on_text: called with the whole text so far whenever it has grown.

        Raises:
            ModelError: the model gave no usable text; ``ModelTimeout`` also if no time was left to call it.
            Expired: the request has expired; the model was not called.
            NotReserved: a budget or a ceiling has no room; the model was not called.
            LeaseLost: the claim no longer holds the row; the model was not called.
        """
        time_s = self._time_s(attempt, target)
        before_resend = None
        if self._reservations.is_needed(has_ceilings=target.has_ceilings):
            before_resend = await self._reserved(attempt, inputs, target, number, is_streamed=on_text is not None)
            time_s = min(self._model_timeout_s, attempt.time_left_s())
        began, spent, code = time.monotonic(), Spent(), "aborted"
        try:
            with self._tracing.generation(
                name=name,
                model=target.name,
                messages=inputs.messages,
                prompt_version=inputs.prompt_version,
                params=target.params,
            ) as span:
                completion = await self._llm.complete(
                    target,
                    inputs.messages,
                    schema=inputs.reply_format.schema,
                    time_s=time_s,
                    on_text=on_text,
                    before_resend=before_resend,
                    traceparent=attempt.claim.traceparent,
                )
                spent, code = completion.spent, ""
                span.set(text=completion.text, spent=spent)
        except ModelError as error:
            spent, code = error.spent, error.code
            raise
        finally:
            self._record(attempt, target, number, spent, code or None, time.monotonic() - began)
        return completion

    async def _reserved(
        self, attempt: Attempt, inputs: Inputs, target: Target, number: int, *, is_streamed: bool
    ) -> BeforeResend:
        """Reserve what a call can use; return what reserves each further HTTP request of it."""
        claim = attempt.claim
        planned = PlannedCall(
            request_id=claim.id,
            requester_id=claim.requester_id,
            lease_token=claim.lease_token,
            call=number,
            model=target.name,
            **asdict(self._llm.estimate(target, inputs.messages, inputs.reply_format.schema, streamed=is_streamed)),
        )
        spare_s = attempt.time_left_s() - MIN_CALL_S
        await self._reservations.reserve(
            planned, time_s=self._model_timeout_s, wait_s=min(FIRST_WAIT_S, spare_s) if number == 1 else spare_s
        )
        sends = itertools.count(2)

        async def before_resend() -> None:
            await self._reservations.resend(planned, next(sends), time_s=attempt.time_left_s())

        return before_resend

    def _time_s(self, attempt: Attempt, target: Target) -> float:
        if attempt.has_expired():
            raise Expired
        time_s = min(self._model_timeout_s, attempt.time_left_s())
        if time_s < MIN_CALL_S:
            raise ModelTimeout("the attempt ran out of time before the model call", model=target.name)
        return time_s

    def _record(
        self, attempt: Attempt, target: Target, number: int, spent: Spent, code: str | None, elapsed_s: float
    ) -> None:
        claim = attempt.claim
        usage = Usage(
            request_id=claim.id,
            requester_id=claim.requester_id,
            attempt=claim.attempt,
            lease_token=claim.lease_token,
            call=number,
            model=target.name,
            code=code,
            input_tokens=spent.input_tokens,
            cached_tokens=spent.cached_tokens,
            output_tokens=spent.output_tokens,
            cost_usd=spent.cost_usd,
            elapsed_s=elapsed_s,
            trace_id=attempt.trace_id,
        )
        self._writer.record(usage, until=attempt.ends_at)
        self._metrics.model_called(model=target.name, spent=spent)
