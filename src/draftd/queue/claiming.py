"""Claiming: takes pending rows, and gives back those that a lost connection took.

Owns the claim statements. When the server refuses a claim because of one of its rows, the candidates are looked up without
writing and claimed by id. ``claims`` decides when to claim, and for which agents.
"""

import math
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import psycopg
from psycopg.rows import DictRow

from draftd import db
from draftd.db.sqlstate import is_schema_mismatch
from draftd.db.statements import statements
from draftd.queue.leases import LeaseKey
from draftd.queue.refused_rows import PATIENCE_S, Quarantine, Refusals, Resolution, execute_in_parts
from draftd.queue.trials import Precondition, Trial
from draftd.request import TRACEPARENT, Claim

_SQL = statements(__name__)
CLAIM, CLAIM_WITHIN, CLAIM_PROBE, CLAIM_THESE, FIND_CLAIMABLE = (
    _SQL[name] for name in ("claim", "claim_within", "claim_probe", "claim_these", "find_claimable")
)
RELEASE_STRAYS, FIND_STRAYS = _SQL["release_strays"], _SQL["find_strays"]
GIVE_PLACES_UP = _SQL["give_places_up"]


AMPLE_S = 0.9
"""How long claims do not ask a ceiling again that had ample room: the fleet cannot use that up within a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimTerms:
    """Which worker claims, and for how long."""

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
    skip: Sequence[UUID] = (),
    models: Sequence[str] = (),
) -> list[Claim]:
    """Claim up to ``limit`` due rows of these agents, highest priority first, then by turn.

    Args:
        link: the connection to claim on.
        terms: the worker, and how long it claims for.
        agents: one or more.
        limit: how many rows, 1 or more.
        statement: ``CLAIM`` or ``CLAIM_PROBE``.
        skip: rows to skip.
        models: the model that each of the agents would use; nothing is claimed for an agent whose model is paused.

    Raises:
        db.LOST: the connection broke; the server may still have claimed rows (see ``release_strays``).
        psycopg.Error: the server refused; nothing was claimed.
    """
    params = _params(terms, agents, limit, models) | {"skip": list(skip)}
    return _claims(await link.run(statement, params), terms)


def _params(
    terms: ClaimTerms, agents: list[str], limit: int, models: Sequence[str] = (), *, now: datetime | None = None
) -> db.Row:
    return {
        "agents": agents,
        "models": list(models),
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
        # The owner of the tables may bypass the trigger, and this becomes an HTTP header.
        traceparent=row["traceparent"] if TRACEPARENT.fullmatch(row["traceparent"] or "") else None,
    )


class Claimer:
    """Claims rows; after a refusal, claims as many of them as the server accepts.

    Args:
        link: the connection to claim on.
        terms: the worker, and how long it claims for.
        quarantine: the rows that this process leaves alone.
    """

    def __init__(self, *, link: db.Link, terms: ClaimTerms, quarantine: Quarantine) -> None:
        self._link = link
        self._terms = terms
        self._quarantine = quarantine
        self._claims = Refusals(verb="claim", quarantine=quarantine)
        self._releases = Refusals(verb="release", quarantine=quarantine)
        self.room_in_s: float | None = None
        """In how many seconds a ceiling may have room for due rows that the last claim left; None if it left none."""
        self._ample_until: dict[str, float] = {}
        self.anyone_waits = True
        """Whether an admission may find a row to admit; also if no claim has told."""
        self.skipped: list[UUID] = []
        """The quarantined rows that the last claim skipped."""

    async def claim(
        self,
        agents: list[str],
        limit: int,
        statement: str = CLAIM,
        *,
        models: Sequence[str] = (),
        ceiling: str | None = None,
        are_limits: bool = False,
    ) -> list[Claim]:
        """Claim up to ``limit`` due rows of these agents; see ``claim``.

        Args:
            agents: one or more.
            limit: how many rows, 1 or more.
            statement: ``CLAIM`` or ``CLAIM_PROBE``.
            models: each agent's, see ``claim``.
            ceiling: the model whose ceilings must have room for the rows, if it has any. They are not asked for ``AMPLE_S`` after
                a claim that found ample room.
            are_limits: whether any row may wait for its admission; the claim then finds out.

        Raises:
            db.LOST: as in ``claim``.
            psycopg.Error: the server refused, possibly through its own fault; nothing was claimed.
        """
        began, self.skipped = time.monotonic(), self._quarantine.ids()
        if ceiling is not None and began < self._ample_until.get(ceiling, 0.0):
            ceiling = None
        try:
            if ceiling is None and not are_limits:
                claimed = await claim(
                    self._link,
                    terms=self._terms,
                    agents=agents,
                    limit=limit,
                    statement=statement,
                    skip=self.skipped,
                    models=models,
                )
            else:
                params = _params(self._terms, agents, limit, models) | {"skip": self.skipped}
                claimed = await self._claim_within(params | {"model": ceiling, "are_limits": are_limits})
        except psycopg.Error as error:
            if is_schema_mismatch(error):
                raise
            params = _params(self._terms, agents, limit, models)
            return await self._claim_individually(params, limit, error, began)
        if claimed:
            self._claims.accepted([one.id for one in claimed])
        return claimed

    async def _claim_within(self, params: db.Row) -> list[Claim]:
        """Claim as many rows as ceilings have room for; note when there may be more, and whether any wait."""
        began = time.monotonic()
        rows = await self._link.run(CLAIM_WITHIN, params)
        if rows[0]["is_ample"]:
            self._ample_until[params["model"]] = began + AMPLE_S
        if (wait_s := rows[0]["wait_s"]) is not None:
            self.room_in_s = min(wait_s, self.room_in_s or wait_s)
        if params["are_limits"]:
            self.anyone_waits = rows[0]["anyone_waits"]
        return _claims([row for row in rows if row["id"] is not None], self._terms)

    async def _claim_individually(
        self, params: db.Row, limit: int, refusal: psycopg.Error, began: float
    ) -> list[Claim]:
        """Claim by id, and look past refused rows, which must not block those behind them."""
        # Refusals are resolved after other rows were tried: whether those get through tells whose fault it is.
        refused = list[tuple[LeaseKey, psycopg.Error]]()
        looked_at: list[UUID] = []

        async def claim_these(some: Sequence[LeaseKey]) -> list[DictRow]:
            return await self._link.run(CLAIM_THESE, params | {"ids": [one for one, _ in some]})

        while True:
            found = await self._link.run(FIND_CLAIMABLE, params | {"skip": [*self._quarantine.ids(), *looked_at]})
            parts = await execute_in_parts([(row["id"], row["lease_token"]) for row in found], claim_these, began=began)
            rows = [row for _, answer in parts.answered for row in answer]
            refused += parts.refused
            looked_at += [row["id"] for row in found]
            is_late = bool(parts.untried) or time.monotonic() - began > PATIENCE_S
            if rows or len(found) < limit or is_late:
                break
        resolutions = await self._resolve(refused, passed=[row["id"] for row in rows])
        undecided = [held for held, resolution in resolutions.items() if resolution is Resolution.UNDECIDED]
        for row_id, _ in [*undecided, *(held for held, _ in parts.untried)]:
            self._quarantine.add_briefly(row_id)
        await self._give_places_up([held for held, one in resolutions.items() if one is not Resolution.ENDED])
        if not rows and (undecided or is_late):
            raise refusal
        return _claims(rows, self._terms)

    async def _resolve(
        self, refused: Sequence[tuple[LeaseKey, psycopg.Error]], *, passed: list[UUID]
    ) -> dict[LeaseKey, Resolution]:
        """Resolve the rows that were refused alone."""
        params = _params(self._terms, [""], 1, now=db.MAX_TIMESTAMP)

        async def claim_it(execute: db.Execute, another: LeaseKey) -> bool:
            return bool(await execute(CLAIM_THESE, params | {"ids": [another[0]]}))

        trial = Trial(before=Precondition.PENDING, change=claim_it)
        return await self._claims.resolve(self._link, refused, passed=passed, trial=trial)

    async def _give_places_up(self, kept: Sequence[LeaseKey]) -> None:
        """Leave the places of rows that stay pending to others of their requesters; one that refuses this, too, keeps its own."""

        async def give_up(some: Sequence[LeaseKey]) -> None:
            ids, tokens = [one for one, _ in some], [token for _, token in some]
            delays_s = [self._quarantine.left_s(one) for one in ids]
            await self._link.run(GIVE_PLACES_UP, {"ids": ids, "tokens": tokens, "delays_s": delays_s})

        await execute_in_parts(kept, give_up)

    def retry_in_s(self) -> float:
        """Return in how many seconds a skipped row may be tried again, or a ceiling may have room."""
        return min(self._quarantine.next_in_s(), math.inf if self.room_in_s is None else self.room_in_s)

    async def release_strays(self, held: Iterable[LeaseKey]) -> list[UUID]:
        """Give back, without counting the attempt, the rows claimed by this worker that it does not hold.

        Rows that the server refuses to give back are left to the reaper.
        """
        pairs, worker_id = list(held), self._terms.worker_id
        try:
            return await release_strays(self._link, worker_id=worker_id, held=pairs)
        except psycopg.Error as error:
            if is_schema_mismatch(error):
                raise
        strays = await self._link.run_until_done(FIND_STRAYS, _strays_params(worker_id, pairs))

        async def release(some: Sequence[LeaseKey]) -> list[UUID]:
            only = [one for one, _ in some]
            return await release_strays(self._link, worker_id=worker_id, held=pairs, only=only)

        async def release_it(execute: db.Execute, another: LeaseKey) -> bool:
            return bool(await execute(RELEASE_STRAYS, _strays_params(worker_id, []) | {"only": [another[0]]}))

        parts = await execute_in_parts([(row["id"], row["lease_token"]) for row in strays], release)
        released = [one for _, answer in parts.answered for one in answer]
        with suppress(*db.LOST):
            trial = Trial(before=Precondition.HELD, change=release_it, worker_id=worker_id)
            await self._releases.resolve(self._link, parts.refused, passed=released, trial=trial)
        return released


async def release_strays(
    link: db.Link, *, worker_id: UUID, held: Iterable[LeaseKey], only: list[UUID] | None = None
) -> list[UUID]:
    """Give back, without counting the attempt, the rows claimed by a worker that it does not hold.

    Args:
        link: the connection to use.
        worker_id: the worker.
        held: the leases that it holds.
        only: restricts the rows to these ids.

    Raises:
        psycopg.Error: the server refused.
    """
    params = _strays_params(worker_id, list(held)) | {"only": only}
    return [row["id"] for row in await link.run_until_done(RELEASE_STRAYS, params, retry_refusals=False)]


def _strays_params(worker_id: UUID, pairs: list[LeaseKey]) -> db.Row:
    return {"worker_id": worker_id, "ids": [one for one, _ in pairs], "tokens": [token for _, token in pairs]}
