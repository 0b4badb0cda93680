"""The heartbeat: renews every lease of this process, from a thread and a connection of its own.

An event loop that is busy with a slow callback must not look dead, so the beat does not depend on it. The mirror case, a
live thread beside a dead loop, ends the process: when the loop has not ticked for ``LOOP_DEAD_S``, renewing would only keep
others from doing the work. It is the last thing to stop in a shutdown. One statement per beat: renewals, this worker's row, and
back come the models' configuration and holds.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

import psycopg
import structlog
from psycopg.rows import DictRow, dict_row

from draftd import db
from draftd.backoff import full_jitter_s
from draftd.queue.leases import RENEW, Leases
from draftd.sanitize import redact

log = structlog.get_logger(__name__)

LOOP_DEAD_S = 60.0
BEATS_PER_LEASE = 3
EXIT_LOOP_DEAD = 70
"""EX_SOFTWARE of sysexits(3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who this process is; a fresh id per start."""

    worker_id: UUID
    hostname: str
    pid: int
    version: str
    agents: tuple[str, ...]
    concurrency: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What came back from one beat."""

    lost: dict[UUID, int]
    """What was held at the beat and is not any more: id → lease token."""
    configs: list[dict[str, Any]]
    holds: list[dict[str, Any]]


class Heartbeat:
    """Beats.

    Args:
        url: the database.
        session: whether connections there are sessions of their own.
        identity: who beats.
        leases: what is held.
        lease_s: how long a renewal lasts, in seconds; a third of it lies between beats.
        on_beat: called on the event loop with what came back.
        on_death: called on the event loop when the thread ended by a defect.
    """

    def __init__(
        self,
        *,
        url: str,
        session: bool,
        identity: Identity,
        leases: Leases,
        lease_s: float,
        on_beat: Callable[[Beat], None],
        on_death: Callable[[BaseException], None],
    ) -> None:
        self._url = url
        self._session = session
        self._identity = identity
        self._leases = leases
        self._lease_s = lease_s
        self._on_beat = on_beat
        self._on_death = on_death
        self._state = "running"
        self._now = threading.Event()
        self._last_tick = time.monotonic()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._connection: psycopg.Connection[DictRow] | None = None

    def first_beat(self) -> Beat:
        """Beat once in the calling thread, before there is anything to renew: the worker's row, and the configuration.

        Raises:
            DatabaseUnavailable: the database cannot be reached.
        """
        try:
            return self._beat()
        except psycopg.OperationalError as error:
            raise db.unavailable(self._url, error) from error

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to beat."""
        self._loop = loop
        self.tick()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def tick(self) -> None:
        """Show that the event loop lives; to be called from it every second."""
        self._last_tick = time.monotonic()

    def set_state(self, state: str) -> None:
        """Beat at once with this state: ``draining`` or ``stopped``; after ``stopped`` the thread ends."""
        self._state = state
        self._now.set()

    def join(self, at_most_s: float) -> None:
        """Wait for the thread's end."""
        if self._thread is not None:
            self._thread.join(at_most_s)

    def _run(self) -> None:
        try:
            failures = 0
            while True:
                state = self._state
                failures = 0 if self._try_beat() else failures + 1
                if state == "stopped":
                    break
                interval_s = self._lease_s / BEATS_PER_LEASE
                # While the database is away, look more often than a renewal is due.
                self._now.wait(min(interval_s, full_jitter_s(failures, base_s=0.2)) if failures else interval_s)
                self._now.clear()
                self._die_with_the_loop()
        except BaseException as error:  # noqa: BLE001  # the thread's boundary: its death must stop the daemon
            self._tell(self._on_death, error)
        finally:
            self._drop()

    def _try_beat(self) -> bool:
        try:
            beat = self._beat()
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            log.warning("heartbeat missed", error=redact(str(error)))
            self._drop()
            return False
        self._tell(self._on_beat, beat)
        return True

    def _beat(self) -> Beat:
        held = self._leases.snapshot()
        me = self._identity
        cursor = self._open().execute(
            RENEW.encode(),
            {
                "ids": list(held),
                "tokens": list(held.values()),
                "lease_s": self._lease_s,
                "worker_id": me.worker_id,
                "hostname": me.hostname,
                "pid": me.pid,
                "version": me.version,
                "state": self._state,
                "agents": list(me.agents),
                "concurrency": me.concurrency,
                "in_flight": len(held),
            },
        )
        row = cast("DictRow", cursor.fetchone())
        renewed: Sequence[UUID] = row["renewed"]
        lost = {request_id: held[request_id] for request_id in held.keys() - set(renewed)}
        return Beat(lost=lost, configs=row["configs"], holds=row["holds"])

    def _open(self) -> psycopg.Connection[DictRow]:
        if self._connection is None or self._connection.closed:
            parameters = db.parameters(self._url, name="draftd heartbeat")
            connection = psycopg.Connection[DictRow].connect(**parameters, autocommit=True, row_factory=dict_row)
            if self._session:
                connection.execute(db.SESSION_SETUP)
            else:
                connection.prepare_threshold = None
            self._connection = connection
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _tell(self, callback: Callable[[Any], None], value: object) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, value)

    def _die_with_the_loop(self) -> None:
        silent_s = time.monotonic() - self._last_tick
        if silent_s > LOOP_DEAD_S:
            log.critical("the event loop is dead", silent_s=round(silent_s))
            os._exit(EXIT_LOOP_DEAD)
