"""The runner: a claim in, an ``Outcome`` out. Here, and nowhere else, exceptions become outcomes.

Invariants: whatever happens inside an attempt, it ends as one outcome with one code of the contract; an attempt is over
``MARGIN_S`` before its deadline in the database, so that it ends with its own code and not with the reaper's.
"""

import asyncio
import time

import structlog

from draftd.backoff import full_jitter_s, retry_delay_s
from draftd.errors import Expired, InternalError, Kind, LeaseLost, ModelError, RequestError, first_line
from draftd.queue.outcome import Done, Fail, Hold, Outcome, Retry
from draftd.queue.settlements import Trail
from draftd.reply.drafter import Attempt, Drafter
from draftd.request import Claim
from draftd.sanitize import redact
from draftd.telemetry.tracing import RequestSpan, Tracing

log = structlog.get_logger(__name__)

MARGIN_S = 5.0
LONGEST_STEP_ASIDE_S = 10.0
NET_S = 2.0
"""How long after the stages' own end the net under them is: each stage must have the time to end with its own code."""


class Runner:
    """Runs attempts.

    Args:
        drafter: does the work.
        tracing: where an attempt becomes a trace.
    """

    def __init__(self, *, drafter: Drafter, tracing: Tracing) -> None:
        self._drafter = drafter
        self._tracing = tracing

    async def run(self, claim: Claim) -> tuple[Outcome, Trail]:
        """Carry out one attempt and say what came of it.

        Raises:
            LeaseLost: the row is no longer ours; there is nothing to settle.
        """
        with self._tracing.request(
            request_id=claim.id, requester_id=claim.requester_id, agent=claim.agent, attempt=claim.attempt
        ) as span:
            attempt = Attempt(claim=claim, ends_at=time.monotonic() + claim.attempt_s - MARGIN_S, span=span)
            outcome = await self._outcome(attempt)
            _trace(span, outcome)
        return outcome, Trail(images=attempt.images, trace_id=span.trace_id)

    async def _outcome(self, attempt: Attempt) -> Outcome:
        claim = attempt.claim
        if attempt.has_expired():
            await self._drafter.decline(attempt)
            return Fail(code=Expired.code, message=first_line(Expired))
        try:
            async with asyncio.timeout(attempt.time_left_s() + NET_S):
                return Done(draft=await self._drafter.draft(attempt))
        except LeaseLost:
            raise
        except RequestError as error:
            return outcome_of(error, claim)
        except TimeoutError:
            # Every stage has a limit of its own within the attempt's; this is the net under them.
            return outcome_of(InternalError("the attempt's time was over outside of any stage"), claim)
        except Exception as error:  # the boundary of a request: a defect must cost one attempt, not the daemon
            log.exception("attempt failed by a defect", request_id=claim.id)
            return outcome_of(InternalError(f"{type(error).__name__}: {redact(str(error), 200)}"), claim)


def outcome_of(error: RequestError, claim: Claim) -> Outcome:
    """Turn an error into what it does to its row.

    Args:
        error: why the attempt ended.
        claim: whose attempt it was; the delay grows with the attempts spent, and with those given back.
    """
    if isinstance(error, ModelError) and error.kind is Kind.HOLD and error.model is not None:
        return Hold(code=error.code, message=error.message, model=error.model, delay_s=_held_delay_s(error, claim))
    if error.kind is Kind.FINAL:
        return Fail(code=error.code, message=error.message, model=error.model)
    delay_s = retry_delay_s(claim.attempt, error.retry_after_s)
    return Retry(code=error.code, message=error.message, delay_s=delay_s, model=error.model)


def _held_delay_s(error: ModelError, claim: Claim) -> float:
    """Return how long a row waits that is given back.

    The hold does the waiting, and after it every row counts. A row that has come back before steps aside a little, in case
    that it is itself the reason; without a hold nothing else keeps it from being asked again at once.
    """
    if not error.is_held:
        return retry_delay_s(claim.given_back + 1, error.retry_after_s)
    return full_jitter_s(claim.given_back, cap_s=LONGEST_STEP_ASIDE_S) if claim.given_back else 0.0


def _trace(span: RequestSpan, outcome: Outcome) -> None:
    if span.trace_id is None:
        return
    if isinstance(outcome, Done):
        span.set_output(outcome.draft.result)
    elif isinstance(outcome, Fail | Retry | Hold):
        span.set_error(outcome.code, outcome.message)
