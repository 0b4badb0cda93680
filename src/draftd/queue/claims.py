"""Claims: pending → processing, for all claim loops of a process in one statement.

``Claims.next`` is what a claim loop awaits; ``Claims.run`` is the one pump that claims for whoever waits. An idle process runs
one claim per poll interval, whatever the number of its loops. Invariants: the wake-up is cleared before the claim, never after
it; a claimed row is in ``Leases`` before anybody sees it; a row claimed for a caller that is gone, or lost with its
connection on the way here, goes back to pending with its attempt.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, LiteralString, Protocol
from uuid import UUID

import structlog
from psycopg.rows import DictRow

from draftd import db
from draftd.queue.group_commit import MAX_ITEMS
from draftd.queue.leases import Held, Leases
from draftd.request import Claim
from draftd.wakeup import WakeUp

log = structlog.get_logger(__name__)

DRAIN_INTERVAL_S = 0.25
"""A drain looks often whether what is in flight has been settled: somebody waits for its end."""
LOCKED_TIME_S = 10.0
"""How long a drain waits for a due row that another session has locked."""

_TAKE = """
UPDATE draft_requests AS r SET
    status = 'processing',
    attempt = r.attempt + 1,
    lease_token = r.lease_token + 1,
    lease_until = now() + make_interval(secs => %(lease_s)s),
    deadline_at = now() + make_interval(secs => %(attempt_s)s),
    expires_at = CASE WHEN %(default_expiry_s)s > 0
                      THEN coalesce(r.expires_at, r.available_at + make_interval(secs => %(default_expiry_s)s))
                      ELSE r.expires_at END,
    worker_id = %(worker_id)s,
    partial_result = NULL,
    claimed_at = now(),
    updated_at = now()
  FROM due WHERE r.id = due.id
RETURNING r.id, r.agent, r.requester_id, r.attempt, r.lease_token, r.given_back, r.priority, r.turn,
    -- As a number: that is read in a tenth of the time.
    extract(epoch FROM r.available_at)::float8 AS available_at,
    pg_column_size(r.image_urls) AS image_bytes,
    -- Each by itself: an operator may have written infinity, from which no moment can be taken away before PostgreSQL 17.
    extract(epoch FROM coalesce(r.expires_at, r.available_at + make_interval(secs => nullif(%(default_expiry_s)s, 0))))::float8
        - extract(epoch FROM coalesce(%(now)s::timestamptz, now()))::float8 AS expires_in_s
"""

# The front of one agent's line, in exactly the order of draft_requests_claim_idx, so that its LIMIT is an index scan. No
# image_urls: 16 rows of 7 MB cost 650 ms and 200 MB.
_FRONT = """
        SELECT r.id, r.priority, r.turn, r.available_at FROM draft_requests AS r
         WHERE r.status = 'pending' AND r.agent = {agent} AND r.available_at <= coalesce(%(now)s::timestamptz, now())
         ORDER BY r.priority DESC, r.turn, r.available_at, r.id LIMIT %(n)s FOR NO KEY UPDATE SKIP LOCKED"""

# MATERIALIZED, because the planner may run a plain subquery again and claim more than LIMIT. Each agent's line counts its own
# turns, so agents are compared by the distance from the front of their lines.
CLAIM = f"""
WITH due AS MATERIALIZED (
    SELECT x.id FROM unnest(%(agents)s::text[]) AS a(agent) CROSS JOIN LATERAL ({_FRONT.format(agent="a.agent")}) AS x
     ORDER BY x.priority DESC, x.turn - min(x.turn) OVER (PARTITION BY a.agent, x.priority), x.available_at, x.id
     LIMIT %(n)s
)
{_TAKE}"""
# Most fleets have one agent, and a lone request waits for this statement: without a comparison it takes a tenth less.
CLAIM_ONE = f"""
WITH due AS MATERIALIZED ({_FRONT.format(agent="%(agent)s")}
)
{_TAKE}"""

PROBE_CANDIDATES = 100
# Of the first rows in line the one that has failed least often: a row that is itself the reason must not be every probe.
CLAIM_PROBE = f"""
WITH candidate AS MATERIALIZED (
    SELECT x.* FROM unnest(%(agents)s::text[]) AS a(agent) CROSS JOIN LATERAL (
        SELECT r.id, r.priority, r.turn, r.given_back FROM draft_requests AS r
         WHERE r.status = 'pending' AND r.agent = a.agent AND r.available_at <= coalesce(%(now)s::timestamptz, now())
         ORDER BY r.priority DESC, r.turn, r.available_at, r.id LIMIT {PROBE_CANDIDATES}) AS x
), due AS MATERIALIZED (
    SELECT x.id FROM (SELECT * FROM candidate ORDER BY given_back, priority DESC, turn, id) AS c CROSS JOIN LATERAL (
        SELECT r.id FROM draft_requests AS r
         WHERE r.id = c.id AND r.status = 'pending' FOR NO KEY UPDATE SKIP LOCKED) AS x
     LIMIT %(n)s
)
{_TAKE}"""

# What a claim whose connection was lost may have taken: mine, and not held here.
RELEASE_STRAYS = """
WITH stray AS MATERIALIZED (
    SELECT r.id FROM draft_requests AS r
     WHERE r.status = 'processing' AND r.worker_id = %(worker_id)s
       AND NOT EXISTS (SELECT FROM unnest(%(ids)s::uuid[], %(tokens)s::bigint[]) AS h(id, lease_token)
                        WHERE h.id = r.id AND h.lease_token = r.lease_token)
     ORDER BY r.id FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE draft_requests AS r SET status = 'pending', attempt = r.attempt - 1
  FROM stray WHERE r.id = stray.id AND r.status = 'processing' AND r.worker_id = %(worker_id)s
RETURNING r.id
"""

# No lock: what the claims' SKIP LOCKED passes over is seen.
DUE = """
SELECT id FROM draft_requests
 WHERE status = 'pending' AND agent = ANY (%(agents)s) AND available_at <= now() LIMIT 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimTerms:
    """Who claims, and for how long."""

    worker_id: UUID
    lease_s: float
    attempt_s: float
    default_expiry_s: float
    """0 = a request without ``expires_at`` never expires."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The right to try a held model with one request."""

    model: str
    agents: list[str]
    """Whose requests may try it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """Agents that may be claimed for together."""

    agents: list[str]
    share: float = 1.0
    """Of this process's concurrency that they may take up, above 0; at least one request whatever it is."""


class Menu(Protocol):
    """What may be claimed right now: the models' side of a claim."""

    def portions(self) -> list[Portion]:
        """Return the agents that may be claimed for, grouped by the share of the loops that they may take up."""
        ...

    async def look_again(self, link: db.Link) -> None:
        """Find out whether more may be claimed by now; asked when nothing may."""
        ...

    async def take_probe(self, link: db.Link) -> Probe | None:
        """Return the right to probe a model whose hold has lapsed, if this process won it."""
        ...

    async def return_probe(self, model: str) -> None:
        """Give up the right to probe a model: no request was there to do it."""
        ...


async def claim(
    link: db.Link,
    *,
    terms: ClaimTerms,
    agents: list[str],
    limit: int,
    statement: LiteralString | None = None,
    now: datetime | None = None,
) -> list[Claim]:
    """Claim up to ``limit`` due rows of these agents, highest priority first, then by turn.

    Args:
        link: the connection to claim on.
        terms: who claims, and for how long.
        agents: whose requests, one or more.
        limit: how many rows, 1 or more.
        statement: ``CLAIM_PROBE`` for a probe; the claim for as many agents as there are if None.
        now: the database's time if None; tests move it.

    Raises:
        db.LOST: the connection broke; the server may have claimed all the same (see ``release_strays``).
    """
    params: dict[str, Any] = {
        "agents": agents,
        "agent": agents[0],
        "n": limit,
        "lease_s": terms.lease_s,
        "attempt_s": terms.attempt_s,
        "default_expiry_s": terms.default_expiry_s,
        "worker_id": terms.worker_id,
        "now": now,
    }
    rows = await link.run(statement or (CLAIM_ONE if len(agents) == 1 else CLAIM), params)
    rows.sort(key=lambda row: (-row["priority"], row["turn"], row["available_at"], row["id"]))
    return [_claim(row, terms) for row in rows]


def _claim(row: DictRow, terms: ClaimTerms) -> Claim:
    return Claim(
        id=row["id"],
        agent=row["agent"],
        requester_id=row["requester_id"],
        attempt=row["attempt"],
        lease_token=row["lease_token"],
        expires_in_s=row["expires_in_s"],
        given_back=row["given_back"],
        attempt_s=terms.attempt_s,
        image_bytes=row["image_bytes"] or 0,
    )


async def release_strays(link: db.Link, *, worker_id: UUID, held: Iterable[Held]) -> list[UUID]:
    """Give back, attempt and all, what is claimed in this process's name but not held here."""
    pairs = list(held)
    params = {"worker_id": worker_id, "ids": [one for one, _ in pairs], "tokens": [token for _, token in pairs]}
    return [row["id"] for row in await link.run_until_done(RELEASE_STRAYS, params)]


class Claims:
    """The pump between the table and the claim loops of one process.

    Args:
        link: the claim's own connection.
        terms: who claims, and for how long.
        menu: what may be claimed.
        leases: where every claimed row is entered.
        wakeup: what ends a wait before the poll interval does.
        release: gives a claimed row back, attempt included.
        concurrency: how many claim loops there are; throttled models get a share of it.
        poll_interval_s: how long to wait when nothing more was due.
        drain: whether to stop when nothing is due and nothing is held.
        ready: whether what a claimed row needs is there; while it is not, nothing is claimed. Whoever changes that rings.
    """

    def __init__(
        self,
        *,
        link: db.Link,
        terms: ClaimTerms,
        menu: Menu,
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
        self._terms = terms
        self._menu = menu
        self._leases = leases
        self._wakeup = wakeup
        self._release = release
        self._concurrency = concurrency
        self._throttled = False
        self._poll_interval_s = min(poll_interval_s, DRAIN_INTERVAL_S) if drain else poll_interval_s
        self._drain = drain
        self._waiting: deque[asyncio.Future[Claim | None]] = deque()
        self._someone_waits = asyncio.Event()
        self._orphans: list[Claim] = []
        self._stopped = False
        self._locked_since: float | None = None

    async def next(self) -> Claim | None:
        """Wait for a claimed row; None when this process claims no more."""
        if self._stopped:
            return None
        future: asyncio.Future[Claim | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._someone_waits.set()
        if self._throttled:
            # Rows may be due that had no room; the request that ended has just made some.
            self._wakeup.ring()
        try:
            return await future
        except asyncio.CancelledError:
            # The pump may have answered in the very moment in which this caller was cancelled.
            if future.done() and not future.cancelled() and (claimed := future.result()) is not None:
                self._orphans.append(claimed)
            raise

    def stop(self) -> None:
        """Claim no more; whoever waits gets None."""
        self._stopped = True
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()
        self._someone_waits.set()
        self._wakeup.ring()

    async def run(self) -> None:
        """Claim for whoever waits, until stopped."""
        while not self._stopped:
            await self._someone_waits.wait()
            if self._stopped:
                break
            self._wakeup.clear()
            if not self._ready():
                await self._wakeup.wait(self._poll_interval_s)
                continue
            if await self._serve():
                continue
            if self._drain and not self._leases and await self._is_drained():
                self.stop()
                break
            await self._wakeup.wait(self._poll_interval_s)
        await self._release_orphans()

    async def _is_drained(self) -> bool:
        """Return whether nothing is due, seen by a look that no lock hides anything from.

        The reaper, say, may just hold a row that the claim passed over. Who keeps one for long does not keep the drain.
        """
        agents = [agent for portion in self._menu.portions() for agent in portion.agents]
        try:
            due = bool(await self._link.run(DUE, {"agents": agents}))
        except db.LOST as error:
            self._locked_since = None
            await self._link.pause(error)
            return False
        now = time.monotonic()
        if due and self._locked_since is None:
            self._locked_since = now
        if due and self._locked_since is not None and now - self._locked_since >= LOCKED_TIME_S:
            log.warning("left rows behind that another session has locked", agents=agents, waited_s=LOCKED_TIME_S)
            return True
        return not due

    async def _serve(self) -> bool:
        """Claim once; return whether there may be more to claim right now."""
        wanted = min(len(self._waiting), MAX_ITEMS)
        try:
            claimed = await self._claim(wanted)
        except db.LOST as error:
            self._locked_since = None
            await self._link.pause(error)
            strays = await release_strays(self._link, worker_id=self._terms.worker_id, held=self._leases.snapshot())
            if strays:
                log.info("released what a lost connection had claimed", rows=len(strays))
            return True
        await self._release_orphans()
        return claimed >= wanted

    async def _claim(self, wanted: int) -> int:
        claimed: list[Claim] = []
        if probe := await self._menu.take_probe(self._link):
            rows = await claim(self._link, terms=self._terms, agents=probe.agents, limit=1, statement=CLAIM_PROBE)
            claimed = [replace(one, probe=probe.model) for one in rows]
            self._deliver(claimed)
            if not rows:
                await self._menu.return_probe(probe.model)
        portions = self._menu.portions()
        if not portions:
            await self._menu.look_again(self._link)
            portions = self._menu.portions()
        self._throttled = any(portion.share < 1 for portion in portions)
        for portion in portions:
            room = min(wanted - len(claimed), self._room(portion))
            if room > 0:
                more = await claim(self._link, terms=self._terms, agents=portion.agents, limit=room)
                self._deliver(more)
                claimed += more
        return len(claimed)

    def _room(self, portion: Portion) -> int:
        if portion.share >= 1:
            return MAX_ITEMS
        return max(1, int(portion.share * self._concurrency)) - self._leases.count(portion.agents)

    def _deliver(self, claimed: list[Claim]) -> None:
        """Hand rows out as soon as they are claimed: a failure of the next statement must not take them along."""
        if claimed:
            self._locked_since = None
        for one in claimed:
            self._leases.add(one.id, one.lease_token, agent=one.agent)
            self._hand_over(one)
        if not self._waiting:
            self._someone_waits.clear()

    def _hand_over(self, claimed: Claim) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(claimed)
                return
        self._orphans.append(claimed)

    async def _release_orphans(self) -> None:
        while self._orphans:
            await self._release(self._orphans.pop())
