"""Commands about the daemon itself: run, health, systemd-unit, demo."""

import asyncio
import sys
from typing import Annotated

import typer

from draftd.cli.console import Json, print_json, settings
from draftd.errors import CommandError

EXIT_NEGATIVE = 1


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(run)
    app.command()(health)
    app.command("systemd-unit")(systemd_unit)
    app.command()(demo)


def run(
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Claim loops.  [default: DRAFTD_CONCURRENCY, else 16]")
    ] = None,
    drain: Annotated[
        bool, typer.Option("--drain", help="Work until nothing is claimable, then exit 0 (75: rows wait on a hold).")
    ] = False,
) -> None:
    """Run the daemon: claim requests, draft, write the results back. SIGTERM drains; a second one ends it at once."""
    from draftd.app import serve
    from draftd.logs import configure_logging
    from draftd.settings import export_foreign_variables

    loaded = settings()
    configure_logging(level=loaded.log_level, style=loaded.log_format)
    export_foreign_variables()
    raise typer.Exit(asyncio.run(serve(loaded, concurrency=concurrency or loaded.concurrency, drain=drain)))


def health(
    ready: Annotated[bool, typer.Option("--ready", help="Ask for the database and its schema too.")] = False,
    as_json: Json = False,
) -> None:
    """Exit 1 only if this host's daemon is gone or stuck. A model on hold is no illness."""
    problem, detail = asyncio.run(_health(ready=ready))
    if as_json:
        print_json({"ok": problem is None, "detail": problem or detail})
    else:
        print(problem or detail)
    raise typer.Exit(EXIT_NEGATIVE if problem else 0)


async def _health(*, ready: bool) -> tuple[str | None, str]:
    """Return what is wrong, if anything is, and a line for when nothing is."""
    from draftd import liveness

    pids = liveness.daemons()
    if not pids:
        return "no daemon runs on this host", ""
    answers = await asyncio.gather(*(liveness.ask(pid) for pid in pids))
    stuck = [str(pid) for pid, answer in zip(pids, answers, strict=True) if answer is None]
    if stuck:
        return f"the daemon does not answer (pid {', '.join(stuck)})", ""
    if ready:
        from draftd.app import check_schema

        try:
            await check_schema(settings().require_database_url())
        except CommandError as error:
            return error.message, ""
    in_flight = sum(answer["in_flight"] for answer in answers if answer)
    return None, f"{len(pids)} daemon{'s' if len(pids) > 1 else ''}, {in_flight} in flight"


def systemd_unit(
    timer: Annotated[bool, typer.Option("--timer", help="The reaper's service and timer instead.")] = False,
    user: Annotated[str, typer.Option(help="The account that runs it.")] = "draftd",
    environment_file: Annotated[str, typer.Option(help="Where the settings are.")] = "/etc/draftd.env",
) -> None:
    """Print a hardened systemd service."""
    from draftd.systemd import program, reaper_units, service_unit

    text = reaper_units if timer else service_unit
    print(text(program=program(sys.argv[0]), user=user, environment_file=environment_file), end="")


def demo(
    model: Annotated[
        str | None, typer.Option(help="Draft with this model instead of the stand-in (a litellm name).", envvar="MODEL")
    ] = None,
) -> None:
    """From nothing to printed drafts: embedded PostgreSQL, a daemon, three sample screenshots."""
    from draftd.cli.tour import tour

    raise typer.Exit(tour(model=model))
