"""The client for asyncio."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, Unpack, cast
from uuid import UUID

import psycopg
from psycopg.rows import DictRow, dict_row

from draftd_client import statements
from draftd_client.errors import DraftFailed, NotFound, refusal_of
from draftd_client.options import CreateOptions, ProfileFields
from draftd_client.reply import Created, OptionFeed, Profile, Reply
from draftd_client.types import Option
from draftd_client.watcher import Watcher


class AsyncClient:
    """Inserts requests and waits for their replies, for any number of tasks at once, on two connections.

    One connection is for statements; the other is made while anybody waits, and reads for all of them. A lost connection is made
    again, and the statement is repeated: inserts have an idempotency key.

    Args:
        conninfo: a PostgreSQL URL or connection string; empty for psycopg's own variables (``PGHOST``, …).
    """

    def __init__(self, conninfo: str = "") -> None:
        self._conninfo = conninfo
        self._opened: psycopg.AsyncConnection[DictRow] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._watcher = Watcher(self._connect)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close both connections."""
        await self._watcher.close()
        if self._opened is not None:
            await self._opened.close()
        self._opened = None

    async def create(self, image_urls: Sequence[str], **given: Unpack[CreateOptions]) -> Created:
        """Insert a request; see ``Client.create``."""
        return statements.created(await self._one(statements.create(image_urls, **given)))

    async def get(self, request_id: UUID) -> Reply:
        """Read a request; see ``Client.get``."""
        rows = await self._run(statements.get([request_id]))
        if not rows:
            raise NotFound(request_id)
        return statements.reply(rows[0])

    async def wait(self, request_id: UUID, *, timeout_s: float | None = None) -> Reply:
        """Wait until a request is final, and return it; see ``Client.wait``."""
        async with aclosing(self._follow(request_id, timeout_s)) as replies:
            async for reply in replies:
                last = reply
        return last

    async def stream(self, request_id: UUID, *, timeout_s: float | None = None) -> AsyncGenerator[Option]:
        """Yield the options of a request as they become ready; see ``Client.stream``."""
        feed = OptionFeed()
        async with aclosing(self._follow(request_id, timeout_s)) as replies:
            async for reply in replies:
                for option in feed.new(reply):
                    yield option
                if reply.is_final and reply.result is None:
                    raise DraftFailed(reply)

    async def cancel(self, request_id: UUID) -> bool:
        """Cancel a request; return whether it was waiting or being drafted."""
        return bool((await self._one(statements.cancel(request_id)))["cancelled"])

    async def refine(self, parent_id: UUID, **given: Unpack[CreateOptions]) -> Created:
        """Ask for changed drafts of an earlier request; see ``Client.refine``."""
        rows = await self._run(statements.requester_of(parent_id))
        if not rows:
            raise NotFound(parent_id)
        asked: CreateOptions = {"requester_id": rows[0]["requester_id"], **given}
        return statements.created(await self._one(statements.create([], parent_id=parent_id, **asked)))

    async def feedback(
        self,
        request_id: UUID,
        *,
        option: str | None = None,
        sent_text: str | None = None,
        outcome: str | None = None,
        rating: int | None = None,
    ) -> None:
        """Say what became of a draft; see ``Client.feedback``."""
        await self._run(
            statements.feedback(request_id, option=option, sent_text=sent_text, outcome=outcome, rating=rating),
            repeat=False,
        )

    async def profile(self, requester_id: str, **changes: Unpack[ProfileFields]) -> Profile:
        """Set what is given of a requester's profile, and return all of it; see ``Client.profile``."""
        if changes:
            await self._run(statements.set_profile(requester_id, cast("Mapping[str, Any]", changes)))
        rows = await self._run(statements.get_profile(requester_id))
        return statements.profile(rows[0] if rows else None)

    async def _follow(self, request_id: UUID, timeout_s: float | None) -> AsyncGenerator[Reply]:
        """Yield a request now and whenever it may have changed, until it is final."""
        loop = asyncio.get_running_loop()
        ends_at = None if timeout_s is None else loop.time() + timeout_s
        queue = self._watcher.watch(request_id)
        try:
            reply: Reply | None = await self.get(request_id)
            while reply is not None:
                yield reply
                if reply.is_final:
                    return
                # No timeout around the yield: what the caller does meanwhile takes its own time.
                told = await asyncio.wait_for(queue.get(), ends_at and max(0.0, ends_at - loop.time()))
                if isinstance(told, Exception):
                    raise told
                reply = told
            raise NotFound(request_id)
        finally:
            self._watcher.unwatch(request_id, queue)

    async def _one(self, statement: statements.Statement) -> DictRow:
        return (await self._run(statement))[0]

    async def _run(self, statement: statements.Statement, *, repeat: bool = True) -> list[DictRow]:
        text, params = statement
        async with self._one_at_a_time:
            try:
                return await self._execute(text, params)
            except psycopg.OperationalError:
                if not repeat or self._opened is None or not self._opened.closed:
                    raise
            return await self._execute(text, params)

    async def _execute(self, text: str, params: Sequence[Any]) -> list[DictRow]:
        if self._opened is None or self._opened.closed:
            self._opened = await self._connect()
        try:
            cursor = await self._opened.execute(text.encode(), params)
            return await cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            if (refusal := refusal_of(error)) is None:
                raise
            raise refusal from error

    async def _connect(self) -> psycopg.AsyncConnection[DictRow]:
        return await psycopg.AsyncConnection.connect(
            self._conninfo,
            autocommit=True,
            # A pooler in transaction mode has no prepared statements.
            prepare_threshold=None,
            row_factory=dict_row,
            application_name="draftd-client",
        )
