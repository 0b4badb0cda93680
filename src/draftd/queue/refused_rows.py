"""Refused rows: a row that the server refuses to change harms only itself.

Owns what happens when a working server refuses a statement on several rows. ``execute_in_parts`` executes it on ever smaller
parts, until only rows that are refused alone are left. ``Refusals`` decides who is at fault: it fails a row that is, or
quarantines it in memory if the server refuses that as well. Invariants: no row is failed for a refusal that may be the server's
fault, whatever its SQLSTATE; without a refusal, nothing here runs. The statements belong to the callers.
"""

import math
import random
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar
from uuid import UUID

import psycopg
import structlog
from psycopg.types.json import Jsonb

from draftd import db
from draftd.db.sqlstate import is_out_of_resources, is_schema_mismatch, is_transient
from draftd.db.statements import statements
from draftd.errors import InternalError, error_details
from draftd.queue.bounded_counter import MAX_KEYS, BoundedCounter
from draftd.queue.leases import LeaseKey
from draftd.queue.trials import Trial, TrialResult, Trials

log = structlog.get_logger(__name__)

Item = TypeVar("Item")
Answer = TypeVar("Answer")

PARTS = 4
"""How many parts a refused statement is split into: one bad row is found in as few statements as by halving, and n bad rows take
4/3 n statements instead of 2 n."""
PATIENCE_S = 1.0
"""After this time, a refused statement is not split further, because other rows are waiting."""
FIRST_QUARANTINE_S = 2.0
MAX_QUARANTINE_S = 300.0
UNDECIDED_S = 1.5
"""How long to leave a row alone whose refusal may be the server's fault."""
REPORT_AFTER = 3
"""After this many refusals the log names the row, even if it is still unclear who is at fault."""

END_ROW = statements(__name__)["end_row"]


@dataclass(slots=True)
class PartResults(Generic[Item, Answer]):
    """The results of a statement that was executed in parts."""

    answered: list[tuple[Sequence[Item], Answer]] = field(default_factory=list)
    """The parts that the server accepted, with their answers."""
    refused: list[tuple[Item, psycopg.Error]] = field(default_factory=list)
    """The items that it refused even alone."""
    untried: list[tuple[Item, psycopg.Error]] = field(default_factory=list)
    """The items not tried alone, because the refusals took too long."""


async def execute_in_parts(
    items: Sequence[Item],
    execute: Callable[[Sequence[Item]], Awaitable[Answer]],
    *,
    refusal: psycopg.Error | None = None,
    began: float | None = None,
    confirm: bool = False,
) -> PartResults[Item, Answer]:
    """Execute a statement on all items, or on as many as the server accepts.

    Args:
        items: what the statement works on.
        execute: executes it on some of them; must change nothing when refused.
        refusal: the error, if the server has already refused all of them together.
        began: when that was tried, by ``time.monotonic``.
        confirm: whether to retry what was refused alone before the server accepted anything: the reason may be gone by then.

    Raises:
        db.LOST: the connection broke.
        psycopg.Error: the schema does not match the statement.
    """
    parts: PartResults[Item, Answer] = PartResults()
    ends_at = (time.monotonic() if began is None else began) + PATIENCE_S
    todo: list[tuple[Sequence[Item], psycopg.Error | None]] = [(list(items), refusal)] if items else []
    while todo:
        some, error = todo.pop()
        if error is None:
            try:
                parts.answered.append((some, await execute(some)))
            except psycopg.Error as refused:
                error = refused
            else:
                if confirm:
                    todo[:0] = [([one], None) for one, _ in parts.refused]
                    parts.refused, confirm = [], False
                continue
        if is_schema_mismatch(error):
            raise error
        if len(some) == 1:
            parts.refused.append((some[0], error))
        elif time.monotonic() > ends_at:
            parts.untried += [(one, error) for one in some]
        else:
            size = math.ceil(len(some) / PARTS)
            todo += [(some[start : start + size], None) for start in reversed(range(0, len(some), size))]
    return parts


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRow:
    """A row that the server refused to change; reported once."""

    id: UUID
    verb: str
    """The refused change: claim, settle, …"""
    sqlstate: str | None
    ended: bool
    """Whether it was failed as ``internal_error``."""


def log_refused(row: RefusedRow) -> None:
    """Log a refused row without the error's text, which comes from an app's trigger and may quote the row."""
    log.error("row refused", request_id=row.id, to=row.verb, sqlstate=row.sqlstate, ended=row.ended)


class Quarantine:
    """The rows that this process leaves alone for a while; shared by its actors, including the heartbeat's thread.

    Args:
        on_refused: called once for each refused row.
        clock: returns the monotonic time, in seconds.
    """

    def __init__(
        self, *, on_refused: Callable[[RefusedRow], None] = log_refused, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._on_refused = on_refused
        self._clock = clock
        self._lock = threading.Lock()
        self._until: dict[UUID, float] = {}
        self._times: BoundedCounter[UUID] = BoundedCounter()
        self._reported: BoundedCounter[UUID] = BoundedCounter()

    def add(self, row_id: UUID) -> None:
        """Leave a row alone that can neither be changed nor failed: each time twice as long, up to ``MAX_QUARANTINE_S``."""
        with self._lock:
            times = self._times.increment(row_id)
        longest_s = min(MAX_QUARANTINE_S, FIRST_QUARANTINE_S * 2.0 ** min(times - 1, 20))
        self._add(row_id, random.uniform(longest_s / 2, longest_s))  # noqa: S311  # jitter, no secret

    def add_briefly(self, row_id: UUID) -> None:
        """Leave a row alone for a moment, to let others go first: its refusal may be the server's fault."""
        self._add(row_id, random.uniform(UNDECIDED_S / 2, UNDECIDED_S))  # noqa: S311  # jitter, no secret

    def _add(self, row_id: UUID, for_s: float) -> None:
        with self._lock:
            now = self._clock()
            self._until = {one: until for one, until in self._until.items() if until > now and one != row_id}
            if len(self._until) >= MAX_KEYS:
                self._until.pop(min(self._until, key=self._until.__getitem__))
            self._until[row_id] = now + for_s

    def ids(self) -> list[UUID]:
        """Return the rows to leave alone right now."""
        if not self._until:
            return []
        with self._lock:
            now = self._clock()
            return [one for one, until in self._until.items() if until > now]

    def next_in_s(self) -> float:
        """Return in how many seconds the next of them may be tried again."""
        with self._lock:
            now = self._clock()
            return min((until - now for until in self._until.values() if until > now), default=math.inf)

    def left_s(self, row_id: UUID) -> float:
        """Return how much longer a row is left alone, in seconds."""
        with self._lock:
            return max(0.0, self._until.get(row_id, 0.0) - self._clock())

    def was_added(self, row_id: UUID) -> bool:
        """Return whether a row was quarantined before because it could not be failed."""
        with self._lock:
            return row_id in self._times

    def report(self, row_id: UUID, error: psycopg.Error, *, verb: str, ended: bool) -> None:
        """Report a row once."""
        with self._lock:
            times = self._reported.increment(row_id)
        if times == 1:
            self._on_refused(RefusedRow(id=row_id, verb=verb, sqlstate=error.sqlstate, ended=ended))


class Resolution(Enum):
    """What happened to a row that the server refused to change."""

    ENDED = "ended"
    """The row was at fault, and was failed as ``internal_error``."""
    QUARANTINED = "quarantined"
    """The row is at fault, but cannot be failed either: it is left alone for a while."""
    UNDECIDED = "undecided"
    """Possibly the server's fault: try again."""


class Refusals:
    """Resolves the refusals of one kind of change.

    A refused row is a suspect until the server accepts the same change of another row, for real or in a trial. That clears the
    server: from then on the row is blamed, and needs no other row to prove its fault.

    Args:
        verb: what the statement does, for the log.
        quarantine: the rows that this process leaves alone.
        after_proof: whether a refusal counts only if it comes after the server accepted another row, whatever its SQLSTATE: for
            what cannot be made again, such as a draft that has been paid for.
    """

    def __init__(self, *, verb: str, quarantine: Quarantine, after_proof: bool = False) -> None:
        self.quarantine = quarantine
        self._verb = verb
        self._after_proof = after_proof
        self._kinds: dict[str, Refusals] = {}
        self._trials = Trials()
        self._tries: BoundedCounter[UUID] = BoundedCounter()
        self._suspects: BoundedCounter[UUID] = BoundedCounter()
        self._blamed: BoundedCounter[UUID] = BoundedCounter()

    def for_kind(self, kind: str) -> "Refusals":
        """Return the refusals of one kind of this change; that another kind is accepted proves nothing."""
        return self._kinds.setdefault(
            kind, Refusals(verb=self._verb, quarantine=self.quarantine, after_proof=self._after_proof)
        )

    async def resolve(
        self,
        link: db.Link,
        refused: Sequence[tuple[LeaseKey, psycopg.Error]],
        *,
        passed: Collection[UUID],
        trial: Trial,
        proven: bool = False,
        end: str = END_ROW,
        params: db.Row | None = None,
    ) -> dict[LeaseKey, Resolution]:
        """Resolve rows that were refused alone: fail those that are at fault.

        Args:
            link: where they were refused.
            refused: the rows, each with its error.
            passed: the rows of which the server accepted the same change.
            trial: how to try the change on another row.
            proven: whether the server accepted another row before it refused these.
            end: the statement that fails a row.
            params: its parameters besides those of the row.
        """
        own = await self.at_fault(link, refused, passed=passed, trial=trial, proven=proven)
        return {
            held: await self._end(link, held, error, end, params or {}) if held in own else Resolution.UNDECIDED
            for held, error in refused
        }

    async def at_fault(
        self,
        link: db.Link,
        refused: Sequence[tuple[LeaseKey, psycopg.Error]],
        *,
        passed: Collection[UUID],
        trial: Trial,
        proven: bool = False,
    ) -> set[LeaseKey]:
        """Return the rows that are at fault: the server accepts another row, or there is none and the row can be failed.

        Args:
            link: where they were refused.
            refused: the rows, each with its error.
            passed: the rows of which the server accepted the same change.
            trial: how to try the change on another row.
            proven: whether the server accepted another row before it refused these.
        """
        again = {held for held, _ in refused if held[0] in self._blamed}
        for (row_id, _), _ in refused:
            if row_id not in self._blamed:
                self._suspects.increment(row_id)
        self.accepted(passed)
        due = {held: error for held, error in refused if self._may_be_at_fault(held[0], error)}
        known = {held for held in due if self.quarantine.was_added(held[0])}
        # A lock may have been released between this refusal and the proof that others are accepted. So a transient error counts
        # only if it comes again after such a proof.
        sure = known | {
            held for held, error in due.items() if held in again or not (self._after_proof or is_transient(error))
        }
        if proven:
            return set(due)
        if passed:
            return sure
        if len(known) == len(due):
            return known
        result = await self._try_another(link, trial)
        if result is TrialResult.ACCEPTED:
            return sure
        if result is TrialResult.NO_CANDIDATE:
            alone = {held for held in due if await self._is_alone(link, held)}
            self._blame(row_id for row_id, _ in alone)
            return known | (alone & sure)
        return known

    async def accepts_another(self, link: db.Link, trial: Trial, *, but: Collection[UUID]) -> bool:
        """Return whether the server accepts the change of another row right now.

        Args:
            link: where it was refused.
            trial: how to try the change on another row.
            but: rows not to try.
        """
        return await self._try_another(link, trial, but=but) is TrialResult.ACCEPTED

    def accepted(self, row_ids: Collection[UUID]) -> None:
        """Record that the server accepted this change of some rows."""
        if not row_ids:
            return
        self._blame(self._suspects)
        self._suspects = BoundedCounter()
        self._blamed.forget(row_ids)
        self._tries.forget(row_ids)

    def _blame(self, row_ids: Iterable[UUID]) -> None:
        for row_id in row_ids:
            self._blamed.increment(row_id)

    def _may_be_at_fault(self, row_id: UUID, error: psycopg.Error) -> bool:
        """Count a refusal; return whether it can be the row's fault at all."""
        if self._tries.increment(row_id) == REPORT_AFTER:
            self.quarantine.report(row_id, error, verb=self._verb, ended=False)
        return not is_out_of_resources(error)

    async def _try_another(self, link: db.Link, trial: Trial, *, but: Collection[UUID] = ()) -> TrialResult:
        hopeless = [row_id for row_id in self.quarantine.ids() if self.quarantine.was_added(row_id)]
        result = await self._trials.run(link, trial, but=[*but, *self._suspects, *self._blamed, *hopeless])
        if result is TrialResult.ACCEPTED:
            self._blame([*self._suspects, *self._trials.refused])
            self._suspects = BoundedCounter()
        return result

    async def _is_alone(self, link: db.Link, held: LeaseKey) -> bool:
        """Return whether the row could be failed, and no other row is a suspect."""
        if held[0] not in self._blamed and any(one != held[0] for one in self._suspects):
            return False
        try:
            return bool(await link.dry_run(END_ROW, _ending(held)))
        except psycopg.Error:
            return False

    async def _end(self, link: db.Link, held: LeaseKey, error: psycopg.Error, end: str, params: db.Row) -> Resolution:
        try:
            ended = await link.run(end, _ending(held) | params)
        except psycopg.Error:
            self.quarantine.add(held[0])
            self.quarantine.report(held[0], error, verb=self._verb, ended=False)
            return Resolution.QUARANTINED
        if not ended:
            return Resolution.UNDECIDED
        self.quarantine.report(held[0], error, verb=self._verb, ended=True)
        return Resolution.ENDED


def _ending(held: LeaseKey) -> db.Row:
    return {
        "id": held[0],
        "lease_token": held[1],
        "code": InternalError.code,
        "message": InternalError.user_message,
        "details": Jsonb(error_details(InternalError.code)),
    }
