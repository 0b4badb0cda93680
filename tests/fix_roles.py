"""Database roles for tests: each logs in by itself, and goes away with its test."""

import secrets
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from draftd.db.grants import TABLES, backend
from draftd.db.table_locks import lock_tables

FORGED: dict[str, Any] = {
    "text": "forged",
    "ARRAY": ["https://forged.example/x.png"],
    "jsonb": Jsonb({"forged": 1}),
    "uuid": UUID(int=7),
    "smallint": 7,
    "integer": 7,
    "bigint": 7_000,
    "numeric": 7,
    "real": 0.5,
    "boolean": True,
    "timestamp with time zone": "2001-01-01T00:00:00Z",
}
"""A value of each type that no row of a test has."""
EVERYTHING = """
GRANT USAGE ON SCHEMA public TO {role};
GRANT ALL ON ALL TABLES IN SCHEMA public TO {role};
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role};
GRANT ALL ON ALL ROUTINES IN SCHEMA public TO {role};
CREATE POLICY everything ON draft_requests FOR ALL TO {role} USING (true) WITH CHECK (true);
"""
"""What people write."""


class Roles:
    """Makes roles that can log in to one database."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._made: dict[str, str] = {}

    def make(self, name: str = "", options: str = "", *, separator: str = " ") -> str:
        """Make a role and return its name."""
        role = f"{name or 'draftd_test'}{separator}{secrets.token_hex(6)}"
        self._made[role] = secrets.token_hex(8)
        statement = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} " + options)
        self.owner(statement.format(sql.Identifier(role), self._made[role]))
        return role

    def client(self, *, trusted: bool = False, separator: str = " ") -> str:
        """Make a role with the rights of a backend's client."""
        role = self.make(separator=separator)
        self.owner(backend(schema="public", client=role, worker=None, trusted=trusted))
        return role

    def worker(self) -> str:
        """Make a role with the rights of a daemon."""
        role = self.make()
        self.owner(backend(schema="public", client=None, worker=role, trusted=False))
        return role

    def with_everything(self) -> str:
        """Make a role with the rights that people grant who want to be done."""
        role = self.make()
        self.owner(sql.SQL(EVERYTHING).format(role=sql.Identifier(role)))
        return role

    def owner(self, statement: Any) -> None:
        """Execute statements as the owner of the tables."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(statement.encode() if isinstance(statement, str) else statement)

    def url(self, role: str) -> str:
        """Return the URL with which a role logs in."""
        scheme, _, rest = self._url.partition("://")
        authority, slash, path = rest.partition("/")
        host = authority.rpartition("@")[2]
        return f"{scheme}://{quote(role, safe='')}:{self._made[role]}@{host}{slash}{path}"

    def drop(self) -> None:
        """Drop every role, with all that it was granted."""
        for role in self._made:
            self.drop_owned(sql.Identifier(role).as_string())
            self.owner(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))

    def drop_owned(self, *roles: str) -> None:
        """Take all from roles that they were granted; a daemon may be working."""
        self.owner(f"{lock_tables(TABLES)} DROP OWNED BY {', '.join(roles)}")


@pytest.fixture
def roles_of() -> Iterator[Callable[[str], Roles]]:
    """Make a maker of roles for any database."""
    made: list[Roles] = []

    def make(url: str) -> Roles:
        made.append(Roles(url))
        return made[-1]

    yield make
    for one in made:
        one.drop()


@pytest.fixture
def roles(database: str, roles_of: Callable[[str], Roles]) -> Roles:
    """A maker of roles for this test's database."""
    return roles_of(database)
