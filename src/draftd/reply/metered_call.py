"""One model call, metered: its time, its trace, its usage and its cost.

Every call of a model for a request goes through here, so what must hold before each call (time is left, the draft is still
wanted) or be known after it is decided here. Invariant: a call that was begun is recorded whatever comes of it, before anything
else is done with its answer.
"""

import time

from draftd.errors import Expired, ModelError, ModelTimeout, Spent
from draftd.providers.llm import Completion, Llm, OnText, Target
from draftd.queue.attempts import AttemptWriter, Usage
from draftd.reply.attempt import SHORTEST_CALL_S, Attempt
from draftd.reply.inputs import Inputs
from draftd.telemetry.metrics import Metrics
from draftd.telemetry.tracing import Tracing


class MeteredCalls:
    """Calls models.

    Args:
        llm: the door to the models.
        writer: writes usage.
        tracing: where a call becomes an observation.
        metrics: what is counted.
        model_timeout_s: the longest single call.
    """

    def __init__(
        self, *, llm: Llm, writer: AttemptWriter, tracing: Tracing, metrics: Metrics, model_timeout_s: float
    ) -> None:
        self._llm = llm
        self._writer = writer
        self._tracing = tracing
        self._metrics = metrics
        self._model_timeout_s = model_timeout_s

    async def call(
        self, attempt: Attempt, inputs: Inputs, target: Target, *, number: int, name: str, on_text: OnText | None = None
    ) -> Completion:
        """Ask a model once.

        Args:
            attempt: on whose behalf.
            inputs: what is asked.
            target: the model.
            number: which call of the attempt it is, from 1.
            name: what it is for, as the trace shows it.
            on_text: called with the whole text so far whenever it has grown.

        Raises:
            ModelError: no usable text came; ``ModelTimeout`` also when there is no time to ask.
            Expired: the request's time has passed; nothing was asked.
        """
        time_s = self._time_s(attempt, target)
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
                    traceparent=attempt.claim.traceparent,
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
            self._record(attempt, target, number, spent, code or None, time.monotonic() - began)
        return completion

    def _time_s(self, attempt: Attempt, target: Target) -> float:
        if attempt.has_expired():
            raise Expired
        time_s = min(self._model_timeout_s, attempt.time_left_s())
        if time_s < SHORTEST_CALL_S:
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
            output_tokens=spent.output_tokens,
            cost_usd=spent.cost_usd,
            elapsed_s=elapsed_s,
            trace_id=attempt.trace_id,
        )
        self._writer.record(usage, until=attempt.ends_at)
        self._metrics.model_called(
            model=target.name,
            input_tokens=spent.input_tokens,
            output_tokens=spent.output_tokens,
            cost_usd=spent.cost_usd,
        )
