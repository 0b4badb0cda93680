"""The connection keeper: reopens lost connections, and pauses claiming while one is missing.

A claimed row needs every connection: to read its pictures, renew its lease, and write its result and costs. If the server has no
connection left for one of these, the daemon would pay the model for a result that it cannot store. Invariant: every missing
connection is reopened here; while all are open, this costs the server nothing.
"""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import psycopg
import structlog

from draftd import db
from draftd.backoff import Backoff
from draftd.db import dsn
from draftd.errors import CommandError, ConnectionLost, DatabaseUnavailable
from draftd.queue.wakeup import Listener, WakeUp
from draftd.sanitize import redact

log = structlog.get_logger(__name__)

CHECK_INTERVAL_S = 1.0
PATIENCE_S = 3.0
"""How long a start keeps trying: the server takes a moment to free a closed connection."""
RETRY_S = 0.1


class ConnectionKeeper:
    """Watches over the connections of one daemon.

    Args:
        url: the database.
        links: the connections that the event loop uses, by name.
        listener: the listener, if it has its own connection. Needed at the start only: without it, polling continues.
        wakeup: set when claiming may resume.
    """

    def __init__(
        self, *, url: dsn.Url, links: Mapping[str, db.Link], listener: Listener | None, wakeup: WakeUp
    ) -> None:
        self._where = dsn.address(url)
        self._links = links
        self._listener = listener
        self._wakeup = wakeup
        self._reopen_now = asyncio.Event()
        self._trouble = ""
        self._claims_paused = False
        self.heartbeat_trouble: Callable[[], str | None] = lambda: "no heartbeat yet"
        """Why the heartbeat, which has its own thread and connection, does not reach the database; None if it does."""

    async def open(self, first_beat: db.Link) -> None:
        """Open every connection.

        Args:
            first_beat: stands in for the heartbeat's, whose thread is not running yet.

        Raises:
            DatabaseUnavailable: one cannot be opened; the message says how many can.
            psycopg.Error: the server refused a statement on one of them.
        """
        needed: list[Callable[[], Awaitable[Any]]] = [
            functools.partial(link.run, "SELECT") for link in (*self._links.values(), first_beat)
        ]
        if self._listener is not None:
            needed.append(self._listener.open)
        for had, opening in enumerate(needed):
            await self._open_patiently(opening, had, len(needed))

    def is_complete(self) -> bool:
        """Return whether every connection that a result needs is open; if not, have the missing ones reopened now."""
        self._claims_paused = bool(self._missing())
        if self._claims_paused:
            self._reopen_now.set()
        return not self._claims_paused

    async def run(self) -> None:
        """Reopen what is lost, until cancelled."""
        backoff = Backoff()
        while True:
            if await self._reopen_missing():
                backoff.reset()
                await self._wait_until_missed()
            else:
                await asyncio.sleep(backoff.next_s())

    def resume_if_complete(self) -> None:
        """Resume claiming if nothing is missing any more; call this after each beat."""
        if self._missing():
            return
        if self._trouble:
            self._trouble = ""
            log.info("claiming resumed: connections open")
        if self._claims_paused:
            self._claims_paused = False
            self._wakeup.set()

    def state(self) -> dict[str, Any]:
        """Return the state of the connections, for ``draftd health``."""
        missing, where = self._missing(), self._where
        if not missing:
            return {"ok": True, "detail": f"all connections to {where} are open", "address": where}
        trouble = self.heartbeat_trouble() if missing == ["heartbeat"] else self._trouble
        detail = f"claiming paused: no connection to {where} for {', '.join(missing)}"
        return {"ok": False, "detail": f"{detail}: {trouble}" if trouble else detail, "address": where}

    def _missing(self) -> list[str]:
        missing = [name for name, link in self._links.items() if not link.is_open]
        return missing if self.heartbeat_trouble() is None else [*missing, "heartbeat"]

    async def _open_patiently(self, opening: Callable[[], Awaitable[Any]], had: int, needed: int) -> None:
        ends_at = time.monotonic() + PATIENCE_S
        while True:
            try:
                await opening()
            except db.LOST as error:
                if had == 0 or _is_answer(error):
                    raise
                if time.monotonic() > ends_at:
                    raise DatabaseUnavailable(
                        f"a daemon needs {needed} connections to the database but could open only {had}: {error.message}"
                    ) from error
            else:
                return
            await asyncio.sleep(RETRY_S)

    async def _reopen_missing(self) -> bool:
        """Reopen what is missing; return whether that succeeded."""
        for outcome in await asyncio.gather(*(link.reopen() for link in self._links.values()), return_exceptions=True):
            if isinstance(outcome, psycopg.Error | ConnectionLost | CommandError):
                self._log_trouble(outcome)
                return False
            if isinstance(outcome, BaseException):
                raise outcome
        self.resume_if_complete()
        return True

    def _log_trouble(self, error: BaseException) -> None:
        if not self._trouble:
            log.warning("claiming paused: connections missing", missing=self._missing(), error=redact(str(error)))
        self._trouble = redact(str(error)) or "no answer in time"

    async def _wait_until_missed(self) -> None:
        """Wait ``CHECK_INTERVAL_S``, or less if a claim finds a connection missing."""
        timer = asyncio.get_running_loop().call_later(CHECK_INTERVAL_S, self._reopen_now.set)
        await self._reopen_now.wait()
        timer.cancel()
        self._reopen_now.clear()


def _is_answer(error: BaseException) -> bool:
    """Return whether the server accepted a connection and then refused a statement on it."""
    cause = error.__cause__
    return isinstance(error, ConnectionLost) and isinstance(cause, psycopg.Error) and cause.sqlstate is not None
