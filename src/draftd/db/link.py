"""Links: the connections of a daemon, which reopen themselves.

Owns how a lost connection is recognized, retried and reopened. Invariant: a database that is away surfaces as one of ``LOST``,
never as a hang.
"""

import asyncio
import os
import select
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import psycopg
import structlog
from psycopg.rows import DictRow

from draftd.backoff import Backoff
from draftd.db import access, dsn
from draftd.db.connection import CLIENT_MARGIN_S, STATEMENT_TIMEOUT_S, Connection, connect
from draftd.db.sqlstate import is_connection_loss, is_transient, told_to_log
from draftd.errors import ConnectionLost, DatabaseUnavailable
from draftd.sanitize import redact

CANCEL_S = 1.0
"""How long asking the server to cancel a statement may take."""
REFUSED_CAP_S = 1.5
"""The longest pause before a refused statement is retried, in seconds: the server is up, and others wait behind this."""
LOST = (ConnectionLost, DatabaseUnavailable)
"""What ``Link.run`` raises when the connection is gone, cannot be opened, is so slow that it counts as gone, or leads to a
read-only server. A ``psycopg.Error`` from it is a refusal by a server that works."""

Params = Mapping[str, Any] | Sequence[Any] | None
Row = dict[str, Any]
Answer = TypeVar("Answer")
Execute = Callable[[str, Params], Awaitable[list[DictRow]]]

log = structlog.get_logger(__name__)


@asynccontextmanager
async def _bounded(connection: Connection, time_s: float) -> AsyncIterator[None]:
    """Abandon a statement after ``time_s`` seconds, or up to ``CANCEL_S`` later.

    Cancelling its task will not do: psycopg then waits up to ten more seconds for a server that may be gone, which a heartbeat
    cannot afford. Once the time is up, the connection is closed in any case: an answer that arrives just then still counts, but
    the hang-up may be past stopping.

    Raises:
        TimeoutError: the statement was abandoned.
    """
    hangups: list[asyncio.Task[None]] = []
    timer = asyncio.get_running_loop().call_later(
        time_s, lambda: hangups.append(asyncio.create_task(_hang_up(connection)))
    )
    try:
        yield
    except psycopg.Error as error:
        if hangups:
            raise TimeoutError(f"no answer within {time_s:g} s") from error
        raise
    finally:
        timer.cancel()
        for task in hangups:
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

    Statements run one after the other. ``run`` raises one of ``LOST`` when the connection broke under the statement, because
    only the caller knows whether it may be repeated. A link belongs to one event loop.

    Args:
        url: the database.
        name: shown in ``pg_stat_activity``.
        session: see ``connect``.
        time_s: the time limit for a statement as measured here; by default a little more than the server's.
    """

    def __init__(self, *, url: dsn.Url, name: str, session: bool = True, time_s: float | None = None) -> None:
        self._url = url
        self._name = name
        self._time_s = time_s
        self._session = session
        self._connection: Connection | None = None
        self._hangup_poll = select.poll()
        self._lock = asyncio.Lock()
        self._backoff = Backoff()

    async def run(self, statement: str, params: Params = None) -> list[DictRow]:
        """Execute one statement and return its rows.

        Raises:
            LOST: the connection broke, or nothing came back in time; the statement may or may not have taken effect.
            psycopg.Error: the server refused the statement; the connection is intact.
        """
        return await self._run(lambda connection: self._execute(connection, statement, params))

    async def run_within(self, statement: str, params: Params, *, time_s: float) -> list[DictRow]:
        """Execute one statement as ``run`` does; wait at most ``time_s`` seconds for this link and the answer together.

        Opening a connection first, if none is open, takes its own time.

        Raises:
            TimeoutError: others used the link all that time; nothing was sent.
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

    async def dry_run(self, statement: str, params: Params = None) -> list[DictRow]:
        """Execute one statement and roll it back; see ``run_rolled_back``."""
        return await self.run_rolled_back(lambda execute: execute(statement, params))

    async def run_rolled_back(self, use: Callable[[Execute], Awaitable[Answer]]) -> Answer:
        """Let ``use`` execute statements in one transaction, and roll it back: only whether they are refused matters.

        Raises:
            LOST, psycopg.Error: as in ``run``.
        """

        async def rolled_back(connection: Connection) -> Answer:
            async with connection.transaction(force_rollback=True):
                return await use(lambda statement, params: self._execute(connection, statement, params))

        return await self._run(rolled_back)

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
            is_lost = (
                isinstance(error, TimeoutError) or is_connection_loss(error) or connection.closed or connection.broken
            )
            if not is_lost:
                raise
            await self._drop()
            raise ConnectionLost(redact(str(error) or type(error).__name__)) from error
        finally:
            # Perhaps hung up although the answer arrived: its reader must go before another socket gets this number.
            if connection.closed:
                await self._drop()
        self._backoff.reset()
        return answer

    async def run_until_done(
        self, statement: str, params: Params | Callable[[], Params] = None, *, retry_refusals: bool = True
    ) -> list[DictRow]:
        """Execute a statement through any number of lost connections; only for one that may safely be repeated.

        Args:
            statement: what to execute.
            params: its parameters, or a function that returns them, called before each try.
            retry_refusals: whether to repeat it also after a refusal that may pass.
        """
        return await self.retry(
            lambda: self.run(statement, params() if callable(params) else params), retry_refusals=retry_refusals
        )

    async def retry(self, operation: Callable[[], Awaitable[Answer]], *, retry_refusals: bool = False) -> Answer:
        """Await an operation on this link until it gets through; only for one that may safely be repeated.

        Args:
            operation: called before each try.
            retry_refusals: whether to repeat it also after a refusal that may pass.

        Raises:
            psycopg.Error: the server refused it.
        """
        while True:
            try:
                return await operation()
            except (*LOST, psycopg.Error) as error:
                if isinstance(error, psycopg.Error) and not (retry_refusals and is_transient(error)):
                    raise
                await self.pause(error)

    async def pause(self, error: Exception) -> None:
        """Wait before the next try: up to 5 s for a lost database, ``REFUSED_CAP_S`` for one that refuses."""
        is_lost = isinstance(error, LOST)
        delay_s = self._backoff.next_s(cap_s=None if is_lost else REFUSED_CAP_S)
        log.warning(
            "database connection lost" if is_lost else "statement refused",
            link=self._name,
            sqlstate=getattr(error, "sqlstate", None),
            error=told_to_log(error),
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
            self._hangup_poll = select.poll()
            self._hangup_poll.register(self._connection.fileno(), select.POLLRDHUP)
            if self._backoff.failures:
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
    def is_open(self) -> bool:
        """Whether the connection is open, as far as this end can tell; notices when the server has closed an idle one."""
        connection = self._connection
        return connection is not None and not connection.closed and not self._hangup_poll.poll(0)

    async def close(self) -> None:
        """Close the connection once its statement has ended; a later ``run`` would reopen it.

        Not beneath the statement: psycopg would go on reading memory that libpq has freed, and the process would crash.
        """
        async with self._lock:
            await self._drop()

    async def reopen(self) -> None:
        """Replace the connection if the server has hung up.

        Raises:
            LOST: see ``run``.
        """
        if self.is_open:
            return  # at once: a long statement on this link must not delay the reopening of others
        async with self._lock:
            if self.is_open:
                return
            await self._drop()
        await self.run("SELECT")


async def check_access(link: Link, url: dsn.Url) -> None:
    """Raise if draftd's tables are missing or hidden from this role.

    Raises:
        LOST: see ``Link.run``.
        ConfigurationError: says which role can help.
    """
    (row,) = await link.run(access.ACCESS_QUERY)
    access.check(row, where=dsn.address(url), works=True)
