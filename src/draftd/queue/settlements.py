"""Settlements: write an attempt's outcome to its row, once and only while the claim holds the row.

Owns the one statement that ends an attempt. Invariants: it matches ``id``, ``status = 'processing'`` and ``lease_token``.
Everything stored has passed ``storable``. It is repeated after a lost connection, and a row that already has this settlement's
status and token counts as settled, not as a lost lease. A refused row does not affect others (``refused_rows``), and an outcome
is kept as long as the server may still accept it.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID

import psycopg

from draftd import db
from draftd.backoff import Backoff
from draftd.db.statements import statements
from draftd.errors import Details, InternalError, LeaseLost, RequestCancelled, error_details, told_of
from draftd.queue.group_commit import GroupCommit
from draftd.queue.leases import LeaseKey
from draftd.queue.outcome import Done, Fail, GiveBack, Outcome, Retry
from draftd.queue.refused_rows import Quarantine, Refusals, Resolution, execute_in_parts
from draftd.queue.trial_outcomes import TRIAL_OUTCOMES
from draftd.queue.trials import Precondition, Trial
from draftd.request import Claim
from draftd.sanitize import redact, storable_json

SETTLE = statements(__name__)["settle"]

MAX_MESSAGE_CHARS = 500
BUSY_INTERVAL_S = 0.2
BUSY_TRIES = 5
"""How often a locked row is tried before ``settle`` may give up for now."""


class Unsettled(Enum):
    """Why a row was not settled."""

    LOST = "lost"
    """The claim no longer holds it."""
    CANCELLED = "cancelled"
    """The claim no longer holds it, because its client cancelled it."""
    BUSY = "busy"
    """Another session has locked it."""
    REFUSED = "refused"
    """The server refuses the write, perhaps temporarily."""


class Settled(NamedTuple):
    """The result of a settlement."""

    status: str
    code: str | None = None
    """The error code written to the row, if any."""


class NotSettledYet(Exception):
    """The row is locked, or the server refuses the settlement for now; try again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """What an attempt records on its row, whatever its outcome."""

    images: list[dict[str, Any]] | None = None
    trace_id: str | None = None
    max_tokens: Mapping[str, int] = field(default_factory=dict)
    """How many output tokens models need for this request, by their names; it stands with the error, for later attempts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """One row of the statement."""

    id: UUID
    lease_token: int
    status: str
    give_back: bool = False
    delay_s: float = 0.0
    code: str | None = None
    message: str = ""
    told: str = ""
    details: Details = field(default_factory=dict)
    error_model: str | None = None
    draft: dict[str, Any] = field(default_factory=dict)
    trail: Trail = field(default_factory=Trail)

    @property
    def key(self) -> LeaseKey:
        """The claim that is settled."""
        return self.id, self.lease_token

    def as_json(self) -> str:
        """Return the row as JSON that the server can store."""
        row = {
            "id": str(self.id),
            "lease_token": self.lease_token,
            "status": self.status,
            "give_back": self.give_back,
            "delay_s": self.delay_s,
            "code": self.code,
            "message": None if self.code is None else redact(self.message, MAX_MESSAGE_CHARS),
            "told": None if self.code is None else redact(self.told or told_of(self.code), MAX_MESSAGE_CHARS),
            "details": None if self.code is None else error_details(self.code, self.details),
            "error_model": self.error_model,
            "max_tokens": self.trail.max_tokens.get(self.error_model or ""),
            "images": self.trail.images,
            "trace_id": self.trail.trace_id,
            **self.draft,
        }
        return storable_json(row)


Item = tuple[Settlement, str]
"""A settlement and its JSON."""


def settlement(held: LeaseKey, outcome: Outcome, trail: Trail) -> Settlement:
    """Return the row that writes an outcome."""
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
        case GiveBack(delay_s=delay_s) as given_back:
            return replace(_of_error(row, given_back), give_back=True, delay_s=delay_s)


def _of_error(row: Settlement, failed: Retry | Fail | GiveBack) -> Settlement:
    return replace(
        row,
        code=failed.code,
        message=failed.message,
        told=failed.told,
        details=failed.details,
        error_model=failed.model,
    )


class Settler:
    """Writes outcomes, many per statement.

    Args:
        link: a connection without slow statements.
        quarantine: the rows that this process leaves alone.
    """

    def __init__(self, *, link: db.Link, quarantine: Quarantine) -> None:
        self._link = link
        self._refusals = Refusals(verb="settle", quarantine=quarantine, after_proof=True)
        self._group: GroupCommit[Item, Settled | Unsettled] = GroupCommit(
            flush=self._flush, size_bytes=lambda item: len(item[1])
        )

    async def settle(
        self, claim: Claim, outcome: Outcome, trail: Trail | None = None, *, retry_refusals: bool = True
    ) -> Settled:
        """Write the outcome of an attempt.

        Args:
            claim: the claim of the attempt.
            outcome: its outcome.
            trail: what else it records on its row.
            retry_refusals: whether to keep trying while the row is locked or the server refuses the write.

        Returns:
            The row's new status and error code: ``failed`` for a ``Retry`` of the last attempt, and ``failed`` with
            ``internal_error`` for a row that is itself at fault for a refusal.

        Raises:
            LeaseLost: the claim no longer holds the row; nothing was written. ``RequestCancelled`` if its client cancelled it.
            NotSettledYet: only without ``retry_refusals``: the row stays locked, or the server refuses the write for now.
        """
        row = settlement(claim.key, outcome, trail or Trail())
        text, locked = row.as_json(), 0
        backoff = Backoff(cap_s=db.REFUSED_CAP_S)
        while isinstance(answer := await self._group.submit((row, text)), Unsettled):
            if answer is Unsettled.LOST:
                raise LeaseLost
            if answer is Unsettled.CANCELLED:
                raise RequestCancelled
            locked += answer is Unsettled.BUSY
            if not retry_refusals and (answer is Unsettled.REFUSED or locked >= BUSY_TRIES):
                raise NotSettledYet
            if answer is Unsettled.BUSY:
                await asyncio.sleep(BUSY_INTERVAL_S)
                continue
            # Each at a time of its own: rows that are retried together are refused together.
            await asyncio.sleep(backoff.next_s())
        return answer

    async def flush(self) -> None:
        """Wait until every settlement submitted has been written."""
        await self._group.flush()

    async def _flush(self, items: Sequence[Item]) -> list[Settled | Unsettled]:
        began = time.monotonic()
        try:
            return await self._write(items)
        except psycopg.Error as error:
            refusal = error
        by_status: defaultdict[str, list[int]] = defaultdict(list)
        for index, (row, _) in enumerate(items):
            by_status[row.status].append(index)
        answers: dict[int, Settled | Unsettled] = {}
        for status, indexes in by_status.items():
            some = [items[index] for index in indexes]
            known = refusal if len(some) == len(items) else None
            answers |= zip(indexes, await self._flush_in_parts(status, some, known, began), strict=True)
        return [answers[index] for index in range(len(items))]

    async def _flush_in_parts(
        self, status: str, items: Sequence[Item], refusal: psycopg.Error | None, began: float
    ) -> list[Settled | Unsettled]:
        """Settle what the server accepts, and resolve the rest.

        Drafts are paid for, so a refusal counts only if it comes after the server accepted another row.
        """
        refusals, trial = self._refusals.for_kind(status), _trial(status)
        proven = False
        with suppress(*db.LOST):
            proven = await refusals.accepts_another(self._link, trial, but=[row.id for row, _ in items])
        is_lone = len(items) == 1
        parts = await execute_in_parts(
            items, self._write, refusal=None if is_lone and proven else refusal, began=began, confirm=not proven
        )
        answers: dict[LeaseKey, Settled | Unsettled] = {}
        for some, written in parts.answered:
            answers |= zip((row.key for row, _ in some), written, strict=True)
        passed = [row_id for (row_id, _), answer in answers.items() if isinstance(answer, Settled)]
        if parts.refused:
            with suppress(*db.LOST):
                resolutions = await refusals.resolve(
                    self._link,
                    [(row.key, error) for (row, _), error in parts.refused],
                    passed=passed,
                    trial=trial,
                    proven=proven or bool(passed),
                )
                answers |= {key: _ANSWERS[resolution] for key, resolution in resolutions.items()}
        # Only now: a refusal from before the server accepted another row must not look as if it came after.
        refusals.accepted(passed)
        return [answers.get(row.key, Unsettled.REFUSED) for row, _ in items]

    async def _write(self, items: Sequence[Item]) -> list[Settled | Unsettled]:
        params = {"rows": f"[{','.join(text for _, text in items)}]"}
        rows = await self._link.run_until_done(SETTLE, params, retry_refusals=False)
        found = {(row["id"], row["lease_token"]): row for row in rows}
        return [_standing(item, found[item.id, item.lease_token]) for item, _ in items]


def _trial(status: str) -> Trial:
    """Return the trial that settles another row with an example outcome of this status."""

    async def settle(execute: db.Execute, another: LeaseKey) -> bool:
        row = settlement(another, TRIAL_OUTCOMES[status], Trail())
        (answer,) = await execute(SETTLE, {"rows": f"[{row.as_json()}]"})
        return bool(answer["settled"] == status)

    return Trial(before=Precondition.HELD, change=settle)


_ANSWERS: dict[Resolution, Settled | Unsettled] = {
    Resolution.ENDED: Settled("failed", InternalError.code),
    Resolution.QUARANTINED: Unsettled.LOST,
    Resolution.UNDECIDED: Unsettled.REFUSED,
}


def _standing(wanted: Settlement, row: dict[str, Any]) -> Settled | Unsettled:
    """Return what this settlement wrote, now or at an earlier execution, or why it wrote nothing."""
    if row["settled"]:
        return Settled(str(row["settled"]), wanted.code)
    if row["is_busy"]:
        return Unsettled.BUSY
    reachable = {wanted.status, "failed"} if wanted.status == "pending" else {wanted.status}
    if row["is_mine"] and row["standing"] in reachable:
        return Settled(str(row["standing"]), wanted.code)
    return Unsettled.CANCELLED if row["standing"] == "cancelled" else Unsettled.LOST
