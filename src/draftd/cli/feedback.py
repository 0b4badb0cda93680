"""The command that records what became of a draft: feedback."""

import asyncio
import sys
from typing import Annotated, Any
from uuid import UUID

import typer

from draftd.cli.console import Json, print_json, request_id, settings
from draftd.errors import CommandError, UsageError

MAX_STDIN_BYTES = 1 << 20
"""Far more than the database accepts; what is longer is not read."""
_PREFIX = "draft_feedback: "


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(feedback)


def feedback(
    which: Annotated[str, typer.Argument(metavar="ID", help="A request's id.", show_default=False)],
    option: Annotated[
        str | None, typer.Option(metavar="LENGTH", help="Which draft: short, medium or detailed.", show_default=False)
    ] = None,
    sent_text: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What was really sent; - reads it from stdin.", show_default=False),
    ] = None,
    outcome: Annotated[
        str | None,
        typer.Option(
            metavar="OUTCOME",
            help="sent (as drafted), edited or rejected. Default: follows from the draft and --sent-text.",
            show_default=False,
        ),
    ] = None,
    rating: Annotated[
        int | None, typer.Option(metavar="RATING", help="-1 (bad) or 1 (good).", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Record what became of a draft.

    A request can have several: the newest outcome and the newest rating count.
    """
    from draftd.queue.feedback import LENGTHS, OUTCOMES

    given = {"option": option, "outcome": outcome, "sent_text": sent_text, "rating": rating}
    if all(value is None for value in given.values()):
        raise UsageError("give at least one of --option, --sent-text, --outcome and --rating")
    _check("--option", option, LENGTHS)
    _check("--outcome", outcome, OUTCOMES)
    if rating not in {None, -1, 1}:
        raise UsageError(f"--rating is -1 or 1, not {rating}")
    which_id = request_id(which)
    given["sent_text"] = _text(sent_text)
    row = asyncio.run(_record(which_id, given))
    if as_json:
        print_json(row)
        return
    print(_told(row))


def _check(name: str, value: str | None, known: tuple[str, ...]) -> None:
    """Raise ``UsageError`` for a value that is not one of the known ones."""
    if value is not None and value not in known:
        raise UsageError(f"{name}: {value!r} is not one of {', '.join(known)}")


def _text(given: str | None) -> str | None:
    """Return the text that was sent, from stdin for ``-``.

    Raises:
        UsageError: it is not text.
    """
    if given != "-":
        return given
    read = sys.stdin.buffer.read(MAX_STDIN_BYTES)
    try:
        text = read.decode()
    except UnicodeDecodeError as error:
        raise UsageError("--sent-text: stdin is not UTF-8") from error
    if "\x00" in text:
        raise UsageError("--sent-text: stdin contains a NUL")
    return text.removesuffix("\n")


def _told(row: dict[str, Any]) -> str:
    """Return what was recorded, on one line."""
    parts = [row["option"], row["outcome"], None if row["rating"] is None else f"rated {row['rating']:+d}"]
    if row["similarity"] is not None:
        parts.append(f"similarity {row['similarity']:.2f}")
    return f"feedback {row['id']}: {', '.join(filter(None, parts)) or 'a text of its own'}"


async def _record(which: UUID, given: dict[str, Any]) -> dict[str, Any]:
    import psycopg

    from draftd import db
    from draftd.queue import feedback

    async with db.connected(
        settings().require_database_url(), reads=("draft_requests", "draft_feedback")
    ) as connection:
        try:
            return await feedback.record(connection, which, **given)
        except psycopg.errors.ForeignKeyViolation as error:
            raise CommandError(f"request {which} does not exist") from error
        except psycopg.errors.CheckViolation as error:
            refused = error.diag.message_primary or ""
            # Only what draftd's own trigger says: another check may be one of the app's.
            if not refused.startswith(_PREFIX):
                raise
            hint = f" {error.diag.message_hint}" if error.diag.message_hint else ""
            raise CommandError(f"{refused.removeprefix(_PREFIX)}.{hint}") from error
