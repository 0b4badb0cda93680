"""Everything that a database stores, as bytes to search."""

import psycopg
from psycopg import sql

TABLES = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY relname"


def dumped(url: str) -> bytes:
    """Return the contents of every table: in COPY's binary form, in which texts, JSON and pictures stand as they are."""
    with psycopg.connect(url) as connection:
        return b"".join(_copied(connection, name) for (name,) in connection.execute(TABLES).fetchall())


def _copied(connection: psycopg.Connection, name: str) -> bytes:
    with connection.cursor().copy(sql.SQL("COPY {} TO STDOUT (FORMAT binary)").format(sql.Identifier(name))) as copy:
        return b"".join(bytes(part) for part in copy)
