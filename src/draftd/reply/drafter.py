"""The drafter: runs one attempt, from a claim to an outcome.

An attempt has two steps: ``inputs`` (the row, its pictures, the messages) and ``fallback`` (the model calls, each through
``metered_call``). This module owns the attempt around them: its trace, its time limit, its outcome. Invariants: every attempt
ends with one outcome and at most one code of the contract, or with ``LeaseLost``; its images and trace id are returned however it
ends; unless it was the last attempt, its pictures are kept for the next.
"""

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

import structlog

from draftd.errors import Expired, InternalError, InvalidRequest, LeaseLost, NoModelHere, RequestError
from draftd.logs import traceback_of
from draftd.providers.failure_policy import judge, outcome_of
from draftd.providers.holds import Holds
from draftd.providers.models import Models
from draftd.providers.target import Target
from draftd.queue.outcome import Done, Fail, Outcome
from draftd.queue.settlements import Trail
from draftd.reply.agents import Agent
from draftd.reply.attempt import BACKSTOP_S, Attempt
from draftd.reply.fallback import ModelFallback
from draftd.reply.inputs import InputReader
from draftd.reply.kept_pictures import PictureStore
from draftd.request import Claim
from draftd.telemetry.tracing import RequestSpan, Tracing

log = structlog.get_logger(__name__)


class AttemptResult(NamedTuple):
    """The outcome of an attempt, and what else it writes to its row."""

    outcome: Outcome
    trail: Trail


class Drafter:
    """Runs attempts.

    Args:
        agents: by name.
        models: which models answer an agent.
        holds: where an unused probe is returned.
        pictures: keeps prepared pictures between attempts.
        inputs: the first step.
        fallback: the second step.
        tracing: records each attempt as a trace.
    """

    def __init__(
        self,
        *,
        agents: Mapping[str, Agent],
        models: Models,
        holds: Holds,
        pictures: PictureStore,
        inputs: InputReader,
        fallback: ModelFallback,
        tracing: Tracing,
    ) -> None:
        self._agents = agents
        self._models = models
        self._holds = holds
        self._pictures = pictures
        self._inputs = inputs
        self._fallback = fallback
        self._tracing = tracing

    async def draft(self, claim: Claim) -> AttemptResult:
        """Run one attempt.

        Raises:
            LeaseLost: the claim no longer holds the row; there is nothing to settle.
        """
        with self._tracing.request(
            request_id=claim.id,
            requester_id=claim.requester_id,
            agent=claim.agent,
            attempt=claim.attempt,
            traceparent=claim.traceparent,
        ) as span:
            try:
                result = await self._run(Attempt.begin(claim, trace_id=span.trace_id))
            finally:
                if claim.probe is not None:
                    await self._holds.return_probe(claim.probe)
            _trace(span, result.outcome)
        return result

    async def _run(self, attempt: Attempt) -> AttemptResult:
        images = None
        backstop = asyncio.timeout(attempt.time_left_s() + BACKSTOP_S)
        async with self._pictures.for_attempt(attempt.claim) as pictures:
            try:
                async with backstop:
                    agent, targets = self._agent_and_targets(attempt)
                    inputs = await self._inputs.read(attempt, agent, pictures)
                    images = inputs.images
                    outcome = await self._fallback.run(attempt, inputs, targets)
            except LeaseLost:
                raise
            except Exception as error:  # noqa: BLE001  # the request boundary: a bug must cost one attempt, not the daemon
                outcome = _outcome_after(error, attempt.claim, timed_out=backstop.expired())
            if isinstance(outcome, Done | Fail):
                pictures.discard()
        return AttemptResult(outcome, Trail(images=images, trace_id=attempt.trace_id, max_tokens=attempt.max_tokens))

    def _agent_and_targets(self, attempt: Attempt) -> tuple[Agent, list[Target]]:
        """Return the agent, and the models to call in order."""
        if attempt.has_expired():
            raise Expired
        claim = attempt.claim
        agent = self._agents.get(claim.agent)
        if agent is None:
            raise InvalidRequest(f"no prompt for the agent {claim.agent!r}")
        targets = self._models.targets(agent.name, probe=claim.probe)
        if not targets:
            raise NoModelHere("no model is configured: set DRAFTD_MODEL, or use `draftd agents set`")
        return agent, targets


def _outcome_after(error: Exception, claim: Claim, *, timed_out: bool) -> Outcome:
    # A separate function: assigning the error to a variable of a frame in its own traceback makes a cycle that keeps the
    # pictures.
    match error:
        case RequestError():
            failure = error
        case TimeoutError() if timed_out:
            # Each step has a time limit of its own; the backstop catches what exceeds them all.
            failure = InternalError("the attempt timed out between steps")
        case _:
            log.error("attempt failed with an internal error", request_id=claim.id, exception=traceback_of(error))
            # The requester reads this, and the error's text may quote any row or answer; operators have the log.
            failure = InternalError(f"{type(error).__name__}: a bug in draftd; its log has the details")
    return outcome_of(failure, judge(failure, claim))


def _trace(span: RequestSpan, outcome: Outcome) -> None:
    if isinstance(outcome, Done):
        span.set_output(outcome.draft.result)
    elif outcome.code is not None:
        span.set_error(outcome.code, outcome.message)
