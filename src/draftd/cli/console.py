"""What the commands share: arguments, settings and printing.

Data goes to stdout, messages to stderr. Tables, colours and progress appear on a terminal only; elsewhere rows are lines of
tab-separated values. On a terminal text wraps at words, and a table drops columns rather than exceed the width.
Invariant: text written by others never reaches a terminal as control characters, and never begins a line of its own.
"""

import difflib
import errno
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO
from uuid import UUID

import typer
from typer.core import TyperGroup

from draftd.errors import UsageError, request_errors
from draftd.sanitize import CONTROLS, printable

if TYPE_CHECKING:
    from draftd.queue.refused_rows import RefusedRow
    from draftd.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

EXIT_NEGATIVE = 1
"""The answer is no, or the request being waited for failed."""
CHANGING = frozenset({
    "run", "feedback", "cancel", "retry", "prune", "forget", "reap-stale", "migrate", "set", "unset", "pause", "resume",
})  # fmt: skip
"""Commands that change or delete something. Never suggest one for a typo."""
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
MAX_DURATION_S = 36_500 * 86_400.0
"""A hundred years, well within the range of the database's timestamps."""
_BREAKS = re.compile(r"[\t\r\n]+")
USD_DECIMALS = 6
"""Of every amount that can be set; costs are kept with as many."""
GAP = 2
"""Spaces between two columns of a table."""


class Commands(TyperGroup):
    """A group of commands that suggests only read-only commands for a typo."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command. Typer's own suggestions are off."""
        if args and args[0] not in self.commands:
            near = difflib.get_close_matches(args[0], self.commands.keys() - CHANGING)
            if near:
                ctx.fail(f"No such command {args[0]!r}. Did you mean {', '.join(map(repr, near))}?")
        return super().resolve_command(ctx, args)


def settings() -> "Settings":
    """Read the settings and print their warnings."""
    from draftd.settings import load_settings

    loaded, warnings = load_settings()
    for warning in warnings:
        say(f"warning: {warning}")
    return loaded


def say(text: str) -> None:
    """Print a message to stderr."""
    print(wrapped(text, sys.stderr, indent="  "), file=sys.stderr, flush=True)


def wrapped(text: str, stream: TextIO | None = None, *, indent: str = "") -> str:
    """Return a text as ``printable``, and wrapped at words if it goes to a terminal.

    Args:
        text: one line or more.
        stream: where it is going; stdout if None.
        indent: the beginning of every line but the first, so that none passes for a line of draftd's.
    """
    first, *others = printable(text).split("\n")
    lines = [first, *(indent + line if line else line for line in others)]
    if (stream or sys.stdout).isatty():
        columns = shutil.get_terminal_size().columns
        lines = [_wrapped_line(line, columns, indent) for line in lines]
    return "\n".join(lines)


def one_line(text: str, *, indent: str = "  ") -> str:
    """Return ``wrapped`` for stdout, with the text's own line breaks as spaces."""
    return wrapped(_BREAKS.sub(" ", text), indent=indent)


def _wrapped_line(line: str, columns: int, indent: str) -> str:
    # rich folds or cuts a word wider than the terminal, but an id must stay whole to be copied.
    from rich.cells import cell_len

    lines = [""]
    for word in re.findall(r"\s*\S+", line):
        if lines[-1] and cell_len(lines[-1] + word) > columns:
            lines.append(indent + word.lstrip())
        else:
            lines[-1] += word
    return "\n".join(lines)


def print_json(data: Any) -> None:
    """Print data as JSON: indented on a terminal, else on one line; escaped unless the encoding is UTF-8."""
    text = json.dumps(
        data,
        default=_plain,
        ensure_ascii=sys.stdout.encoding.lower() not in {"utf-8", "utf8"},
        indent=2 if sys.stdout.isatty() else None,
    )
    # JSON escapes only the control characters of ASCII; a terminal obeys others too.
    print(CONTROLS.sub(lambda control: f"\\u{ord(control[0]):04x}", text), flush=True)


def _plain(value: Any) -> Any:
    match value:
        case UUID():
            return str(value)
        case datetime():
            return value.isoformat()
        case Decimal():
            return float(value)
        case _:
            raise TypeError(f"{type(value).__name__} has no JSON form here")


def print_table(
    columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]], *, empty: str, spare: Sequence[str] = ()
) -> None:
    """Print rows: aligned under headings on a terminal, else as tab-separated values.

    Args:
        columns: key of a row → its heading. A terminal shows no column without values.
        rows: what to print.
        empty: the message if there are no rows.
        spare: columns that a narrow terminal drops, the least important first.
    """
    if not rows:
        say(empty)
        return
    cells = [{key: _cell(row[key]) for key in columns} for row in rows]
    if not sys.stdout.isatty():
        print("\n".join("\t".join(line.values()) for line in cells))
        return
    _print_on_terminal(columns, cells, spare)


def _print_on_terminal(columns: Mapping[str, str], cells: Sequence[Mapping[str, str]], spare: Sequence[str]) -> None:
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    widths = {
        key: max(cell_len(text) for text in (heading, *(line[key] for line in cells)))
        for key, heading in columns.items()
        if any(line[key] for line in cells)
    }
    # Drop columns instead of folding lines: a folded id cannot be copied.
    for key in spare:
        if sum(widths.values()) + GAP * (len(widths) - 1) > shutil.get_terminal_size().columns:
            widths.pop(key, None)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for key in widths:
        table.add_column(columns[key], no_wrap=True)
    for line in cells:
        table.add_row(*(Text(line[key]) for key in widths))
    with_colour = colour_wanted()
    console = Console(
        width=sum(widths.values()) + GAP * len(widths),
        force_terminal=with_colour,
        color_system="standard" if with_colour else None,
    )
    console.print(table)


def clear_screen() -> None:
    """Clear the terminal before a view is printed again; do nothing with ``TERM=dumb``."""
    from rich.console import Console

    Console().clear()


def _cell(value: Any) -> str:
    return "" if value is None else printable(_BREAKS.sub(" ", str(value)))


def colour_wanted(stream: TextIO | None = None) -> bool:
    """Return whether a stream (stdout if None) is a terminal that may show colours (https://no-color.org)."""
    from draftd.settings import environment_value

    return (stream or sys.stdout).isatty() and not environment_value("NO_COLOR") and environment_value("TERM") != "dumb"


def age(seconds: float | None) -> str:
    """Return a duration for a person: ``3 s``, ``12 min``, ``5 h``, ``2 d``."""
    if seconds is None:
        return ""
    for limit_s, unit_s, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def duration_s(text: str) -> float:
    """Read a duration such as ``90``, ``90s``, ``15m``, ``2h`` or ``7d``, in seconds.

    Raises:
        UsageError: the text is not a duration, or is longer than a hundred years.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([smhd]?)", text.strip().lower())
    if match is None:
        raise UsageError(f"{text!r} is not a valid duration; write 90s, 15m, 2h or 7d")
    seconds = float(match[1]) * _UNITS_S[match[2]]
    if seconds > MAX_DURATION_S:
        raise UsageError(f"{text!r} is longer than a hundred years")
    return seconds


def number(text: str, what: str, *, most: int, decimals: int = 0, or_none: bool = False) -> Decimal | None:
    """Read a whole number, or with ``decimals`` an amount in USD.

    Args:
        text: digits, with or without a point.
        what: what it is for, as the message says.
        most: the largest that is allowed.
        decimals: how many decimals are allowed.
        or_none: whether ``none`` is allowed, which is read as None.

    Raises:
        UsageError: the text is anything else.
    """
    if or_none and text == "none":
        return None
    value = Decimal(text) if re.fullmatch(r"[0-9]+\.?[0-9]*|\.[0-9]+", text) else Decimal(-1)
    if not 0 <= value <= most or value != round(value, decimals):
        kind = f"an amount in USD with at most {decimals} decimals" if decimals else "a whole number"
        raise UsageError(f"{what} must be {kind}, from 0 to {most:,}{', or none' if or_none else ''}; not {text!r}")
    return value


def key_value(text: str, option: str) -> tuple[str, str]:
    """Read ``KEY=VALUE``.

    Raises:
        UsageError: the key or the ``=`` is missing; the message names the option.
    """
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise UsageError(f"{option} takes KEY=VALUE")
    return key.strip(), value


def json_or_text(text: str) -> Any:
    """Parse a value that is valid JSON (``0.2``, ``true``, ``["a"]``); return any other text unchanged."""
    try:
        return json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return text


def check_output(path: Path) -> None:
    """Check that a file can be written, before the work that fills it; leave nothing behind.

    Raises:
        UsageError: it cannot be written, or is something other than a file, which must not be replaced.
    """
    try:
        # An empty name means the current directory.
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if path.exists() and not path.is_file():
            raise UsageError(f"cannot write {path}: not a regular file")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def request_id(text: str) -> UUID:
    """Read a request's id.

    Raises:
        UsageError: it is not a UUID.
    """
    try:
        return UUID(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a request id (a UUID)") from None


def error_code(text: str) -> str:
    """Check an error code.

    Raises:
        UsageError: the code is unknown; the message lists the known ones.
    """
    known = [error.code for error in request_errors()]
    if text not in known:
        raise UsageError(f"{text!r} is not an error code; known codes: {', '.join(known)}")
    return text


class RefusedRows:
    """Rows that the database refused to change; the command goes on without them."""

    def __init__(self) -> None:
        self._left = 0

    def report(self, row: "RefusedRow") -> None:
        """Report a row."""
        self._left += not row.ended
        say(
            f"the database refused to {row.verb} {row.id} (SQLSTATE {row.sqlstate}){'; it has failed' if row.ended else ''}"
        )

    def end(self) -> None:
        """Exit with code 1 if any row was left unchanged.

        Raises:
            typer.Exit: a row was left unchanged.
        """
        if self._left:
            raise typer.Exit(EXIT_NEGATIVE)
