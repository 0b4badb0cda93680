"""What a running attempt reads and writes besides its outcome: its input, its progress and its usage.

Invariants: progress is fenced like a settlement; usage is not, because a result can be rejected and its cost cannot. An attempt
never waits for its usage to be written; the settlement does. A usage row that the server refuses does not delay others and is
given up eventually, with its figures in the log: no draft may be lost to bookkeeping. No transaction is open between these calls.
"""

import asyncio
import math
import time
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from operator import itemgetter
from typing import Any
from uuid import UUID

import psycopg
import structlog
from psycopg.errors import LockNotAvailable

from draftd import db
from draftd.backoff import Backoff
from draftd.db.sqlstate import is_raised_in_function, is_schema_mismatch, is_transient
from draftd.db.statements import statements
from draftd.errors import LeaseLost
from draftd.json_values import json_list, json_object, json_objects
from draftd.queue.leases import HELD, LeaseKey, lost
from draftd.queue.refused_rows import Quarantine
from draftd.request import Claim, Parent, Profile, Request, SentText, Wish
from draftd.sanitize import storable, storable_json

log = structlog.get_logger(__name__)

USAGE_TRIES = 3
"""How often a refused usage row is tried, within a second."""

MOST_OUTPUT_TOKENS = 128_000
"""The highest limit that a model's parameters may set, too."""

_SQL = statements(__name__)
READ_REQUEST, PUBLISH, RECORD_USAGE = _SQL["read_request"], _SQL["publish"], _SQL["record_usage"]


async def read_request(link: db.Link, claim: Claim) -> Request:
    """Read a claimed request, pictures included.

    Raises:
        LeaseLost: this claim no longer holds the row.
    """
    rows = await link.run_until_done(READ_REQUEST, {"id": claim.id, "lease_token": claim.lease_token})
    if not rows:
        raise LeaseLost
    rows.sort(key=itemgetter("place"))
    first = rows[0]
    return Request(
        image_urls=tuple(row["url"] for row in rows if row["has_picture"]),
        context=first["context"],
        options=first["options"],
        parent=_parent(first),
        max_tokens=_max_tokens(first["errors"]),
        asked_at=first["asked_at"],
        profile=Profile.read(json_object(first["profile"])),
        sent=tuple(
            SentText(text=sent["text"], platform=sent["platform"] or "", author=sent["author"] or "")
            for sent in json_objects(first["sent"])
        ),
    )


def _parent(row: Mapping[str, Any]) -> Parent | None:
    # The owner of the tables may have written anything; only an object holds drafts.
    if not isinstance(row["parent_result"], dict):
        return None
    steps = json_objects(row["chain"])
    drafts = [option for step in steps for option in json_objects(step.get("drafts"))]
    return Parent(
        result=row["parent_result"],
        reading=[one for one in json_list(row["parent_reading"]) if isinstance(one, str)],
        wishes=tuple(
            Wish(context=_text(step.get("context")), options=json_object(step.get("options"))) for step in steps
        ),
        chain_texts=tuple(_values(drafts, "text")),
        unsupported=tuple(
            _values((one for draft in drafts for one in json_objects(draft.get("unsupported"))), "quote")
        ),
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _max_tokens(errors: Any) -> dict[str, int]:
    """Return what the row's errors say of each model's limit of output tokens."""
    found: dict[str, int] = {}
    for error in json_list(errors):
        match error:
            case {"model": str(model), "max_tokens": int(limit)}:
                found[model] = max(found.get(model, 0), min(limit, MOST_OUTPUT_TOKENS))
    return found


def _values(objects: Iterable[dict[str, Any]], key: str) -> Iterator[str]:
    return (value for one in objects if isinstance(value := one.get(key), str) and value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One model call, as it is charged."""

    request_id: UUID
    requester_id: str
    attempt: int
    lease_token: int
    call: int
    """The number of the call within this claim, from 1."""
    model: str
    code: str | None
    """The error of the call; None if it was answered."""
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    cost_usd: Decimal | None
    elapsed_s: float
    trace_id: str | None


class AttemptWriter:
    """Writes the progress and usage of attempts.

    Args:
        link: the connection of the settlements, which sum up the usage written before them.
        quarantine: remembers which refused rows were reported.
    """

    def __init__(self, *, link: db.Link, quarantine: Quarantine) -> None:
        self._link = link
        self._quarantine = quarantine
        self._turn = asyncio.Lock()
        self._latest: dict[LeaseKey, dict[str, Any]] = {}
        self._publishing: dict[LeaseKey, asyncio.Task[str | None]] = {}
        self._unwritten: dict[LeaseKey, set[asyncio.Task[None]]] = {}
        self._refused: dict[LeaseKey, set[asyncio.Task[None]]] = {}

    async def publish(self, claim: Claim, partial_result: dict[str, Any]) -> None:
        """Publish the options that are ready so far; the latest are written even if the caller stops waiting.

        Raises:
            LeaseLost: this claim no longer holds the row.
        """
        held = claim.key
        self._latest[held] = partial_result
        if (task := self._publishing.get(held)) is None:
            task = self._publishing[held] = asyncio.create_task(self._publish(held), name="progress")
        if (standing := await asyncio.shield(task)) != HELD:
            raise lost(standing)

    def record(self, usage: Usage, *, until: float = -math.inf) -> None:
        """Queue one model call for ``draft_usage``; it is written whatever happens to the attempt, once the database is up.

        Recording the same call again changes nothing.

        Args:
            usage: the call.
            until: when to give up if the server is out of resources or the table is locked, by ``time.monotonic``; the call is
                tried ``USAGE_TRIES`` times in any case.
        """
        self._keep(self._unwritten, usage, self._write_usage(usage, until))

    async def _write_usage(self, usage: Usage, until: float) -> None:
        if (refusal := await self._insert(usage)) is not None:
            # A separate task, so that ``wait_until_recorded`` can tell a refused call from one that is being written.
            self._keep(self._refused, usage, self._write_refused(usage, until, refusal))

    async def _write_refused(self, usage: Usage, until: float, refusal: psycopg.Error | None) -> None:
        backoff = Backoff(cap_s=db.REFUSED_CAP_S)
        while refusal is not None:
            delay_s, tries = backoff.next_s(), backoff.failures
            if tries >= _max_tries(refusal) or (tries >= USAGE_TRIES and time.monotonic() >= until):
                # Whoever has locked the request for so long costs it its name, and no cost its record.
                if (
                    isinstance(refusal, LockNotAvailable)
                    and await self._insert(replace(usage, requester_id="")) is None
                ):
                    return
                log.error("usage refused", sqlstate=refusal.sqlstate, tries=tries, **_figures(usage))
                return
            await asyncio.sleep(delay_s)
            refusal = await self._insert(usage)

    async def _insert(self, usage: Usage) -> psycopg.Error | None:
        """Write one row as soon as the database is up; return the refusal, or that of the request's lock."""
        params = storable(asdict(usage) | {"elapsed_s": round(usage.elapsed_s, 3)})
        try:
            async with self._turn:
                (row,) = await self._link.run_until_done(RECORD_USAGE, params, retry_refusals=False)
        except psycopg.Error as error:
            if is_schema_mismatch(error):
                raise
            return error
        return LockNotAvailable("another session has locked the request") if row["is_busy"] else None

    async def wait_until_recorded(self, claim: Claim, *, retry_refusals: bool = True) -> bool:
        """Wait until a claim's usage has been written or given up, so that its settlement can sum it up.

        Claim loops wait here, so that a long database outage cannot pile up unwritten usage.

        Args:
            claim: the claim.
            retry_refusals: whether to wait also for usage that the server refuses.

        Returns:
            Whether all of it has been written or given up; always True with ``retry_refusals``.
        """
        if not (self._unwritten or self._refused):
            return True
        held = claim.key
        while tasks := self._unwritten.get(held):
            await asyncio.wait(tasks)
        while tasks := self._refused.get(held):
            if not retry_refusals:
                return False
            await asyncio.wait(tasks)
        return True

    async def flush(self) -> None:
        """Wait until everything has been written or given up."""
        tasks: set[asyncio.Task[Any]]
        while tasks := set().union(*self._unwritten.values(), *self._refused.values(), self._publishing.values()):
            await asyncio.wait(tasks)

    def _keep(
        self, kept: dict[LeaseKey, set["asyncio.Task[None]"]], usage: Usage, writing: Coroutine[Any, Any, None]
    ) -> None:
        held = (usage.request_id, usage.lease_token)
        task = asyncio.create_task(writing, name="usage")
        kept.setdefault(held, set()).add(task)
        task.add_done_callback(lambda done: self._written(kept, held, done))

    def _written(
        self, kept: dict[LeaseKey, set["asyncio.Task[None]"]], held: LeaseKey, task: "asyncio.Task[None]"
    ) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("usage lost to an internal error", request_id=held[0], error=type(error).__name__)
        kept[held].discard(task)
        if not kept[held]:
            del kept[held]

    async def _publish(self, held: LeaseKey) -> str | None:
        """Write the latest progress until there is no newer; return the row's standing (see ``leases.HELD``)."""
        standing: str | None = HELD
        try:
            async with self._turn:
                while (partial_result := self._latest.pop(held, None)) is not None:
                    standing = await self._write_progress(held, partial_result)
        finally:
            # Before the task ends: a caller that still finds the task here waits for it.
            del self._publishing[held]
        return standing

    async def _write_progress(self, held: LeaseKey, partial_result: dict[str, Any]) -> str | None:
        row_id, lease_token = held
        params = {"id": row_id, "lease_token": lease_token, "partial_result": storable_json(partial_result)}
        try:
            rows = await self._link.run(PUBLISH, params)
        except db.LOST:
            # Progress is best effort. Only the settlement must arrive, and it checks whether the lease still holds.
            return HELD
        except psycopg.Error as error:
            if is_schema_mismatch(error):
                raise
            # Best effort: a refusal here fails no row.
            self._quarantine.report(row_id, error, verb="publish", ended=False)
            return HELD
        return str(rows[0]["standing"]) if rows else None


def _max_tries(error: psycopg.Error) -> float:
    """Return how often to try a row that the server refuses; infinity if the refusal may be transient."""
    if isinstance(error, psycopg.DataError | psycopg.IntegrityError):
        return 1
    # A trigger may raise any SQLSTATE, and for one requester only: that must not keep claim loops from serving the others.
    return math.inf if is_transient(error) and not is_raised_in_function(error) else USAGE_TRIES


def _figures(usage: Usage) -> dict[str, Any]:
    """Return the figures for the log: the call was paid for even if its row is refused."""
    return {
        "request_id": usage.request_id,
        "model": usage.model,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_usd": usage.cost_usd,
    }
