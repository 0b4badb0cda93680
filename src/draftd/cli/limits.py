"""Commands that slow the fleet down: pause, resume, and the limits of requesters."""

import asyncio
import getpass
import socket
from decimal import Decimal
from typing import Annotated, Any

import typer

from draftd.cli.console import USD_DECIMALS, Commands, Json, number, print_json, print_table, say, settings
from draftd.errors import CommandError, UsageError
from draftd.sanitize import storable_text

PAUSES = ("draft_pauses",)
LIMITS = ("draft_limits",)
"""Tables these commands read."""
COLUMNS = {
    "requester_id": "requester",
    "max_pending": "max pending",
    "max_in_flight": "max in flight",
    "usd_per_day": "USD/day",
}
EVERYBODY = "*"
MAX_COUNT = 10_000_000
MAX_USD = 1_000_000
MAX_CHARS = 256
MAX_REASON_CHARS = 300

Model = Annotated[
    str | None, typer.Option(metavar="NAME", help="Only this model, by its name. Agents with another model use that.")
]
Requester = Annotated[str | None, typer.Option(metavar="WHO", help="Only this requester.")]
Who = Annotated[
    str,
    typer.Argument(
        metavar="REQUESTER", help="The requester; '*' is everybody without limits of their own.", show_default=False
    ),
]

limits = typer.Typer(
    help="Show or change the limits of requesters.", cls=Commands, suggest_commands=False, no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(pause)
    app.command()(resume)
    app.add_typer(limits, name="limits")


def pause(
    model: Model = None,
    requester: Requester = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; `draftd status` shows it.")] = "",
    as_json: Json = False,
) -> None:
    """Claim nothing new, at all or for one model or requester.

    Takes effect at once, on every daemon, and lasts until `draftd resume`. Requests that are being drafted are finished. Clients
    can go on inserting requests; those that wait too long expire.
    """
    if requester == EVERYBODY:
        raise UsageError("--requester '*' would pause a requester of that name; leave it out to pause everything")
    what, name = _target(model, requester)
    row = {"what": what, "name": name, "reason": storable_text(reason, MAX_REASON_CHARS), "by": author()}
    paused, warning = asyncio.run(_pause(row))
    if warning:
        say(f"warning: {warning}")
    if as_json:
        print_json(paused)
    else:
        say(f"paused {_shown(what, name)}; `draftd resume` with the same option ends it")


def resume(model: Model = None, requester: Requester = None, as_json: Json = False) -> None:
    """End a pause.

    Ends the pause with the same option only: the pause of a model or requester outlasts that of everything.
    """
    what, name = _target(model, requester)
    ended = asyncio.run(_resume({"what": what, "name": name}))
    if ended is None:
        raise CommandError(f"{_shown(what, name)} is not paused")
    if as_json:
        print_json(ended)
    else:
        say(f"resumed {_shown(what, name)}")


@limits.command("list")
def list_(as_json: Json = False) -> None:
    """List the limits."""
    rows = asyncio.run(_list())
    if as_json:
        print_json({"limits": rows})
    else:
        print_table(COLUMNS, rows, empty="no limits")


@limits.command("set")
def set_(
    requester: Who,
    max_pending: Annotated[
        str | None, typer.Option(metavar="N", help="Pending requests; beyond that, an INSERT is refused (PT429).")
    ] = None,
    max_in_flight: Annotated[
        str | None, typer.Option(metavar="N", help="Requests drafted at the same time; the others wait.")
    ] = None,
    usd_per_day: Annotated[
        str | None, typer.Option(metavar="USD", help="Cost of a day, which ends at 00:00 UTC.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Set limits of a requester, for the whole fleet.

    Limits that are not given keep their values; `none` removes one. Needs the role that owns the tables.
    """
    given = {"max_pending": max_pending, "max_in_flight": max_in_flight, "usd_per_day": usd_per_day}
    values = {column: limit(column, text) for column, text in given.items() if text is not None}
    if not values:
        raise UsageError("give --max-pending, --max-in-flight or --usd-per-day")
    row = asyncio.run(_set(checked_requester(requester), values))
    if as_json:
        print_json(row)
    else:
        shown = (f"{COLUMNS[column]} {'none' if row[column] is None else row[column]}" for column in given)
        say(f"{requester}: {', '.join(shown)}")


@limits.command()
def unset(requester: Who) -> None:
    """Remove all limits of a requester; those of '*' apply again."""
    if not asyncio.run(_unset(requester)):
        raise CommandError(f"{requester} has no limits of its own")
    say(f"{requester} has no limits of its own any more")


def author() -> str:
    """Return who runs this command: the user and the host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return storable_text(f"{user}@{socket.gethostname()}", MAX_CHARS)


def limit(column: str, text: str) -> Decimal | None:
    """Read a limit; None for ``none``.

    Raises:
        UsageError: it is neither a number within its range nor ``none``.
    """
    option = f"--{column.replace('_', '-')}"
    if column == "usd_per_day":
        return number(text, option, most=MAX_USD, decimals=USD_DECIMALS, or_none=True)
    return number(text, option, most=MAX_COUNT, or_none=True)


def checked_requester(name: str) -> str:
    """Return a requester.

    Raises:
        UsageError: it is longer than the table allows, or cannot be stored.
    """
    if len(name) > MAX_CHARS or storable_text(name, MAX_CHARS) != name:
        raise UsageError(f"a requester must have at most {MAX_CHARS} characters, and no NUL")
    return name


def _target(model: str | None, requester: str | None) -> tuple[str, str]:
    if model is not None and requester is not None:
        raise UsageError("give --model or --requester, not both")
    if model is not None:
        from draftd.cli.models import checked_name

        return "model", checked_name(model)
    return ("all", "") if requester is None else ("requester", checked_requester(requester))


def _shown(what: str, name: str) -> str:
    return "everything" if what == "all" else f"the {what} {name!r}"


async def _pause(row: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Pause; return the row, and a warning if no agent uses the model."""
    from draftd import db
    from draftd.providers.pauses import PAUSE, used_models

    async with db.connected(settings().require_database_url(), reads=PAUSES) as connection:
        paused = await (await connection.execute(PAUSE.encode(), row)).fetchone()
        assert paused is not None  # noqa: S101  # an upsert returns its row
        used = await used_models(connection) if row["what"] == "model" else None
    if used is None or row["name"] in used:
        return paused, None
    return paused, f"no agent uses a model named {row['name']!r}; in use: {', '.join(used) or 'none'}"


async def _resume(row: dict[str, Any]) -> dict[str, Any] | None:
    from draftd import db
    from draftd.providers.pauses import RESUME

    async with db.connected(settings().require_database_url(), reads=PAUSES) as connection:
        return await (await connection.execute(RESUME.encode(), row)).fetchone()


async def _list() -> list[dict[str, Any]]:
    from draftd import db
    from draftd.queue.limits import list_ as rows

    async with db.connected(settings().require_database_url(), reads=LIMITS) as connection:
        return await rows(connection)


async def _set(requester: str, values: dict[str, Decimal | None]) -> dict[str, Any]:
    from draftd import db
    from draftd.queue.limits import change

    async with db.connected(settings().require_database_url(), reads=LIMITS) as connection:
        return await change(connection, requester, values)


async def _unset(requester: str) -> bool:
    from draftd import db
    from draftd.queue.limits import remove

    async with db.connected(settings().require_database_url(), reads=LIMITS) as connection:
        return await remove(connection, requester)
