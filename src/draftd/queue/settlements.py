"""Settlements: how an attempt's outcome reaches its row, once and only if the row is still held.

Owns the one statement that ends an attempt. Invariants: it matches ``id``, ``status = 'processing'`` and ``lease_token``.
What it stores has passed ``storable``. After a lost connection it is repeated, and a row that already has the status and the
token of this settlement counts as settled, not as a lost lease. A refused row harms no neighbour (``isolation``), and an outcome
is kept as long as the server may still accept it.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID

import psycopg

from draftd import db
from draftd.backoff import full_jitter_s
from draftd.db.statements import statements
from draftd.errors import Details, InternalError, LeaseLost, RequestCancelled, error_details
from draftd.queue.examples import EXAMPLES
from draftd.queue.group_commit import GroupCommit
from draftd.queue.isolation import Aside, Refusals, Resolution, apart
from draftd.queue.leases import Held
from draftd.queue.outcome import Done, Fail, Hold, Outcome, Release, Retry
from draftd.queue.trials import Before, Trial
from draftd.request import Claim
from draftd.sanitize import redact, storable_json

SETTLE = statements(__name__)["settle"]

MAX_MESSAGE_CHARS = 500
BUSY_INTERVAL_S = 0.2
BUSY_TRIES = 5
"""How often a locked row is tried before whoever settles it may turn to something else."""


class Unsettled(Enum):
    """Why a row was not settled."""

    LOST = "lost"
    """It is not held by this claim any more."""
    CANCELLED = "cancelled"
    """It is not held any more, because its client cancelled it."""
    BUSY = "busy"
    """Somebody else has it locked."""
    REFUSED = "refused"
    """The server refuses it, perhaps not for long."""


class Settled(NamedTuple):
    """What a row came to."""

    status: str
    code: str | None = None
    """Of the error that it was written with, if any."""


class NotSettledYet(Exception):
    """The row is locked, or the server refuses the settlement for now: to be tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """What an attempt leaves on its row, whatever its outcome."""

    images: list[dict[str, Any]] | None = None
    trace_id: str | None = None
    max_tokens: Mapping[str, int] = field(default_factory=dict)
    """How many output tokens models need for this request, by their names; it stands with the error, for later attempts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """One row of the statement, as it is sent."""

    id: UUID
    lease_token: int
    status: str
    give_back: bool = False
    delay_s: float = 0.0
    code: str | None = None
    message: str | None = None
    details: Details = field(default_factory=dict)
    error_model: str | None = None
    draft: dict[str, Any] = field(default_factory=dict)
    trail: Trail = field(default_factory=Trail)

    def as_json(self) -> str:
        """Return the row as JSON text that the server can store."""
        row = {
            "id": str(self.id),
            "lease_token": self.lease_token,
            "status": self.status,
            "give_back": self.give_back,
            "delay_s": self.delay_s,
            "code": self.code,
            "message": None if self.message is None else redact(self.message, MAX_MESSAGE_CHARS),
            "details": None if self.code is None else error_details(self.code, self.details),
            "error_model": self.error_model,
            "max_tokens": self.trail.max_tokens.get(self.error_model or ""),
            "images": self.trail.images,
            "trace_id": self.trail.trace_id,
            **self.draft,
        }
        return storable_json(row)


def settlement(claim: Claim, outcome: Outcome, trail: Trail) -> Settlement:
    """Return what an outcome does to its row."""
    return _settlement((claim.id, claim.lease_token), outcome, trail)


def _settlement(held: Held, outcome: Outcome, trail: Trail) -> Settlement:
    row = Settlement(id=held[0], lease_token=held[1], status="pending", trail=trail)
    match outcome:
        case Done(draft=draft, model=model, prompt_version=prompt_version):
            written = {
                "result": draft.result,
                "reading": draft.reading,
                "model": model,
                "prompt_version": prompt_version,
            }
            return replace(row, status="completed", draft=written)
        case Retry(delay_s=delay_s) as failed:
            return replace(_of_error(row, failed), delay_s=delay_s)
        case Fail() as failed:
            return replace(_of_error(row, failed), status="failed")
        case Hold(delay_s=delay_s) as failed:
            return replace(_of_error(row, failed), give_back=True, delay_s=delay_s)
        case Release():
            return replace(row, give_back=True)


def _of_error(row: Settlement, failed: Retry | Fail | Hold) -> Settlement:
    return replace(row, code=failed.code, message=failed.message, details=failed.details, error_model=failed.model)


class Settler:
    """Writes outcomes, many at once.

    Args:
        link: a connection that nothing slow runs on.
        aside: the rows that this process leaves alone, because they can neither be settled nor ended.
    """

    def __init__(self, *, link: db.Link, aside: Aside) -> None:
        self._link = link
        self._refusals = Refusals(verb="settle", aside=aside)
        self._group: GroupCommit[tuple[Settlement, str], Settled | Unsettled] = GroupCommit(
            flush=self._flush, size_bytes=lambda item: len(item[1])
        )

    async def settle(
        self, claim: Claim, outcome: Outcome, trail: Trail | None = None, *, waits_out: bool = True
    ) -> Settled:
        """Write the outcome of an attempt.

        Args:
            claim: the claim of the attempt.
            outcome: its outcome.
            trail: what else it leaves on its row.
            waits_out: whether to try until the row is unlocked and the server accepts it, or the row is not held any more.

        Returns:
            The row's status now, and its error: ``failed`` for a ``Retry`` at the cap of attempts, and as ``internal_error`` for
            whatever the server refuses of this row alone.

        Raises:
            LeaseLost: the row is not held by this claim any more; nothing was written. ``RequestCancelled`` if its client
                cancelled it.
            NotSettledYet: only without ``waits_out``: somebody else keeps the row locked, or the server refuses it and may accept
                it later.
        """
        row = settlement(claim, outcome, trail or Trail())
        text, refusals, locked = row.as_json(), 0, 0
        while isinstance(answer := await self._group.submit((row, text)), Unsettled):
            if answer is Unsettled.LOST:
                raise LeaseLost
            if answer is Unsettled.CANCELLED:
                raise RequestCancelled
            locked += answer is Unsettled.BUSY
            if not waits_out and (answer is Unsettled.REFUSED or locked >= BUSY_TRIES):
                raise NotSettledYet
            if answer is Unsettled.BUSY:
                await asyncio.sleep(BUSY_INTERVAL_S)
                continue
            refusals += 1
            # Each at its own time: what is tried again together is refused together.
            await asyncio.sleep(full_jitter_s(refusals, base_s=0.1, cap_s=db.REFUSED_CAP_S))
        return answer

    async def flush(self) -> None:
        """Wait until every settlement handed in has been written."""
        await self._group.flush()

    async def _flush(self, items: Sequence[tuple[Settlement, str]]) -> list[Settled | Unsettled]:
        parts = await apart(range(len(items)), lambda some: self._write([items[one] for one in some]))
        answers: dict[int, Settled | Unsettled] = dict.fromkeys(range(len(items)), Unsettled.REFUSED)
        for some, written in parts.answered:
            answers |= zip(some, written, strict=True)
        passed: defaultdict[str, set[UUID]] = defaultdict(set)
        for one, answer in answers.items():
            if isinstance(answer, Settled):
                row = items[one][0]
                passed[row.status].add(row.id)
        for status, ids in passed.items():
            self._refusals.of(status).accepted(ids)
        if parts.refused:
            answers |= await self._resolve(items, parts.refused, passed)
        return [answers[one] for one in range(len(items))]

    async def _resolve(
        self,
        items: Sequence[tuple[Settlement, str]],
        refused: Sequence[tuple[int, psycopg.Error]],
        passed: defaultdict[str, set[UUID]],
    ) -> dict[int, Settled | Unsettled]:
        """Resolve what was refused alone."""
        by_status: defaultdict[str, dict[Held, tuple[int, psycopg.Error]]] = defaultdict(dict)
        for one, error in refused:
            row = items[one][0]
            by_status[row.status][row.id, row.lease_token] = one, error
        answers: dict[int, Settled | Unsettled] = {}
        for status, rows in by_status.items():
            with suppress(*db.LOST):
                resolutions = await self._refusals.of(status).resolve(
                    self._link,
                    [(held, error) for held, (_, error) in rows.items()],
                    passed=passed[status],
                    trial=_trial(status),
                )
                answers |= {rows[held][0]: _ANSWERS[resolution] for held, resolution in resolutions.items()}
        return answers

    async def _write(self, items: Sequence[tuple[Settlement, str]]) -> list[Settled | Unsettled]:
        params = {"rows": f"[{','.join(text for _, text in items)}]"}
        rows = await self._link.run_until_done(SETTLE, params, waits_out=False)
        found = {(row["id"], row["lease_token"]): row for row in rows}
        return [_standing(item, found[item.id, item.lease_token]) for item, _ in items]


def _trial(status: str) -> Trial:
    """Return how to try a settlement of one kind on another row: with an invented outcome."""

    async def settle(execute: db.Execute, another: Held) -> bool:
        row = _settlement(another, EXAMPLES[status], Trail())
        (answer,) = await execute(SETTLE, {"rows": f"[{row.as_json()}]"})
        return bool(answer["settled"] == status)

    return Trial(before=Before.HELD, change=settle)


_ANSWERS: dict[Resolution, Settled | Unsettled] = {
    Resolution.ENDED: Settled("failed", InternalError.code),
    Resolution.ASIDE: Unsettled.LOST,
    Resolution.UNDECIDED: Unsettled.REFUSED,
}


def _standing(wanted: Settlement, row: dict[str, Any]) -> Settled | Unsettled:
    """Return what this settlement wrote, now or when it was first sent; else why it wrote nothing."""
    if row["settled"]:
        return Settled(str(row["settled"]), wanted.code)
    if row["is_busy"]:
        return Unsettled.BUSY
    reachable = {wanted.status, "failed"} if wanted.status == "pending" else {wanted.status}
    if row["is_mine"] and row["standing"] in reachable:
        return Settled(str(row["standing"]), wanted.code)
    return Unsettled.CANCELLED if row["standing"] == "cancelled" else Unsettled.LOST
