"""Connections to PostgreSQL: how they are opened, timed, kept and repaired.

Owns the timeouts and the reconnecting ``Link``; owns no statement of any table. Invariants: every connection is
in autocommit (one statement is one transaction, and an idle daemon sends no BEGIN), every statement has a timeout, and a
database that is away surfaces as ``DatabaseUnavailable`` or ``ConnectionLost``, never as a hang.
"""

import asyncio
import json
import math
import os
import select
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

import psycopg
import structlog
from psycopg.abc import Buffer
from psycopg.rows import DictRow, dict_row
from psycopg.types.datetime import TimestamptzLoader
from psycopg.types.json import set_json_loads

from draftd.backoff import full_jitter_s
from draftd.db import access, certificates, dsn, read_committed
from draftd.db.refusals import refusal, unavailable
from draftd.db.sqlstate import is_loss, is_passing
from draftd.errors import ConnectionLost, DatabaseUnavailable
from draftd.sanitize import redact

STATEMENT_TIMEOUT_S = 15.0
"""The server's time limit for one statement; the slowest of draftd's takes under 0.1 s."""
CLIENT_MARGIN_S = 5.0
"""How much longer the client waits than the server: a server that does not even report the timeout is gone."""
CANCEL_S = 1.0
"""How long telling the server to cancel a statement may take."""

REFUSED_CAP_S = 1.5
"""The longest pause before a refused statement is retried, in seconds: the server is up, and others wait behind this."""

Params = Mapping[str, Any] | Sequence[Any] | None
Row = dict[str, Any]
Answer = TypeVar("Answer")
Execute = Callable[[str, Params], Awaitable[list[DictRow]]]
Connection = read_committed.Connection
log = structlog.get_logger(__name__)

MAX_DIGITS = 300
MAX_DEPTH = 100
"""How deeply JSON may nest; draftd's own nests 4 deep. Python's bound varies between its versions from 1,000 to 10,000,
and what reads or writes the value next may have a lower one."""
UNREADABLE = {"unreadable": "nested too deeply"}
"""What stands for JSON that PostgreSQL stores and draftd does not read; clients may store any."""
FIRST_MOMENT, LAST_MOMENT = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
"""The range of Python's ``datetime``."""


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
    """Reads a timestamp; one before the year 1 or after 9999 becomes the first or the last that Python has.

    Clients write such timestamps: the year 10000 for never, or their language's zero time, which may be before the year 1 in the
    session's time zone.
    """

    def load(self, data: Buffer) -> datetime:
        """Return the timestamp, or the nearest one."""
        try:
            return super().load(data)
        except psycopg.DataError:
            is_early = bytes(data).startswith(b"-") or bytes(data).endswith(b"BC")
            return FIRST_MOMENT if is_early else LAST_MOMENT


LOST = (ConnectionLost, DatabaseUnavailable)
"""What ``Link.run`` raises when the connection is gone, cannot be opened, is so slow that it counts as gone, or leads to a server
that only reads. A ``psycopg.Error`` that comes out of it is a refusal by a server that is well."""


# psycopg reads timestamps in this style only. If the server's style is another, change it even behind a pooler: poolers track
# this setting per client.
STYLE_SETUP = "SET datestyle = 'ISO'"
# Only if the server that answers is the one that sent the greeting. A pooler greets clients itself, with its own process id;
# behind it, a setting would stay on a server connection that serves others next.
SESSION_SETUP = f"""
SELECT set_config('statement_timeout', '{STATEMENT_TIMEOUT_S:.0f}s', false),
       set_config('lock_timeout', '10s', false),
       set_config('jit', 'off', false),
       set_config('default_transaction_isolation', 'read committed', false)
 WHERE pg_backend_pid() = %s
"""
# For the daemon's few statements, which run again and again. Planning a claim takes twice as long as executing it, so each is
# planned once; since the table may have been empty then, no plan may scan it where an index serves.
HOT_SETUP = (
    "SELECT set_config('plan_cache_mode', 'force_generic_plan', false), set_config('enable_seqscan', 'off', false)"
)


async def connect(url: dsn.Url, *, name: str = "draftd", session: bool = True) -> Connection:
    """Open a connection in autocommit, with rows as dicts.

    Args:
        url: the database, as it is now.
        name: shown in ``pg_stat_activity``.
        session: whether the connection is known to be a session, so that statements may be prepared, and planned
            once. Where a pooler is found in between, nothing is prepared in any case.

    Raises:
        ConfigurationError: the URL cannot be read.
        DatabaseUnavailable: the server refuses, shows a certificate that is refused, or does not answer in time.
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


@asynccontextmanager
async def connected(
    url: dsn.Url, *, migrated: bool = True, works: bool = False, reads: Collection[str] = ("draft_requests",)
) -> AsyncIterator[Connection]:
    """Open a connection for one command, and translate its errors.

    Args:
        url: the database.
        migrated: whether draftd's tables must be there; where they are, this role must see them in any case.
        works: whether it must be able to change every row, as a daemon does.
        reads: the tables that the command reads, none of which may be hidden.

    Raises:
        CommandError: see ``refusals``.
        ConfigurationError: draftd's tables are missing, or hidden from this role.
    """
    with translated(url):
        connection = await connect(url, session=False)
        try:
            row = await (await connection.execute(access.LOOK.encode())).fetchone()
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
def translated(url: dsn.Url) -> Iterator[None]:
    """Turn database errors into errors that end a command; see ``refusals``."""
    try:
        yield
    except (psycopg.Error, ConnectionLost, TimeoutError) as error:
        raise refusal(url, error) from error


@asynccontextmanager
async def _bounded(connection: Connection, time_s: float) -> AsyncIterator[None]:
    """Abandon a statement after so many seconds, or at most a second more.

    Not by cancelling its task: psycopg then waits up to ten more seconds for a server that may be gone, which a heartbeat cannot
    afford.

    Once the time is up, the connection is closed in any case: an answer that comes just then counts, but hanging up may no
    longer be stoppable.

    Raises:
        TimeoutError: it was abandoned.
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
            await connection.close()


async def _hang_up(connection: Connection) -> None:
    """Ask the server to cancel, then close the connection, whatever it answers."""
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

    def __init__(self, *, url: dsn.Url, name: str, session: bool = True, time_s: float | None = None) -> None:
        self._url = url
        self._name = name
        self._time_s = time_s
        self._session = session
        self._connection: Connection | None = None
        self._hang_up = select.poll()
        self._lock = asyncio.Lock()
        self._failures = 0

    async def run(self, statement: str, params: Params = None) -> list[DictRow]:
        """Execute one statement and return its rows.

        Raises:
            LOST: the connection broke, or nothing came back in time; the statement may or may not have taken effect.
            psycopg.Error: the server refused the statement; the connection is intact.
        """
        return await self._run(lambda connection: self._execute(connection, statement, params))

    async def run_within(self, statement: str, params: Params, *, time_s: float) -> list[DictRow]:
        """Execute one statement as ``run`` does, but wait ``time_s`` seconds at most for this link and the answer together.

        Raises:
            TimeoutError: others used the link for as long; nothing was sent.
            LOST, psycopg.Error: as in ``run``.
        """
        ends_at = time.monotonic() + time_s
        async with asyncio.timeout(time_s):
            await self._lock.acquire()
        try:
            left_s = max(0.0, ends_at - time.monotonic())
            return await self._run_alone(lambda connection: self._execute(connection, statement, params), left_s)
        finally:
            self._lock.release()

    async def try_out(self, statement: str, params: Params = None) -> list[DictRow]:
        """Execute one statement, and roll it back; see ``rehearse``."""
        return await self.rehearse(lambda execute: execute(statement, params))

    async def rehearse(self, play: Callable[[Execute], Awaitable[Answer]]) -> Answer:
        """Let ``play`` execute statements in one transaction, and roll them back: only whether they are refused matters.

        Raises:
            LOST, psycopg.Error: as in ``run``.
        """

        async def taken_back(connection: Connection) -> Answer:
            async with connection.transaction(force_rollback=True):
                return await play(lambda statement, params: self._execute(connection, statement, params))

        return await self._run(taken_back)

    async def _run(self, use: Callable[[Connection], Awaitable[Answer]]) -> Answer:
        async with self._lock:
            return await self._run_alone(use, self._time_s or STATEMENT_TIMEOUT_S + CLIENT_MARGIN_S)

    async def _run_alone(self, use: Callable[[Connection], Awaitable[Answer]], time_s: float) -> Answer:
        try:
            connection = await self._open()
        except (psycopg.Error, TimeoutError) as error:
            raise ConnectionLost(redact(str(error) or "no answer in time")) from error
        try:
            async with _bounded(connection, time_s):
                answer = await self._use(connection, use)
        except (psycopg.Error, TimeoutError) as error:
            # A pooler may end a connection with an error of any class.
            is_lost = isinstance(error, TimeoutError) or is_loss(error) or connection.closed or connection.broken
            if not is_lost:
                raise
            await self._drop()
            raise ConnectionLost(redact(str(error) or type(error).__name__)) from error
        self._failures = 0
        return answer

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
        """Wait before the next try: jittered and growing, up to 5 s for a lost database and 1.5 s for one that refuses."""
        self._failures += 1
        is_lost = isinstance(error, LOST)
        delay_s = full_jitter_s(self._failures, base_s=0.1, cap_s=5.0 if is_lost else REFUSED_CAP_S)
        log.warning(
            "database connection lost" if is_lost else "statement refused",
            link=self._name,
            sqlstate=getattr(error, "sqlstate", None),
            error=redact(str(error)),
            retry_in_s=round(delay_s, 2),
        )
        await asyncio.sleep(delay_s)

    async def _use(self, connection: Connection, use: Callable[[Connection], Awaitable[Answer]]) -> Answer:
        return await use(connection)

    async def _execute(self, connection: Connection, statement: str, params: Params) -> list[DictRow]:
        cursor = connection.cursor()
        await connection.as_one(lambda: cursor.execute(statement, params))
        return await cursor.fetchall() if cursor.description else []

    async def _open(self) -> Connection:
        if self._connection is None or self._connection.closed:
            started = time.monotonic()
            self._connection = await self._connect()
            self._hang_up = select.poll()
            self._hang_up.register(self._connection.fileno(), select.POLLRDHUP)
            if self._failures:
                log.info(
                    "database connection restored", link=self._name, connect_s=round(time.monotonic() - started, 2)
                )
        return self._connection

    async def _connect(self) -> Connection:
        return await connect(self._url, name=self._name, session=self._session)

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    @property
    def stands(self) -> bool:
        """Whether the connection is open, as far as this end can tell: an idle one shows if the server has closed it."""
        connection = self._connection
        return connection is not None and not connection.closed and not self._hang_up.poll(0)

    async def close(self) -> None:
        """Close the connection once its statement has ended; a later ``run`` would open it again.

        Not beneath the statement: psycopg would go on reading from memory that libpq has freed, and the process would crash.
        """
        async with self._lock:
            await self._drop()

    async def reopen(self) -> None:
        """Replace the connection, if the server has hung up.

        Raises:
            LOST: see ``run``.
        """
        async with self._lock:
            if self.stands:
                return
            await self._drop()
        await self.run("SELECT")


async def check_access(link: Link, url: dsn.Url) -> None:
    """Raise if draftd's tables are missing or hidden from this role.

    Raises:
        LOST: see ``Link.run``.
        ConfigurationError: says which role can help.
    """
    (row,) = await link.run(access.LOOK)
    access.check(row, where=dsn.address(url), works=True)
