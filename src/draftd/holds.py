"""Holds: which models nobody may be asked for now, shared by the fleet through ``model_holds``.

A hold keeps every daemon from claiming for a model until a probe succeeded. A probe is one request of one daemon, chosen by an
update of the hold's row that only one can win; a failing one doubles the pause. What other daemons do is learnt from the
heartbeat, at most a third of a lease later. Invariant: what this process has just done itself is not undone by a beat that
began before it.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from draftd import db
from draftd.backoff import full_jitter_s
from draftd.errors import ContextTooLong, Kind, ModelError, ModelRefused, OutputInvalid
from draftd.sanitize import redact, storable_text

log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0
LONGEST_RETRY_AFTER_S = 3600.0
PROBE_S = 15.0
"""How long a probe keeps the others away. One that says nothing about the model (its picture was broken) costs this time."""

HOLD = """
INSERT INTO model_holds AS h (model, code, until, reason)
VALUES (%(model)s, %(code)s, now() + make_interval(secs => greatest(%(first_s)s, %(retry_after_s)s)), %(reason)s)
ON CONFLICT (model) DO UPDATE SET
    -- Many requests fail of one outage: only the failure that comes after the pause counts as another.
    failures = h.failures + %(is_probe)s::int,
    until = CASE WHEN %(is_probe)s
                 THEN now() + make_interval(secs => greatest(
                      %(retry_after_s)s, least(%(longest_s)s, %(first_s)s * 2 ^ least(h.failures, 10))))
                 ELSE greatest(h.until, now() + make_interval(secs => %(retry_after_s)s)) END,
    code = excluded.code, reason = excluded.reason
RETURNING extract(epoch FROM until - now())::float8 AS until_s
"""

TAKE_PROBE = """
UPDATE model_holds SET until = now() + make_interval(secs => %(probe_s)s)
 WHERE model = %(model)s AND until <= now()
   AND EXISTS (SELECT FROM unnest(%(agents)s::text[]) AS a(agent) CROSS JOIN LATERAL (
        SELECT FROM draft_requests AS r WHERE r.status = 'pending' AND r.agent = a.agent AND r.available_at <= now()
         LIMIT 1) AS x)
RETURNING model
"""

END_HOLD = "DELETE FROM model_holds WHERE model = %(model)s"
LIST_HOLDS = "SELECT model, code, since, until, reason FROM model_holds ORDER BY since"


@dataclass(frozen=True, slots=True)
class _Hold:
    code: str
    until: float
    """On the monotonic clock of this process, in seconds."""


class Holds:
    """What is on hold, as this process knows it.

    Args:
        link: for placing and ending holds.
    """

    def __init__(self, *, link: db.Link) -> None:
        self._link = link
        self._holds: dict[str, _Hold] = {}
        self._changed_at: dict[str, float] = {}
        self._succeeded_at: dict[str, float] = {}

    def update(self, rows: Sequence[Mapping[str, Any]], *, as_of: float) -> None:
        """Take in what a beat read.

        Args:
            rows: of ``model_holds``, with ``until_s`` from then on.
            as_of: when the beat began, a moment of ``time.monotonic``; what changed here later stays as it is.
        """
        own = {model for model, changed_at in self._changed_at.items() if changed_at > as_of}
        read = {row["model"]: _Hold(row["code"], as_of + float(row["until_s"])) for row in rows}
        kept = {model: hold for model, hold in self._holds.items() if model in own}
        self._holds = {model: hold for model, hold in read.items() if model not in own} | kept

    def __contains__(self, model: object) -> bool:
        return model in self._holds

    def codes(self) -> dict[str, str]:
        """Return model → code of what is on hold."""
        return {model: hold.code for model, hold in self._holds.items()}

    def lapsed(self) -> list[str]:
        """Return the models whose pause is over: one request may probe each."""
        now = time.monotonic()
        return [model for model, hold in self._holds.items() if hold.until <= now]

    async def take_probe(self, link: db.Link, model: str, agents: Sequence[str]) -> bool:
        """Return whether this process may probe the model now, with a due request of one of these agents."""
        params = {"model": model, "agents": list(agents), "probe_s": PROBE_S}
        if not await link.run(TAKE_PROBE, params):
            return False
        code = self._holds[model].code
        self._set(model, _Hold(code, time.monotonic() + PROBE_S))
        log.info("probing a held model", model=model, code=code)
        return True

    async def succeeded(self, model: str) -> None:
        """Note that a model answered; end its hold."""
        self._succeeded_at[model] = time.monotonic()
        if model in self._holds:
            await self._link.run_until_done(END_HOLD, {"model": model})
            self._set(model, None)
            log.info("hold ended", model=model)

    async def failed(self, error: ModelError, *, began: float, probe: str | None = None) -> None:
        """Note that a request failed at a model, and hold the model if the error is of that kind.

        An error of a hold's kind says nothing about the model when another request succeeded meanwhile: it becomes a retry
        of this row alone. An answer that cannot be used is an answer all the same: it ends a hold.

        Args:
            error: why; its kind may be lowered to a retry.
            began: when this request first asked the model, a moment of ``time.monotonic``.
            probe: the model that this request probes.
        """
        if error.model is None:
            return
        if error.kind is not Kind.HOLD:
            if isinstance(error, ModelRefused | OutputInvalid | ContextTooLong):
                await self.succeeded(error.model)
            return
        if self._succeeded_at.get(error.model, 0.0) > began:
            error.kind = Kind.RETRY
            return
        await self._place(error.model, error, is_probe=probe == error.model)

    async def _place(self, model: str, error: ModelError, *, is_probe: bool) -> None:
        params = {
            "model": model,
            "code": error.code,
            "reason": storable_text(redact(error.message), 300),
            "is_probe": is_probe,
            "retry_after_s": min(error.retry_after_s or 0.0, LONGEST_RETRY_AFTER_S),
            "first_s": FIRST_PAUSE_S + full_jitter_s(1, base_s=0.5),
            "longest_s": LONGEST_PAUSE_S,
        }
        rows = await self._link.run_until_done(HOLD, params)
        until_s = rows[0]["until_s"]
        self._set(model, _Hold(error.code, time.monotonic() + until_s))
        log.warning("model on hold", model=model, code=error.code, for_s=round(until_s, 1), reason=error.message)

    def _set(self, model: str, hold: _Hold | None) -> None:
        self._changed_at[model] = time.monotonic()
        if hold is None:
            self._holds.pop(model, None)
        else:
            self._holds[model] = hold
