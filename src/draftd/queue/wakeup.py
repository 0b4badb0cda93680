"""Wake-ups: what ends a wait for work before the poll interval does.

Owns the bell (``WakeUp``) and who rings it on NOTIFY ``draft_requests``: the claims' own connection (``ListeningLink``), or
where LISTEN has an address of its own a ``Listener``. A notification is a hint: whoever waits also polls. Invariants:
reconnecting rings (something may have been missed); a half-open connection, which looks idle for ever, is found out: by the
polling on a link, by the listener's own probe every ``PROBE_INTERVAL_S``.
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
PROBE_INTERVAL_S = 15.0
PROBE_TIMEOUT_S = 5.0
PROOF_TIMEOUT_S = 2.0
"""How long a notification may take at start to prove a session (section 5 of the contract)."""
PROOF_LOOKS = 10
"""In so many pieces of that time; one in which the machine stood still is one piece only."""
UNLISTEN_TRIES = 50

log = structlog.get_logger(__name__)


class WakeUp:
    """A bell: rung by the listener and by whoever changes what is claimable, heard by the claims."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def set(self) -> None:
        """End the wait that is under way, or the next one."""
        self._rung.set()

    def clear(self) -> None:
        """Forget earlier rings; to be called before the look at the table, never after it."""
        self._rung.clear()

    async def wait(self, at_most_s: float) -> None:
        """Wait for a ring; after ``at_most_s`` seconds the bell rings by itself."""
        timer = asyncio.get_running_loop().call_later(at_most_s, self.set)
        try:
            await self._rung.wait()
        finally:
            timer.cancel()


class ListeningLink(db.Link):
    """A link that also listens, and rings, whenever no statement of its own is under way.

    For the claims: the server's process that delivers a notification is the one that claims next, and is still awake
    (a tenth of the time from a commit to the claimed row, measured by ``make bench-queue``).

    Args:
        url: the database, known to be reached by sessions.
        name: shown in ``pg_stat_activity``.
        wakeup: what to ring.
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
        connection.add_notify_handler(lambda _notice: self._wakeup.set())
        self._wakeup.set()
        return connection

    async def _use(self, connection: db.Connection, use: Callable[[db.Connection], Awaitable[db.Answer]]) -> db.Answer:
        # The event loop has one reader per socket; during a statement it is psycopg's.
        self._stop_hearing()
        try:
            return await super()._use(connection, use)
        finally:
            if not connection.closed:
                self._ring_for_notices(connection)
                self._socket = connection.fileno()
                asyncio.get_running_loop().add_reader(self._socket, self._hear, connection)

    def _hear(self, connection: db.Connection) -> None:
        try:
            connection.pgconn.consume_input()
            self._ring_for_notices(connection)
        except psycopg.OperationalError:
            # The server hung up; whoever claims next connects again.
            self._stop_hearing()
            self._wakeup.set()

    def _ring_for_notices(self, connection: db.Connection) -> None:
        while connection.pgconn.notifies():
            self._wakeup.set()

    def _stop_hearing(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket = None

    async def _drop(self) -> None:
        self._stop_hearing()
        await super()._drop()


class Listener:
    """Listens on a connection of its own and rings.

    Args:
        url: where to listen, past the pooler in front of the database.
        wakeup: what to ring.
    """

    def __init__(self, *, url: dsn.Url, wakeup: WakeUp) -> None:
        self._url = url
        self._wakeup = wakeup
        self._probe_channel = f"draftd_probe_{uuid.uuid4().hex}"
        self._backoff = Backoff()
        self._opened: db.Connection | None = None

    async def open(self) -> None:
        """Listen from now on, for ``run`` to hear.

        Raises:
            CommandError: the server refuses.
        """
        with db.translate_errors(self._url):
            self._opened = await self._connect()

    async def aclose(self) -> None:
        """Close what was opened and never heard."""
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
                    self._wakeup.set()
            await self._probe(connection)
            self._backoff.reset()

    async def _probe(self, connection: db.Connection) -> None:
        """Send a notification to oneself and hear it.

        Raises:
            TimeoutError: it did not arrive.
        """
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            await connection.execute("SELECT pg_notify(%s, '')", [self._probe_channel])
            heard = False
            while not heard:
                # To the end of what came in one packet: leaving earlier would lose the notifications behind the probe.
                async for notice in connection.notifies(stop_after=1):
                    if notice.channel == self._probe_channel:
                        heard = True
                    else:
                        self._wakeup.set()


async def listen(connection: db.Connection, channel: str) -> None:
    """Subscribe a connection to a channel."""
    await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))


async def proves_session(url: dsn.Url) -> bool:
    """Return whether a connection to this URL is a session of its own, by a notification that it hears within 2 s.

    The notification comes from a second connection while the first is idle: behind a transaction-mode pooler an idle client
    has no server connection, and hears nothing. From the listening connection itself it could be heard by luck.

    Raises:
        DatabaseUnavailable: there is no connection to try it with.
    """
    channel = f"draftd_proof_{uuid.uuid4().hex}"
    hearing = await db.connect(url, name="draftd proof", session=False)
    try:
        async with hearing.transaction():
            await listen(hearing, channel)
            listening = await _server_process(hearing)
        sending = await db.connect(url, name="draftd proof", session=False)
        try:
            await sending.execute("SELECT pg_notify(%s, '')", [channel])
            heard = await _hears(hearing, sending)
        finally:
            await sending.close()
        if not heard:
            await _unlisten(hearing, channel, on=listening)
    except psycopg.Error as error:
        raise command_error(url, error) from error
    else:
        return heard
    finally:
        await hearing.close()


async def _hears(hearing: db.Connection, sending: db.Connection) -> bool:
    """Return whether a notification that was sent is heard before its time is over, while the server answers."""
    for _ in range(PROOF_LOOKS):
        if [notice async for notice in hearing.notifies(timeout=PROOF_TIMEOUT_S / PROOF_LOOKS, stop_after=1)]:
            return True
        await sending.execute("SELECT")
    return False


async def _unlisten(connection: db.Connection, channel: str, *, on: int) -> None:
    """Take a subscription back that a pooler's server connection would keep until it is closed.

    Each transaction may run on another server connection. Where the right one is not met, the subscription is to a channel
    that nobody ever rings.
    """
    for _ in range(UNLISTEN_TRIES):
        async with connection.transaction():
            await connection.execute(sql.SQL("UNLISTEN {}").format(sql.Identifier(channel)))
            if await _server_process(connection) == on:
                return


async def _server_process(connection: db.Connection) -> int:
    row = await (await connection.execute("SELECT pg_backend_pid() AS pid")).fetchone()
    assert row is not None  # noqa: S101  # a SELECT without FROM returns one row
    pid: int = row["pid"]
    return pid
