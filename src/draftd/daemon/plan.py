"""Which kind of daemon to build, and the database connections that it needs.

Owns whether the schema is new enough, where LISTEN runs and which statements share a connection.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import structlog

from draftd import db
from draftd.daemon.connections import ConnectionKeeper
from draftd.db import dsn, schema_version
from draftd.db.schema_version import SchemaState
from draftd.errors import ConfigurationError
from draftd.queue.wakeup import Listener, ListeningLink, WakeUp, proves_session
from draftd.reply.agents import Agent
from draftd.settings import Settings, load_settings

log = structlog.get_logger(__name__)

POLL_WITHOUT_LISTEN_S = 1.0
FRESH_S = 1.0
"""Settings are not reloaded this often: a start opens half a dozen connections at once."""
CLOSE_TIME_S = 2.0
"""How long the end of a daemon waits for the statements of a database that hangs."""


class CurrentUrl:
    """A database URL as currently configured: a password in a file may be rotated while the daemon runs.

    A new user, password or certificate takes effect. A new address does not: half of the daemon's connections would lead to one
    database and half to another. Safe to call from any thread.

    Args:
        loaded: the settings that the process was started with.
        choose: returns the URL from settings; may raise ``ConfigurationError``.
    """

    def __init__(self, loaded: Settings, choose: Callable[[Settings], str]) -> None:
        self._choose = choose
        self._url = choose(loaded)
        self._loaded_at = time.monotonic()
        self._refused = ""

    def __call__(self) -> str:
        """Reload the settings and return the URL, or the previous one if they are invalid or name another address."""
        if time.monotonic() - self._loaded_at < FRESH_S:
            return self._url
        self._loaded_at = time.monotonic()
        try:
            found = self._choose(load_settings()[0])
            dsn.parameters(found, name="")  # an invalid URL does not take effect
            is_same = dsn.is_same_place(found, self._url)
            problem = "" if is_same else "the URL names another database; restart the daemon to use it"
        except ConfigurationError as error:
            problem = error.message
        if problem != self._refused:
            self._refused = problem
            if problem:
                log.warning("changed settings ignored", reason=problem)
        if not problem:
            self._url = found
        return self._url


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What kind of daemon to build."""

    settings: Settings
    agents: Mapping[str, Agent]
    concurrency: int
    drain: bool
    listens: bool
    """Whether LISTEN works at ``listen_url``."""

    @property
    def session(self) -> bool:
        """Whether connections to the database URL are sessions; a separate URL for LISTEN means that they are not."""
        return self.listens and self.settings.listen_database_url is None

    @cached_property
    def url(self) -> dsn.Url:
        """The database."""
        return CurrentUrl(self.settings, Settings.require_database_url)

    @cached_property
    def listener_url(self) -> dsn.Url | None:
        """The URL for a separate listener; None if the claims' connection listens, or nothing does."""
        return CurrentUrl(self.settings, lambda found: found.listen_url) if self.listens and not self.session else None

    @property
    def poll_interval_s(self) -> float:
        """How long an idle claim waits."""
        configured_s = self.settings.poll_interval_s
        return configured_s if self.listens else min(configured_s, POLL_WITHOUT_LISTEN_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """The connections that the event loop uses; the heartbeat's thread has its own."""

    claim: db.Link
    wakeup: WakeUp
    """Set by ``claim`` if it listens."""
    settle: db.Link
    """Settlements, progress and usage: small writes only, so that none waits behind a slow one."""
    maintenance: db.Link
    """The background loops, holds and reservations."""
    read: db.Link
    """Inputs with their pictures, up to 24 MiB each: nothing else may wait behind them."""

    first_beat: db.Link
    """For the first beat, before the heartbeat's thread opens its own."""
    listener: Listener | None
    """None unless LISTEN has its own URL."""
    keeper: ConnectionKeeper
    """Reopens them."""

    async def close(self) -> None:
        """Close them, as far as their statements end within ``CLOSE_TIME_S``."""
        if self.listener is not None:
            await self.listener.aclose()
        links = (self.claim, self.settle, self.maintenance, self.read, self.first_beat)
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIME_S):
                await asyncio.gather(*(link.close() for link in links))


async def open_links(plan: Plan) -> Links:
    """Open every connection that a daemon needs.

    The reaper waits until its own has been up for one lease before it takes lost rows.

    Raises:
        DatabaseUnavailable: one cannot be opened; the message says how many can.
        ConfigurationError: this database user may not use it.
    """
    url, wakeup = plan.url, WakeUp()
    claim = (
        ListeningLink(url=url, name="draftd claim", wakeup=wakeup)
        if plan.session
        else db.Link(url=url, name="draftd claim", session=False)
    )
    maintenance, settle, read, first_beat = (
        db.Link(url=url, name=f"draftd {name}", session=plan.session)
        for name in ("maintenance", "settle", "read", "heartbeat")
    )
    listener = Listener(url=plan.listener_url, wakeup=wakeup) if plan.listener_url else None
    keeper = ConnectionKeeper(
        url=url,
        links={"maintenance": maintenance, "claim": claim, "settle": settle, "read": read},
        listener=listener,
        wakeup=wakeup,
    )
    links = Links(
        claim=claim,
        wakeup=wakeup,
        settle=settle,
        maintenance=maintenance,
        read=read,
        first_beat=first_beat,
        listener=listener,
        keeper=keeper,
    )
    try:
        with db.translate_errors(url):
            await keeper.open(first_beat)
    except BaseException:
        await links.close()
        raise
    return links


async def check_schema(url: str) -> None:
    """Refuse a schema older than this program's; warn about a newer one.

    Raises:
        ConfigurationError: the schema is older, or missing.
        DatabaseUnavailable: the database cannot be reached.
    """
    async with db.connected(url, works=True) as connection:
        match await schema_version.state(connection):
            case SchemaState.BEHIND:
                raise ConfigurationError(schema_version.BEHIND)
            case SchemaState.AHEAD:
                log.warning("the schema is newer than this draftd")
            case SchemaState.CURRENT:
                pass


async def listen_works(settings: Settings) -> bool:
    """Return whether LISTEN is enabled and a test notification has arrived."""
    return settings.listen == "auto" and await proves_session(settings.listen_url)
