"""Proves on a real server that the migrations make the schema that the code describes, and that they can be taken back.

Upgrade, `alembic check`, downgrade to nothing, upgrade again, `alembic check`. The server is an embedded one; with
DRAFTD_TEST_DATABASE_URL a database of its own is made on that server.
"""

import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config

from draftd.demo.embedded import EmbeddedPostgres
from draftd.logs import configure_logging

ROOT = Path(__file__).parents[1]


@contextmanager
def database() -> Iterator[str]:
    """Yield the URL of an empty database."""
    if server := os.environ.get("DRAFTD_TEST_DATABASE_URL"):
        name = f"draftd_check_{uuid.uuid4().hex[:8]}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
            try:
                yield _beside(server, name)
            finally:
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())
        return
    with EmbeddedPostgres() as server_:
        yield server_.url


def _beside(server: str, name: str) -> str:
    """Return the URL of another database of a server, password and parameters included."""
    scheme, _, rest = server.partition("://")
    authority, _, path = rest.partition("/")
    _, question, query = path.partition("?")
    return f"{scheme}://{authority}/{name}{question}{query}"


def main() -> None:
    """Go up, down and up again, and compare."""
    configure_logging(level="warning", style="auto")
    with database() as url:
        config = Config(ROOT / "alembic.ini", attributes={"url": url})
        command.upgrade(config, "head")
        command.check(config)
        command.downgrade(config, "base")
        command.upgrade(config, "head")
        command.check(config)
    print("the migrations make the schema that the code describes, up, down and up again")  # noqa: T201  # its one word to the person who ran it


if __name__ == "__main__":
    sys.exit(main())
