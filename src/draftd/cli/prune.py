"""The command that deletes old requests: prune."""

import asyncio
import sys
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import typer

from draftd.cli.console import Json, RefusedRows, age, duration_s, print_json, say, settings
from draftd.errors import UsageError

if TYPE_CHECKING:
    from draftd import db

PROGRESS_INTERVAL_S = 1.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(prune)


def prune(
    older_than: Annotated[
        str | None,
        typer.Option(
            metavar="AGE",
            help="Delete requests finished longer ago than this, e.g. 30d. Default: the fleet's retention_days, if set.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show how many would be deleted; delete nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Delete old completed, failed and cancelled requests.

    Deletes their drafts too. Keeps feedback (draft_feedback), usage records (draft_usage) and requests whose drafts are being
    refined. Works in small batches: safe to run next to daemons, and to interrupt.
    """
    older_than_s = None if older_than is None else duration_s(older_than)
    refused = RefusedRows()
    url = settings().require_database_url()
    older_than_s, count = asyncio.run(_prune(url, older_than_s=older_than_s, dry_run=dry_run, refused=refused))
    if as_json:
        print_json({"pruned": count, "dry_run": dry_run})
    else:
        requests = f"{count} request{'' if count == 1 else 's'} finished more than {age(older_than_s)} ago"
        say(f"{requests} would be deleted" if dry_run else f"{requests} deleted")
    refused.end()


async def _prune(url: str, *, older_than_s: float | None, dry_run: bool, refused: RefusedRows) -> tuple[float, int]:
    """Prune; return the minimum age, in seconds, and the number of requests deleted."""
    from draftd import db
    from draftd.queue.retention import count_prunable

    link = db.Link(url=url, name="draftd prune", session=False)
    try:
        with db.translate_errors(url):
            await db.check_access(link, url)
            if older_than_s is None:
                older_than_s = await _retention_s(link)
            if dry_run:
                return older_than_s, await count_prunable(link, older_than_s=older_than_s)
            return older_than_s, await _delete(link, older_than_s, refused)
    finally:
        await link.close()


async def _retention_s(link: "db.Link") -> float:
    """Return how long the fleet keeps final requests, in seconds.

    Raises:
        UsageError: the fleet keeps them for ever, so an age is needed.
    """
    from draftd.daemon.pruner import DAY_S
    from draftd.queue import fleet_settings

    if days := fleet_settings.of(await link.run(fleet_settings.READ))["retention_days"]:
        return days * DAY_S
    raise UsageError("say what to prune: --older-than 30d, or `draftd settings set retention_days=30`")


async def _delete(link: "db.Link", older_than_s: float, refused: RefusedRows) -> int:
    """Prune, showing progress on a terminal."""
    from draftd.queue.refused_rows import Quarantine
    from draftd.queue.retention import prune as batches_of

    pruned, said_at = 0, time.monotonic()
    async with aclosing(
        batches_of(link, older_than_s=older_than_s, quarantine=Quarantine(on_refused=refused.report))
    ) as batches:
        async for count in batches:
            pruned += count
            if sys.stderr.isatty() and time.monotonic() - said_at >= PROGRESS_INTERVAL_S:
                say(f"{pruned} deleted …")
                said_at = time.monotonic()
    return pruned
