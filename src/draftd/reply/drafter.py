"""The drafter: a claim in, what came of it out.

An attempt has two steps, ``inputs`` (the row, its pictures, the messages) and ``asking`` (which goes through ``metered_call``).
This module owns the attempt around them: its trace, its time, and its end. Invariants: whatever happens inside, an attempt ends
as one outcome with one code of the contract, or with ``LeaseLost``; what it leaves behind is returned however it ends; pictures
of an attempt that is not the last one are kept for the next.
"""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import structlog

from draftd.errors import Expired, InternalError, InvalidRequest, LeaseLost, NoModelHere, RequestError
from draftd.providers.failure_policy import judge, outcome_of
from draftd.providers.holds import Holds
from draftd.providers.llm import Target
from draftd.providers.models import Models
from draftd.queue.outcome import Done, Fail, Hold, Outcome, Retry
from draftd.queue.settlements import Trail
from draftd.reply.agents import Agent
from draftd.reply.asking import Asking
from draftd.reply.attempt import NET_S, Attempt
from draftd.reply.inputs import InputReader
from draftd.reply.kept_pictures import PictureStore
from draftd.request import Claim
from draftd.telemetry.tracing import RequestSpan, Tracing

log = structlog.get_logger(__name__)


class Ended(NamedTuple):
    """What an attempt came to, and what it leaves on its row besides."""

    outcome: Outcome
    trail: Trail


class Drafter:
    """Runs attempts.

    Args:
        agents: by their names.
        models: which model answers.
        holds: where a probe is given back.
        pictures: prepared pictures, from one attempt to the next.
        inputs: the first step.
        asking: the second.
        tracing: where an attempt becomes a trace.
    """

    def __init__(
        self,
        *,
        agents: Mapping[str, Agent],
        models: Models,
        holds: Holds,
        pictures: PictureStore,
        inputs: InputReader,
        asking: Asking,
        tracing: Tracing,
    ) -> None:
        self._agents = agents
        self._models = models
        self._holds = holds
        self._pictures = pictures
        self._inputs = inputs
        self._asking = asking
        self._tracing = tracing

    async def draft(self, claim: Claim) -> Ended:
        """Carry out one attempt.

        Raises:
            LeaseLost: the row is no longer ours; there is nothing to settle.
        """
        with self._tracing.request(
            request_id=claim.id,
            requester_id=claim.requester_id,
            agent=claim.agent,
            attempt=claim.attempt,
            traceparent=claim.traceparent,
        ) as span:
            try:
                attempt = Attempt.begin(claim, trace_id=span.trace_id)
                outcome, images = await self._run(attempt)
            finally:
                if claim.probe is not None:
                    # Another request probes, if this one has brought no answer about the model.
                    await self._holds.return_probe(claim.probe)
            _trace(span, outcome)
        return Ended(outcome, Trail(images=images, trace_id=span.trace_id, max_tokens=attempt.max_tokens))

    async def _run(self, attempt: Attempt) -> tuple[Outcome, list[dict[str, Any]] | None]:
        images = None
        net = asyncio.timeout(attempt.time_left_s() + NET_S)
        # What the pictures have become has its room until the answer is there: many requests ask at a time.
        async with AsyncExitStack() as rooms, self._pictures.album(attempt.claim) as album:
            try:
                async with net:
                    agent, targets = self._chosen(attempt)
                    inputs = await self._inputs.read(attempt, agent, album=album, rooms=rooms)
                    images = inputs.images
                    outcome = await self._asking.ask(attempt, inputs, targets)
            except LeaseLost:
                raise
            except Exception as error:  # noqa: BLE001  # the boundary of a request: a defect must cost one attempt, not the daemon
                outcome = _outcome_after(error, attempt.claim, timed_out=net.expired())
            if isinstance(outcome, Done | Fail):
                album.discard()
        return outcome, images

    def _chosen(self, attempt: Attempt) -> tuple[Agent, list[Target]]:
        """Return who answers, and which models to ask, in order."""
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
    # A function of its own: an error in a variable of a frame that it passed through is a cycle, which would keep its pictures.
    match error:
        case RequestError():
            failure = error
        case TimeoutError() if timed_out:
            # Every step has a limit of its own within the attempt's; this is the net under them.
            failure = InternalError("the attempt timed out between steps")
        case _:
            log.error("attempt failed with an internal error", request_id=claim.id, exc_info=error)
            # What it says may quote any row or answer, and the requester reads this; the operator has the log.
            failure = InternalError(f"{type(error).__name__}: a defect of draftd; its log has the details")
    return outcome_of(failure, judge(failure, claim))


def _trace(span: RequestSpan, outcome: Outcome) -> None:
    if isinstance(outcome, Done):
        span.set_output(outcome.draft.result)
    elif isinstance(outcome, Fail | Retry | Hold):
        span.set_error(outcome.code, outcome.message)
