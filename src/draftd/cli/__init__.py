"""The command line: one module per group of commands, and the one place where errors become exit codes.

Nothing here may be slow to import, or ``draftd --help`` is slow. Heavy modules are imported inside the commands, and litellm only
by ``run``, ``demo``, ``doctor`` and ``eval``.

console        what the commands share: arguments, settings and printing
requests       show, list, cancel, retry
enqueue        inserts a request, and can wait for its drafts
feedback       records what became of a draft
report         figures, plots and the last drafts of a period, as HTML
prune          deletes old requests
forget         deletes everything stored of one requester
daemon         run, health, systemd-unit, demo
fleet          status, reap-stale, doctor
standstill     why nothing is being drafted, for status
doctor         the checks that the doctor makes
model_check    its question to a model, asked as a daemon asks
agents         which models the agents use
models         what a model's name stands for
limits         pause, resume, and the limits of requesters
settings       the settings of the whole fleet
database       migrate
grants         the SQL for the rights of an app and a daemon
demo           from nothing to printed drafts
stand_in       doubles of model and daemon for an app's tests
evaluation     eval
systemd_unit   the units that ``draftd systemd-unit`` prints
"""

import errno
import functools
import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from draftd.cli import (
    agents,
    daemon,
    database,
    enqueue,
    evaluation,
    feedback,
    fleet,
    forget,
    grants,
    limits,
    models,
    prune,
    report,
    requests,
    stand_in,
)
from draftd.cli import settings as fleet_settings
from draftd.cli.console import Commands, say
from draftd.errors import CommandError, UsageError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

app = typer.Typer(
    name="draftd",
    cls=Commands,
    suggest_commands=False,
    help="Turn screenshots of posts, emails and chats into three ready replies. PostgreSQL is the message bus.",
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
feedback.register(app)
report.register(app)
prune.register(app)
forget.register(app)
fleet.register(app)
agents.register(app)
models.register(app)
limits.register(app)
fleet_settings.register(app)
database.register(app)
grants.register(app)
evaluation.register(app)
stand_in.register(app)


@functools.cache
def command() -> Any:
    """Return the command with everything below it, which Typer would build again for each call."""
    return typer.main.get_command(app)


def main() -> None:
    """Run the command line; print every error a user can cause as one line, and exit with a code of the contract."""
    _reopen_closed_streams()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # some terminals cannot show every character
    try:
        command()()
    except CommandError as error:
        _end(error)
    except UnicodeEncodeError:
        # An argument holds bytes that neither the database nor JSON accepts.
        _end(UsageError("an argument is not valid UTF-8"))
    except OSError as error:
        if error.errno not in _FULL:
            raise
        _discard_output()
        _end(CommandError(f"cannot write the output: {error.strerror}"))
    finally:
        _flush()


def _reopen_closed_streams() -> None:
    """Open ``/dev/null`` for each standard stream that was closed before the start (``draftd run 2>&-``).

    Otherwise messages would go to stdout, and a database connection could get descriptor 2, which libraries write to.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115  # open for the life of the process


def _flush() -> None:
    """Flush stdout; stay silent if its reader has gone (``draftd list | head``)."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _discard_output()
        if not isinstance(error, BrokenPipeError):
            _end(CommandError(f"cannot write the output: {error.strerror}"))


def _discard_output() -> None:
    # The interpreter flushes once more at exit and would print another error.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end(error: CommandError) -> NoReturn:
    say(f"draftd: {error.message}")
    sys.exit(error.exit_code)
