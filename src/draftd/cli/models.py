"""Commands about models: which one answers which agent. Running daemons follow within seconds."""

import asyncio
import json
import re
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from draftd.cli.console import Commands, Json, print_json, print_table, say, settings
from draftd.errors import CommandError, UsageError
from draftd.sanitize import storable, without_secrets

Agent = Annotated[str, typer.Argument(metavar="AGENT", help="The agent, e.g. comment_generator.", show_default=False)]
COLUMNS = {
    "agent": "agent",
    "model": "model",
    "fallback_models": "fallbacks",
    "params": "params",
    "api_base": "api base",
    "api_key_env": "key from",
    "price_in": "USD/M in",
    "price_out": "USD/M out",
}

MAX_PRICE_USD = 10_000
"""Per million tokens: some ten times what the dearest model costs, and a call of 99 million tokens still fits ``draft_usage``."""
RESERVED = frozenset({
    "model", "messages", "api_key", "api_base", "base_url", "headers", "extra_headers",
    "stream", "stream_options", "timeout", "num_retries", "max_retries", "drop_params",
})  # fmt: skip
"""Not for ``--param``: draftd sets them itself, or they hold a key, which must not stand in the table as plain text."""
_VARIABLE = re.compile("[A-Za-z_][A-Za-z0-9_]*")

models = typer.Typer(
    help="Show and change which model answers which agent.",
    cls=Commands,
    suggest_commands=False,
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(models, name="models")


@models.command("list")
def list_(as_json: Json = False) -> None:
    """List the agents' models."""
    rows = asyncio.run(_rows())
    if as_json:
        print_json(rows)
        return
    table = [
        row
        | {
            "fallback_models": ", ".join(row["fallback_models"]),
            "params": " ".join(f"{name}={json.dumps(value)}" for name, value in row["params"].items()),
        }
        for row in rows
    ]
    print_table(COLUMNS, table, empty="no agent has a model of its own; DRAFTD_MODEL answers")


@models.command("set")
def set_(
    agent: Agent,
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A litellm name, e.g. anthropic/claude-sonnet-4-5.", show_default=False),
    ],
    fallback: Annotated[
        list[str] | None, typer.Option(metavar="MODEL", help="Asked when the first cannot; may be given again.")
    ] = None,
    api_base: Annotated[str | None, typer.Option(metavar="URL", help="A gateway's address.")] = None,
    api_key_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="The environment variable that holds the key, at the daemons.")
    ] = None,
    price_in: Annotated[
        float | None, typer.Option(metavar="USD", min=0, max=MAX_PRICE_USD, help="Per million input tokens.")
    ] = None,
    price_out: Annotated[
        float | None, typer.Option(metavar="USD", min=0, max=MAX_PRICE_USD, help="Per million output tokens.")
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(metavar="K=V", help="A model parameter, e.g. temperature=0.2; may be given again."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Choose the model of an agent; what is not given is reset."""
    if not agent.strip() or not all(name.strip() for name in (model, *(fallback or ()))):
        raise UsageError("agent and models have names")
    if (price_in is None) != (price_out is None):
        raise UsageError("--price-in and --price-out go together")
    if api_base is not None and not _is_base(api_base):
        # A user, a password or a key in a query would stand in the table as plain text.
        raise UsageError("--api-base is a URL of a host, without user and query, such as http://gateway:8000/v1")
    if api_key_env is not None and not _VARIABLE.fullmatch(api_key_env):
        # It may be the key itself: it must be neither stored nor printed.
        raise UsageError("--api-key-env takes the name of an environment variable, not the key")
    row = {
        "agent": agent,
        "model": model,
        "fallback_models": fallback or [],
        "params": dict(parameter(one) for one in param or ()),
        "api_base": api_base,
        "api_key_env": api_key_env,
        "price_in": price_in,
        "price_out": price_out,
    }
    if asyncio.run(_set(row)):
        say(f"warning: no running daemon has a prompt for the agent {agent!r}")
    if as_json:
        print_json(row)
    else:
        say(f"{agent} is answered by {model}; running daemons follow within seconds")


def _is_base(url: str) -> bool:
    try:
        parts = urlsplit(url)
        is_bare = "@" not in parts.netloc and not parts.query
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and is_bare
    except ValueError:
        return False


def parameter(text: str) -> tuple[str, Any]:
    """Read ``name=value``; the value is JSON where it is (0.2, true), else text.

    Raises:
        UsageError: there is no name, it is reserved, or the value cannot be stored or holds a secret. The message does not
            hold the value.
    """
    name, separator, value = text.partition("=")
    name = name.strip()
    if not separator or not name:
        raise UsageError("--param takes name=value")
    if name.lower().replace("-", "_") in RESERVED:
        raise UsageError(f"--param cannot set {name}: draftd does, and keys come from --api-key-env")
    try:
        read = json.loads(value, parse_constant=str)
    except (ValueError, RecursionError):
        read = value
    if storable({name: read}) != {name: read}:
        raise UsageError(f"--param {name!r}: this value cannot be stored (NUL, half a character, or far too large)")
    if without_secrets({name: read}) != {name: read}:
        raise UsageError(
            f"--param {name!r}: a secret would stand in the table as plain text; set it in the daemons' environment"
        )
    return name, read


@models.command()
def unset(agent: Agent) -> None:
    """Give an agent back to DRAFTD_MODEL."""
    if not asyncio.run(_unset(agent)):
        raise CommandError(f"{agent} has no model of its own")
    say(f"{agent} is answered by DRAFTD_MODEL again")


async def _rows() -> list[dict[str, Any]]:
    from draftd import db
    from draftd.models import LIST

    async with db.connected(settings().require_database_url()) as connection:
        return await (await connection.execute(LIST.encode())).fetchall()


async def _set(row: dict[str, Any]) -> bool:
    """Store the row; return whether no daemon has a prompt for its agent."""
    from psycopg.types.json import Jsonb

    from draftd import db
    from draftd.holds import FORGET
    from draftd.models import CHOSEN, SET
    from draftd.queue import desk

    async with db.connected(settings().require_database_url()) as connection:
        before = await (await connection.execute(CHOSEN.encode(), {"agent": row["agent"]})).fetchall()
        await connection.execute(SET.encode(), row | {"params": Jsonb(row["params"])})
        # Whoever changes this expects it to be tried now, whatever was wrong before; and nobody probes what nobody uses.
        models = [name for one in (row, *before) for name in (one["model"], *one["fallback_models"])]
        await connection.execute(FORGET.encode(), {"models": models})
        return await desk.nobody_serves(connection, row["agent"])


async def _unset(agent: str) -> bool:
    from draftd import db
    from draftd.holds import FORGET
    from draftd.models import CHOSEN, UNSET

    async with db.connected(settings().require_database_url()) as connection:
        before = await (await connection.execute(CHOSEN.encode(), {"agent": agent})).fetchall()
        models = [name for one in before for name in (one["model"], *one["fallback_models"])]
        await connection.execute(FORGET.encode(), {"models": models})
        return bool(await (await connection.execute(UNSET.encode(), {"agent": agent})).fetchall())
