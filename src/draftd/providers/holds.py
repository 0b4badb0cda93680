"""Holds: the models that nobody may ask for now, shared by the fleet through ``draft_holds``.

A hold keeps every daemon from claiming for a model until a probe has succeeded. A probe is one request of one daemon, chosen by
an update of the hold's row that only one can win; a failed probe doubles the pause. What other daemons do is learnt from the
heartbeat, at most a third of a lease later. A rate limit is first answered by halving the fleet's concurrency (``throttles``).
Which error calls for what is ``failure_policy``'s to say. Invariants: what this process has just done itself is not undone by a
beat that began before it; no attempt waits longer than ``patience_s`` for a change to be written, which then goes on beside it.
"""

import asyncio
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
import structlog

from draftd import db
from draftd.backoff import MAX_RETRY_AFTER_S, full_jitter_s
from draftd.db.statements import statements
from draftd.errors import RequestError
from draftd.providers.failure_policy import BURSTS_UNTIL_HOLD, ModelState, Reaction, reaction
from draftd.providers.throttles import Throttles
from draftd.request import Claim
from draftd.sanitize import redact, storable_text

log = structlog.get_logger(__name__)

T = TypeVar("T")

FIRST_PAUSE_S = 5.0
YOUNG_PAUSE_S = 10.0
"""While an outage is young, the fleet sends six probes a minute, and notices its end soon."""
LATER_PAUSE_S = 60.0
"""The cap grows to this with the hold's age, a sixtieth of it: after an hour, one more minute matters little."""
SCARCE_PAUSE_S = 300.0
"""The cap also grows to this when the probing row has come back often: there are no other rows, and frequent probes would reach
``MAX_GIVEN_BACK`` in a short outage."""
PATIENCE_S = 1.0
"""How long an attempt waits for a change of a hold to be written: its outcome must not wait for the database."""
KEEP_INTERVAL_S = 15.0
"""How often a daemon marks the holds of the models that it uses."""
UNUSED_S = 60.0
"""A hold that no daemon has marked for this long is unused: four marks are missing."""

_SQL = statements(__name__)
HOLD, END_HOLD, LOOK = _SQL["hold"], _SQL["end_hold"], _SQL["look"]
TAKE_PROBE, RETURN_PROBE = _SQL["take_probe"], _SQL["return_probe"]
FORGET, MARK_USED, FORGET_UNUSED, LIST_HOLDS = (
    _SQL[name] for name in ("forget", "mark_used", "forget_unused", "list_holds")
)


@dataclass(frozen=True, slots=True)
class _Hold:
    code: str
    until: float
    """On the monotonic clock of this process, in seconds."""


class Holds:
    """The holds, as this process knows them.

    Args:
        link: for placing and ending holds.
        throttles: what answers a rate limit first.
        probe_s: how long a probe keeps the others away unless it says earlier how it went, in seconds.
        patience_s: how long an attempt waits for a change to be written, in seconds.
    """

    def __init__(self, *, link: db.Link, throttles: Throttles, probe_s: float, patience_s: float = PATIENCE_S) -> None:
        self._link = link
        self._throttles = throttles
        self._probe_s = probe_s
        self._patience_s = patience_s
        self._beside: set[asyncio.Task[Any]] = set()
        self._settled: set[str] = set()
        """The models about which the latest probe of this process, if any, has said how they are."""
        self._holds: dict[str, _Hold] = {}
        self._changed_at: dict[str, float] = {}

    def update(self, rows: Sequence[Mapping[str, Any]], *, as_of: float) -> None:
        """Take in what a beat read.

        Args:
            rows: of ``draft_holds``, with ``until_s`` from then on.
            as_of: when the beat began, a moment of ``time.monotonic``; what changed here later stays as it is.
        """
        own = {model for model, changed_at in self._changed_at.items() if changed_at > as_of}
        read = {row["model"]: _Hold(row["code"], as_of + float(row["until_s"])) for row in rows}
        kept = {model: hold for model, hold in self._holds.items() if model in own}
        self._holds = {model: hold for model, hold in read.items() if model not in own} | kept

    async def look(self, link: db.Link) -> None:
        """Read what is on hold, without waiting for the next beat."""
        began = time.monotonic()
        self.update(await link.run(LOOK), as_of=began)

    def __contains__(self, model: object) -> bool:
        return model in self._holds

    def codes(self) -> dict[str, str]:
        """Return model → code of what is on hold."""
        return {model: hold.code for model, hold in self._holds.items()}

    def lapsed(self) -> list[str]:
        """Return the models whose pause is over: one request may probe each."""
        now = time.monotonic()
        return [model for model, hold in self._holds.items() if hold.until <= now]

    async def take_probe(self, link: db.Link, model: str, agents: Sequence[str]) -> bool:
        """Return whether this process may probe the model now, with a due request of one of these agents."""
        hold = self._holds.get(model)
        if hold is None:
            return False  # it ended while the caller was trying another model
        params = {"model": model, "agents": list(agents), "probe_s": self._probe_s}
        if not await link.run(TAKE_PROBE, params):
            return False
        self._set(model, _Hold(hold.code, time.monotonic() + self._probe_s))
        self._settled.discard(model)
        log.info("probing a held model", model=model, code=hold.code)
        return True

    async def return_probe(self, model: str) -> None:
        """Let another request probe a model at once: this one has ended without an answer about it; else do nothing."""
        if model not in self._settled:
            self._settled.add(model)
            await self._patiently(self._return_probe(model))

    async def succeeded(self, model: str) -> None:
        """Note that a model answered; end its hold."""
        self._settled.add(model)
        if model in self._holds:
            await self._patiently(self._end(model))

    async def failed(self, error: RequestError, *, model: str, claim: Claim, began: float) -> ModelState:
        """Let the fleet react to an error of a request at a model, and return what it has found out about the model.

        Args:
            error: why the request failed.
            model: the model that was asked.
            claim: whose request it was.
            began: when the failing call began, a moment of ``time.monotonic``; of one that was repeated at once, when it had
                failed first.
        """
        match reaction(error, claim, model=model):
            case Reaction.END_HOLD:
                await self.succeeded(model)
            case Reaction.THROTTLE:
                return await self._patiently(self._throttle(error, model, claim, began)) or ModelState.UNKNOWN
            case Reaction.HOLD:
                return await self._patiently(self._place(error, model, claim, began)) or ModelState.UNKNOWN
            case Reaction.NONE:
                pass
        return ModelState.UNKNOWN

    async def _patiently(self, change: Coroutine[Any, Any, T]) -> T | None:
        """Wait ``patience_s`` for a change, which goes on if it takes longer; return None then."""
        task = asyncio.create_task(change, name="hold")
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)
        done, _ = await asyncio.wait({task}, timeout=self._patience_s)
        return task.result() if done else None

    async def _return_probe(self, model: str) -> None:
        with suppress(*db.LOST), _refusals_logged(model):
            await self._link.run(RETURN_PROBE, {"model": model})
            if model in self._holds:
                self._set(model, _Hold(self._holds[model].code, time.monotonic()))

    async def _end(self, model: str) -> None:
        with _refusals_logged(model):
            await self._link.run_until_done(END_HOLD, {"model": model})
            self._set(model, None)
            log.info("hold ended", model=model)

    async def _throttle(self, error: RequestError, model: str, claim: Claim, began: float) -> ModelState:
        """Halve the fleet's concurrency for a model; hold it when that has not helped, or others hold it already."""
        limit = await self._throttles.rate_limited(model, request_id=claim.id, began=began)
        if limit.bursts < BURSTS_UNTIL_HOLD and model not in self._holds:
            return ModelState.WORKING if limit.another_succeeded else ModelState.THROTTLED
        if reaction(error, claim, model=model, is_throttled=True) is Reaction.HOLD:
            return await self._place(error, model, claim, began)
        return ModelState.THROTTLED

    async def _place(self, error: RequestError, model: str, claim: Claim, began: float) -> ModelState:
        params = {
            "model": model,
            "code": error.code,
            "reason": storable_text(redact(error.message), 300),
            "request_id": claim.id,
            "is_probe": claim.probe == model,
            "retry_after_s": min(error.retry_after_s or 0.0, MAX_RETRY_AFTER_S),
            "first_s": FIRST_PAUSE_S + full_jitter_s(1, base_s=0.5),
            "longest_s": longest_pause_s(claim.given_back),
            "later_s": LATER_PAUSE_S,
        }
        state = ModelState.UNKNOWN
        if claim.probe == model:
            # Before the wait: the attempt may end meanwhile, and must not let another probe at once.
            self._settled.add(model)
        with _refusals_logged(model):
            rows = await self._link.run_until_done(HOLD, lambda: params | {"elapsed_s": time.monotonic() - began})
            state = ModelState.HELD if rows else ModelState.WORKING
            for row in rows:
                self._set(model, _Hold(error.code, time.monotonic() + row["until_s"]))
                for_s = round(row["until_s"], 1)
                log.warning("model on hold", model=model, code=error.code, for_s=for_s, reason=error.message)
        if state is not ModelState.HELD:
            self._settled.discard(model)
        return state

    def _set(self, model: str, hold: _Hold | None) -> None:
        self._changed_at[model] = time.monotonic()
        if hold is None:
            self._holds.pop(model, None)
        else:
            self._holds[model] = hold


@contextmanager
def _refusals_logged(model: str) -> Iterator[None]:
    """Go on where the server refuses a change of a hold: it must cost no request what came of its attempt."""
    try:
        yield
    except psycopg.Error as error:
        log.error("hold refused", model=model, sqlstate=error.sqlstate, error=redact(str(error)))  # noqa: TRY400 - no defect of draftd


def longest_pause_s(given_back: int) -> float:
    """Return the cap of the pause after a probe, in seconds, by how often the probing row was given back before it."""
    return max(YOUNG_PAUSE_S, min(SCARCE_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(given_back - 2, 10)))
