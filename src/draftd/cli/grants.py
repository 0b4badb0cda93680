"""The command that prints the SQL for an app's and a daemon's database rights: grants."""

from typing import Annotated

import typer

from draftd.errors import UsageError

PRESETS = ("backend",)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(grants)


def grants(
    preset: Annotated[
        str, typer.Option(metavar="NAME", help="backend: a server that acts for all requesters.", show_default=False)
    ],
    client: Annotated[str | None, typer.Option(metavar="ROLE", help="The app's role.", show_default=False)] = None,
    worker: Annotated[str | None, typer.Option(metavar="ROLE", help="The daemons' role.", show_default=False)] = None,
    schema: Annotated[str, typer.Option(metavar="NAME", help="Schema of the tables.")] = "public",
    trusted: Annotated[
        bool, typer.Option("--trusted", help="Also let the client set ids and priorities, and forget requesters.")
    ] = False,
) -> None:
    """Print the SQL that grants a role exactly what it needs.

    Connects to nothing. Review the SQL, then apply it as the owner of the tables (draftd grants … | psql). The roles must exist.
    """
    from draftd.db.grants import backend

    if preset not in PRESETS:
        raise UsageError(f"unknown preset {preset!r}; available: {', '.join(PRESETS)}")
    if trusted and client is None:
        raise UsageError("--trusted needs --client")
    print(backend(schema=schema, client=client, worker=worker, trusted=trusted), end="")
