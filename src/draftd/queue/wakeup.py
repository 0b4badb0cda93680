"""Wake-ups: end a wait for work before the poll interval does.

Owns the event (``WakeUp``) and what sets it on NOTIFY ``draft_requests``: the connection of the claims (``ListeningLink``), or a
``Listener`` if LISTEN has its own URL. A notification is only a hint, and claims also poll. Invariants: reconnecting wakes, since
a notification may have been missed; a half-open connection, which looks idle for ever, is detected, on a link by polling, by a
listener with a probe every ``PROBE_INTERVAL_S``.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import LiteralString

import psycopg
import structlog
from psycopg import sql

from draftd import db
from draftd.backoff import Backoff
from draftd.db import dsn
from draftd.db.command_errors import command_error
from draftd.errors import DatabaseUnavailable
from draftd.sanitize import redact

CHANNEL: LiteralString = "draft_requests"
ADMIT = "admit"
"""The payload if a row waits for an admission, or limits, pauses or budgets have changed."""
PROBE_INTERVAL_S = 15.0
PROBE_TIMEOUT_S = 5.0
PROOF_TIMEOUT_S = 2.0
"""How long the test notification at the start may take (section 5 of the contract)."""
PROOF_WAITS = 10
"""The time is divided into this many waits, so that a stall of the machine uses up only one of them."""
UNLISTEN_TRIES = 50

log = structlog.get_logger(__name__)


class WakeUp:
    """The event that the claims wait for; set on notifications, and when more may be claimed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._may_admit = False

    def set(self) -> None:
        """End the current wait, or the next one."""
        self._event.set()

    def notified(self, payload: str) -> None:
        """Take a notification: end the wait, and note whether it asks for an admission."""
        self._may_admit |= payload == ADMIT
        self._event.set()

    def clear(self) -> bool:
        """Clear the event; call this before reading the table, never after it.

        Returns:
            Whether a notification since the last call asked for an admission.
        """
        self._event.clear()
        may_admit, self._may_admit = self._may_admit, False
        return may_admit

    async def wait(self, at_most_s: float) -> None:
        """Wait for the event, which is set after ``at_most_s`` seconds at the latest."""
        timer = asyncio.get_running_loop().call_later(at_most_s, self.set)
        try:
            await self._event.wait()
        finally:
            timer.cancel()


class ListeningLink(db.Link):
    """A link that also listens while no statement is running.

    For the claims: the backend that delivers the notification is the one that claims next, and is still awake, which saves a
    tenth of the time from the commit to the claimed row (``make bench-queue``).

    Args:
        url: the database; connections to it must be sessions.
        name: shown in ``pg_stat_activity``.
        wakeup: set on each notification.
    """

    def __init__(self, *, url: dsn.Url, name: str, wakeup: WakeUp) -> None:
        super().__init__(url=url, name=name)
        self._wakeup = wakeup
        self._socket: int | None = None

    async def _connect(self) -> db.Connection:
        connection = await super()._connect()
        try:
            async with asyncio.timeout(dsn.CONNECT_TIMEOUT_S):
                await listen(connection, CHANNEL)
        except BaseException:
            await connection.close()
            raise
        connection.add_notify_handler(lambda notice: self._wakeup.notified(notice.payload))
        self._wakeup.set()
        return connection

    async def _use(self, connection: db.Connection, use: Callable[[db.Connection], Awaitable[db.Answer]]) -> db.Answer:
        # The event loop allows one reader per socket, and psycopg needs it during a statement.
        self._stop_reading()
        try:
            return await super()._use(connection, use)
        finally:
            if not connection.closed:
                self._wake_if_notified(connection)
                self._socket = connection.fileno()
                asyncio.get_running_loop().add_reader(self._socket, self._read, connection)

    def _read(self, connection: db.Connection) -> None:
        try:
            connection.pgconn.consume_input()
            self._wake_if_notified(connection)
        except psycopg.OperationalError:
            # The server hung up; the next claim reconnects.
            self._stop_reading()
            self._wakeup.set()

    def _wake_if_notified(self, connection: db.Connection) -> None:
        while notice := connection.pgconn.notifies():
            self._wakeup.notified(notice.extra.decode(errors="replace"))

    def _stop_reading(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket = None

    async def _drop(self) -> None:
        self._stop_reading()
        await super()._drop()


class Listener:
    """Listens on its own connection.

    Args:
        url: where to listen, past the pooler in front of the database.
        wakeup: set on each notification.
    """

    def __init__(self, *, url: dsn.Url, wakeup: WakeUp) -> None:
        self._url = url
        self._wakeup = wakeup
        self._probe_channel = f"draftd_probe_{uuid.uuid4().hex}"
        self._backoff = Backoff()
        self._opened: db.Connection | None = None

    async def open(self) -> None:
        """Connect and listen; ``run`` receives the notifications.

        Raises:
            CommandError: the server refuses.
        """
        with db.translate_errors(self._url):
            self._opened = await self._connect()

    async def aclose(self) -> None:
        """Close the connection if ``run`` has not taken it over."""
        connection, self._opened = self._opened, None
        if connection is not None:
            await connection.close()

    async def run(self) -> None:
        """Listen until cancelled, through any number of lost connections."""
        while True:
            try:
                connection, self._opened = self._opened or await self._connect(), None
                try:
                    await self._listen(connection)
                finally:
                    await connection.close()
            except (psycopg.Error, DatabaseUnavailable, TimeoutError) as error:
                delay_s = self._backoff.next_s()
                log.warning("listener lost", error=redact(str(error)), retry_in_s=round(delay_s, 2))
                await asyncio.sleep(delay_s)

    async def _connect(self) -> db.Connection:
        connection = await db.connect(self._url, name="draftd listen")
        try:
            await listen(connection, CHANNEL)
            await listen(connection, self._probe_channel)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _listen(self, connection: db.Connection) -> None:
        self._wakeup.set()
        while True:
            async for notice in connection.notifies(timeout=PROBE_INTERVAL_S):
                if notice.channel == CHANNEL:
                    self._wakeup.notified(notice.payload)
            await self._probe(connection)
            self._backoff.reset()

    async def _probe(self, connection: db.Connection) -> None:
        """Send a notification over this connection and receive it.

        Raises:
            TimeoutError: it did not arrive.
        """
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            await connection.execute("SELECT pg_notify(%s, '')", [self._probe_channel])
            received = False
            while not received:
                # Drain the packet: leaving the loop early would lose the notifications behind the probe.
                async for notice in connection.notifies(stop_after=1):
                    if notice.channel == self._probe_channel:
                        received = True
                    else:
                        self._wakeup.notified(notice.payload)


async def listen(connection: db.Connection, channel: str) -> None:
    """Subscribe a connection to a channel."""
    await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))


async def proves_session(url: dsn.Url) -> bool:
    """Return whether a connection to this URL is a session: whether it receives a notification within ``PROOF_TIMEOUT_S``.

    A second connection sends it while the first is idle: behind a transaction-mode pooler, an idle client has no server
    connection and receives nothing. Sent by the first connection itself, it might arrive by chance.

    Raises:
        DatabaseUnavailable: a connection cannot be opened.
    """
    channel = f"draftd_proof_{uuid.uuid4().hex}"
    receiving = await db.connect(url, name="draftd proof", session=False)
    try:
        async with receiving.transaction():
            await listen(receiving, channel)
            backend = await _backend_pid(receiving)
        sending = await db.connect(url, name="draftd proof", session=False)
        try:
            await sending.execute("SELECT pg_notify(%s, '')", [channel])
            received = await _receives(receiving, sending)
        finally:
            await sending.close()
        if not received:
            await _unlisten(receiving, channel, backend=backend)
    except psycopg.Error as error:
        raise command_error(url, error) from error
    else:
        return received
    finally:
        await receiving.close()


async def _receives(receiving: db.Connection, sending: db.Connection) -> bool:
    """Return whether a notification arrives in time; the server must answer between two waits."""
    for _ in range(PROOF_WAITS):
        if [notice async for notice in receiving.notifies(timeout=PROOF_TIMEOUT_S / PROOF_WAITS, stop_after=1)]:
            return True
        await sending.execute("SELECT")
    return False


async def _unlisten(connection: db.Connection, channel: str, *, backend: int) -> None:
    """Undo a LISTEN that a pooler's server connection would keep until it is closed.

    Each transaction may run on another backend. If none of the tries meets the right one, the subscription stays: to a channel
    that is never notified again.
    """
    for _ in range(UNLISTEN_TRIES):
        async with connection.transaction():
            await connection.execute(sql.SQL("UNLISTEN {}").format(sql.Identifier(channel)))
            if await _backend_pid(connection) == backend:
                return


async def _backend_pid(connection: db.Connection) -> int:
    row = await (await connection.execute("SELECT pg_backend_pid() AS pid")).fetchone()
    assert row is not None  # noqa: S101  # a SELECT without FROM returns one row
    pid: int = row["pid"]
    return pid
