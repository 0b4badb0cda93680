"""Settlements: how an attempt's outcome reaches its row, once and only if the row is still held.

Owns the one statement that ends an attempt. Invariants: it matches ``id``, ``status = 'processing'`` and ``lease_token``;
what it stores passed ``storable``; it is repeated when the connection was lost, and a repetition is recognised (the row stands
where this settlement wanted it, with this token), not taken for a lost lease; one row that the server refuses ends as
``internal_error`` by itself, and its neighbours in the same statement are not touched by that.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any
from uuid import UUID

import psycopg
import structlog

from draftd import db
from draftd.errors import InternalError, LeaseLost
from draftd.outcome import Done, Fail, Hold, Outcome, Release, Retry
from draftd.queue.group_commit import GroupCommit
from draftd.queue.history import with_error
from draftd.request import Claim
from draftd.sanitize import redact, storable_json

log = structlog.get_logger(__name__)

MAX_MESSAGE_CHARS = 500
BUSY_INTERVAL_S = 0.2


class Unsettled(Enum):
    """Why a row was not settled."""

    LOST = "lost"
    """It is not held by this claim any more."""
    BUSY = "busy"
    """Somebody else has it locked."""


# A row that somebody else has locked is passed over and settled a moment later, by itself: a client that holds one row in a
# long transaction must not keep the results of the others back.
SETTLE = f"""
WITH v AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb) AS v(
        id uuid, lease_token bigint, status text, give_back boolean, delay_s float8, code text, message text,
        error_model text, result jsonb, reading jsonb, model text, prompt_version text, images jsonb, trace_id text)
     ORDER BY id
), locked AS MATERIALIZED (
    -- As the row stands once it is locked: the statement's own snapshot may be older. LATERAL, because a join would let the
    -- planner read the whole table for 50 rows of it.
    SELECT x.* FROM (SELECT DISTINCT id FROM v ORDER BY id) AS v CROSS JOIN LATERAL (
        SELECT r.id, r.status, r.lease_token, r.error_code FROM draft_requests AS r
         WHERE r.id = v.id FOR NO KEY UPDATE SKIP LOCKED) AS x
), settled AS (
    UPDATE draft_requests AS r SET
        status = CASE WHEN v.status = 'pending' AND NOT v.give_back AND r.attempt >= r.max_attempts
                      THEN 'failed' ELSE v.status END,
        attempt = r.attempt - v.give_back::int,
        given_back = r.given_back + (v.give_back AND v.code IS NOT NULL)::int,
        available_at = CASE WHEN v.delay_s > 0 THEN now() + make_interval(secs => v.delay_s) ELSE r.available_at END,
        error_code = v.code,
        error_message = v.message,
        errors = CASE WHEN v.code IS NULL THEN r.errors
                      ELSE {with_error(code="v.code", message="v.message", model="v.error_model")} END,
        result = v.result,
        reading = coalesce(v.reading, r.reading),
        model = coalesce(v.model, r.model),
        prompt_version = coalesce(v.prompt_version, r.prompt_version),
        images = coalesce(v.images, r.images),
        trace_id = coalesce(v.trace_id, r.trace_id),
        input_tokens = u.input_tokens,
        output_tokens = u.output_tokens,
        cost_usd = u.cost_usd,
        updated_at = now()
      FROM locked JOIN v ON v.id = locked.id LEFT JOIN LATERAL (
        SELECT sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
               CASE WHEN bool_and(cost_usd IS NOT NULL) THEN sum(cost_usd) END AS cost_usd
          FROM draft_usage WHERE request_id = v.id AND (code IS NULL OR input_tokens IS NOT NULL)) AS u ON true
     WHERE r.id = v.id AND r.status = 'processing' AND r.lease_token = v.lease_token
    RETURNING r.id, r.lease_token, r.status
)
SELECT v.id, v.lease_token, settled.status AS settled, locked.status AS standing,
       -- The reaper's return to pending has this token too, and another code.
       locked.lease_token = v.lease_token AND locked.error_code IS NOT DISTINCT FROM v.code AS is_mine,
       locked.id IS NULL AND coalesce((SELECT true FROM draft_requests AS r WHERE r.id = v.id), false) AS is_busy
  FROM v LEFT JOIN locked ON locked.id = v.id
         LEFT JOIN settled ON settled.id = v.id AND settled.lease_token = v.lease_token
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """What an attempt leaves on its row whatever came of it."""

    images: list[dict[str, Any]] | None = None
    trace_id: str | None = None


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
            "error_model": self.error_model,
            "images": self.trail.images,
            "trace_id": self.trail.trace_id,
            **self.draft,
        }
        return storable_json(row)


def settlement(claim: Claim, outcome: Outcome, trail: Trail) -> Settlement:
    """Say what an outcome does to its row."""
    row = Settlement(id=claim.id, lease_token=claim.lease_token, status="pending", trail=trail)
    match outcome:
        case Done(draft=draft):
            written = {
                "result": draft.result.model_dump(mode="json", exclude_none=True),
                "reading": draft.reading,
                "model": draft.model,
                "prompt_version": draft.prompt_version,
            }
            return replace(row, status="completed", draft=written)
        case Retry(code=code, message=message, delay_s=delay_s, model=model):
            return replace(row, code=code, message=message, delay_s=delay_s, error_model=model)
        case Fail(code=code, message=message, model=model):
            return replace(row, status="failed", code=code, message=message, error_model=model)
        case Hold(code=code, message=message, delay_s=delay_s, model=model):
            return replace(row, give_back=True, code=code, message=message, delay_s=delay_s, error_model=model)
        case Release():
            return replace(row, give_back=True)


class Settler:
    """Writes outcomes, many at once.

    Args:
        link: a connection that nothing slow runs on.
    """

    def __init__(self, *, link: db.Link) -> None:
        self._link = link
        self._group: GroupCommit[tuple[Settlement, str], str | Unsettled] = GroupCommit(
            flush=self._flush, size_bytes=lambda item: len(item[1])
        )

    async def settle(self, claim: Claim, outcome: Outcome, trail: Trail | None = None) -> str:
        """Write what came of an attempt.

        Returns:
            The row's status now; ``failed`` for a ``Retry`` at the cap of attempts.

        Raises:
            LeaseLost: the row is not held by this claim any more; nothing was written.
        """
        row = settlement(claim, outcome, trail or Trail())
        text = row.as_json()
        while True:
            answer = await self._group.submit((row, text))
            if answer is not Unsettled.BUSY:
                break
            await asyncio.sleep(BUSY_INTERVAL_S)
        if answer is Unsettled.LOST:
            raise LeaseLost
        return str(answer)

    async def settle_down(self) -> None:
        """Wait until every settlement handed in has been written."""
        await self._group.settle_down()

    async def _flush(self, items: Sequence[tuple[Settlement, str]]) -> list[str | Unsettled]:
        try:
            return await self._write(items)
        except psycopg.Error as error:  # a lost connection does not come here: the statement is repeated
            if len(items) > 1:
                return [(await self._flush([item]))[0] for item in items]
            return [await self._write_refused(items[0][0], error)]

    async def _write_refused(self, row: Settlement, error: psycopg.Error) -> str | Unsettled:
        """End a row whose outcome the server will not store; one that it will not end either is left to the reaper."""
        log.error("settlement refused", request_id=row.id, sqlstate=error.sqlstate)
        message = f"the outcome cannot be stored (SQLSTATE {error.sqlstate})"
        plain = Settlement(
            id=row.id, lease_token=row.lease_token, status="failed", code=InternalError.code, message=message
        )
        try:
            return (await self._write([(plain, plain.as_json())]))[0]
        except psycopg.Error as again:
            log.error("row left to the reaper", request_id=row.id, sqlstate=again.sqlstate)  # noqa: TRY400 - its text is the app's
            return Unsettled.LOST

    async def _write(self, items: Sequence[tuple[Settlement, str]]) -> list[str | Unsettled]:
        rows = await self._link.run_until_done(SETTLE, {"rows": f"[{','.join(text for _, text in items)}]"})
        found = {(row["id"], row["lease_token"]): row for row in rows}
        return [_standing(item, found[item.id, item.lease_token]) for item, _ in items]


def _standing(wanted: Settlement, row: dict[str, Any]) -> str | Unsettled:
    """Return the status that this settlement brought about, now or when it was first sent, or why there is none."""
    if row["settled"]:
        return str(row["settled"])
    if row["is_busy"]:
        return Unsettled.BUSY
    reachable = {wanted.status, "failed"} if wanted.status == "pending" else {wanted.status}
    return str(row["standing"]) if row["is_mine"] and row["standing"] in reachable else Unsettled.LOST
