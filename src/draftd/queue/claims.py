"""Claims: pending → processing, with one statement for all claim loops of a process.

Each claim loop awaits ``Claims.next``; ``Claims.run`` claims for all that wait. An idle process runs one claim per poll interval,
however many loops it has. Invariants: the wake-up is cleared before the claim, never after it. A claimed row is in ``Leases``
before a loop receives it. A row whose loop is gone, or whose claim was lost with the connection, goes back to pending without
counting the attempt, and so does the right to probe. A refused row does not keep others from being claimed.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import psycopg
import structlog

from draftd import db
from draftd.backoff import Backoff
from draftd.db.sqlstate import is_schema_mismatch, told_to_log
from draftd.db.statements import statements
from draftd.queue.admission import Admission
from draftd.queue.claiming import CLAIM_PROBE, Claimer
from draftd.queue.group_commit import MAX_ITEMS
from draftd.queue.leases import Leases
from draftd.queue.wakeup import WakeUp
from draftd.request import Claim

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

DRAIN_INTERVAL_S = 0.25
"""A drain checks often whether everything in flight is settled: a caller is waiting for it to end."""
LOCKED_TIME_S = 10.0
"""How long a drain waits for a due row that is locked or refused."""

LOOK_FOR_DUE = statements(__name__)["look_for_due"]
MAX_NAMED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The right to try a model on hold with one request."""

    model: str
    agents: list[str]
    """The agents whose requests may be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimGroup:
    """Agents that are claimed for together."""

    agents: list[str]
    share: float = 1.0
    """The share of this process's concurrency that they may use, above 0; at least one request."""
    ceiling: str | None = None
    """The model whose ceilings must have room for them; None if it has none."""


class ClaimSource(Protocol):
    """Says what may be claimed right now; implemented by ``providers.models``."""

    def claim_groups(self) -> list[ClaimGroup]:
        """Return the agents that may be claimed for, grouped by the share of the concurrency that they may use."""
        ...

    def models_for(self, agents: Sequence[str]) -> list[str]:
        """Return the model that each of these agents would use."""
        ...

    def admissible_agents(self) -> list[str]:
        """Return the agents that may be claimed for, including those whose model may be probed."""
        ...

    async def refresh(self, link: db.Link) -> None:
        """Check whether more may be claimed by now; called when nothing may."""
        ...

    async def take_probe(self, link: db.Link) -> Probe | None:
        """Return the right to probe a model whose hold has expired, if this process gets it."""
        ...

    async def return_probe(self, model: str) -> None:
        """Give the right to probe a model back: there was no request to use."""
        ...


class Claims:
    """Claims rows for the claim loops of one process.

    Args:
        link: the connection for claims.
        claimer: claims on that connection.
        source: what may be claimed.
        admission: makes waiting rows of requesters with a limit claimable.
        leases: receives every claimed row.
        wakeup: ends a wait before the poll interval does.
        release: gives a claimed row back without counting the attempt.
        concurrency: the number of claim loops; throttled models get a share of it.
        poll_interval_s: how long to wait when nothing more was due.
        drain: whether to stop when nothing is due and nothing is held.
        ready: returns whether rows may be claimed at all; set ``wakeup`` when that changes.
    """

    def __init__(
        self,
        *,
        link: db.Link,
        claimer: Claimer,
        source: ClaimSource,
        admission: Admission,
        leases: Leases,
        wakeup: WakeUp,
        release: Callable[[Claim], Awaitable[None]],
        concurrency: int,
        poll_interval_s: float,
        drain: bool = False,
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self._link = link
        self._ready = ready
        self._claimer = claimer
        self._source = source
        self._admission = admission
        self._leases = leases
        self._wakeup = wakeup
        self._release = release
        self._concurrency = concurrency
        self._throttled = False
        self._poll_interval_s = min(poll_interval_s, DRAIN_INTERVAL_S) if drain else poll_interval_s
        self._drain = drain
        self._waiting: deque[asyncio.Future[Claim | None]] = deque()
        self._has_waiting = asyncio.Event()
        self._undelivered: list[Claim] = []
        self._stopped = False
        self._locked_since: float | None = None
        self._refusal: psycopg.Error | None = None
        self._backoff = Backoff(cap_s=db.REFUSED_CAP_S)

    async def next(self, *, after: Claim | None = None) -> Claim | None:
        """Wait for a claimed row; None once this process has stopped claiming.

        Args:
            after: what the caller has worked on before, and has settled.
        """
        if self._stopped:
            return None
        future: asyncio.Future[Claim | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._has_waiting.set()
        makes_room = after is not None and self._admission.ended(after.requester_id)
        if self._throttled or makes_room or self._claimer.room_in_s is not None:
            # A due row may have been over a throttled model's share, a ceiling or a requester's limit; the request that just
            # ended has freed some of it.
            self._wakeup.set()
        try:
            return await future
        except asyncio.CancelledError:
            # ``run`` may have answered just as this caller was cancelled.
            if future.done() and not future.cancelled() and (claimed := future.result()) is not None:
                self._undelivered.append(claimed)
            raise

    def stop(self) -> None:
        """Stop claiming; waiting callers get None."""
        self._stopped = True
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()
        self._has_waiting.set()
        self._wakeup.set()

    async def run(self) -> None:
        """Claim for all waiting callers, until stopped."""
        while not self._stopped:
            await self._has_waiting.wait()
            if self._stopped:
                break
            # A drain may end before a notification arrives, and would leave the row that it announces behind.
            if self._wakeup.clear() or self._drain:
                self._admission.announced()
            if not self._ready():
                await self._wakeup.wait(self._poll_interval_s)
                continue
            if await self._claim_once():
                continue
            is_idle = not self._leases and not self._admission.is_busy()
            if self._drain and is_idle and await self._is_drained():
                self.stop()
                break
            retry_in_s = min(self._claimer.retry_in_s(), self._admission.retry_in_s())
            await self._wakeup.wait(min(self._poll_interval_s, retry_in_s))
        await self._release_undelivered()

    async def _is_drained(self) -> bool:
        """Return whether nothing is due, locked rows included.

        A claim skips locked rows, and the reaper, for one, locks rows briefly. A row that stays locked or refused for
        ``LOCKED_TIME_S`` does not keep the drain from ending.
        """
        if self._claimer.room_in_s is not None:
            return False
        agents = [agent for group in self._source.claim_groups() for agent in group.agents]
        try:
            (left,) = await self._link.run(LOOK_FOR_DUE, {"agents": agents, "skip": self._claimer.skipped})
        except (*db.LOST, psycopg.Error) as error:
            self._locked_since = None
            await self._link.pause(error)
            return False
        if not left["is_due"] and not left["refused"]:
            return True
        now = time.monotonic()
        if self._locked_since is None:
            self._locked_since = now
        if now - self._locked_since < LOCKED_TIME_S:
            return False
        if left["is_due"]:
            log.warning("left rows that another session has locked", agents=agents, waited_s=LOCKED_TIME_S)
        if left["refused"]:
            _log_refused(left["refused"])
        return True

    async def _claim_once(self) -> bool:
        """Claim once; return whether to claim again at once."""
        wanted = min(len(self._waiting), MAX_ITEMS)
        self._refusal = None
        try:
            claimed = await self._claim(wanted)
        except db.LOST as error:
            self._locked_since = None
            await self._link.pause(error)
            strays = await self._unless_refused(self._claimer.release_strays(self._leases.snapshot()), [])
            if strays:
                log.info("released claims of a lost connection", rows=len(strays))
            return True
        await self._release_undelivered()
        if claimed:
            self._backoff.reset()
        if self._refusal is not None and not claimed:
            await self._pause(self._refusal)
        again = claimed >= wanted or self._refusal is not None
        return again or await self._admit_any(wanted)

    async def _admit_any(self, wanted: int) -> bool:
        """Make waiting rows claimable, and return whether there were any."""
        try:
            agents = self._source.admissible_agents()
            return await self._unless_refused(self._admission.admit_any(agents, wanted=wanted), False)
        except db.LOST as error:
            await self._link.pause(error)
            return True

    async def _pause(self, refusal: psycopg.Error) -> None:
        delay_s = self._backoff.next_s()
        times = self._backoff.failures
        # One in a row, 2, 4, 8, …: one refused row would fill the log.
        if times.bit_count() == 1:
            log.warning("claim refused", sqlstate=refusal.sqlstate, error=told_to_log(refusal), times=times)
        await asyncio.sleep(delay_s)

    async def _unless_refused(self, statement: Awaitable[Answer], otherwise: Answer) -> Answer:
        """Return a statement's answer, or ``otherwise`` if it is refused: the rest of the claim must go on."""
        try:
            return await statement
        except psycopg.Error as error:
            if is_schema_mismatch(error):
                raise
            self._refusal = error
            return otherwise

    async def _claim(self, wanted: int) -> int:
        claimed = await self._claim_probe()
        claim_groups = self._source.claim_groups()
        if not claim_groups:
            await self._unless_refused(self._source.refresh(self._link), None)
            claim_groups = self._source.claim_groups()
        self._throttled = any(group.share < 1 for group in claim_groups)
        self._claimer.room_in_s, self._claimer.anyone_waits = None, True
        are_limits = self._admission.asks()
        agents = self._source.admissible_agents()
        await self._unless_refused(self._admission.admit_next(agents, wanted=wanted - claimed), None)
        for group in claim_groups:
            room = min(wanted - claimed, self._room(group))
            if room > 0:
                models = self._source.models_for(group.agents)
                claiming = self._claimer.claim(
                    group.agents,
                    room,
                    models=models,
                    ceiling=group.ceiling,
                    are_limits=are_limits,
                )
                more = await self._unless_refused(claiming, [])
                self._deliver(more)
                claimed += len(more)
        if are_limits:
            self._admission.noted(anyone_waits=self._claimer.anyone_waits)
        return claimed

    async def _claim_probe(self) -> int:
        probe = await self._unless_refused(self._source.take_probe(self._link), None)
        if probe is None:
            return 0
        rows: list[Claim] = []
        try:
            models = [probe.model] * len(probe.agents)
            rows = await self._unless_refused(self._claimer.claim(probe.agents, 1, CLAIM_PROBE, models=models), [])
        finally:
            if not rows:
                await self._source.return_probe(probe.model)
        self._deliver([replace(one, probe=probe.model) for one in rows])
        return len(rows)

    def _room(self, group: ClaimGroup) -> int:
        if group.share >= 1:
            return MAX_ITEMS
        return max(1, int(group.share * self._concurrency)) - self._leases.count(group.agents)

    def _deliver(self, claimed: list[Claim]) -> None:
        """Hand out rows as soon as they are claimed, before the next statement can fail."""
        if claimed:
            self._locked_since = None
        for one in claimed:
            self._leases.add(one.id, one.lease_token, agent=one.agent)
            self._hand_over(one)
        if not self._waiting:
            self._has_waiting.clear()

    def _hand_over(self, claimed: Claim) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(claimed)
                return
        self._undelivered.append(claimed)

    async def _release_undelivered(self) -> None:
        while self._undelivered:
            claimed = self._undelivered.pop()
            await self._release(claimed)
            if claimed.probe is not None:
                await self._source.return_probe(claimed.probe)


def _log_refused(ids: list[str]) -> None:
    log.warning("left rows that the database refuses to change", rows=len(ids), request_ids=ids[:MAX_NAMED])
