"""What the commands share: arguments, settings, and how things are printed.

Data goes to stdout, talk to stderr. Tables, colours and progress appear on a terminal only; anywhere else rows are lines of
tab-separated values. On a terminal texts are broken at words, and tables give up columns before a line is wider than it.
Invariant: no text that a client or a model wrote steers a terminal.
"""

import difflib
import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, TextIO
from uuid import UUID

import typer
from typer.core import TyperGroup

from draftd.errors import UsageError, request_errors

if TYPE_CHECKING:
    from draftd.queue.isolation import RefusedRow
    from draftd.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

EXIT_NEGATIVE = 1
"""The answer is no, or the request that was waited for failed."""
CHANGING = frozenset({"run", "cancel", "retry", "prune", "reap-stale", "migrate", "set", "unset"})
"""Commands that change or delete what is there. Whoever slips is not shown the way to one."""
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
LONGEST_S = 36_500 * 86_400.0
"""A hundred years: far beyond it the database's clock ends."""
_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
GAP = 2
"""Spaces between two columns of a table."""


class Commands(TyperGroup):
    """A group of commands that suggests, for a name that there is not, those alone that change nothing."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; Typer's own suggestions are off."""
        if args and args[0] not in self.commands:
            near = difflib.get_close_matches(args[0], self.commands.keys() - CHANGING)
            if near:
                ctx.fail(f"No such command {args[0]!r}. Did you mean {', '.join(map(repr, near))}?")
        return super().resolve_command(ctx, args)


def settings() -> "Settings":
    """Read the settings; names that look like draftd's but are unknown are mentioned."""
    from draftd.settings import load_settings

    loaded, warnings = load_settings()
    for warning in warnings:
        say(f"warning: {warning}")
    return loaded


def say(text: str) -> None:
    """Talk to the person at the terminal."""
    print(fitted(text, sys.stderr), file=sys.stderr, flush=True)


def fitted(text: str, stream: TextIO | None = None, *, indent: str = "") -> str:
    """Return a text as it is printed: ``printable``, on a terminal with its lines broken at words.

    Args:
        text: one line or more.
        stream: where it is going; stdout if None.
        indent: what a line that was broken goes on with.
    """
    text = printable(text)
    if not (stream or sys.stdout).isatty():
        return text
    columns = shutil.get_terminal_size().columns
    return "\n".join(_broken(line, columns, indent) for line in text.split("\n"))


def _broken(line: str, columns: int, indent: str) -> str:
    # rich wraps too, but folds or cuts a word that is wider than the terminal: an id must stay whole to be copied.
    from rich.cells import cell_len

    lines = [""]
    for word in re.findall(r"\s*\S+", line):
        if lines[-1] and cell_len(lines[-1] + word) > columns:
            lines.append(indent + word.lstrip())
        else:
            lines[-1] += word
    return "\n".join(lines)


def print_json(data: Any) -> None:
    """Print data as JSON: indented for a person, on one line for a program; escaped where the encoding is not UTF-8."""
    text = json.dumps(
        data,
        default=_plain,
        ensure_ascii=sys.stdout.encoding.lower() not in {"utf-8", "utf8"},
        indent=2 if sys.stdout.isatty() else None,
    )
    # JSON escapes the controls of ASCII but not the others, which steer a terminal as well.
    print(_STEERING.sub(lambda control: f"\\u{ord(control[0]):04x}", text), flush=True)


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
    """Print rows: aligned under headings on a terminal, tab-separated values elsewhere.

    Args:
        columns: key of a row → its heading. On a terminal a column without any value is left out.
        rows: what to print.
        empty: what to say when there is no row.
        spare: columns that a narrow terminal may do without, the least needed first.
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
    # Columns give way, lines are never folded: an id that is wrapped cannot be copied.
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
    """Clear the terminal for a view that is printed again; ``TERM=dumb`` has nothing to clear with."""
    from rich.console import Console

    Console().clear()


def _cell(value: Any) -> str:
    return "" if value is None else printable(re.sub(r"[\t\r\n]+", " ", str(value)))


def printable(text: str) -> str:
    """Return a text without what would steer a terminal: clients and models wrote it."""
    return _STEERING.sub("\N{REPLACEMENT CHARACTER}", text)


def colour_wanted(stream: TextIO | None = None) -> bool:
    """Return whether a stream (stdout if None) is a terminal whose user has nothing against colours (https://no-color.org)."""
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
        UsageError: it is none, or longer than a hundred years.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([smhd]?)", text.strip().lower())
    if match is None:
        raise UsageError(f"{text!r} is not a valid duration; write 90s, 15m, 2h or 7d")
    seconds = float(match[1]) * _UNITS_S[match[2]]
    if seconds > LONGEST_S:
        raise UsageError(f"{text!r} is longer than a hundred years")
    return seconds


def key_value(text: str, option: str) -> tuple[str, str]:
    """Read ``KEY=VALUE``.

    Raises:
        UsageError: there is no key; the message names the option.
    """
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise UsageError(f"{option} takes KEY=VALUE")
    return key.strip(), value


def json_or_text(text: str) -> Any:
    """Return a value given as JSON (``0.2``, ``true``, ``["a"]``); any other text as it is."""
    try:
        return json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return text


def request_id(text: str) -> UUID:
    """Read the id of a request.

    Raises:
        UsageError: it is none.
    """
    try:
        return UUID(text)
    except ValueError:
        raise UsageError(f"{text!r} is not the id of a request (a UUID)") from None


def error_code(text: str) -> str:
    """Read an error code of the contract.

    Raises:
        UsageError: there is no such code; the message lists them.
    """
    known = [error.code for error in request_errors()]
    if text not in known:
        raise UsageError(f"{text!r} is not an error code; known codes: {', '.join(known)}")
    return text


def json_object(value: Any) -> dict[str, Any]:
    """Return a JSON object as it was read from a row, or an empty one for what is none: its owner may write anything."""
    return value if isinstance(value, dict) else {}


def json_objects(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a JSON array as it was read from a row."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


class RefusedRows:
    """The rows that the database refused to change for a command, which goes on without them."""

    def __init__(self) -> None:
        self._left = 0

    def tell(self, row: "RefusedRow") -> None:
        """Name a row."""
        self._left += not row.ended
        say(
            f"the database refused to {row.verb} {row.id} (SQLSTATE {row.sqlstate}){'; it has failed' if row.ended else ''}"
        )

    def end(self) -> None:
        """End the command with exit code 1 if a row was left as it was.

        Raises:
            typer.Exit: one was.
        """
        if self._left:
            raise typer.Exit(EXIT_NEGATIVE)
