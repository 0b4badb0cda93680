"""Connections to PostgreSQL: how they are opened, timed, kept and repaired.

Owns the address, the timeouts and the reconnecting ``Link``; owns no statement of any table. Invariants: every connection is
in autocommit (one statement is one transaction, and an idle daemon sends no BEGIN), every statement has a timeout, and a
database that is away surfaces as ``DatabaseUnavailable`` or ``ConnectionLost``, never as a hang.
"""

import asyncio
import json
import math
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import psycopg
import structlog
from psycopg.abc import Buffer
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from psycopg.types.datetime import TimestamptzLoader
from psycopg.types.json import set_json_loads

from draftd import read_committed
from draftd.backoff import full_jitter_s
from draftd.errors import CommandError, ConfigurationError, ConnectionLost, DatabaseUnavailable
from draftd.sanitize import redact
from draftd.sqlstate import is_loss, is_passing

CONNECT_TIMEOUT_S = 10
STATEMENT_TIMEOUT_S = 15.0
"""The server's bound for one statement; the slowest of draftd's own takes under 0.1 s."""
CLIENT_MARGIN_S = 5.0
"""How much longer the client waits than the server: a server that does not even answer the timeout is gone."""
CANCEL_S = 1.0
"""How long the server may take to be told that a statement is given up."""

REFUSED_CAP_S = 1.5
"""The longest pause before what a server refused is tried again, in seconds: it is well, and others wait behind this."""

Params = Mapping[str, Any] | Sequence[Any] | None
Row = dict[str, Any]
Connection = read_committed.Connection
log = structlog.get_logger(__name__)

_MALFORMED = (
    "the URL of the database cannot be read; it looks like postgresql://user:password@host:5432/name, with special characters "
    "percent-encoded (@ is %40)"
)

MAX_DIGITS = 300
MAX_DEPTH = 100
"""How deeply JSON may nest; draftd's own nests 4 deep. Python's bound varies between its versions from 1,000 to 10,000,
and what reads or writes the value next may have a lower one."""
UNREADABLE = {"unreadable": "nested too deeply"}
"""What stands for JSON that PostgreSQL stores and draftd does not read; clients may store any."""
FIRST_MOMENT, LAST_MOMENT = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
"""Those that Python has."""


def loads(text: str | bytes) -> Any:
    """Read JSON of unknown origin.

    A number of more than ``MAX_DIGITS`` digits, or too large for a float, becomes None (infinity is no JSON when it is
    printed), and a value that nests deeper than ``MAX_DEPTH`` ``UNREADABLE``.
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


class MomentLoader(TimestamptzLoader):
    """Reads a moment; for one before the year 1 or after 9999, which Python has not, the first or the last that it has.

    Clients write such moments: the year 10000 for never, and what their language takes for no time at all, which in the time
    zone of the session may lie before the year 1.
    """

    def load(self, data: Buffer) -> datetime:
        """Return the moment, or the nearest one."""
        try:
            return super().load(data)
        except psycopg.DataError:
            is_early = bytes(data).startswith(b"-") or bytes(data).endswith(b"BC")
            return FIRST_MOMENT if is_early else LAST_MOMENT


LOST = (ConnectionLost, DatabaseUnavailable)
"""What ``Link.run`` raises when the connection is gone, cannot be opened, is so slow that it counts as gone, or leads to a server
that only reads. A ``psycopg.Error`` that comes out of it is a refusal by a server that is well."""


def parameters(url: str, *, name: str) -> dict[str, Any]:
    """Return the connection parameters for a URL.

    Dead peers are noticed within about 30 s: keepalives for idle connections, ``tcp_user_timeout`` for those that wait for an
    acknowledgement. What the URL sets itself wins, but for the encoding: any text must get through, whatever the server, the URL
    or ``PGCLIENTENCODING`` say.

    Raises:
        ConfigurationError: libpq does not understand the URL; its own words would repeat a part of it, maybe the password.
    """
    own = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "application_name": name,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
    }
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise ConfigurationError(_MALFORMED) from None
    if not all(port.isdecimal() or not port for port in str(parts.get("port", "")).split(",")):
        raise ConfigurationError(_MALFORMED)
    return own | parts | {"client_encoding": "UTF8"}


def address(url: str) -> str:
    """Return host, port and database of a URL, for messages: no user and no password."""
    parts = conninfo_to_dict(url)
    return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


# psycopg reads moments in no other style. Where a server was told another one, it is changed behind a pooler, too: poolers carry
# this setting along with their client.
STYLE_SETUP = "SET datestyle = 'ISO'"
# Only where the server that answers is the one that was greeted. A pooler greets clients itself, with a process id of its own
# making; behind it a setting would stay on a server connection that serves others next.
SESSION_SETUP = f"""
SELECT set_config('statement_timeout', '{STATEMENT_TIMEOUT_S:.0f}s', false),
       set_config('lock_timeout', '10s', false),
       set_config('jit', 'off', false),
       set_config('default_transaction_isolation', 'read committed', false)
 WHERE pg_backend_pid() = %s
"""
# For the daemon's few statements, which run again and again. To plan a claim takes twice as long as to carry it out, so their
# plans are made once; and as the table may have been empty then, no plan may read it whole where an index serves.
HOT_SETUP = (
    "SELECT set_config('plan_cache_mode', 'force_generic_plan', false), set_config('enable_seqscan', 'off', false)"
)


async def connect(url: str, *, name: str = "draftd", session: bool = True) -> Connection:
    """Open a connection in autocommit, with rows as dicts.

    Args:
        url: the database.
        name: shown in ``pg_stat_activity``.
        session: whether the connection is known to be a session of its own, so that statements may be prepared, and planned
            once. Where a pooler is found in between, nothing is prepared in any case.

    Raises:
        ConfigurationError: the URL cannot be read.
        DatabaseUnavailable: the server refuses, or does not answer in time.
    """
    target = parameters(url, name=name)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S + CLIENT_MARGIN_S):
            rows: Any = dict_row
            connection = await Connection.connect(**target, autocommit=True, row_factory=rows)
            set_json_loads(loads, connection)
            connection.adapters.register_loader("timestamptz", MomentLoader)
            if not (connection.info.parameter_status("DateStyle") or "ISO").startswith("ISO"):
                await connection.execute(STYLE_SETUP)
            setup = await connection.execute(SESSION_SETUP.encode(), [connection.info.backend_pid])
            if session and setup.rowcount:
                await connection.execute(HOT_SETUP)
            else:
                connection.prepare_threshold = None
            if not setup.rowcount:
                await connection.adopt_default()
            return connection
    except (psycopg.Error, TimeoutError) as error:
        raise unavailable(url, error) from error


def unavailable(url: str, error: BaseException) -> DatabaseUnavailable:
    """Say that a database cannot be reached, in one line without credentials."""
    return DatabaseUnavailable(
        f"cannot use the database at {address(url)}: {redact(str(error) or 'no answer in time')}"
    )


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """Open a connection for the time of one command, and translate what goes wrong on it.

    Raises:
        DatabaseUnavailable: there is no connection, or it was lost.
        ConfigurationError: draftd's tables are not there, or this user may not use them.
    """
    with translated(url):
        connection = await connect(url, session=False)
        try:
            yield connection
        finally:
            await connection.close()


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn psycopg's errors that an operator can cause into draftd's; see ``connected``."""
    try:
        yield
    except (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction, ConnectionLost, TimeoutError) as error:
        raise unavailable(url, error) from error
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction, psycopg.errors.UndefinedColumn) as error:
        raise ConfigurationError(f"{address(url)} has not the schema of this draftd; run `draftd migrate`") from error
    except psycopg.errors.ForeignKeyViolation as error:
        raise ConfigurationError(f"a table of yours keeps draftd from that: {error.diag.message_primary}") from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigurationError(
            f"this database user may not do that: {error.diag.message_primary}; connect as the role that ran `draftd migrate`, "
            "or as a member of it"
        ) from error
    except psycopg.Error as error:
        raise CommandError(f"the database refused: {redact(error.diag.message_primary or str(error))}") from error


@asynccontextmanager
async def _bounded(connection: Connection, time_s: float) -> AsyncIterator[None]:
    """Give a statement up after so many seconds, a second more at most.

    Not by cancelling its task: psycopg then waits for up to ten more seconds for a server that may be gone, and a heartbeat
    has not got them.

    Raises:
        TimeoutError: it was given up; the connection is of no use any more.
    """
    given_up: list[asyncio.Task[None]] = []
    timer = asyncio.get_running_loop().call_later(
        time_s, lambda: given_up.append(asyncio.create_task(_hang_up(connection)))
    )
    try:
        yield
    except psycopg.Error as error:
        if given_up:
            raise TimeoutError(f"no answer within {time_s:g} s") from error
        raise
    finally:
        timer.cancel()
        for task in given_up:
            task.cancel()


async def _hang_up(connection: Connection) -> None:
    """Ask the server to end what it is doing, and end the connection whatever it says."""
    try:
        with suppress(psycopg.Error, OSError):
            await connection.cancel_safe(timeout=CANCEL_S)
    finally:
        with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as own:
            own.shutdown(socket.SHUT_RDWR)


class Link:
    """A connection that one actor uses, opened when first needed and again after it was lost.

    Statements of one link run one after the other. ``run`` raises one of ``LOST`` when the connection broke under the
    statement: only the caller knows whether it may be repeated. A link belongs to one event loop.

    Args:
        url: the database.
        name: shown in ``pg_stat_activity``.
        session: see ``connect``.
        time_s: the longest a statement may take, seen from here; default: a little longer than the server allows.
    """

    def __init__(self, *, url: str, name: str, session: bool = True, time_s: float | None = None) -> None:
        self._url = url
        self._name = name
        self._time_s = time_s
        self._session = session
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()
        self._failures = 0

    async def run(self, statement: str, params: Params = None) -> list[DictRow]:
        """Execute one statement and return its rows.

        Raises:
            LOST: the connection broke, or nothing came back in time; the statement may or may not have taken effect.
            psycopg.Error: the server refused the statement; the connection is well.
        """
        return await self._run(statement, params, keep=True)

    async def try_out(self, statement: str, params: Params = None) -> list[DictRow]:
        """Execute one statement as ``run`` does, and take it back: only whether it is refused counts.

        Raises:
            LOST: as in ``run``.
            psycopg.Error: as in ``run``.
        """
        return await self._run(statement, params, keep=False)

    async def _run(self, statement: str, params: Params, *, keep: bool) -> list[DictRow]:
        async with self._lock:
            try:
                connection = await self._open()
            except (psycopg.Error, TimeoutError) as error:
                raise ConnectionLost(redact(str(error) or "no answer in time")) from error
            try:
                rows = await self._execute(connection, statement, params, keep=keep)
            except (psycopg.Error, TimeoutError) as error:
                # A pooler may end a connection with an error of any class.
                is_lost = isinstance(error, TimeoutError) or is_loss(error) or connection.closed or connection.broken
                if not is_lost:
                    raise
                await self._drop()
                raise ConnectionLost(redact(str(error) or type(error).__name__)) from error
            self._failures = 0
            return rows

    async def run_until_done(
        self, statement: str, params: Params | Callable[[], Params] = None, *, waits_out: bool = True
    ) -> list[DictRow]:
        """Execute a statement that may be repeated, through any number of lost connections.

        Only for statements whose second execution changes nothing more.

        Args:
            statement: what to execute.
            params: its parameters, or what returns them: asked before each try, for those that count from now.
            waits_out: whether to repeat it, too, when the server refused it and may accept it a moment later.
        """
        while True:
            try:
                return await self.run(statement, params() if callable(params) else params)
            except (*LOST, psycopg.Error) as error:
                if isinstance(error, psycopg.Error) and not (waits_out and is_passing(error)):
                    raise
                await self.pause(error)

    async def pause(self, error: Exception) -> None:
        """Wait before the next try: jittered and growing, at most 5 s for a lost database and 1.5 s for one that refuses."""
        self._failures += 1
        is_lost = isinstance(error, LOST)
        delay_s = full_jitter_s(self._failures, base_s=0.1, cap_s=5.0 if is_lost else REFUSED_CAP_S)
        log.warning(
            "database lost" if is_lost else "statement refused",
            link=self._name,
            sqlstate=getattr(error, "sqlstate", None),
            error=redact(str(error)),
            retry_in_s=round(delay_s, 2),
        )
        await asyncio.sleep(delay_s)

    async def _execute(self, connection: Connection, statement: str, params: Params, *, keep: bool) -> list[DictRow]:
        async with _bounded(connection, self._time_s or STATEMENT_TIMEOUT_S + CLIENT_MARGIN_S):
            cursor = self._cursor(connection)
            if keep:
                await connection.as_one(lambda: cursor.execute(statement, params))
            else:
                async with connection.transaction(force_rollback=True):
                    await cursor.execute(statement, params)
            return await cursor.fetchall() if cursor.description else []

    def _cursor(self, connection: Connection) -> psycopg.AsyncCursor[DictRow]:
        return connection.cursor()

    async def _open(self) -> Connection:
        if self._connection is None or self._connection.closed:
            started = time.monotonic()
            self._connection = await self._connect()
            if self._failures:
                log.info("database back", link=self._name, connect_s=round(time.monotonic() - started, 2))
        return self._connection

    async def _connect(self) -> Connection:
        return await connect(self._url, name=self._name, session=self._session)

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def close(self) -> None:
        """Close the connection; a later ``run`` would open it again."""
        await self._drop()
