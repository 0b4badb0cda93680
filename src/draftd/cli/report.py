"""The command that reports on a period: report."""

import asyncio
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from draftd.cli.console import Json, check_output, duration_s, print_json, say, settings
from draftd.errors import CommandError, TryAgain, UsageError

if TYPE_CHECKING:
    from draftd.report.reading import Period

DEFAULT_FILE = "report.html"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(report)


def report(
    since: Annotated[str, typer.Option(metavar="AGE", help="How far back to look, e.g. 24h or 30d.")] = "24h",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help=f"HTML file to write; - is stdout. Default: {DEFAULT_FILE}.",
            show_default=False,
        ),
    ] = None,
    drafts: Annotated[int, typer.Option(metavar="N", min=0, max=500, help="How many of the last drafts to show.")] = 20,
    content: Annotated[
        bool | None,
        typer.Option(
            "--content/--without-content",
            help="Show texts of drafts and messages, names and angles. Default: unless DRAFTD_TRACE_CONTENT is off.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Report on a period in one HTML file: figures and drafts.

    With --json: print the figures as JSON, and write a file only with -o.
    """
    since_s = duration_s(since)
    if since_s < 1:
        raise UsageError("--since is at least 1s")
    if as_json and output == Path("-"):
        raise UsageError("--json and -o - both print; choose one")
    to_file = output != Path("-") and (output is not None or not as_json)
    output = output or Path(DEFAULT_FILE)
    if to_file:
        check_output(output)
    period, with_content = asyncio.run(_read(since_s, drafts, content=content))

    from draftd.report import page
    from draftd.report.figures import figures_of

    figures = figures_of(period)
    if as_json:
        print_json(page.as_json(figures, period.drafts, with_content=with_content))
        if not to_file:
            return
    html = page.render(figures, period.drafts, with_content=with_content)
    if to_file:
        _write(output, html)
    else:
        print(html, end="")


async def _read(since_s: float, drafts: int, *, content: bool | None) -> "tuple[Period, bool]":
    import psycopg

    from draftd import db
    from draftd.report.reading import read_period

    loaded = settings()
    with_content = loaded.trace_content != "off" if content is None else content
    reads = ("draft_requests", "draft_usage", "draft_feedback")
    async with db.connected(loaded.require_database_url(), reads=reads) as connection:
        try:
            period = await read_period(connection, since_s=since_s, drafts=drafts, with_content=with_content)
        except psycopg.errors.QueryCanceled as error:
            raise TryAgain("the database takes too long to read that period; choose a shorter --since") from error
    return period, with_content


def _write(path: Path, html: str) -> None:
    """Write the file for its owner alone, whole or not at all.

    Raises:
        CommandError: it cannot be written.
    """
    try:
        # Drafts are private: the temporary file is the owner's only, and so is what it becomes.
        number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(number, "w", encoding="utf-8", errors="replace") as file:
                file.write(html)
            Path(name).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}") from error
    say(f"report written: {path}")
