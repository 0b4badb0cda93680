"""Claiming: the statements that take pending rows, and give back what a lost connection took.

Owns the claim's statements, each in a form without the rows that are set aside, and what becomes of a claim that the server
refuses for one of its rows: the candidates are looked up without writing, and claimed by their ids. When to claim, and for whom,
is ``claims``'.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import psycopg
from psycopg.rows import DictRow

from draftd import db
from draftd.db.sqlstate import is_misfit
from draftd.queue.isolation import PATIENCE_S, Aside, Refusals, Verdict, apart
from draftd.queue.leases import Held
from draftd.queue.trials import Before, Trial
from draftd.request import TRACEPARENT, Claim

_TAKE = """
UPDATE draft_requests AS r SET
    status = 'processing',
    attempt = r.attempt + 1,
    lease_token = r.lease_token + 1,
    lease_until = now() + make_interval(secs => %(lease_s)s),
    deadline_at = now() + make_interval(secs => %(attempt_s)s),
    worker_id = %(worker_id)s,
    claimed_at = now(),
    updated_at = now()
  FROM due WHERE r.id = due.id
RETURNING r.id, r.agent, r.requester_id, r.attempt, r.lease_token, r.given_back, r.priority, r.turn, r.traceparent,
    -- As a number: that is read in a tenth of the time.
    extract(epoch FROM r.available_at)::float8 AS available_at,
    pg_column_size(r.image_urls) AS image_bytes,
    -- Each by itself: an operator may have written infinity, from which no moment can be taken away before PostgreSQL 17.
    extract(epoch FROM r.expires_at)::float8 - extract(epoch FROM coalesce(%(now)s::timestamptz, now()))::float8 AS expires_in_s
"""

# The front of each agent's line is read in exactly the order of draft_requests_claim_idx, so that its LIMIT is an index scan. No
# image_urls: 16 rows of 7 MB cost 650 ms and 200 MB. MATERIALIZED, because the planner may run a plain subquery again and claim
# more than LIMIT. Each agent's line counts its own turns, so agents are compared by the distance from the front of their lines;
# as floats, because the difference of two turns may be none that a bigint holds.
CLAIM = f"""
WITH due AS MATERIALIZED (
    SELECT x.id FROM unnest(%(agents)s::text[]) AS a(agent) CROSS JOIN LATERAL (
        SELECT r.id, r.priority, r.turn, r.available_at FROM draft_requests AS r
         WHERE r.status = 'pending' AND r.agent = a.agent AND r.available_at <= coalesce(%(now)s::timestamptz, now())
           AND r.id <> ALL (%(aside)s::uuid[])
         ORDER BY r.priority DESC, r.turn, r.available_at, r.id LIMIT %(n)s FOR NO KEY UPDATE SKIP LOCKED) AS x
     ORDER BY x.priority DESC, x.turn::float8 - min(x.turn) OVER (PARTITION BY a.agent, x.priority), x.available_at, x.id
     LIMIT %(n)s
)
{_TAKE}"""

PROBE_CANDIDATES = 100

# Of the first rows in line the one that has failed least often: a row that is itself the reason must not be every probe.
CLAIM_PROBE = f"""
WITH candidate AS MATERIALIZED (
    SELECT x.* FROM unnest(%(agents)s::text[]) AS a(agent) CROSS JOIN LATERAL (
        SELECT r.id, r.priority, r.turn, r.given_back FROM draft_requests AS r
         WHERE r.status = 'pending' AND r.agent = a.agent AND r.available_at <= coalesce(%(now)s::timestamptz, now())
           AND r.id <> ALL (%(aside)s::uuid[])
         ORDER BY r.priority DESC, r.turn, r.available_at, r.id LIMIT {PROBE_CANDIDATES}) AS x
), due AS MATERIALIZED (
    SELECT x.id FROM (SELECT * FROM candidate ORDER BY given_back, priority DESC, turn, id) AS c CROSS JOIN LATERAL (
        SELECT r.id FROM draft_requests AS r
         WHERE r.id = c.id AND r.status = 'pending' FOR NO KEY UPDATE SKIP LOCKED) AS x
     LIMIT %(n)s
)
{_TAKE}"""

# What a refused claim may have been refused for: nothing is written, and nothing locked.
CANDIDATES = """
SELECT x.id, x.lease_token FROM unnest(%(agents)s::text[]) AS a(agent) CROSS JOIN LATERAL (
        SELECT r.id, r.lease_token, r.priority, r.turn, r.available_at FROM draft_requests AS r
         WHERE r.status = 'pending' AND r.agent = a.agent AND r.available_at <= coalesce(%(now)s::timestamptz, now())
           AND r.id <> ALL (%(aside)s::uuid[])
         ORDER BY r.priority DESC, r.turn, r.available_at, r.id LIMIT %(n)s) AS x
 ORDER BY x.priority DESC, x.turn::float8 - min(x.turn) OVER (PARTITION BY a.agent, x.priority), x.available_at, x.id
 LIMIT %(n)s
"""
CLAIM_THESE = f"""
WITH due AS MATERIALIZED (
    SELECT x.id FROM unnest(%(ids)s::uuid[]) AS i(id) CROSS JOIN LATERAL (
        SELECT r.id FROM draft_requests AS r
         WHERE r.id = i.id AND r.status = 'pending' AND r.available_at <= coalesce(%(now)s::timestamptz, now())
           FOR NO KEY UPDATE SKIP LOCKED) AS x
)
{_TAKE}"""

# What a claim whose connection was lost may have taken: mine, and not held here.
RELEASE_STRAYS = """
WITH stray AS MATERIALIZED (
    SELECT r.id FROM draft_requests AS r
     WHERE r.status = 'processing' AND r.worker_id = %(worker_id)s
       AND NOT EXISTS (SELECT FROM unnest(%(ids)s::uuid[], %(tokens)s::bigint[]) AS h(id, lease_token)
                        WHERE h.id = r.id AND h.lease_token = r.lease_token)
       AND (%(only)s::uuid[] IS NULL OR r.id = ANY (%(only)s))
     ORDER BY r.id FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE draft_requests AS r SET status = 'pending', attempt = r.attempt - 1
  FROM stray WHERE r.id = stray.id AND r.status = 'processing' AND r.worker_id = %(worker_id)s
RETURNING r.id
"""

STRAYS = """
SELECT r.id, r.lease_token FROM draft_requests AS r
 WHERE r.status = 'processing' AND r.worker_id = %(worker_id)s
   AND NOT EXISTS (SELECT FROM unnest(%(ids)s::uuid[], %(tokens)s::bigint[]) AS h(id, lease_token)
                    WHERE h.id = r.id AND h.lease_token = r.lease_token)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimTerms:
    """Who claims, and for how long."""

    worker_id: UUID
    lease_s: float
    attempt_s: float


async def claim(
    link: db.Link,
    *,
    terms: ClaimTerms,
    agents: list[str],
    limit: int,
    statement: str = CLAIM,
    aside: Sequence[UUID] = (),
    now: datetime | None = None,
) -> list[Claim]:
    """Claim up to ``limit`` due rows of these agents, highest priority first, then by turn.

    Args:
        link: the connection to claim on.
        terms: who claims, and for how long.
        agents: whose requests, one or more.
        limit: how many rows, 1 or more.
        statement: ``CLAIM_PROBE`` for a probe.
        aside: rows to pass over.
        now: the database's time if None; tests move it.

    Raises:
        db.LOST: the connection broke; the server may have claimed all the same (see ``release_strays``).
        psycopg.Error: the server refused; it has claimed nothing.
    """
    params = _params(terms, agents, limit, now) | {"aside": list(aside)}
    return _claims(await link.run(statement, params), terms)


def _params(terms: ClaimTerms, agents: list[str], limit: int, now: datetime | None) -> db.Row:
    return {
        "agents": agents,
        "n": limit,
        "lease_s": terms.lease_s,
        "attempt_s": terms.attempt_s,
        "worker_id": terms.worker_id,
        "now": now,
    }


def _claims(rows: list[DictRow], terms: ClaimTerms) -> list[Claim]:
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
        # Past its trigger a row may hold anything, and this becomes a header.
        traceparent=row["traceparent"] if TRACEPARENT.fullmatch(row["traceparent"] or "") else None,
    )


class Claimer:
    """Claims rows, and what is refused of a claim apart.

    Args:
        link: the connection to claim on.
        terms: who claims, and for how long.
        aside: the rows that are passed over.
    """

    def __init__(self, *, link: db.Link, terms: ClaimTerms, aside: Aside) -> None:
        self._link = link
        self._terms = terms
        self._aside = aside
        self._claims = Refusals(verb="claim", aside=aside)
        self._releases = Refusals(verb="release", aside=aside)
        self.passed_over: list[UUID] = []
        """What the last claim left out."""

    async def claim(self, agents: list[str], limit: int, statement: str = CLAIM) -> list[Claim]:
        """Claim up to ``limit`` due rows of these agents; see ``claim``.

        Raises:
            db.LOST: as in ``claim``.
            psycopg.Error: the server refused, and it may be its own fault: nothing was claimed.
        """
        began, aside = time.monotonic(), self._aside.ids()
        self.passed_over = aside
        try:
            claimed = await claim(
                self._link, terms=self._terms, agents=agents, limit=limit, statement=statement, aside=aside
            )
        except psycopg.Error as error:
            if is_misfit(error):
                raise
            return await self._claim_apart(agents, limit, error, began)
        if claimed:
            self._claims.accepted([one.id for one in claimed])
        return claimed

    async def _claim_apart(self, agents: list[str], limit: int, refusal: psycopg.Error, began: float) -> list[Claim]:
        """Claim by id, looking past what is refused: rows in front must not keep those behind them."""
        # Judged once another row has been looked at: whether it gets through says whose fault the refusals are.
        params, refused = _params(self._terms, agents, limit, None), list[tuple[Held, psycopg.Error]]()
        looked_at: list[UUID] = []
        while True:
            found = await self._link.run(CANDIDATES, params | {"aside": [*self._aside.ids(), *looked_at]})
            parts = await apart([(row["id"], row["lease_token"]) for row in found], self._claim_these, began=began)
            rows = [row for _, answer in parts.answered for row in answer]
            refused += parts.refused
            looked_at += [row["id"] for row in found]
            is_late = bool(parts.untried) or time.monotonic() - began > PATIENCE_S
            if rows or len(found) < limit or is_late:
                break
        undecided = await self._judge(refused, passed=[row["id"] for row in rows])
        for row_id, _ in [*undecided, *(held for held, _ in parts.untried)]:
            self._aside.put_briefly(row_id)
        if not rows and (undecided or is_late):
            raise refusal
        return _claims(rows, self._terms)

    async def _claim_these(self, some: Sequence[Held]) -> list[DictRow]:
        params = _params(self._terms, [], len(some), None)
        return await self._link.run(CLAIM_THESE, params | {"ids": [one for one, _ in some]})

    async def _judge(self, refused: Sequence[tuple[Held, psycopg.Error]], *, passed: list[UUID]) -> list[Held]:
        """Judge what was refused alone; return what nothing could be decided about."""
        params = _params(self._terms, [""], 1, db.LAST_MOMENT)

        async def claim_it(execute: db.Execute, another: Held) -> bool:
            return bool(await execute(CLAIM_THESE, params | {"ids": [another[0]]}))

        trial = Trial(before=Before.PENDING, change=claim_it)
        verdicts = await self._claims.judge(self._link, refused, passed=passed, trial=trial)
        return [held for held, verdict in verdicts.items() if verdict is Verdict.UNDECIDED]

    def retry_in_s(self) -> float:
        """Return in how many seconds something that was passed over may be claimed after all."""
        return self._aside.next_in_s()

    async def release_strays(self, held: Iterable[Held]) -> list[UUID]:
        """Give back, attempt and all, what is claimed in this process's name but not held here.

        What is refused of it is left to the reaper.
        """
        pairs, worker_id = list(held), self._terms.worker_id
        try:
            return await release_strays(self._link, worker_id=worker_id, held=pairs)
        except psycopg.Error as error:
            if is_misfit(error):
                raise
        strays = await self._link.run_until_done(STRAYS, _strays_params(worker_id, pairs))

        async def release(some: Sequence[Held]) -> list[UUID]:
            only = [one for one, _ in some]
            return await release_strays(self._link, worker_id=worker_id, held=pairs, only=only)

        async def release_it(execute: db.Execute, another: Held) -> bool:
            return bool(await execute(RELEASE_STRAYS, _strays_params(worker_id, []) | {"only": [another[0]]}))

        parts = await apart([(row["id"], row["lease_token"]) for row in strays], release)
        released = [one for _, answer in parts.answered for one in answer]
        with suppress(*db.LOST):
            trial = Trial(before=Before.HELD, change=release_it, worker_id=worker_id)
            await self._releases.judge(self._link, parts.refused, passed=released, trial=trial)
        return released


async def release_strays(
    link: db.Link, *, worker_id: UUID, held: Iterable[Held], only: list[UUID] | None = None
) -> list[UUID]:
    """Give back, attempt and all, what is claimed in a process's name but not held there.

    Args:
        link: where.
        worker_id: the process.
        held: what it holds.
        only: the rows to look at; all if None.

    Raises:
        psycopg.Error: the server refused.
    """
    params = _strays_params(worker_id, list(held)) | {"only": only}
    return [row["id"] for row in await link.run_until_done(RELEASE_STRAYS, params, waits_out=False)]


def _strays_params(worker_id: UUID, pairs: list[Held]) -> db.Row:
    return {"worker_id": worker_id, "ids": [one for one, _ in pairs], "tokens": [token for _, token in pairs]}
