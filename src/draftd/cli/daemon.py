"""Commands about the daemon itself: run, health, systemd-unit, demo."""

import asyncio
import os
import pwd
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from draftd.cli.console import EXIT_NEGATIVE, Json, colour_wanted, one_line, print_json, settings
from draftd.errors import ConfigurationError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(run)
    app.command()(health)
    app.command("systemd-unit")(systemd_unit)
    app.command()(demo)


def run(
    concurrency: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, max=10_000, help="Number of claim loops. Default: DRAFTD_CONCURRENCY, else 16."
        ),
    ] = None,
    drain: Annotated[
        bool,
        typer.Option(
            "--drain",
            help="Exit once nothing is left to claim: 0, or 75 if requests wait for a hold, a pause or the fleet's budget.",
        ),
    ] = False,
) -> None:
    """Run the daemon: claim requests, draft replies, store them.

    SIGTERM, SIGHUP and Ctrl-C drain: claiming stops, and attempts in flight may finish. A second SIGTERM or Ctrl-C exits at once.
    The daemon never blocks on its log: unread lines are dropped and counted.
    """
    from draftd.streams import make_output_nonblocking

    make_output_nonblocking()
    from draftd.daemon.composition import serve
    from draftd.logs import configure_logging
    from draftd.settings import export_foreign_variables

    loaded = settings()
    configure_logging(level=loaded.log_level, style=loaded.log_format, colours=colour_wanted(sys.stderr))
    export_foreign_variables()
    raise typer.Exit(asyncio.run(serve(loaded, concurrency=concurrency or loaded.concurrency, drain=drain)))


def health(
    ready: Annotated[
        bool, typer.Option("--ready", help="Also check that the daemon has all its database connections.")
    ] = False,
    pid: Annotated[
        int | None,
        typer.Option(metavar="PID", min=1, help="Ask only the daemon with this process id.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Exit 1 only if this host's daemon is gone or stuck.

    Asks the current user's daemons directly, without the database. Daemons of other users and containers do not count, and
    neither does a model on hold.
    """
    problem, detail = asyncio.run(_health(ready=ready, pid=pid))
    if as_json:
        print_json({"ok": problem is None, "detail": problem or detail})
    else:
        print(one_line(problem or detail))
    raise typer.Exit(EXIT_NEGATIVE if problem else 0)


async def _health(*, ready: bool, pid: int | None) -> tuple[str | None, str]:
    """Return the problem, if any, and the line to print if there is none."""
    from draftd.daemon import liveness

    answers = await liveness.ask_all(pid=pid)
    if not answers:
        return _no_daemon(pid, liveness.other_users()), ""
    if stuck := [name.partition(".")[0] for name, answer in answers.items() if answer is None]:
        return f"the daemon does not answer (pid {', '.join(stuck)})", ""
    in_flight = sum(answer["in_flight"] for answer in answers.values() if answer)
    detail = f"{len(answers)} daemon{'s' if len(answers) > 1 else ''}, {in_flight} in flight"
    if not ready:
        return None, detail
    problems, notes = _databases({name: answer or {} for name, answer in answers.items()})
    return "; ".join([*problems, *notes]) if problems else None, "; ".join([detail, *notes])


def _no_daemon(pid: int | None, other_users: set[int]) -> str:
    which = "no daemon" if pid is None else f"no daemon with pid {pid}"
    if not other_users:
        return f"{which} is running on this host"
    users = ", ".join(map(_user, sorted(other_users)))
    return f"{which} of {_user(os.geteuid())} is running on this host; for one of {users}, run this as that user"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _databases(answers: "Mapping[str, Mapping[str, Any]]") -> tuple[list[str], list[str]]:
    """Return what keeps daemons from their databases, and which daemons use a database other than this command's."""
    own = _own_address()
    problems, notes = [], []
    for name, answer in answers.items():
        if (database := answer.get("database")) is None:
            continue
        pid = name.partition(".")[0]
        if not database["ok"]:
            problems.append(f"pid {pid}: {database['detail']}")
        if own not in {None, database["address"]}:
            notes.append(f"pid {pid} uses {database['address']}, but this command's settings name {own}")
    return problems, notes


def _own_address() -> str | None:
    """Return the database in this command's settings; None if they name none, which is not the daemon's fault."""
    from draftd.db import dsn

    with suppress(ConfigurationError):
        return dsn.address(settings().require_database_url())
    return None


def systemd_unit(
    timer: Annotated[bool, typer.Option("--timer", help="Print the reaper's service and timer instead.")] = False,
    user: Annotated[str, typer.Option(metavar="NAME", help="Account the service runs as.")] = "draftd",
    environment_file: Annotated[str, typer.Option(metavar="PATH", help="File with the settings.")] = "/etc/draftd.env",
) -> None:
    """Print a hardened systemd service."""
    from draftd.cli.systemd_unit import program, reaper_units, service_unit

    if not environment_file.startswith("/"):
        raise UsageError("--environment-file must be an absolute path")
    text = reaper_units if timer else service_unit
    print(text(program=program(sys.argv[0]), user=user, environment_file=environment_file), end="")


def demo(
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Model to draft with (a litellm name) instead of the stand-in.", envvar="MODEL"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Write the page here. Default: a temporary file.", show_default=False
        ),
    ] = None,
) -> None:
    """Run a complete demo, from nothing to printed drafts.

    Uses an embedded PostgreSQL, a daemon and three sample screenshots. Without a provider's key, a stand-in answers. The last
    line is the path of a page that shows the screenshots beside their drafts.
    """
    from draftd.cli.demo import run_demo

    raise typer.Exit(run_demo(model=model, output=output))
