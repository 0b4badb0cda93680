"""What the commands share: arguments, settings, and how things are printed.

Data goes to stdout, talk to stderr. Tables, colours and progress appear on a terminal only; anywhere else rows are lines of
tab-separated values.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from draftd.errors import UsageError

if TYPE_CHECKING:
    from draftd.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def settings() -> "Settings":
    """Read the settings; names that look like draftd's but are unknown are mentioned."""
    from draftd.settings import load_settings

    loaded, warnings = load_settings()
    for warning in warnings:
        say(f"warning: {warning}")
    return loaded


def say(text: str) -> None:
    """Talk to the person at the terminal."""
    print(text, file=sys.stderr, flush=True)


def print_json(data: Any) -> None:
    """Print data as JSON: indented for a person, on one line for a program."""
    print(json.dumps(data, default=_plain, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


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


def print_table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], *, empty: str) -> None:
    """Print rows: a table on a terminal, tab-separated values elsewhere."""
    if not rows:
        say(empty)
        return
    cells = [["" if row[column] is None else str(row[column]) for column in columns] for row in rows]
    if not sys.stdout.isatty():
        for line in cells:
            print("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in line))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold", no_wrap=column == "id")
    for line in cells:
        table.add_row(*line)
    Console().print(table)


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
        UsageError: it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip().lower())
    if match is None:
        raise UsageError(f"{text!r} is no duration; write 90s, 15m, 2h or 7d")
    return float(match[1]) * _UNITS_S[match[2]]


def request_id(text: str) -> UUID:
    """Read the id of a request.

    Raises:
        UsageError: it is none.
    """
    try:
        return UUID(text)
    except ValueError:
        raise UsageError(f"{text!r} is no id of a request") from None
