"""The schema command: migrate."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from draftd.cli.console import EXIT_NEGATIVE, Json, print_json, say, settings
from draftd.errors import UsageError

if TYPE_CHECKING:
    from draftd.db.schema_version import SchemaState

_HINTS = {"behind": "; run `draftd migrate`", "ahead": ": a newer draftd has migrated it"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(migrate)


def migrate(
    check: Annotated[bool, typer.Option("--check", help="Only report; exit 1 if the schema is behind.")] = False,
    sql: Annotated[
        bool, typer.Option("--sql", help="Print the SQL for an empty database; connect to nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Upgrade the database to the newest schema.

    Does nothing if the schema is current. Concurrent migrations wait for each other; each runs in one transaction.
    """
    if sql and (check or as_json):
        raise UsageError("--sql cannot be combined with --check or --json")
    from draftd.db import schema_version
    from draftd.db.schema_version import SchemaState as State

    if sql:
        print(schema_version.upgrade_sql(), end="")
        return
    url = settings().require_database_url()
    state, who_can = asyncio.run(_state(url))
    if state is State.BEHIND and not check:
        schema_version.upgrade(url, who_can=who_can)
        state = State.CURRENT
        say(f"the schema is now at {schema_version.revisions()[-1]}")
    else:
        say(f"the schema is {state}{_HINTS.get(state, '')}")
    if as_json:
        print_json({"schema": state, "newest": schema_version.revisions()[-1]})
    raise typer.Exit(EXIT_NEGATIVE if state is State.BEHIND else 0)


async def _state(url: str) -> "tuple[SchemaState, str | None]":
    """Return the state of the schema, and which role may migrate it."""
    from draftd import db
    from draftd.db import schema_version

    async with db.connected(url, migrated=False, reads=schema_version.TABLES) as connection:
        if found := await schema_version.elsewhere(connection):
            say(f"note: {found}")
        return await schema_version.state(connection), await schema_version.who_can(connection)
