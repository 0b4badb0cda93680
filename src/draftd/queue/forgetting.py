"""Forgetting a requester: deletes everything stored of one, in batches, and takes the name out of ``draft_usage``.

The deletion itself is a function of the database (alembic/versions/0027_forget.py), so that ``forget_draft_requester`` and
``draftd forget`` cannot differ. Invariants: an interrupted run has forgotten whole batches, and may be repeated; nothing is
drafted for the requester between two batches, because its requests are cancelled first.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from draftd import db
from draftd.db.statements import statements
from draftd.queue import admin

BATCH = 500
"""Requests per statement: some 50 ms, for which the requester's rows stay locked."""

_SQL = statements(__name__)
FORGET_SOME, COUNT_FORGETTABLE = _SQL["forget_some"], _SQL["count_forgettable"]


@dataclass(slots=True, kw_only=True)
class Forgotten:
    """What has been forgotten so far."""

    requests: int = 0
    feedback: int = 0
    profiles: int = 0
    usage: int = 0
    """The calls in ``draft_usage`` that no longer name the requester."""
    trace_ids: set[str] = field(default_factory=set)
    """Its traces in Langfuse."""
    is_recent: bool = False
    """Whether a daemon may still be sending some of them."""

    def counts(self) -> dict[str, int]:
        """Return the numbers of rows, as ``forget_draft_requester`` does."""
        return {
            "requests": self.requests,
            "feedback": self.feedback,
            "profiles": self.profiles,
            "usage": self.usage,
        }

    def add(self, done: db.Row) -> int:
        """Add one batch; return its number of rows."""
        self.requests += done["requests"]
        self.feedback += done["feedback"]
        self.profiles += done["profiles"]
        self.usage += done["usage"]
        self.trace_ids |= set(done["trace_ids"])
        self.is_recent |= done["is_recent"]
        return sum(int(done[name]) for name in self.counts())


async def forget(
    connection: db.Connection, requester_id: str, forgotten: Forgotten, *, on_batch: Callable[[], None] = lambda: None
) -> None:
    """Forget a requester.

    Args:
        connection: the connection to use.
        requester_id: the requester; ``''`` is all requests without one.
        forgotten: counts what is forgotten, also if this is interrupted.
        on_batch: called after each batch.

    Raises:
        psycopg.Error: the server refused, or another session kept a row locked. Whole batches are forgotten.
    """
    await admin.change(connection, admin.CANCEL, requester_id=requester_id)
    params = {"requester_id": requester_id, "batch": BATCH}
    while True:
        began = time.monotonic()
        if not forgotten.add(await _run(connection, FORGET_SOME, params)):
            return
        on_batch()
        # Half of the server's time is left for claims and settlements.
        await asyncio.sleep(time.monotonic() - began)


async def count_forgettable(connection: db.Connection, requester_id: str) -> Forgotten:
    """Return what ``forget`` would forget."""
    counted = Forgotten()
    counted.add(await _run(connection, COUNT_FORGETTABLE, {"requester_id": requester_id}))
    return counted


async def _run(connection: db.Connection, statement: str, params: db.Row) -> db.Row:
    row = await (await connection.execute(statement.encode(), params)).fetchone()
    assert row is not None  # noqa: S101  # a SELECT without FROM returns one row
    done: db.Row = row["done"]
    return done
