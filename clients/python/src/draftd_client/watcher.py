"""Waits for many requests at once, on one connection: what a server with a thousand waiting users needs.

One task listens, and reads all awaited requests with one statement: those that were notified at once, and every one of them each
``POLL_S``. A notification is a hint, and anyone can forge one; only what is read counts.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from uuid import UUID

import psycopg
from psycopg.rows import DictRow

from draftd_client import statements
from draftd_client.errors import DraftdError
from draftd_client.reply import Reply

RECONNECT_S = 1.0

Queue = asyncio.Queue[Reply | None | Exception]
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Watcher:
    """Tells callers what their requests look like whenever that may have changed.

    Args:
        connect: makes the connection; it is made again when it is lost.
    """

    def __init__(self, connect: Callable[[], Awaitable[psycopg.AsyncConnection[DictRow]]]) -> None:
        self._connect = connect
        self._queues: dict[UUID, set[Queue]] = {}
        self._task: asyncio.Task[None] | None = None

    def watch(self, request_id: UUID) -> Queue:
        """Return a queue that gets the request's state whenever it may have changed; None if there is no such request.

        It gets an error that ends the watching. What the request looks like now is the caller's to read, after this call.
        """
        queue: Queue = asyncio.Queue()
        self._queues.setdefault(request_id, set()).add(queue)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="draftd-client: watcher")
        return queue

    def unwatch(self, request_id: UUID, queue: Queue) -> None:
        """Stop telling a queue about a request."""
        queues = self._queues.get(request_id, set())
        queues.discard(queue)
        if not queues:
            self._queues.pop(request_id, None)

    async def close(self) -> None:
        """Stop, and close the connection; whoever still waits gets an error."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._end(DraftdError("the client was closed"))

    async def _run(self) -> None:
        """Read until nobody waits any more."""
        while self._queues:
            try:
                async with await self._connect() as connection:
                    await self._read_until_idle(connection)
            except psycopg.OperationalError:
                await asyncio.sleep(RECONNECT_S)
            except Exception as error:  # noqa: BLE001 - whatever it is, those who wait would wait for ever
                self._end(error)
                return

    def _end(self, error: Exception) -> None:
        for queue in (one for queues in self._queues.values() for one in queues):
            queue.put_nowait(error)

    async def _read_until_idle(self, connection: psycopg.AsyncConnection[DictRow]) -> None:
        await connection.execute(statements.LISTEN.encode())
        now = asyncio.get_running_loop().time
        read_all_at = now()
        while self._queues:
            heard = await _heard(connection, read_all_at - now()) if now() < read_all_at else set[UUID]()
            if now() >= read_all_at:
                heard, read_all_at = set(self._queues), now() + statements.POLL_S
            await self._tell(connection, heard & self._queues.keys())

    async def _tell(self, connection: psycopg.AsyncConnection[DictRow], request_ids: set[UUID]) -> None:
        if not request_ids:
            return
        text, params = statements.get(list(request_ids))
        rows = await (await connection.execute(text.encode(), params)).fetchall()
        replies = {row["id"]: statements.reply(row) for row in rows}
        for one in request_ids:
            for queue in self._queues.get(one, ()):
                queue.put_nowait(replies.get(one))


async def _heard(connection: psycopg.AsyncConnection[DictRow], time_s: float) -> set[UUID]:
    """Return the requests of the next notifications, or none after ``time_s`` seconds."""
    heard = set[UUID]()
    async for notification in connection.notifies(timeout=time_s, stop_after=1):
        heard |= {UUID(one) for one in _ID.findall(notification.payload)}
    return heard
