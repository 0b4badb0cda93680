"""Isolation: a row that the server refuses to change harms only itself.

Owns what happens when a server that is well refuses a statement over several rows. ``apart`` executes it in halves, until only
rows that are refused alone are left. ``Refusals`` decides whose fault a refusal is: it fails the row if the fault is the row's
own, and sets the row aside in memory if the server refuses that, too. Invariants: no row is ended for a refusal that may be the
server's fault, whatever its SQLSTATE; without a refusal, nothing here runs. The statements belong to their callers.
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
from draftd.db.sqlstate import is_exhausted, is_misfit, is_passing
from draftd.db.statements import statements
from draftd.errors import InternalError, error_details
from draftd.queue.leases import Held
from draftd.queue.remembered import MAX_REMEMBERED, Remembered
from draftd.queue.trials import Finding, Trial, Trials

log = structlog.get_logger(__name__)

Item = TypeVar("Item")
Answer = TypeVar("Answer")

PATIENCE_S = 1.0
"""After so long, a refused statement is not split any further: the neighbours wait meanwhile."""
FIRST_ASIDE_S = 2.0
LONGEST_ASIDE_S = 300.0
UNDECIDED_S = 1.5
"""How long a row is left alone whose refusal may be the server's fault."""
NAMED_AFTER = 3
"""After so many refusals the log names a row, although nobody knows yet whose fault they are."""

END_ROW = statements(__name__)["end_row"]


@dataclass(slots=True)
class Parts(Generic[Item, Answer]):
    """What came of a statement that was executed in parts."""

    answered: list[tuple[Sequence[Item], Answer]] = field(default_factory=list)
    """The parts that the server accepted, each with its answer."""
    refused: list[tuple[Item, psycopg.Error]] = field(default_factory=list)
    """What it refused even alone."""
    untried: list[tuple[Item, psycopg.Error]] = field(default_factory=list)
    """What was not tried alone, because refusals take too long."""


async def apart(
    items: Sequence[Item],
    carry_out: Callable[[Sequence[Item]], Awaitable[Answer]],
    *,
    refusal: psycopg.Error | None = None,
    began: float | None = None,
) -> Parts[Item, Answer]:
    """Execute a statement over all items, or over as many as the server accepts.

    Args:
        items: what the statement is about.
        carry_out: executes it over some of them; a refusal changes nothing.
        refusal: why the server has just refused all of them together, if it was asked.
        began: when it was asked, a moment of ``time.monotonic``.

    Raises:
        db.LOST: the connection broke.
        psycopg.Error: the schema is not the one that the statement was written for.
    """
    parts: Parts[Item, Answer] = Parts()
    ends_at = (time.monotonic() if began is None else began) + PATIENCE_S
    todo: list[tuple[Sequence[Item], psycopg.Error | None]] = [(list(items), refusal)] if items else []
    while todo:
        some, error = todo.pop()
        if error is None:
            try:
                parts.answered.append((some, await carry_out(some)))
                continue
            except psycopg.Error as refused:
                error = refused
        if is_misfit(error):
            raise error
        if len(some) == 1:
            parts.refused.append((some[0], error))
        elif time.monotonic() > ends_at:
            parts.untried += [(one, error) for one in some]
        else:
            half = len(some) // 2
            todo += [(some[half:], None), (some[:half], None)]
    return parts


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRow:
    """A row that the server refused to change, as reported once."""

    id: UUID
    verb: str
    """What was to be done with it."""
    sqlstate: str | None
    ended: bool
    """Whether it has failed as ``internal_error``."""


def log_refused(row: RefusedRow) -> None:
    """Name a row in the log, without the refusal's text: an app wrote it, and it may quote the row."""
    log.error("row refused", request_id=row.id, to=row.verb, sqlstate=row.sqlstate, ended=row.ended)


class Aside:
    """The rows that this process leaves alone for a while; shared by its actors, the heartbeat's thread included.

    Args:
        tell: called once for each refused row.
        clock: returns the time, in seconds.
    """

    def __init__(
        self, *, tell: Callable[[RefusedRow], None] = log_refused, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = tell
        self._clock = clock
        self._lock = threading.Lock()
        self._until: dict[UUID, float] = {}
        self._times: Remembered[UUID] = Remembered()
        self._named: Remembered[UUID] = Remembered()

    def put(self, row_id: UUID) -> None:
        """Leave a row alone that can neither be changed nor ended: each time twice as long, up to 5 minutes."""
        with self._lock:
            times = self._times.note(row_id)
        longest_s = min(LONGEST_ASIDE_S, FIRST_ASIDE_S * 2.0 ** min(times - 1, 20))
        self._put(row_id, random.uniform(longest_s / 2, longest_s))  # noqa: S311  # jitter, no secret

    def put_briefly(self, row_id: UUID) -> None:
        """Leave a row alone for a moment, so that others get their turn: its refusal may be the server's fault."""
        self._put(row_id, random.uniform(UNDECIDED_S / 2, UNDECIDED_S))  # noqa: S311  # jitter, no secret

    def _put(self, row_id: UUID, for_s: float) -> None:
        with self._lock:
            now = self._clock()
            self._until = {one: until for one, until in self._until.items() if until > now and one != row_id}
            if len(self._until) >= MAX_REMEMBERED:
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
        """Return when the next of them may be touched again, in seconds from now."""
        with self._lock:
            now = self._clock()
            return min((until - now for until in self._until.values() if until > now), default=math.inf)

    def knows(self, row_id: UUID) -> bool:
        """Return whether a row was set aside before because it could not be ended."""
        with self._lock:
            return row_id in self._times

    def name(self, row_id: UUID, error: psycopg.Error, *, verb: str, ended: bool) -> None:
        """Report a row, once."""
        with self._lock:
            times = self._named.note(row_id)
        if times == 1:
            self._tell(RefusedRow(id=row_id, verb=verb, sqlstate=error.sqlstate, ended=ended))


class Resolution(Enum):
    """What became of a row that the server refused to change."""

    ENDED = "ended"
    """The row's own fault: it has failed as ``internal_error``."""
    ASIDE = "aside"
    """The row's own fault, and it cannot be ended either: it is left alone for a while."""
    UNDECIDED = "undecided"
    """Possibly the server's fault: to be tried again."""


class Refusals:
    """Resolves the refusals of one kind of change.

    A refused row is a suspect until the server accepts the same change of another row, in earnest or in a trial. From then on
    the suspect is outlived: where there is no other row left to try, only its own refusals count against it.

    Args:
        verb: what the statement does, for the log.
        aside: the rows that this process leaves alone.
        after_proof: whether a refusal counts only if it comes after the server accepted another row, whatever its SQLSTATE: for
            what cannot be made again, as a draft that has been paid for.
    """

    def __init__(self, *, verb: str, aside: Aside, after_proof: bool = False) -> None:
        self.aside = aside
        self._verb = verb
        self._after_proof = after_proof
        self._kinds: dict[str, Refusals] = {}
        self._trials = Trials()
        self._tries: Remembered[UUID] = Remembered()
        self._suspects: Remembered[UUID] = Remembered()
        self._outlived: Remembered[UUID] = Remembered()

    def of(self, kind: str) -> "Refusals":
        """Return the refusals of one kind of this statement's changes; another kind that is accepted proves nothing."""
        return self._kinds.setdefault(kind, Refusals(verb=self._verb, aside=self.aside, after_proof=self._after_proof))

    async def resolve(
        self,
        link: db.Link,
        refused: Sequence[tuple[Held, psycopg.Error]],
        *,
        passed: Collection[UUID],
        trial: Trial,
        end: str = END_ROW,
        params: db.Row | None = None,
    ) -> dict[Held, Resolution]:
        """Decide about rows that were refused alone, and end those that are at fault.

        Args:
            link: where they were refused.
            refused: the rows, as they are held or were found, and why.
            passed: the rows for which the server accepted the same change meanwhile.
            trial: how to try the change on another row.
            end: the statement that fails a row.
            params: its parameters besides the row.
        """
        own = await self.own(link, refused, passed=passed, trial=trial)
        return {
            held: await self._end(link, held, error, end, params or {}) if held in own else Resolution.UNDECIDED
            for held, error in refused
        }

    async def own(
        self, link: db.Link, refused: Sequence[tuple[Held, psycopg.Error]], *, passed: Collection[UUID], trial: Trial
    ) -> set[Held]:
        """Return the rows that are at fault: no other row is refused, or there is no other and the row can be failed.

        Args:
            link: where they were refused.
            refused: the rows, as they are held or were found, and why.
            passed: the rows for which the server accepted the same change meanwhile.
            trial: how to try the change on another row.
        """
        again = {held for held, _ in refused if held[0] in self._outlived}
        for (row_id, _), _ in refused:
            if row_id not in self._outlived:
                self._suspects.note(row_id)
        self.accepted(passed)
        due = {held: error for held, error in refused if self._may_count(held[0], error)}
        known = {held for held in due if self.aside.knows(held[0])}
        # A lock may have ended between the refusal and the proof that others are accepted. So what may pass counts only if it
        # comes again after such a proof.
        sure = known | {
            held for held, error in due.items() if held in again or not (self._after_proof or is_passing(error))
        }
        if passed:
            return sure
        if len(known) == len(due):
            return known
        finding = await self._try_another(link, trial)
        if finding is Finding.ACCEPTED:
            return sure
        if finding is Finding.NOBODY:
            alone = {held for held, error in due.items() if await self._is_alone(link, held, error)}
            self._outlive(row_id for row_id, _ in alone)
            return known | (alone & sure)
        return known

    def accepted(self, row_ids: Collection[UUID]) -> None:
        """Note that the server accepted this change of some rows."""
        if not row_ids:
            return
        self._outlive(self._suspects)
        self._suspects = Remembered()
        self._outlived.forget(row_ids)
        self._tries.forget(row_ids)

    def _outlive(self, row_ids: Iterable[UUID]) -> None:
        for row_id in row_ids:
            self._outlived.note(row_id)

    def _may_count(self, row_id: UUID, error: psycopg.Error) -> bool:
        """Note a refusal; return whether it may count against the row at all."""
        if self._tries.note(row_id) == NAMED_AFTER:
            self.aside.name(row_id, error, verb=self._verb, ended=False)
        return not is_exhausted(error)

    async def _try_another(self, link: db.Link, trial: Trial) -> Finding:
        hopeless = [row_id for row_id in self.aside.ids() if self.aside.knows(row_id)]
        finding = await self._trials.run(link, trial, but=[*self._suspects, *self._outlived, *hopeless])
        if finding is Finding.ACCEPTED:
            self._outlive([*self._suspects, *self._trials.refused])
            self._suspects = Remembered()
        return finding

    async def _is_alone(self, link: db.Link, held: Held, error: psycopg.Error) -> bool:
        """Return whether the row could be failed, and no other row is under suspicion."""
        if held[0] not in self._outlived and any(one != held[0] for one in self._suspects):
            return False
        try:
            return bool(await link.try_out(END_ROW, self._ending(held, error)))
        except psycopg.Error:
            return False

    async def _end(self, link: db.Link, held: Held, error: psycopg.Error, end: str, params: db.Row) -> Resolution:
        try:
            ended = await link.run(end, self._ending(held, error) | params)
        except psycopg.Error:
            self.aside.put(held[0])
            self.aside.name(held[0], error, verb=self._verb, ended=False)
            return Resolution.ASIDE
        if not ended:
            return Resolution.UNDECIDED
        self.aside.name(held[0], error, verb=self._verb, ended=True)
        return Resolution.ENDED

    def _ending(self, held: Held, error: psycopg.Error) -> db.Row:
        return {
            "id": held[0],
            "lease_token": held[1],
            "code": InternalError.code,
            "message": f"the database refused to {self._verb} this request (SQLSTATE {error.sqlstate})",
            "details": Jsonb(error_details(InternalError.code)),
        }
