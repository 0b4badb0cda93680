"""What a running attempt reads and writes besides its outcome: its input, its progress, its usage.

Invariants: progress is fenced like a settlement; usage is not, because a result can be refused and its cost cannot. An attempt
hands its usage in and never waits for it; the settlement waits. A line that the server refuses does not keep others from being
written, and is given up in the end: its figures go to the log, because a draft must not be lost for its bookkeeping. No
transaction is open between these calls.
"""

import asyncio
import math
import time
from collections.abc import Coroutine
from dataclasses import asdict, dataclass
from decimal import Decimal
from operator import itemgetter
from typing import Any
from uuid import UUID

import psycopg
import structlog

from draftd import db
from draftd.backoff import full_jitter_s
from draftd.db.sqlstate import is_misfit, is_passing, is_raised_within
from draftd.db.statements import statements
from draftd.errors import LeaseLost
from draftd.queue.isolation import Aside
from draftd.queue.leases import HELD, Held, lost
from draftd.request import Claim, Parent, Request
from draftd.sanitize import storable, storable_json

log = structlog.get_logger(__name__)

USAGE_TRIES = 3
"""How often a refused line of usage is tried, within a second."""

MOST_OUTPUT_TOKENS = 128_000
"""The highest limit that a model's parameters may set, too."""

_SQL = statements(__name__)
READ_REQUEST, PUBLISH, RECORD_USAGE = _SQL["read_request"], _SQL["publish"], _SQL["record_usage"]


async def read_request(link: db.Link, claim: Claim) -> Request:
    """Read what a claimed row asks for, pictures included.

    Raises:
        LeaseLost: the row is not held by this claim any more.
    """
    rows = await link.run_until_done(READ_REQUEST, {"id": claim.id, "lease_token": claim.lease_token})
    if not rows:
        raise LeaseLost
    rows.sort(key=itemgetter("place"))
    first = rows[0]
    parent = None
    # Anything else holds no drafts, whoever wrote it.
    if isinstance(first["parent_result"], dict):
        reading = first["parent_reading"] if isinstance(first["parent_reading"], list) else []
        parent = Parent(result=first["parent_result"], reading=[one for one in reading if isinstance(one, str)])
    return Request(
        image_urls=tuple(row["url"] for row in rows if row["has_picture"]),
        context=first["context"],
        options=first["options"],
        parent=parent,
        max_tokens=_max_tokens(first["errors"]),
    )


def _max_tokens(errors: Any) -> dict[str, int]:
    """Return what the row's errors say of each model's limit of output tokens; their owner may have written anything."""
    found: dict[str, int] = {}
    for error in errors if isinstance(errors, list) else ():
        match error:
            case {"model": str(model), "max_tokens": int(limit)}:
                found[model] = max(found.get(model, 0), min(limit, MOST_OUTPUT_TOKENS))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One model call, as it is charged."""

    request_id: UUID
    requester_id: str
    attempt: int
    lease_token: int
    call: int
    """Which model call of this claim, from 1."""
    model: str
    code: str | None
    """None when the call was answered, else its error."""
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: Decimal | None
    elapsed_s: float
    trace_id: str | None


class Scribe:
    """Writes progress and usage.

    Args:
        link: the settlements' connection: usage must be written before the settlement that sums it up.
        aside: remembers which refused rows were reported.
    """

    def __init__(self, *, link: db.Link, aside: Aside) -> None:
        self._link = link
        self._aside = aside
        self._turn = asyncio.Lock()
        self._latest: dict[Held, dict[str, Any]] = {}
        self._publishing: dict[Held, asyncio.Task[str | None]] = {}
        self._unwritten: dict[Held, set[asyncio.Task[None]]] = {}
        self._refused: dict[Held, set[asyncio.Task[None]]] = {}

    async def publish(self, claim: Claim, partial_result: dict[str, Any]) -> None:
        """Show the options that are ready so far. If the caller stops waiting, the latest are shown all the same.

        Raises:
            LeaseLost: the row is not held by this claim any more.
        """
        held = (claim.id, claim.lease_token)
        self._latest[held] = partial_result
        if (task := self._publishing.get(held)) is None:
            task = self._publishing[held] = asyncio.create_task(self._publish(held), name="progress")
        if (standing := await asyncio.shield(task)) != HELD:
            raise lost(standing)

    def record(self, usage: Usage, *, until: float = -math.inf) -> None:
        """Hand in one model call for ``draft_usage``; it is written whatever becomes of the attempt, once the database is there.

        Handing in the same call again changes nothing.

        Args:
            usage: the call.
            until: when to give up if the server is short of something or locked, a moment of ``time.monotonic``; a few tries
                are made in any case.
        """
        self._keep(self._unwritten, usage, self._write_usage(usage, until))

    async def _write_usage(self, usage: Usage, until: float) -> None:
        if (refusal := await self._insert(usage)) is not None:
            # A task of its own, so that a caller that will not wait out a refusal can tell.
            self._keep(self._refused, usage, self._write_refused(usage, until, refusal))

    async def _write_refused(self, usage: Usage, until: float, refusal: psycopg.Error | None) -> None:
        tries = 1
        while refusal is not None:
            if tries >= _worth(refusal) or (tries >= USAGE_TRIES and time.monotonic() >= until):
                log.error("usage refused", sqlstate=refusal.sqlstate, tries=tries, **_figures(usage))
                return
            await asyncio.sleep(full_jitter_s(tries, base_s=0.1, cap_s=db.REFUSED_CAP_S))
            refusal = await self._insert(usage)
            tries += 1

    async def _insert(self, usage: Usage) -> psycopg.Error | None:
        """Write one line as soon as the database is there; return the refusal, if any."""
        params = storable(asdict(usage) | {"elapsed_s": round(usage.elapsed_s, 3)})
        try:
            async with self._turn:
                await self._link.run_until_done(RECORD_USAGE, params, waits_out=False)
        except psycopg.Error as error:
            if is_misfit(error):
                raise
            return error
        return None

    async def recorded(self, claim: Claim, *, waits_out: bool = True) -> bool:
        """Wait until the usage handed in for a claim has been written or given up: the settlement sums it up.

        A claim loop goes on only after this. So no more calls are unwritten than claims are held, however long the database is
        away.

        Args:
            claim: whose usage.
            waits_out: whether to wait while the server is there and refuses it, too.

        Returns:
            Whether all of it is written or given up; always True with ``waits_out``.
        """
        if not (self._unwritten or self._refused):
            return True
        held = (claim.id, claim.lease_token)
        while tasks := self._unwritten.get(held):
            await asyncio.wait(tasks)
        while tasks := self._refused.get(held):
            if not waits_out:
                return False
            await asyncio.wait(tasks)
        return True

    async def flush(self) -> None:
        """Wait until everything handed in has been written or given up."""
        tasks: set[asyncio.Task[Any]]
        while tasks := set().union(*self._unwritten.values(), *self._refused.values(), self._publishing.values()):
            await asyncio.wait(tasks)

    def _keep(
        self, kept: dict[Held, set["asyncio.Task[None]"]], usage: Usage, writing: Coroutine[Any, Any, None]
    ) -> None:
        held = (usage.request_id, usage.lease_token)
        task = asyncio.create_task(writing, name="usage")
        kept.setdefault(held, set()).add(task)
        task.add_done_callback(lambda done: self._written(kept, held, done))

    def _written(self, kept: dict[Held, set["asyncio.Task[None]"]], held: Held, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("usage lost to an internal error", request_id=held[0], error=type(error).__name__)
        kept[held].discard(task)
        if not kept[held]:
            del kept[held]

    async def _publish(self, held: Held) -> str | None:
        """Show what is the latest by the time it is written; return where the row stands."""
        standing: str | None = HELD
        try:
            async with self._turn:
                while (partial_result := self._latest.pop(held, None)) is not None:
                    standing = await self._show(held, partial_result)
        finally:
            # Before the task ends: a caller that finds it here waits for it.
            del self._publishing[held]
        return standing

    async def _show(self, held: Held, partial_result: dict[str, Any]) -> str | None:
        row_id, lease_token = held
        params = {"id": row_id, "lease_token": lease_token, "partial_result": storable_json(partial_result)}
        try:
            rows = await self._link.run(PUBLISH, params)
        except db.LOST:
            # Progress is a courtesy. The settlement is what must arrive, and it tells whether the lease still holds.
            return HELD
        except psycopg.Error as error:
            if is_misfit(error):
                raise
            # For the same reason a refusal here ends no row.
            self._aside.name(row_id, error, verb="publish", ended=False)
            return HELD
        return str(rows[0]["standing"]) if rows else None


def _worth(error: psycopg.Error) -> float:
    """Return how often to try a line that the server refuses; infinity if the refusal may pass."""
    if isinstance(error, psycopg.DataError | psycopg.IntegrityError):
        return 1
    # A trigger may raise any SQLSTATE, and for one requester only: it must not keep the claim loops from the others.
    return math.inf if is_passing(error) and not is_raised_within(error) else USAGE_TRIES


def _figures(usage: Usage) -> dict[str, Any]:
    """Return what the log keeps of a call that the table refuses: it was paid for all the same."""
    return {
        "request_id": usage.request_id,
        "model": usage.model,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_usd": usage.cost_usd,
    }
