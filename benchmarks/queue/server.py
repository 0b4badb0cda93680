"""The PostgreSQL that everything is measured on, with durable commits.

``BENCH_DATABASE_URL`` names one; else the embedded server of the demo is started, with ``fsync`` and ``synchronous_commit`` on.
Each contender has a database of its own on it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from draftd.demo.embedded import EmbeddedPostgres

VARIABLE = "BENCH_DATABASE_URL"
MAX_CONNECTIONS = 400
"""All contenders wait for their recovery at the same time, with two workers and a client each."""
LOG_PREFIX = "%d "
"""The database's name before each line of the server's log: the statements of an idle worker are counted there."""


class Server:
    """A running server.

    Args:
        url: of any database on it, as a superuser.
        log: where it logs, if it is our own.
    """

    def __init__(self, *, url: str, log: Path | None = None) -> None:
        self._url = url
        self.log = log

    def create_database(self, name: str) -> str:
        """Make an empty database, in place of any of that name, and return its URL."""
        self.drop_database(name)
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{name}"))

    def drop_database(self, name: str) -> None:
        """Remove a database, if it is there."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def log_statements(self, name: str) -> None:
        """Let new connections to this database log each statement."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(sql.SQL("ALTER DATABASE {} SET log_statement = 'all'").format(sql.Identifier(name)))

    def facts(self) -> dict[str, str]:
        """Return the settings that decide how fast and how safe a commit is."""
        names = (
            "server_version",
            "fsync",
            "synchronous_commit",
            "full_page_writes",
            "shared_buffers",
            "wal_sync_method",
        )
        with psycopg.connect(self._url) as connection:
            rows = connection.execute(
                "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name", [list(names)]
            )
            return dict(rows.fetchall())


@contextmanager
def durable_server() -> Iterator[Server]:
    """Yield the server that ``BENCH_DATABASE_URL`` names, or an embedded one."""
    if url := os.environ.get(VARIABLE):
        yield Server(url=url)
    else:
        with embedded_server() as server:
            yield server


@contextmanager
def embedded_server() -> Iterator[Server]:
    """Yield a durable server of our own."""
    settings = {"fsync": "on", "synchronous_commit": "on", "log_line_prefix": LOG_PREFIX}
    with EmbeddedPostgres(durable=True, max_connections=MAX_CONNECTIONS, settings=settings) as server:
        yield Server(url=server.url, log=server.directory / "log")
