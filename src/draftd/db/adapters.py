"""How values from the database become Python values, whatever their origin: JSON and timestamps.

Clients may store anything that PostgreSQL accepts. Invariant: no value makes reading its row fail.
"""

import json
import math
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.types.datetime import TimestamptzLoader
from psycopg.types.json import set_json_loads

MAX_DIGITS = 300
MAX_DEPTH = 100
"""How deeply JSON may nest; draftd's own nests 4 deep. Python's limit varies between its versions from 1,000 to 10,000, and
whatever handles the value next may have a lower one."""
UNREADABLE = {"unreadable": "nested too deeply"}
"""Stands in for JSON that PostgreSQL stores and draftd does not read."""
MIN_TIMESTAMP, MAX_TIMESTAMP = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
"""The range of Python's ``datetime``."""


def register(connection: psycopg.AsyncConnection[Any]) -> None:
    """Read a connection's JSON and timestamps this way."""
    set_json_loads(loads, connection)
    connection.adapters.register_loader("timestamptz", TimestampLoader)


def loads(text: str | bytes) -> Any:
    """Read JSON of unknown origin.

    A number of more than ``MAX_DIGITS`` digits, or too large for a float, becomes None (printed as infinity it would not be
    JSON). A value that nests deeper than ``MAX_DEPTH`` becomes ``UNREADABLE``.
    """
    try:
        value = json.loads(
            text,
            parse_int=lambda digits: int(digits) if len(digits) <= MAX_DIGITS else None,
            parse_float=lambda digits: number if math.isfinite(number := float(digits)) else None,
        )
    except RecursionError:
        return UNREADABLE
    return UNREADABLE if _is_too_deep(value) else value


def _is_too_deep(value: Any) -> bool:
    containers = [value] if isinstance(value, dict | list) else []
    depth = 0
    while containers and depth <= MAX_DEPTH:
        children = (child for one in containers for child in (one.values() if isinstance(one, dict) else one))
        containers = [child for child in children if isinstance(child, dict | list)]
        depth += 1
    return depth > MAX_DEPTH


class TimestampLoader(TimestamptzLoader):
    """Reads a timestamp; one before the year 1 or after 9999 becomes the earliest or latest that Python has.

    Clients do write such timestamps: the year 10000 for never, or their language's zero time, which may be before the year 1 in
    the session's time zone.
    """

    def load(self, data: Buffer) -> datetime:
        """Return the timestamp, or the nearest one."""
        try:
            return super().load(data)
        except psycopg.DataError:
            is_early = bytes(data).startswith(b"-") or bytes(data).endswith(b"BC")
            return MIN_TIMESTAMP if is_early else MAX_TIMESTAMP
