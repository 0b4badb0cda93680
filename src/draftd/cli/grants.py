"""The command that prints the SQL for an app's and a daemon's database rights: grants."""

from typing import Annotated

import typer

from draftd.errors import UsageError

BACKEND = "backend"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(grants)


def grants(
    preset: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="backend: a server that acts for all requesters. supabase, insforge: end users through PostgREST, and a "
            "server.",
            show_default=False,
        ),
    ],
    client: Annotated[
        str | None,
        typer.Option(
            metavar="ROLE",
            help="The app's role; with supabase and insforge its end users', instead of authenticated.",
            show_default=False,
        ),
    ] = None,
    worker: Annotated[str | None, typer.Option(metavar="ROLE", help="The daemons' role.", show_default=False)] = None,
    schema: Annotated[str, typer.Option(metavar="NAME", help="Schema of the tables.")] = "public",
    identity: Annotated[
        str | None,
        typer.Option(
            metavar="EXPR",
            help="SQL for the requester that a transaction acts for, instead of the JWT's subject. "
            "With backend: makes the client an end user, who has that requester's rows only.",
            show_default=False,
        ),
    ] = None,
    trusted: Annotated[
        bool, typer.Option("--trusted", help="Also let the server set ids and priorities, and forget requesters.")
    ] = False,
) -> None:
    """Print the SQL that grants roles exactly what they need.

    Connects to nothing. Review the SQL, then apply it as the owner of the tables (draftd grants … | psql). The roles must exist.
    """
    from draftd.db.grants import backend
    from draftd.db.hosts import PLATFORMS, platform

    if preset not in {BACKEND, *PLATFORMS}:
        raise UsageError(f"unknown preset {preset!r}; available: {', '.join((BACKEND, *PLATFORMS))}")
    if preset != BACKEND:
        printed = platform(preset, schema=schema, client=client, worker=worker, trusted=trusted, identity=identity)
        print(printed, end="")
        return
    if client is None and (trusted or identity is not None):
        raise UsageError(f"{'--trusted' if trusted else '--identity'} needs --client")
    if trusted and identity is not None:
        raise UsageError("an end user (--identity) is never --trusted")
    print(backend(schema=schema, client=client, worker=worker, trusted=trusted, identity=identity), end="")
