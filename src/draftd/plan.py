"""What kind of daemon to build, and the connections to the database that follow from it.

Owns who listens where, and which statements share a connection; the connections themselves are ``db``'s and ``wakeup``'s.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from draftd import db
from draftd.prompts import Prompt
from draftd.settings import Settings
from draftd.wakeup import ListeningLink, WakeUp, proves_session

POLL_WITHOUT_LISTEN_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What kind of daemon to build."""

    settings: Settings
    prompts: Mapping[str, Prompt]
    concurrency: int
    drain: bool
    listens: bool
    """Whether LISTEN works at ``listen_url``."""

    @property
    def session(self) -> bool:
        """Whether connections to the database itself are sessions; an own address for LISTEN says that they are not."""
        return self.listens and self.settings.listen_database_url is None

    @property
    def listener_url(self) -> str | None:
        """Where a listener of its own is needed; None where the claims' connection listens, or nobody does."""
        return self.settings.listen_url if self.listens and not self.session else None

    @property
    def poll_interval_s(self) -> float:
        """How long an idle claim waits."""
        configured_s = self.settings.poll_interval_s
        return configured_s if self.listens else min(configured_s, POLL_WITHOUT_LISTEN_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """The connections that statements of the event loop run on; the heartbeat has its own."""

    claim: db.Link
    wakeup: WakeUp
    """Rung by ``claim`` where it listens."""
    settle: db.Link
    """Settlements, progress and usage: small writes only, so that nothing slow stands before them."""
    judge: db.Link
    """The reaper, holds, figures."""
    read: db.Link
    """Inputs with their pictures, of up to 24 MiB each, so that nobody else stands behind them."""

    async def close(self) -> None:
        """Close them."""
        for link in (self.claim, self.settle, self.judge, self.read):
            await link.close()


async def open_links(plan: Plan) -> Links:
    """Return the links, the reaper's open already: it must have been up for one lease before the reaper may judge.

    Raises:
        DatabaseUnavailable: the database cannot be reached.
        ConfigurationError: this database user may not use it.
    """
    url, wakeup = plan.settings.require_database_url(), WakeUp()
    links = Links(
        claim=ListeningLink(url=url, name="draftd claim", wakeup=wakeup)
        if plan.session
        else db.Link(url=url, name="draftd claim", session=False),
        wakeup=wakeup,
        settle=db.Link(url=url, name="draftd settle", session=plan.session),
        judge=db.Link(url=url, name="draftd judge", session=plan.session),
        read=db.Link(url=url, name="draftd read", session=plan.session),
    )
    with db.translated(url):
        await links.judge.run("SELECT")
    return links


async def listen_works(settings: Settings) -> bool:
    """Return whether LISTEN is wanted, and a notification to itself has proved that it works."""
    return settings.listen == "auto" and await proves_session(settings.listen_url)
