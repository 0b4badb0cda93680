"""The keeper: keeps every connection open that a result needs, and lets nobody claim while one is missing.

A claimed row needs them all: its pictures are read, its lease renewed, its result and its costs written. Where the server has no
connection left for one of these, the model would be paid for a result that nobody can store. Invariant: what is missing is
opened again here, whoever lost it; an idle daemon costs the server nothing for it.
"""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import psycopg
import structlog

from draftd import db
from draftd.backoff import full_jitter_s
from draftd.db import dsn
from draftd.errors import CommandError, ConnectionLost, DatabaseUnavailable
from draftd.queue.wakeup import Listener, WakeUp
from draftd.sanitize import redact

log = structlog.get_logger(__name__)

LOOK_INTERVAL_S = 1.0
PATIENCE_S = 3.0
"""How long a start goes on trying: the server takes a moment to free a connection that was closed."""
RETRY_S = 0.1


class ConnectionKeeper:
    """Watches over the connections of one daemon.

    Args:
        url: the database.
        links: those that statements of the event loop run on, by name.
        listener: has a connection of its own where it is given. It is needed at the start only: without it polling goes on.
        wakeup: rung when claiming may go on.
    """

    def __init__(
        self, *, url: dsn.Url, links: Mapping[str, db.Link], listener: Listener | None, wakeup: WakeUp
    ) -> None:
        self._where = dsn.address(url)
        self._links = links
        self._listener = listener
        self._wakeup = wakeup
        self._asked = asyncio.Event()
        self._trouble = ""
        self._is_missed = False
        self.heartbeat_trouble: Callable[[], str | None] = lambda: "no heartbeat yet"
        """What keeps the heartbeat from the database, if anything does; it has a thread and a connection of its own."""

    async def open(self, first_beat: db.Link) -> None:
        """Open every connection.

        Args:
            first_beat: stands for the heartbeat's, whose thread does not run yet.

        Raises:
            DatabaseUnavailable: says how many can be had.
            psycopg.Error: the server refuses a connection what it needs.
        """
        needed: list[Callable[[], Awaitable[Any]]] = [
            functools.partial(link.run, "SELECT") for link in (*self._links.values(), first_beat)
        ]
        if self._listener is not None:
            needed.append(self._listener.open)
        for had, opening in enumerate(needed):
            await self._insist(opening, had, len(needed))

    def is_complete(self) -> bool:
        """Return whether every connection stands that a result needs; if not, somebody looks after it at once."""
        self._is_missed = bool(self._missing())
        if self._is_missed:
            self._asked.set()
        return not self._is_missed

    async def run(self) -> None:
        """Open again what was lost, until cancelled."""
        failures = 0
        while True:
            failures = 0 if await self._mend() else failures + 1
            pause_s = full_jitter_s(failures, base_s=RETRY_S, cap_s=5.0) if failures else LOOK_INTERVAL_S
            await self._pause(pause_s, until_asked=not failures)

    def look(self) -> None:
        """Let claiming go on if nothing is missing any more; to be called when the heartbeat has been heard."""
        if self._missing():
            return
        if self._trouble:
            self._trouble = ""
            log.info("claiming resumed: connections open")
        if self._is_missed:
            self._is_missed = False
            self._wakeup.ring()

    def facts(self) -> dict[str, Any]:
        """Return how the database looks from here, for whoever asks about this daemon."""
        missing, where = self._missing(), self._where
        if not missing:
            return {"ok": True, "detail": f"all connections to {where} are open", "address": where}
        trouble = self.heartbeat_trouble() if missing == ["heartbeat"] else self._trouble
        detail = f"claiming paused: no connection to {where} for {', '.join(missing)}"
        return {"ok": False, "detail": f"{detail}: {trouble}" if trouble else detail, "address": where}

    def _missing(self) -> list[str]:
        missing = [name for name, link in self._links.items() if not link.stands]
        return missing if self.heartbeat_trouble() is None else [*missing, "heartbeat"]

    async def _insist(self, opening: Callable[[], Awaitable[Any]], had: int, needed: int) -> None:
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

    async def _mend(self) -> bool:
        """Open what is missing; return whether that went well."""
        for outcome in await asyncio.gather(*(link.reopen() for link in self._links.values()), return_exceptions=True):
            if isinstance(outcome, psycopg.Error | ConnectionLost | CommandError):
                self._tell(outcome)
                return False
            if isinstance(outcome, BaseException):
                raise outcome
        self.look()
        return True

    def _tell(self, error: BaseException) -> None:
        if not self._trouble:
            log.warning("claiming paused: connections missing", missing=self._missing(), error=redact(str(error)))
        self._trouble = redact(str(error)) or "no answer in time"

    async def _pause(self, at_most_s: float, *, until_asked: bool) -> None:
        if not until_asked:
            await asyncio.sleep(at_most_s)
            return
        timer = asyncio.get_running_loop().call_later(at_most_s, self._asked.set)
        await self._asked.wait()
        timer.cancel()
        self._asked.clear()


def _is_answer(error: BaseException) -> bool:
    """Return whether the server refused what was asked of a connection that it had given."""
    cause = error.__cause__
    return isinstance(error, ConnectionLost) and isinstance(cause, psycopg.Error) and cause.sqlstate is not None
