"""Pauses: what an operator has stopped, shared by the fleet through ``draft_pauses``.

Owns the statements of the table, and which models this process leaves out. The claim also checks the table, so a pause takes
effect with its commit. Pauses of requesters are applied in the database: their rows are not claimable (``queue.admission``).
Invariant: a read that began earlier does not undo a later one.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from psycopg.errors import InsufficientPrivilege

from draftd import db
from draftd.db.statements import statements

_SQL = statements(__name__)
READ_PAUSES, LIST_PAUSES = _SQL["read_pauses"], _SQL["list_pauses"]
PAUSE, RESUME = _SQL["pause"], _SQL["resume"]


class Pauses:
    """The paused models, as this process knows them."""

    def __init__(self) -> None:
        self._models: frozenset[str] = frozenset()
        self._everything = False
        self._as_of = 0.0

    def __contains__(self, model: object) -> bool:
        return self._everything or model in self._models

    def update(self, rows: Iterable[Mapping[str, Any]], *, as_of: float) -> None:
        """Take over what was read.

        Args:
            rows: of ``draft_pauses``, those of requesters left out or not.
            as_of: the ``time.monotonic()`` at which the read began.
        """
        if as_of < self._as_of:
            return
        rows, self._as_of = list(rows), as_of
        self._everything = any(row["what"] == "all" for row in rows)
        self._models = frozenset(row["name"] for row in rows if row["what"] == "model")

    async def refresh(self, link: db.Link) -> None:
        """Read the pauses without waiting for the next heartbeat."""
        began = time.monotonic()
        (row,) = await link.run(READ_PAUSES)
        self.update(row["pauses"], as_of=began)


async def used_models(connection: db.Connection) -> list[str] | None:
    """Return the names of the models that agents use, as far as daemons have reported them; None if this role may not know."""
    try:
        row = await (await connection.execute(_SQL["used_models"].encode())).fetchone()
    except InsufficientPrivilege:
        return None
    assert row is not None  # noqa: S101  # a SELECT without FROM returns one row
    names: list[str] | None = row["names"]
    return names
