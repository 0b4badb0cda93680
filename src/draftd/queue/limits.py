"""Limits of requesters: the rows of ``draft_limits``, for the commands. ``admission`` and the database apply them."""

from collections.abc import Mapping
from decimal import Decimal

from psycopg.rows import DictRow

from draftd import db
from draftd.db.statements import statements

EVERYBODY = "*"
"""The requester whose row counts for everybody without one of their own."""
COLUMNS = ("max_pending", "max_in_flight", "usd_per_day")

_SQL = statements(__name__)
LIST, SET, UNSET = _SQL["list"], _SQL["set"], _SQL["unset"]


async def list_(connection: db.Connection) -> list[DictRow]:
    """Return all limits."""
    return await (await connection.execute(LIST.encode())).fetchall()


async def change(connection: db.Connection, requester_id: str, limits: Mapping[str, Decimal | None]) -> DictRow:
    """Set some limits of a requester, and return all of them.

    Args:
        connection: as the owner of the tables.
        requester_id: the requester, or ``EVERYBODY``.
        limits: by column; None removes one. Columns that are not given stay as they are.

    Raises:
        psycopg.Error: the server refused.
    """
    params: db.Row = {column: limits.get(column) for column in COLUMNS} | {"requester_id": requester_id}
    params |= {f"has_{column}": column in limits for column in COLUMNS}
    row = await (await connection.execute(SET.encode(), params)).fetchone()
    assert row is not None  # noqa: S101  # an upsert returns its row
    return row


async def remove(connection: db.Connection, requester_id: str) -> bool:
    """Remove all limits of a requester; return whether there were any."""
    return bool(await (await connection.execute(UNSET.encode(), {"requester_id": requester_id})).fetchall())
