"""The command line: one module per group of commands, and the one place where errors become exit codes.

Nothing here may be slow to import: ``draftd --help`` is on people's way. Heavy modules are imported inside the commands, and
litellm by ``run``, ``demo`` and ``doctor`` alone.
"""

import errno
import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from draftd.cli import agents, daemon, database, enqueue, fleet, grants, models, prune, requests
from draftd.cli import settings as fleet_settings
from draftd.cli.console import Commands, say
from draftd.errors import CommandError, UsageError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

app = typer.Typer(
    name="draftd",
    cls=Commands,
    suggest_commands=False,
    help="Turns screenshots of posts, mails and chats into three ready replies, with PostgreSQL as the message bus.",
    epilog="Settings are environment variables (DRAFTD_DATABASE_URL, DRAFTD_MODEL, …); see docs/settings.md.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from draftd import __version__

        print(f"draftd {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Turn screenshots into replies."""


daemon.register(app)
enqueue.register(app)
requests.register(app)
prune.register(app)
fleet.register(app)
agents.register(app)
models.register(app)
fleet_settings.register(app)
database.register(app)
grants.register(app)


def main() -> None:
    """Run the command line; every error that a user can cause ends as one line and an exit code of the contract."""
    _open_what_is_closed()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal of another encoding gets what it can show
    try:
        app()
    except CommandError as error:
        _end(error)
    except UnicodeEncodeError:
        # The command line held bytes that are no UTF-8: neither the database nor JSON takes them.
        _end(UsageError("an argument is not UTF-8 text"))
    except OSError as error:
        if error.errno not in _FULL:
            raise
        _give_up_output()
        _end(CommandError(f"the output cannot be written: {error.strerror}"))
    finally:
        _flush()


def _open_what_is_closed() -> None:
    """Open ``/dev/null`` for each standard stream that was closed before the start (``draftd run 2>&-``).

    Talk would go to stdout then, and the next connection would get the number that a library writes its complaints to.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115  # for as long as the process lives


def _flush() -> None:
    """Write out what is still buffered; say nothing when its reader has gone (``draftd list | head``)."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _give_up_output()
        if not isinstance(error, BrokenPipeError):
            _end(CommandError(f"the output cannot be written: {error.strerror}"))


def _give_up_output() -> None:
    # The interpreter flushes once more at its exit, and would complain there.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end(error: CommandError) -> NoReturn:
    say(f"draftd: {error.message}")
    sys.exit(error.exit_code)
