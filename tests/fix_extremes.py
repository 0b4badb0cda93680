"""Every column of a table at its extremes, as its owner may set it: taken from the catalog, new columns included."""

from collections.abc import Iterator
from typing import LiteralString

import psycopg

COLUMNS = """
SELECT a.attname AS name, format_type(a.atttypid, NULL) AS type FROM pg_attribute AS a
 WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
VALUES: dict[str, list[str]] = {
    "smallint": ["-32768", "32767"],
    "integer": ["-2147483648", "2147483647"],
    "bigint": ["-9223372036854775808", "9223372036854775807"],
    "numeric": ["-999999.999999", "999999.999999", "'NaN'"],
    "real": ["'-infinity'", "'infinity'", "'NaN'", "3e38", "-3e38", "1e-45", "0"],
    "boolean": ["true", "false"],
    "uuid": ["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"],
    "timestamp with time zone": [
        "'-infinity'", "'infinity'", "'0001-01-01 00:00:00+00'", "'9999-12-31 23:59:59+00'", "'4713-01-01 BC'", "'294276-12-31'",
    ],
    "text": ["''", "repeat('x', 1000000)", "E'\\u202e\\x01\\x1b[31m'"],
    "jsonb": [
        "'null'", "'[]'", "'{}'", "'\"text\"'", "'1'", "'true'", "'[null]'", "'[1, \"a\", [], {}]'", "'{\"a\": null}'",
        "'1e1000'",
        "(repeat('[', 500) || repeat(']', 500))::jsonb",
    ],
    "bytea": ["''", "repeat('x', 1000000)::bytea"],
    "text[]": ["'{}'", "'{NULL}'", "'{{a,b},{c,d}}'", "array_fill('https://x.example/y'::text, ARRAY[1000])"],
}  # fmt: skip
"""By type, the values as SQL; null is added."""
BOUNDS = ("lease_until", "deadline_at")
SHARED: dict[LiteralString, dict[str, str]] = {
    "draft_workers": {
        "id": "gen_random_uuid()", "hostname": "'h'", "pid": "1", "version": "'0'", "state": "'running'", "concurrency": "1",
    },
    "draft_agents": {"agent": "gen_random_uuid()::text", "model": "'openai/other'"},
    "draft_models": {"name": "gen_random_uuid()::text"},
    "draft_holds": {"model": "gen_random_uuid()::text", "code": "'model_unavailable'"},
    "draft_throttles": {"model": "gen_random_uuid()::text"},
    "draft_usage": {
        "request_id": "gen_random_uuid()", "requester_id": "''", "attempt": "1", "lease_token": "1", "call": "1",
        "model": "'openai/other'",
    },
}  # fmt: skip
"""The tables that statements over all rows read, with a row of each, as SQL."""


def cases(
    connection: psycopg.Connection[dict[str, str]], table: LiteralString = "draft_requests"
) -> Iterator[tuple[str, str]]:
    """Yield each column with each of its extreme values, as SQL."""
    for column in connection.execute(COLUMNS, [table]).fetchall():
        for value in ["NULL", *VALUES[column["type"]]]:
            yield column["name"], value


State = dict[str, str]
"""Columns and their values, as SQL."""
PENDING: State = {"available_at": "now()"}
PROCESSING: State = {
    "available_at": "now()",
    "status": "'processing'",
    "attempt": "1",
    "lease_token": "1",
    "lease_until": "now() + interval '4 s'",
    "deadline_at": "now() + interval '6 s'",
    "worker_id": "gen_random_uuid()",
}


def make_extreme(connection: psycopg.Connection[dict[str, str]], url: str, state: State, **over: str) -> bool:
    """Insert a request and set some of its columns, past the checks if they refuse that; return whether the table allows it.

    Older checks let other rows in, and so does a restore with ``--disable-triggers``.

    Args:
        connection: the owner's, in autocommit.
        url: the request's picture.
        state: ``PENDING`` or ``PROCESSING``.
        over: the columns and their values, as SQL.
    """
    row = connection.execute(
        "INSERT INTO draft_requests (image_urls, requester_id, available_at, max_attempts)"
        " VALUES (ARRAY[%s], 'extreme', now() + interval '1 h', 2) RETURNING id",
        [url],
    ).fetchone()
    assert row is not None
    sets = ", ".join(f"{column} = {value}" for column, value in (state | over).items())
    for past_checks in (False, True):
        try:
            with connection.transaction():
                if past_checks:
                    connection.execute("SET LOCAL session_replication_role = replica")
                connection.execute(f"UPDATE draft_requests SET {sets} WHERE id = %s".encode(), [row["id"]])
        except (psycopg.IntegrityError, psycopg.DataError, psycopg.errors.ProgramLimitExceeded):
            continue
        return True
    connection.execute("DELETE FROM draft_requests WHERE id = %s", [row["id"]])
    return False


def add_extreme(
    connection: psycopg.Connection[dict[str, str]], table: LiteralString, column: str, value: str, **over: str
) -> bool:
    """Insert a row of one of the ``SHARED`` tables with one extreme value; return whether the schema allows that.

    Args:
        connection: the owner's, in autocommit.
        table: which.
        column: of it.
        value: as SQL.
        over: other columns than those of ``SHARED``, as SQL.
    """
    row = SHARED[table] | over | {column: value}
    statement = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(row.values())})"
    try:
        connection.execute(statement.encode())
    except psycopg.Error:
        return False
    return True


def add_extreme_picture(connection: psycopg.Connection[dict[str, str]], url: str, column: str, value: str) -> bool:
    """Insert a request that an earlier attempt has left a picture of, with one extreme value; return as ``add_extreme``."""
    try:
        with connection.transaction():
            row = connection.execute(
                "INSERT INTO draft_requests (image_urls, requester_id, max_attempts, available_at)"
                " VALUES (ARRAY[%s], 'pictured', 2, now() + interval '1 h') RETURNING id",
                [url],
            ).fetchone()
            assert row is not None
            sets = {"request_id": f"'{row['id']}'", "position": "1", "facts": "'{}'", "data": "'x'"}
            sets |= {
                "url_sha256": "sha256(convert_to((SELECT image_urls[1] FROM draft_requests WHERE id = '{id}'), 'UTF8'))"
            }
            sets["url_sha256"] = sets["url_sha256"].replace("{id}", str(row["id"]))
            sets[column] = value
            statement = f"INSERT INTO draft_pictures ({', '.join(sets)}) VALUES ({', '.join(sets.values())})"
            connection.execute(statement.encode())
            connection.execute(
                "UPDATE draft_requests SET lease_token = 1, attempt = 1, available_at = now() WHERE id = %s",
                [row["id"]],
            )
    except psycopg.Error:
        return False
    return True
