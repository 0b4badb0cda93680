"""The queue's state machine in plain Python: what each step does to a request, by the contract and the design.

Owns its own reading of the rules and a clock that is moved by hand; knows no SQL and no connection. ``QueueModel`` answers what
the real queue must answer, and its ``rows`` stand as the real rows must stand. Invariants of the model itself: a row leaves
``processing`` only for the holder of its newest token, the reaper or a cancel; ``lease_token`` never falls; ``completed`` is
left by nobody, ``failed`` and ``cancelled`` only by a retry.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

STEP_S = 100
"""Time moves by whole steps, and nothing below ends on one: real time may go by meanwhile, up to ``SLACK_S``."""
SLACK_S = 40
LEASE_S = 50
ATTEMPT_S = 250
DEFAULT_EXPIRY_S = 1_050
UNKNOWN_S = 5
RETRY_DELAY_S = 50
SECOND_LOSS_S = 50
"""The delay after a second loss is random; whoever checks pins it to this."""
KEPT_ERRORS = 20

SERVED = "comment_generator"
UNSERVED = "nobody"
"""An agent that no daemon has a prompt for."""
UNSERVED_DELAY_S = 50
"""Its requests are due so late: ``UNKNOWN_S`` is shorter than the time that may really go by within a step."""

Kind = Literal["done", "retry", "fail", "hold", "release"]
Key = tuple[UUID, int]
"""A claim of a row: its id and its lease token."""

ERROR_CODES: dict[Kind, str] = {"retry": "model_timeout", "fail": "image_invalid", "hold": "model_unavailable"}
REACHABLE: dict[Kind, set[str]] = {
    "done": {"completed"},
    "fail": {"failed"},
    "retry": {"pending", "failed"},
    "hold": {"pending", "failed"},
    "release": {"pending", "failed"},
}
"""Where a row may stand with this settlement's token so that a repetition of it is a success."""


@dataclass(slots=True, kw_only=True)
class Row:
    """One request."""

    agent: str
    max_attempts: int
    available_at: int
    expires_at: int
    status: str = "pending"
    attempt: int = 0
    lease_token: int = 0
    holder: UUID | None = None
    lease_until: int = 0
    deadline_at: int = 0
    partial: str | None = None
    result: str | None = None
    error_code: str | None = None
    errors: list[tuple[int, str]] = field(default_factory=list)
    given_back: int = 0


class QueueModel:
    """All requests, the time, and who was told of which end."""

    def __init__(self) -> None:
        self.now_s = 0
        self.rows: dict[UUID, Row] = {}
        self.announced: list[tuple[UUID, str]] = []
        """The ends since the last look: each is announced exactly once."""

    def insert(
        self, request_id: UUID, *, agent: str, max_attempts: int, delay_s: int, expires_in_s: int | None
    ) -> None:
        """Take a new request in."""
        available_at = self.now_s + delay_s
        expires_at = available_at + DEFAULT_EXPIRY_S if expires_in_s is None else self.now_s + expires_in_s
        self.rows[request_id] = Row(
            agent=agent, max_attempts=max_attempts, available_at=available_at, expires_at=expires_at
        )

    def count_open(self) -> int:
        """Return how many requests may still come to an end, be it after a retry."""
        return sum(row.status != "completed" for row in self.rows.values())

    def due(self) -> set[UUID]:
        """Return what may be claimed now."""
        return {i for i, r in self._of("pending") if r.agent == SERVED and r.available_at <= self.now_s}

    def claim(self, request_id: UUID, worker_id: UUID) -> Row:
        """Let a worker claim a due row."""
        row = self.rows[request_id]
        row.status, row.holder = "processing", worker_id
        row.attempt += 1
        row.lease_token += 1
        row.lease_until, row.deadline_at = self.now_s + LEASE_S, self.now_s + ATTEMPT_S
        return row

    def holds(self, key: Key) -> bool:
        """Return whether a claim still holds its row: the fence."""
        row = self.rows[key[0]]
        return row.status == "processing" and row.lease_token == key[1]

    def renew(self, key: Key) -> bool:
        """Let a claim live for another lease, if it holds."""
        if self.holds(key):
            self.rows[key[0]].lease_until = self.now_s + LEASE_S
        return self.holds(key)

    def publish(self, key: Key, partial: str) -> bool:
        """Show progress, if the claim holds."""
        if self.holds(key):
            self.rows[key[0]].partial = partial
        return self.holds(key)

    def settle(self, key: Key, kind: Kind, result: str) -> str | None:
        """End an attempt; return the row's status, or None for a lease lost."""
        row = self.rows[key[0]]
        code = ERROR_CODES.get(kind)
        if not self.holds(key):
            is_own = row.lease_token == key[1] and row.error_code == code
            return row.status if is_own and row.status in REACHABLE[kind] else None
        row.error_code = None
        if code:
            self._note(row, code)
        match kind:
            case "done":
                row.result = result
                self._end(key[0], "completed")
            case "fail":
                self._end(key[0], "failed")
            case "retry":
                row.available_at = self.now_s + RETRY_DELAY_S
                self._try_again(key[0])
            case "hold" | "release":
                row.attempt -= 1
                row.given_back += kind == "hold"
                row.status = "pending"
        return row.status

    def release_strays(self, worker_id: UUID, held: set[Key]) -> set[UUID]:
        """Give back what stands in a worker's name and is not held there, attempts included."""
        strays = {i for i, r in self._of("processing") if r.holder == worker_id and (i, r.lease_token) not in held}
        for request_id in strays:
            self.rows[request_id].attempt -= 1
            self.rows[request_id].status = "pending"
        return strays

    def cancel(self, request_id: UUID) -> bool:
        """Cancel what has not ended; return whether it was."""
        if self.rows[request_id].status not in ("pending", "processing"):
            return False
        self._end(request_id, "cancelled")
        return True

    def retry(self, request_id: UUID) -> bool:
        """Let a failed or cancelled request begin anew; return whether it was one."""
        row = self.rows[request_id]
        if row.status not in ("failed", "cancelled"):
            return False
        row.status, row.attempt, row.given_back = "pending", 0, 0
        row.available_at, row.error_code = self.now_s, None
        if row.expires_at <= self.now_s:
            row.expires_at = self.now_s + DEFAULT_EXPIRY_S
        return True

    def reap(self, older_than_s: int) -> tuple[set[tuple[UUID, str, str]], set[UUID]]:
        """Take back what the dead held and end what nobody will draft.

        Returns:
            Id, code and new status of each; and which of them wait a random while.
        """
        taken, waiting = set(), set()
        for request_id, row in list(self._of("processing", "pending")):
            code = self._reapable(row, older_than_s)
            if code is None:
                continue
            if code != "worker_lost":
                self._note(row, code)
                self._end(request_id, "failed")
            else:
                lost_before = any(earlier == code for _, earlier in row.errors)
                self._note(row, code)
                self._try_again(request_id)
                if lost_before and row.status == "pending":
                    row.available_at = self.now_s + SECOND_LOSS_S
                    waiting.add(request_id)
            taken.add((request_id, code, row.status))
        return taken, waiting

    def _reapable(self, row: Row, older_than_s: int) -> str | None:
        if row.status == "processing":
            over = min(row.lease_until, row.deadline_at) <= self.now_s - older_than_s
            return "worker_lost" if over else None
        if row.expires_at <= self.now_s:
            return "expired"
        return "invalid_request" if row.agent == UNSERVED and row.available_at <= self.now_s - UNKNOWN_S else None

    def _try_again(self, request_id: UUID) -> None:
        row = self.rows[request_id]
        if row.attempt >= row.max_attempts:
            self._end(request_id, "failed")
        else:
            row.status = "pending"

    def _note(self, row: Row, code: str) -> None:
        row.error_code = code
        row.errors = [*row.errors, (row.attempt, code)][-KEPT_ERRORS:]

    def _end(self, request_id: UUID, status: str) -> None:
        self.rows[request_id].status = status
        self.announced.append((request_id, status))

    def _of(self, *statuses: str) -> Iterator[tuple[UUID, Row]]:
        return ((request_id, row) for request_id, row in self.rows.items() if row.status in statuses)
