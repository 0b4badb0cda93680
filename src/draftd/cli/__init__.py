"""The command line: one module per group of commands, and the one place where errors become exit codes.

Nothing here may be slow to import: ``draftd --help`` is on people's way. Heavy modules are imported inside the commands, and
litellm by ``run``, ``demo`` and ``doctor`` alone.
"""

import os
import sys
from io import TextIOWrapper
from typing import Annotated, NoReturn

import typer

from draftd.cli import daemon, database, fleet, models, prune, queue, requests
from draftd.cli.console import Commands, say
from draftd.errors import CommandError, UsageError

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
requests.register(app)
queue.register(app)
prune.register(app)
fleet.register(app)
models.register(app)
database.register(app)


def main() -> None:
    """Run the command line; every error that a user can cause ends as one line and an exit code of the contract."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal of another encoding gets what it can show
    try:
        app()
    except CommandError as error:
        _end(error)
    except UnicodeEncodeError:
        # The command line held bytes that are no UTF-8: neither the database nor JSON takes them.
        _end(UsageError("an argument is not UTF-8 text"))
    finally:
        _flush()


def _flush() -> None:
    """Write out what is still buffered; say nothing when its reader has gone (``draftd list | head``)."""
    if sys.stdout is None:  # closed before the start (``draftd run >&-``)
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more at its exit, and would complain there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end(error: CommandError) -> NoReturn:
    say(f"draftd: {error.message}")
    sys.exit(error.exit_code)
