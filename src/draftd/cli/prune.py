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
    from draftd.settings import Settings

PROGRESS_INTERVAL_S = 1.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(prune)


def prune(
    older_than: Annotated[
        str | None,
        typer.Option(
            metavar="AGE",
            help="Delete requests finished longer ago than this, e.g. 30d. Default: DRAFTD_RETENTION_DAYS, if set.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show how many would be deleted; delete nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Delete old completed, failed and cancelled requests.

    Deletes their drafts and feedback too. Keeps usage records (draft_usage) and requests whose drafts are being refined. Works in
    small batches: safe to run beside daemons, and to interrupt.
    """
    loaded = settings()
    older_than_s = _older_than_s(older_than, loaded)
    refused = RefusedRows()
    count = asyncio.run(
        _prune(loaded.require_database_url(), older_than_s=older_than_s, dry_run=dry_run, refused=refused)
    )
    if as_json:
        print_json({"pruned": count, "dry_run": dry_run})
    else:
        requests = f"{count} request{'' if count == 1 else 's'} finished more than {age(older_than_s)} ago"
        say(f"{requests} would be deleted" if dry_run else f"{requests} deleted")
    refused.end()


def _older_than_s(given: str | None, loaded: "Settings") -> float:
    """Return the minimum age of the requests to delete, in seconds.

    Raises:
        UsageError: it is not set anywhere. A command that deletes has no default of its own.
    """
    from draftd.daemon.pruner import DAY_S

    if given is not None:
        return duration_s(given)
    if not loaded.retention_days:
        raise UsageError("say what to prune: --older-than 30d, or set DRAFTD_RETENTION_DAYS")
    return loaded.retention_days * DAY_S


async def _prune(url: str, *, older_than_s: float, dry_run: bool, refused: RefusedRows) -> int:
    from draftd import db
    from draftd.queue.retention import count_prunable

    link = db.Link(url=url, name="draftd prune", session=False)
    try:
        with db.translated(url):
            await db.check_access(link, url)
            if dry_run:
                return await count_prunable(link, older_than_s=older_than_s)
            return await _delete(link, older_than_s, refused)
    finally:
        await link.close()


async def _delete(link: "db.Link", older_than_s: float, refused: RefusedRows) -> int:
    """Prune, showing progress on a terminal."""
    from draftd.queue.isolation import Aside
    from draftd.queue.retention import prune as batches_of

    pruned, said_at = 0, time.monotonic()
    async with aclosing(batches_of(link, older_than_s=older_than_s, aside=Aside(tell=refused.tell))) as batches:
        async for count in batches:
            pruned += count
            if sys.stderr.isatty() and time.monotonic() - said_at >= PROGRESS_INTERVAL_S:
                say(f"{pruned} deleted …")
                said_at = time.monotonic()
    return pruned
