"""Holds: models that no daemon calls for now, shared by the fleet through ``draft_holds``.

A hold works like an open circuit breaker: no daemon claims for the model until a probe has succeeded. A probe is one request of
one daemon, which wins the right to it by updating the hold's row; a failed probe doubles the pause. Heartbeats report what other
daemons changed, at most a third of a lease later. A rate limit first halves the fleet's concurrency (``throttles``).
``failure_policy`` decides which error calls for what. Invariants: a heartbeat that began before a local change does not undo it;
an attempt waits at most ``write_wait_s`` for a write, which then continues in the background.
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
from draftd.db.sqlstate import told_to_log
from draftd.db.statements import statements
from draftd.errors import RequestError
from draftd.providers.failure_policy import BURSTS_UNTIL_HOLD, ModelState, Reaction, reaction
from draftd.providers.fleet_view import FleetView
from draftd.providers.throttles import Throttles
from draftd.request import Claim
from draftd.sanitize import redact, storable_text

log = structlog.get_logger(__name__)

T = TypeVar("T")

FIRST_PAUSE_S = 5.0
MAX_PAUSE_S = 10.0
"""Early in an outage the fleet sends six probes a minute, so that it notices the recovery soon."""
MAX_OLD_PAUSE_S = 60.0
"""The cap grows to this with the hold's age, a sixtieth of it: after an hour, one more minute matters little."""
MAX_LONE_PAUSE_S = 300.0
"""The cap also grows to this when the probing row has been given back often: no other rows are waiting, and frequent probes would
reach ``MAX_GIVEN_BACK`` within a short outage."""
WRITE_WAIT_S = 1.0
"""How long an attempt waits for a change of a hold to be written: its outcome must not wait for the database."""
KEEP_INTERVAL_S = 15.0
"""How often a daemon marks the holds of the models that it uses."""
UNUSED_S = 60.0
"""A hold is unused when no daemon has marked it for this long: four marks are missing."""

_SQL = statements(__name__)
HOLD, END_HOLD, READ_HOLDS = _SQL["hold"], _SQL["end_hold"], _SQL["read_holds"]
TAKE_PROBE, RETURN_PROBE = _SQL["take_probe"], _SQL["return_probe"]
FORGET, MARK_USED, FORGET_UNUSED, LIST_HOLDS = (
    _SQL[name] for name in ("forget", "mark_used", "forget_unused", "list_holds")
)


@dataclass(frozen=True, slots=True)
class _Hold:
    code: str
    until: float
    """``time.monotonic()``."""


class Holds:
    """The holds, as this process knows them.

    Args:
        link: the connection that holds are written on.
        throttles: the first response to a rate limit.
        probe_s: how long a probe keeps others away, in seconds, unless it reports earlier.
        write_wait_s: how long an attempt waits for a write, in seconds.
    """

    def __init__(
        self, *, link: db.Link, throttles: Throttles, probe_s: float, write_wait_s: float = WRITE_WAIT_S
    ) -> None:
        self._link = link
        self._throttles = throttles
        self._probe_s = probe_s
        self._write_wait_s = write_wait_s
        self._writes: set[asyncio.Task[Any]] = set()
        self._reported: set[str] = set()
        """Models whose latest probe by this process, if any, has reported."""
        self._holds: FleetView[_Hold] = FleetView()

    def update(self, rows: Sequence[Mapping[str, Any]], *, as_of: float) -> None:
        """Take over what a heartbeat read.

        Args:
            rows: of ``draft_holds``, with ``until_s``, the seconds left of the pause.
            as_of: the ``time.monotonic()`` at which the heartbeat began; later local changes are kept.
        """
        read = {row["model"]: _Hold(row["code"], as_of + float(row["until_s"])) for row in rows}
        self._holds.update(read, as_of=as_of)

    async def refresh(self, link: db.Link) -> None:
        """Read the holds without waiting for the next heartbeat."""
        began = time.monotonic()
        self.update(await link.run(READ_HOLDS), as_of=began)

    def __contains__(self, model: object) -> bool:
        return model in self._holds

    def codes(self) -> dict[str, str]:
        """Return the models on hold, each with its error code."""
        return {model: hold.code for model, hold in self._holds.items()}

    def lapsed(self) -> list[str]:
        """Return the models whose pause is over; one request may probe each."""
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
        self._holds.set(model, _Hold(hold.code, time.monotonic() + self._probe_s))
        self._reported.discard(model)
        log.info("probing a held model", model=model, code=hold.code)
        return True

    async def return_probe(self, model: str) -> None:
        """Let another request probe a model at once if this process's probe has not reported on it."""
        if model not in self._reported:
            self._reported.add(model)
            await self._write(self._return_probe(model))

    async def succeeded(self, model: str) -> None:
        """Record that a model answered; end its hold."""
        self._reported.add(model)
        if model in self._holds:
            await self._write(self._end(model))

    async def failed(self, error: RequestError, *, model: str, claim: Claim, began: float) -> ModelState:
        """Record that a model failed, and return what the fleet then knows about the model.

        Args:
            error: why the request failed.
            model: the model that was called.
            claim: the request's claim.
            began: the ``time.monotonic()`` at which the failing call began; for a repeated call, when its first try failed.
        """
        match reaction(error, claim, model=model):
            case Reaction.END_HOLD:
                await self.succeeded(model)
            case Reaction.THROTTLE:
                return await self._write(self._throttle(error, model, claim, began)) or ModelState.UNKNOWN
            case Reaction.HOLD:
                return await self._write(self._hold(error, model, claim, began)) or ModelState.UNKNOWN
            case Reaction.NONE:
                pass
        return ModelState.UNKNOWN

    async def _write(self, change: Coroutine[Any, Any, T]) -> T | None:
        """Wait at most ``write_wait_s`` for a change; after that, return None and let it continue in the background."""
        task = asyncio.create_task(change, name="hold")
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        done, _ = await asyncio.wait({task}, timeout=self._write_wait_s)
        return task.result() if done else None

    async def _return_probe(self, model: str) -> None:
        with suppress(*db.LOST), _refusals_logged(model):
            await self._link.run(RETURN_PROBE, {"model": model})
            if (hold := self._holds.get(model)) is not None:
                self._holds.set(model, _Hold(hold.code, time.monotonic()))

    async def _end(self, model: str) -> None:
        with _refusals_logged(model):
            await self._link.run_until_done(END_HOLD, {"model": model})
            self._holds.remove(model)
            log.info("hold ended", model=model)

    async def _throttle(self, error: RequestError, model: str, claim: Claim, began: float) -> ModelState:
        """Halve the fleet's concurrency for a model; hold it if that has not helped or another daemon holds it already."""
        limit = await self._throttles.rate_limited(model, request_id=claim.id, began=began)
        if limit.bursts < BURSTS_UNTIL_HOLD and model not in self._holds:
            return ModelState.WORKING if limit.another_succeeded else ModelState.THROTTLED
        if reaction(error, claim, model=model, is_throttled=True) is Reaction.HOLD:
            return await self._hold(error, model, claim, began)
        return ModelState.THROTTLED

    async def _hold(self, error: RequestError, model: str, claim: Claim, began: float) -> ModelState:
        params = {
            "model": model,
            "code": error.code,
            "reason": storable_text(redact(error.message), 300),
            "request_id": claim.id,
            "is_probe": claim.probe == model,
            "retry_after_s": min(error.retry_after_s or 0.0, MAX_RETRY_AFTER_S),
            "first_pause_s": FIRST_PAUSE_S + full_jitter_s(1, base_s=0.5),
            "max_pause_s": max_pause_s(claim.given_back),
            "max_old_pause_s": MAX_OLD_PAUSE_S,
        }
        state = ModelState.UNKNOWN
        if claim.probe == model:
            # Before the write: the attempt may end during it, and must not let another request probe at once.
            self._reported.add(model)
        with _refusals_logged(model):
            rows = await self._link.run_until_done(HOLD, lambda: params | {"elapsed_s": time.monotonic() - began})
            state = ModelState.HELD if rows else ModelState.WORKING
            for row in rows:
                self._holds.set(model, _Hold(error.code, time.monotonic() + row["until_s"]))
                for_s = round(row["until_s"], 1)
                log.warning("model on hold", model=model, code=error.code, for_s=for_s, reason=error.message)
        if state is not ModelState.HELD:
            self._reported.discard(model)
        return state


@contextmanager
def _refusals_logged(model: str) -> Iterator[None]:
    """Log a refused change of a hold and continue: it must not cost the request its outcome."""
    try:
        yield
    except psycopg.Error as error:
        log.error("hold refused", model=model, sqlstate=error.sqlstate, error=told_to_log(error))  # noqa: TRY400 - not a bug in draftd


def max_pause_s(given_back: int) -> float:
    """Return the cap of the pause after a probe, in seconds, by how often the probing row was given back before it."""
    return max(MAX_PAUSE_S, min(MAX_LONE_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(given_back - 2, 10)))
