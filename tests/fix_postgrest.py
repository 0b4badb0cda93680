"""A host whose clients come through PostgREST: the roles of Supabase or InsForge, and a connection that acts as one of them."""

import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from draftd.db.hosts import PLATFORMS, platform
from fix_roles import Roles

Connection = psycopg.AsyncConnection[dict[str, Any]]
DEFAULT_PRIVILEGES = """
ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT ALL ON TABLES TO {roles};
ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT ALL ON SEQUENCES TO {roles};
ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT ALL ON ROUTINES TO {roles};
"""
"""What both hosts have in place before anything is installed."""
HABIT = """
GRANT USAGE ON SCHEMA public TO {roles};
GRANT ALL ON ALL TABLES IN SCHEMA public TO {roles}, PUBLIC;
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {roles};
GRANT ALL ON ALL ROUTINES IN SCHEMA public TO {roles}, PUBLIC;
CREATE POLICY "Enable all" ON draft_requests FOR ALL TO public USING (true) WITH CHECK (true);
CREATE POLICY "Enable all" ON draft_feedback FOR ALL TO authenticated USING (true) WITH CHECK (true);
CREATE POLICY "Enable all" ON draft_profiles FOR ALL TO authenticated USING (true) WITH CHECK (true);
"""
"""What the dashboards and the answers to "permission denied" suggest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A database on such a host, and the role with which PostgREST connects to it."""

    name: str
    roles: Roles
    authenticator: str

    @property
    def users(self) -> str:
        """The roles that a request can have, for a GRANT."""
        host = PLATFORMS[self.name]
        return f"{host.anon}, {host.users}, {host.server}"

    def grant(self, **over: Any) -> None:
        """Apply the preset."""
        how: dict[str, Any] = {"schema": "public", "client": None, "worker": None, "trusted": False, "identity": None}
        self.roles.owner(platform(self.name, **how | over))

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Connection]:
        """Yield a connection as PostgREST makes it."""
        url = self.roles.url(self.authenticator)
        async with await psycopg.AsyncConnection.connect(url, row_factory=dict_row, autocommit=True) as connection:
            yield connection

    @asynccontextmanager
    async def as_role(self, connection: Connection, role: str, sub: str | None = None) -> AsyncIterator[None]:
        """Act as PostgREST lets a request act: in one transaction, which is committed."""
        claims = {"role": role} | ({} if sub is None else {"sub": sub})
        async with connection.transaction():
            await connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
            await connection.execute("SELECT set_config('request.jwt.claims', %s, true)", [json.dumps(claims)])
            yield

    @asynccontextmanager
    async def acting(self, role: str, sub: str | None = None) -> AsyncIterator[Connection]:
        """Yield a connection that acts as a request."""
        async with self.connected() as connection, self.as_role(connection, role, sub):
            yield connection

    async def run(self, role: str, sub: str | None, statement: str, values: Any = None) -> list[dict[str, Any]]:
        """Run one statement in a transaction of its own; return its rows."""
        async with self.acting(role, sub) as connection:
            cursor = await connection.execute(statement.encode(), values)
            return await cursor.fetchall() if cursor.description else []


HostOf = Callable[[Roles, str], Host]


@pytest.fixture
def host_of() -> Iterator[HostOf]:
    """Make the roles of a host at a database."""
    made: list[tuple[Host, Sequence[str]]] = []

    def make(roles: Roles, name: str) -> Host:
        host = PLATFORMS[name]
        authenticator = roles.make(f"authenticator {secrets.token_hex(2)}", options="NOINHERIT")
        for role, options in ((host.anon, ""), (host.users, ""), (host.server, "BYPASSRLS")):
            with suppress(psycopg.errors.DuplicateObject):
                roles.owner(f"CREATE ROLE {role} NOLOGIN {options}")
            roles.owner(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(authenticator)))
        there = Host(name=name, roles=roles, authenticator=authenticator)
        made.append((there, (host.anon, host.users, host.server)))
        return there

    yield make
    for there, names in made:
        there.roles.drop_owned(*names)


@pytest.fixture
def host(request: pytest.FixtureRequest, roles: Roles, host_of: HostOf) -> Host:
    """A migrated database at Supabase (or the host that the test names), which gave its roles everything; then the preset."""
    there = host_of(roles, getattr(request, "param", "supabase"))
    roles.owner(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {there.users}")
    roles.owner(f"GRANT ALL ON ALL ROUTINES IN SCHEMA public TO {there.users}")
    there.grant()
    return there
