"""Connections to PostgreSQL: how they are opened, set up and limited in time.

Owns the time limits and the settings of a session. A daemon's connections, which outlive a lost server, are ``link``'s.
Invariants: every connection is in autocommit (one statement is one transaction, and an idle daemon sends no BEGIN), and every
statement has a time limit.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
from psycopg.rows import dict_row

from draftd.db import access, adapters, certificates, dsn, read_committed
from draftd.db.command_errors import command_error, unavailable
from draftd.errors import ConnectionLost
from draftd.sanitize import redact

STATEMENT_TIMEOUT_S = 15.0
"""The server's time limit for one statement; the slowest of draftd's takes under 0.1 s."""
CLIENT_MARGIN_S = 5.0
"""How much longer the client waits than the server: a server that does not even report its timeout is gone."""

Connection = read_committed.Connection

# The only style in which psycopg reads timestamps. Set even behind a pooler where needed: poolers track it per client.
STYLE_SETUP = "SET datestyle = 'ISO'"
# Only if the backend that answers is the one that sent the greeting. A pooler greets clients itself, with its own process id;
# behind it, a setting would stay on a server connection that serves another client next.
SESSION_SETUP = f"""
SELECT set_config('statement_timeout', '{STATEMENT_TIMEOUT_S:.0f}s', false),
       set_config('lock_timeout', '10s', false),
       set_config('jit', 'off', false),
       set_config('default_transaction_isolation', 'read committed', false)
 WHERE pg_backend_pid() = %s
"""
# For the daemon's few statements, which repeat. Planning a claim takes twice as long as executing it, so each is planned once;
# the table may be empty at that moment, so no plan may scan it where there is an index.
HOT_SETUP = (
    "SELECT set_config('plan_cache_mode', 'force_generic_plan', false), set_config('enable_seqscan', 'off', false)"
)


async def connect(url: dsn.Url, *, name: str = "draftd", session: bool = True) -> Connection:
    """Open a connection in autocommit, with rows as dicts.

    Args:
        url: the database, as it is now.
        name: shown in ``pg_stat_activity``.
        session: whether the connection is known to be a session, so that statements may be prepared and planned once.
            Nothing is prepared if a pooler turns out to be in between.

    Raises:
        ConfigurationError: the URL cannot be read.
        DatabaseUnavailable: the server refuses, its certificate is not accepted, or it does not answer in time.
    """
    url = dsn.read(url)
    target = dsn.parameters(url, name=name)
    try:
        async with asyncio.timeout(dsn.time_to_connect_s(target, margin_s=CLIENT_MARGIN_S)):
            rows: Any = dict_row
            connection = await Connection.connect(**target, autocommit=True, row_factory=rows)
            try:
                await _set_up(connection, session=session)
            except BaseException:
                await connection.close()
                raise
            return connection
    except (psycopg.Error, TimeoutError) as error:
        refused = await asyncio.to_thread(certificates.why_refused, str(error), target)
        raise unavailable(url, error, refused and f"its certificate is refused: {refused}") from error


async def _set_up(connection: Connection, *, session: bool) -> None:
    adapters.register(connection)
    if not (connection.info.parameter_status("DateStyle") or "ISO").startswith("ISO"):
        await connection.execute(STYLE_SETUP)
    setup = await connection.execute(SESSION_SETUP.encode(), [connection.info.backend_pid])
    if session and setup.rowcount:
        await connection.execute(HOT_SETUP)
    else:
        connection.prepare_threshold = None
    if not setup.rowcount:
        await connection.adopt_default()


@asynccontextmanager
async def connected(
    url: dsn.Url, *, migrated: bool = True, works: bool = False, reads: Collection[str] = ("draft_requests",)
) -> AsyncIterator[Connection]:
    """Open a connection for one command, and translate its errors.

    Args:
        url: the database.
        migrated: whether draftd's tables must exist; if they do, this role must see them in any case.
        works: whether this role must be able to change every row, as a daemon does.
        reads: the tables that the command reads; none may be hidden from this role.

    Raises:
        CommandError: see ``command_errors``.
        ConfigurationError: draftd's tables are missing, or hidden from this role.
    """
    with translate_errors(url):
        connection = await connect(url, session=False)
        try:
            row = await (await connection.execute(access.ACCESS_QUERY.encode())).fetchone()
            access.check(row or {}, where=dsn.address(url), migrated=migrated, works=works, reads=reads)
            try:
                yield connection
            except psycopg.errors.InsufficientPrivilege as error:
                if row is None or row["owner"] is None:
                    raise
                raise access.denied(row, redact(error.diag.message_primary or str(error))) from error
        finally:
            await connection.close()


@contextmanager
def translate_errors(url: dsn.Url) -> Iterator[None]:
    """Turn database errors into errors that end a command; see ``command_errors``."""
    try:
        yield
    except (psycopg.Error, ConnectionLost, TimeoutError) as error:
        raise command_error(url, error) from error
