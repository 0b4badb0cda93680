"""What a running attempt reads and writes besides its outcome: its input, its progress, its usage.

Invariants: progress is fenced like a settlement; usage is not, because a result can be refused and its cost cannot. Usage is
handed in and never awaited by an attempt, whose time it must not use up; whoever settles waits for it. What the server refuses
of one row keeps no neighbour's from being written, and is given up in the end: it goes to the log with its figures, because
a draft must not be lost for its bookkeeping. No transaction is open between these calls.
"""

import asyncio
import math
import time
from collections.abc import Coroutine, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from operator import itemgetter
from typing import Any
from uuid import UUID

import psycopg
import structlog

from draftd import db
from draftd.backoff import full_jitter_s
from draftd.db.sqlstate import is_passing, is_raised_within
from draftd.errors import LeaseLost
from draftd.queue.group_commit import GroupCommit
from draftd.queue.isolation import Aside, apart
from draftd.queue.leases import Held
from draftd.request import Claim, Parent, Request
from draftd.sanitize import storable_json

log = structlog.get_logger(__name__)

USAGE_TRIES = 3
"""How often a line of usage is tried that the server refuses by itself, though no other one has passed: within a second."""

# A row for each picture: an array is scanned for quotes as it arrives, which at 24 MiB holds the event loop for 35 to 50 ms.
# Put into order here, as a sort of the server's would carry the pictures through its temporary files. All else comes once, with
# the first. A data: URL with a letter outside of ASCII is none, and in Python one such letter makes all of it four times as
# large. An entry may be null: its owner may have written anything.
READ_REQUEST = """
SELECT CASE WHEN lower(left(i.url, 5)) = 'data:' AND octet_length(i.url) <> length(i.url) THEN 'data:'
            ELSE coalesce(i.url, '') END AS url,
       coalesce(i.place, 1) AS place, i.place IS NOT NULL AS has_picture,
       f.context, f.options, p.result AS parent_result, p.reading AS parent_reading
  FROM draft_requests AS r LEFT JOIN LATERAL unnest(r.image_urls) WITH ORDINALITY AS i(url, place) ON true
       LEFT JOIN draft_requests AS f ON f.id = r.id AND coalesce(i.place, 1) = 1
       LEFT JOIN draft_requests AS p ON p.id = f.parent_id AND p.requester_id = f.requester_id
 WHERE r.id = %(id)s AND r.status = 'processing' AND r.lease_token = %(lease_token)s
"""

# Progress is a courtesy: a row that somebody else has locked is passed over. Returned is what is not ours any more.
PUBLISH = """
WITH v AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb) AS v(id uuid, lease_token bigint, partial_result jsonb) ORDER BY id
), locked AS MATERIALIZED (
    SELECT x.id FROM (SELECT DISTINCT id FROM v ORDER BY id) AS v CROSS JOIN LATERAL (
        SELECT r.id FROM draft_requests AS r WHERE r.id = v.id FOR NO KEY UPDATE SKIP LOCKED) AS x
), published AS (
    UPDATE draft_requests AS r SET partial_result = v.partial_result, updated_at = now()
      FROM locked JOIN v ON v.id = locked.id
     WHERE r.id = v.id AND r.status = 'processing' AND r.lease_token = v.lease_token
)
SELECT v.id, v.lease_token FROM v WHERE NOT EXISTS (
    SELECT FROM draft_requests AS r WHERE r.id = v.id AND r.status = 'processing' AND r.lease_token = v.lease_token)
"""

RECORD_USAGE = """
INSERT INTO draft_usage (request_id, requester_id, attempt, lease_token, call, model, code,
                         input_tokens, output_tokens, cost_usd, elapsed_s, trace_id)
SELECT request_id, requester_id, attempt, lease_token, call, model, code,
       input_tokens, output_tokens, cost_usd, elapsed_s, trace_id
  FROM jsonb_to_recordset(%(rows)s::jsonb) AS v(
       request_id uuid, requester_id text, attempt smallint, lease_token bigint, call smallint, model text, code text,
       input_tokens integer, output_tokens integer, cost_usd numeric, elapsed_s numeric, trace_id text)
ON CONFLICT (request_id, lease_token, call) DO NOTHING
"""


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
    # Of another kind it holds no drafts, whoever wrote that.
    if isinstance(first["parent_result"], dict):
        reading = first["parent_reading"] if isinstance(first["parent_reading"], list) else []
        parent = Parent(result=first["parent_result"], reading=[one for one in reading if isinstance(one, str)])
    return Request(
        image_urls=tuple(row["url"] for row in rows if row["has_picture"]),
        context=first["context"],
        options=first["options"],
        parent=parent,
    )


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refusal:
    """Why a line of usage is not written."""

    error: psycopg.Error
    worth: float
    """How many tries in all; infinite if it is for time to tell."""


class Scribe:
    """Writes progress and usage, many at once.

    Args:
        link: the settlements' connection: usage must be there before the settlement that sums it up.
        aside: where the names of refused rows are remembered.
    """

    def __init__(self, *, link: db.Link, aside: Aside | None = None) -> None:
        self._link = link
        self._aside = aside or Aside()
        self._progress: GroupCommit[tuple[Held, str], bool] = GroupCommit(
            flush=self._flush_progress, size_bytes=lambda item: len(item[1])
        )
        self._usage: GroupCommit[tuple[Usage, str], _Refusal | None] = GroupCommit(
            flush=self._flush_usage, size_bytes=lambda item: len(item[1])
        )
        self._unwritten: dict[Held, set[asyncio.Task[None]]] = {}
        self._refused: dict[Held, set[asyncio.Task[None]]] = {}

    async def publish(self, claim: Claim, partial_result: dict[str, Any]) -> None:
        """Show the options that are ready so far.

        Raises:
            LeaseLost: the row is not held by this claim any more.
        """
        row = {"id": str(claim.id), "lease_token": claim.lease_token, "partial_result": partial_result}
        if not await self._progress.submit(((claim.id, claim.lease_token), storable_json(row))):
            raise LeaseLost

    def record(self, usage: Usage, *, until: float = -math.inf) -> None:
        """Hand in one model call for ``draft_usage``; it is written whatever becomes of the attempt, once the database is there.

        A repetition changes nothing.

        Args:
            usage: the call.
            until: how long to try if the server itself is short of something or locked, a moment of ``time.monotonic``; a few
                tries are made in any case.
        """
        row = asdict(usage) | {
            "request_id": str(usage.request_id),
            "cost_usd": None if usage.cost_usd is None else str(usage.cost_usd),
            "elapsed_s": round(usage.elapsed_s, 3),
        }
        item = (usage, storable_json(row))
        self._keep(self._unwritten, usage, self._write_usage(item, until))

    async def _write_usage(self, item: tuple[Usage, str], until: float) -> None:
        refusal = await self._usage.submit(item)
        if refusal is not None:
            # A task of its own: whoever will not wait out a refusal can tell.
            self._keep(self._refused, item[0], self._write_refused(item, until, refusal))

    async def _write_refused(self, item: tuple[Usage, str], until: float, refusal: _Refusal | None) -> None:
        tries = 1
        while refusal is not None:
            if tries >= refusal.worth or (tries >= USAGE_TRIES and time.monotonic() >= until):
                log.error("usage refused", sqlstate=refusal.error.sqlstate, tries=tries, **_figures(item[0]))
                return
            await asyncio.sleep(full_jitter_s(tries, base_s=0.1, cap_s=db.REFUSED_CAP_S))
            refusal = await self._usage.submit(item)
            tries += 1

    async def recorded(self, claim: Claim, *, waits_out: bool = True) -> bool:
        """Wait until the usage of a claim that was handed in has been written, or given up: a settlement sums it up.

        Whoever claims goes on only after this, so that there are no more calls unwritten than claims held, however long the
        database is away.

        Args:
            claim: whose usage.
            waits_out: whether to wait, too, while the server is there and refuses it.

        Returns:
            Whether it is all done with; always with ``waits_out``.
        """
        held = (claim.id, claim.lease_token)
        while tasks := self._unwritten.get(held):
            await asyncio.wait(tasks)
        while tasks := self._refused.get(held):
            if not waits_out:
                return False
            await asyncio.wait(tasks)
        return True

    async def flush(self) -> None:
        """Wait until everything handed in has been written, or given up."""
        while tasks := set().union(*self._unwritten.values(), *self._refused.values()):
            await asyncio.wait(tasks)
        await self._progress.flush()

    def _keep(
        self, kept: dict[Held, set["asyncio.Task[None]"]], usage: Usage, writing: Coroutine[Any, Any, None]
    ) -> None:
        held = (usage.request_id, usage.lease_token)
        task = asyncio.create_task(writing, name="usage")
        kept.setdefault(held, set()).add(task)
        task.add_done_callback(lambda done: self._written(kept, held, done))

    def _written(self, kept: dict[Held, set["asyncio.Task[None]"]], held: Held, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("usage lost by a defect", request_id=held[0], error=type(error).__name__)
        kept[held].discard(task)
        if not kept[held]:
            del kept[held]

    async def _flush_progress(self, items: Sequence[tuple[Held, str]]) -> list[bool]:
        # Of one request the latest: who did not wait for the one before may have handed in another already.
        latest = dict(items)
        try:
            parts = await apart(list(latest.items()), self._publish)
        except db.LOST:
            # Progress is a courtesy: the settlement is what must arrive, and it says whether the lease still holds.
            return [True] * len(items)
        # For the same reason no row is ended for what is refused here.
        for (row_id, _), error in [(item[0], error) for item, error in parts.refused]:
            self._aside.name(row_id, error, verb="publish", ended=False)
        lost = {held for _, answer in parts.answered for held in answer}
        return [held not in lost for held, _ in items]

    async def _publish(self, some: Sequence[tuple[Held, str]]) -> list[Held]:
        rows = await self._link.run(PUBLISH, {"rows": f"[{','.join(text for _, text in some)}]"})
        return [(row["id"], row["lease_token"]) for row in rows]

    async def _flush_usage(self, items: Sequence[tuple[Usage, str]]) -> list[_Refusal | None]:
        """Return why each item is not written; None of those that are."""

        async def record(some: Sequence[int]) -> None:
            rows = ",".join(items[one][1] for one in some)
            await self._link.run_until_done(RECORD_USAGE, {"rows": f"[{rows}]"}, waits_out=False)

        parts = await apart(range(len(items)), record)
        refusals = {one: _Refusal(error=error, worth=math.inf) for one, error in parts.untried}
        for one, error in parts.refused:
            refusals[one] = _Refusal(error=error, worth=_worth(error, passed=bool(parts.answered)))
        return [refusals.get(one) for one in range(len(items))]


def _worth(error: psycopg.Error, *, passed: bool) -> float:
    """Return how many tries a line is worth that the server refuses alone."""
    if isinstance(error, psycopg.DataError | psycopg.IntegrityError):
        return 1
    # A trigger may say whatever its author chose, and of one requester only: it must not keep the loops from the others.
    if is_passing(error):
        return USAGE_TRIES if is_raised_within(error) else math.inf
    return 1 if passed else USAGE_TRIES


def _figures(usage: Usage) -> dict[str, Any]:
    """Return what the log keeps of a call that the table does not take: it was paid all the same."""
    return {
        "request_id": usage.request_id,
        "model": usage.model,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_usd": usage.cost_usd,
    }
