"""Commands for the fleet's settings, which apply to all daemons and the database, whatever their environments."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from draftd.cli.console import USD_DECIMALS, Commands, Json, duration_s, number, print_json, print_table, say
from draftd.cli.console import settings as own_settings
from draftd.errors import UsageError

if TYPE_CHECKING:
    from draftd.queue.fleet_settings import FleetSetting, Given, Value

TABLES = ("draft_settings",)
"""Tables these commands read."""
COLUMNS = {"name": "name", "value": "value", "meaning": "meaning"}
SWITCH = ("off", "on")

app = typer.Typer(
    help="Show or change settings of the whole fleet. A daemon's own settings are environment variables: docs/settings.md.",
    cls=Commands,
    suggest_commands=False,
    no_args_is_help=True,
)


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="settings")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the fleet's settings."""
    from draftd.queue.fleet_settings import SETTINGS

    values = asyncio.run(_read())
    if as_json:
        print_json({"settings": values})
        return
    rows = [
        {"name": name, "value": _shown(values[name]), "meaning": setting.meaning.replace("`", "")}
        for name, setting in SETTINGS.items()
    ]
    print_table(COLUMNS, rows, empty="", spare=("meaning",))


@app.command("set")
def set_(
    assignments: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=VALUE...", help="For example usd_per_day=20 voice_learning=on.", show_default=False
        ),
    ],
    as_json: Json = False,
) -> None:
    """Change settings of the fleet; the others keep their values.

    When a change takes effect: an expiry, for requests inserted from now on; a retention, at the next hourly pass; learning, for
    drafts that begin from now on; a budget, within seconds. Needs the role that owns the tables.
    """
    values = dict(assignment(text) for text in assignments)
    now = asyncio.run(_set(values))
    if as_json:
        print_json({"settings": now})
    else:
        say(", ".join(f"{name} is {_shown(value)}" for name, value in values.items()))


def _shown(value: object) -> str:
    if value is None:
        return "none"
    return SWITCH[value] if isinstance(value, bool) else f"{value}"


def assignment(text: str) -> "tuple[str, Given]":
    """Read ``NAME=VALUE``; the value may be a duration, an amount, or ``on`` and ``off`` of a switch.

    Raises:
        UsageError: the setting is unknown, or the value is not valid for it.
    """
    from draftd.queue.fleet_settings import SETTINGS, Kind

    name, equals, value = text.partition("=")
    if not equals or name not in SETTINGS:
        raise UsageError(f"{text!r} is not a setting; write NAME=VALUE, where NAME is one of {', '.join(SETTINGS)}")
    setting = SETTINGS[name]
    match setting.kind:
        case Kind.SWITCH:
            return name, _switched(name, value)
        case Kind.USD:
            return name, number(value, name, most=setting.maximum, decimals=USD_DECIMALS, or_none=True)
        case Kind.SECONDS | Kind.DAYS:
            return name, _number(name, setting, value)


def _switched(name: str, value: str) -> bool:
    if value not in SWITCH:
        raise UsageError(f"{name} must be on or off, not {value!r}")
    return value == SWITCH[True]


def _number(name: str, setting: "FleetSetting", value: str) -> int:
    number = float(value) if value.isascii() and value.isdecimal() else duration_s(value) / setting.kind.value
    if not number.is_integer() or number > setting.maximum:
        raise UsageError(f"{name} must be a whole number from 0 to {setting.maximum}, not {value!r}")
    return int(number)


async def _read() -> "dict[str, Value]":
    from draftd import db
    from draftd.queue.fleet_settings import READ, of

    async with db.connected(own_settings().require_database_url(), reads=TABLES) as connection:
        return of(await (await connection.execute(READ)).fetchall())


async def _set(values: "Mapping[str, Given]") -> "Mapping[str, Value]":
    from draftd import db
    from draftd.queue.fleet_settings import READ, change, of

    async with db.connected(own_settings().require_database_url(), reads=TABLES) as connection:
        await change(connection, values)
        return of(await (await connection.execute(READ)).fetchall())
