"""Commands for agents: which models they use, by name. Running daemons pick up a change within seconds."""

import asyncio
from typing import Annotated, Any

import typer

from draftd.cli.console import Commands, Json, print_json, print_table, say, settings
from draftd.cli.models import TABLES, Param, checked_name, parameters, permits, shown_params
from draftd.errors import CommandError, UsageError

Agent = Annotated[str, typer.Argument(metavar="AGENT", help="The agent, e.g. comment_generator.", show_default=False)]
COLUMNS = {"agent": "agent", "model": "model", "fallback_models": "fallbacks", "params": "params"}

agents = typer.Typer(
    help="Show or change which models an agent uses. `draftd models` defines their names.",
    cls=Commands,
    suggest_commands=False,
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(agents, name="agents")


@agents.command("list")
def list_(as_json: Json = False) -> None:
    """List the agents with models of their own."""
    from draftd.providers.catalog import fallback_names

    rows = asyncio.run(_rows())
    if as_json:
        print_json({"agents": rows})
        return
    table = [
        row | {"fallback_models": ", ".join(fallback_names(row)), "params": shown_params(row["params"])} for row in rows
    ]
    print_table(COLUMNS, table, empty="no agent has models of its own; all use DRAFTD_MODEL")


@agents.command("set")
def set_(
    agent: Agent,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A name of `draftd models list`, or a litellm name, e.g. anthropic/claude-sonnet-4-5.",
            show_default=False,
        ),
    ],
    fallback: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Model to use when the ones before it cannot answer. Repeatable."),
    ] = None,
    param: Param = None,
    as_json: Json = False,
) -> None:
    """Set an agent's models.

    Replaces the previous choice: fallbacks and parameters not given are removed. Parameters apply to all of the agent's models
    and override those of the model and of the prompt. Ends holds on these models, so they are tried at once.
    """
    if not agent.strip():
        raise UsageError("the agent's name is empty")
    row = {
        "agent": agent,
        "model": checked_name(name),
        "fallback_models": [checked_name(one) for one in fallback or ()],
        "params": parameters(param or ()),
    }
    if asyncio.run(_set(row)):
        say(f"warning: no running daemon has a prompt for the agent {agent!r}")
    if as_json:
        print_json(row)
    else:
        say(f"{agent} now uses {', '.join([name, *(fallback or ())])}; running daemons follow within seconds")


@agents.command()
def unset(agent: Agent) -> None:
    """Return an agent to DRAFTD_MODEL."""
    if not asyncio.run(_unset(agent)):
        raise CommandError(f"{agent} has no models of its own")
    say(f"{agent} uses DRAFTD_MODEL again")


async def _rows() -> list[dict[str, Any]]:
    from draftd import db
    from draftd.providers.catalog import LIST_AGENTS

    async with db.connected(settings().require_database_url(), reads=TABLES) as connection:
        return await (await connection.execute(LIST_AGENTS.encode())).fetchall()


async def _set(row: dict[str, Any]) -> bool:
    """Store the row; return whether no daemon has a prompt for its agent.

    Raises:
        UsageError: a name is neither defined nor a litellm name that may be used from a table.
    """
    from psycopg.types.json import Jsonb

    from draftd import db
    from draftd.providers.catalog import CHOSEN, DEFINED, SET_AGENT, fallback_names
    from draftd.providers.holds import FORGET
    from draftd.queue import admin

    loaded = settings()
    allowed, names = permits(loaded), [row["model"], *row["fallback_models"]]
    async with db.connected(loaded.require_database_url(), reads=TABLES) as connection:
        defined = await (await connection.execute(DEFINED.encode(), {"names": names})).fetchall()
        for name in set(names) - {one["name"] for one in defined}:
            if why := allowed.refusal(model=name, api_base=None, api_key_env=None):
                raise UsageError(f"{name}: {why}")
        before = await (await connection.execute(CHOSEN.encode(), {"agent": row["agent"]})).fetchall()
        await connection.execute(SET_AGENT.encode(), row | {"params": Jsonb(row["params"])})
        # The operator expects the new models to be tried now, and an unused model is never probed.
        names += [name for one in before for name in (one["model"], *fallback_names(one))]
        await connection.execute(FORGET.encode(), {"models": names})
        return await admin.is_unserved(connection, row["agent"])


async def _unset(agent: str) -> bool:
    from draftd import db
    from draftd.providers.catalog import UNSET_AGENT, fallback_names
    from draftd.providers.holds import FORGET

    async with db.connected(settings().require_database_url(), reads=TABLES) as connection:
        before = await (await connection.execute(UNSET_AGENT.encode(), {"agent": agent})).fetchall()
        names = [name for one in before for name in (one["model"], *fallback_names(one))]
        await connection.execute(FORGET.encode(), {"models": names})
        return bool(before)
