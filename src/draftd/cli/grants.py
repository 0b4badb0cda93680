"""The command that prints the rights of an app and of a daemon: grants."""

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
    schema: Annotated[str, typer.Option(metavar="NAME", help="Where the tables are.")] = "public",
    trusted: Annotated[bool, typer.Option("--trusted", help="Let the client choose ids and priorities too.")] = False,
) -> None:
    """Print the SQL that grants a role what it needs and no more.

    It connects to nothing: read it, then apply it as the owner of the tables (draftd grants … | psql). The roles must exist.
    """
    from draftd.db.grants import backend

    if preset not in PRESETS:
        raise UsageError(f"{preset!r} is no preset; there is {', '.join(PRESETS)}")
    if trusted and client is None:
        raise UsageError("--trusted goes with --client")
    print(backend(schema=schema, client=client, worker=worker, trusted=trusted), end="")
