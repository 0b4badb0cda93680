"""The command about the schema: migrate."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from draftd.cli.console import say, settings
from draftd.errors import UsageError

if TYPE_CHECKING:
    from draftd.schema_version import SchemaState

EXIT_NEGATIVE = 1


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(migrate)


def migrate(
    check: Annotated[bool, typer.Option("--check", help="Only say; exit 1 if the schema is behind.")] = False,
    sql: Annotated[bool, typer.Option("--sql", help="Print the statements instead of executing them.")] = False,
) -> None:
    """Bring the database to the newest schema."""
    if check and sql:
        raise UsageError("--check and --sql exclude each other")
    from draftd import schema_version
    from draftd.schema_version import SchemaState as State

    if sql:
        print(schema_version.upgrade_sql(), end="")
        return
    url = settings().require_database_url()
    before = asyncio.run(_state(url))
    if before is State.BEHIND and not check:
        schema_version.upgrade(url)
        say(f"the schema is at {schema_version.revisions()[-1]} now")
        return
    say(f"the schema is {before}")
    raise typer.Exit(EXIT_NEGATIVE if before is State.BEHIND else 0)


async def _state(url: str) -> "SchemaState":
    from draftd import db, schema_version

    async with db.connected(url) as connection:
        return await schema_version.state(connection)
