"""Commands for models: what a model's name stands for. Running daemons pick up a change within seconds."""

import asyncio
import json
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from draftd.cli.console import (
    USD_DECIMALS,
    Commands,
    Json,
    json_or_text,
    key_value,
    number,
    print_json,
    print_table,
    say,
    settings,
)
from draftd.errors import CommandError, UsageError
from draftd.json_values import json_object
from draftd.providers.known_providers import MAX_NAME_CHARS
from draftd.sanitize import storable, without_secrets

if TYPE_CHECKING:
    from draftd.providers.permits import Permits
    from draftd.settings import Settings

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The model's name, as used by agents and metrics.", show_default=False)
]
Param = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="A parameter of the model call, e.g. temperature=0.2. Repeatable."),
]
COLUMNS = {
    "name": "name",
    "model": "model",
    "api_base": "api base",
    "api_key_env": "key from",
    "params": "params",
    "input_usd_per_mtok": "USD/M in",
    "cached_input_usd_per_mtok": "USD/M cached",
    "output_usd_per_mtok": "USD/M out",
    "rpm": "rpm",
    "tpm": "tpm",
    "max_in_flight": "in flight",
}
TABLES = ("draft_agents", "draft_models")
"""Tables these commands read."""
MAX_PRICE_USD = 10_000
"""Per million tokens: ten times the most expensive model; a call of 99 million tokens still fits into ``draft_usage``."""

models = typer.Typer(
    help="Show or change what a model's name stands for. `draftd agents` selects models by name.",
    cls=Commands,
    suggest_commands=False,
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(models, name="models")


@models.command("list")
def list_(as_json: Json = False) -> None:
    """List the defined names."""
    rows = asyncio.run(_rows())
    if as_json:
        print_json({"models": rows})
        return
    table = [row | {"params": shown_params(row["params"])} for row in rows]
    print_table(COLUMNS, table, empty="no names defined; all are litellm's own")


def _ceiling(metavar: str, most: int, what: str) -> Any:
    return typer.Option(metavar=metavar, min=1, max=most, help=f"{what}, for the whole fleet. Default: no ceiling.")


def _price(what: str) -> Any:
    return typer.Option(metavar="USD", help=what)


def _prices(input_usd: str | None, output_usd: str | None, cached_input_usd: str | None) -> dict[str, Decimal | None]:
    """Return the prices by column.

    Raises:
        UsageError: one is not an amount, or says nothing without another.
    """
    if (input_usd is None) != (output_usd is None):
        raise UsageError("--input-usd and --output-usd must be given together")
    if cached_input_usd is not None and input_usd is None:
        raise UsageError("--cached-input-usd needs --input-usd and --output-usd")
    given = {"input_usd": input_usd, "output_usd": output_usd, "cached_input_usd": cached_input_usd}
    return {
        f"{name}_per_mtok": None
        if text is None
        else number(text, f"--{name.replace('_', '-')}", most=MAX_PRICE_USD, decimals=USD_DECIMALS)
        for name, text in given.items()
    }


@models.command("set")
def set_(
    name: Name,
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="The litellm name, e.g. openai/gpt-5-mini. Default: NAME."),
    ] = None,
    api_base: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Server to send requests to. Must be the provider's own or in DRAFTD_MODEL_API_BASES."
        ),
    ] = None,
    api_key_env: Annotated[
        str | None,
        typer.Option(
            metavar="VAR",
            help="The daemons' environment variable that holds the key. Must be the provider's own or in "
            "DRAFTD_MODEL_KEY_VARIABLES.",
        ),
    ] = None,
    input_usd: Annotated[str | None, _price("Price per million input tokens.")] = None,
    output_usd: Annotated[str | None, _price("Price per million output tokens.")] = None,
    cached_input_usd: Annotated[
        str | None, _price("Price per million input tokens from the provider's cache. Default: --input-usd.")
    ] = None,
    rpm: Annotated[int | None, _ceiling("N", 1_000_000, "Maximum number of calls in any 60 seconds")] = None,
    tpm: Annotated[int | None, _ceiling("N", 2_000_000_000, "Maximum number of tokens in any 60 seconds")] = None,
    max_in_flight: Annotated[int | None, _ceiling("N", 100_000, "Maximum number of calls at a time")] = None,
    param: Param = None,
    as_json: Json = False,
) -> None:
    """Define a model's name.

    Replaces the previous definition: an address, key or price that is not given is the provider's; a ceiling that is not given is
    removed. Ends a hold on the model, so it is tried at once. Each daemon checks the address and the key variable against its own
    environment: set DRAFTD_MODEL_API_BASES and DRAFTD_MODEL_KEY_VARIABLES there as well as here.
    """
    prices = _prices(input_usd, output_usd, cached_input_usd)
    row: dict[str, Any] = {
        "name": checked_name(name),
        "model": checked_name(name if model is None else model),
        "api_base": api_base,
        "api_key_env": api_key_env,
        "params": parameters(param or ()),
        **prices,
        "rpm": rpm,
        "tpm": tpm,
        "max_in_flight": max_in_flight,
    }
    loaded = settings()
    if why := permits(loaded).refusal(model=row["model"], api_base=api_base, api_key_env=api_key_env):
        raise UsageError(f"{name}: {why}")
    asyncio.run(_set(loaded, row))
    if as_json:
        print_json(row)
    else:
        say(f"{name} now stands for {row['model']}; running daemons follow within seconds")


@models.command()
def unset(name: Name) -> None:
    """Remove a definition: the name is litellm's own again."""
    was_set, users = asyncio.run(_unset(name))
    if not was_set:
        raise CommandError(f"{name} is not defined")
    say(f"{name} is no longer defined; it is litellm's own name again")
    if users:
        say(f"warning: still used by {', '.join(users)}; choose another with `draftd agents set`")


def permits(loaded: "Settings") -> "Permits":
    """Return what this command's environment permits; each daemon uses its own.

    Raises:
        ConfigurationError: ``DRAFTD_MODEL_API_BASES`` is invalid.
    """
    from draftd.providers.permits import Permits
    from draftd.settings import environment_value, export_foreign_variables

    export_foreign_variables()
    return Permits.of(loaded, environment_value)


def checked_name(name: str) -> str:
    """Return a model's name.

    Raises:
        UsageError: it is empty, too long, or not printable.
    """
    if not name.strip() or len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise UsageError(f"a model's name must have 1 to {MAX_NAME_CHARS} printable characters")
    return name


def parameters(texts: Sequence[str]) -> dict[str, Any]:
    """Read several ``KEY=VALUE``.

    Raises:
        UsageError: one is invalid, or may not be set; the message does not contain its value.
    """
    from draftd.providers.parameters import read

    try:
        return read(dict(parameter(text) for text in texts))
    except ValueError as error:
        raise UsageError(f"--param: {error}") from None


def parameter(text: str) -> tuple[str, Any]:
    """Read ``KEY=VALUE``; a value that is valid JSON (0.2, true) is read as JSON, any other is text.

    Raises:
        UsageError: the key is missing, or the value cannot be stored or is a secret. The message does not contain the value.
    """
    name, value = key_value(text, "--param")
    read = json_or_text(value)
    if storable({name: read}) != {name: read}:
        raise UsageError(f"--param {name!r}: the value cannot be stored (NUL, a lone surrogate, or far too large)")
    if without_secrets({"": read}) != {"": read}:
        raise UsageError(
            f"--param {name!r}: looks like a secret, and would be stored as plain text; set it in the daemons' environment"
        )
    return name, read


def shown_params(params: object) -> str:
    """Return parameters in the form of ``--param``; an empty text for anything but a JSON object."""
    return " ".join(f"{name}={json.dumps(value)}" for name, value in json_object(params).items())


async def _rows() -> list[dict[str, Any]]:
    from draftd import db
    from draftd.providers.catalog import LIST_MODELS

    async with db.connected(settings().require_database_url(), reads=TABLES) as connection:
        return await (await connection.execute(LIST_MODELS.encode())).fetchall()


async def _set(loaded: "Settings", row: dict[str, Any]) -> None:
    from psycopg.types.json import Jsonb

    from draftd import db
    from draftd.providers.catalog import SET_MODEL
    from draftd.providers.holds import FORGET

    async with db.connected(loaded.require_database_url(), reads=TABLES) as connection:
        await connection.execute(SET_MODEL.encode(), row | {"params": Jsonb(row["params"])})
        # The operator expects the new definition to be tried now.
        await connection.execute(FORGET.encode(), {"models": [row["name"]]})


async def _unset(name: str) -> tuple[bool, list[str]]:
    """Delete the row; return whether there was one, and the agents that still use the name."""
    from draftd import db
    from draftd.providers.catalog import UNSET_MODEL, USERS
    from draftd.providers.holds import FORGET

    async with db.connected(settings().require_database_url(), reads=TABLES) as connection:
        deleted = await (await connection.execute(UNSET_MODEL.encode(), {"name": name})).fetchall()
        users = await (await connection.execute(USERS.encode(), {"name": name})).fetchall()
        await connection.execute(FORGET.encode(), {"models": [name]})
        return bool(deleted), [row["agent"] for row in users]
