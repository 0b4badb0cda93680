"""What every report is printed with."""

import shlex
import sys
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table whose first column is text."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def command(target: str) -> str:
    """Return how this run is started again."""
    arguments = shlex.join(sys.argv[1:])
    return shlex.join(["make", target, *([f"ARGS={arguments}"] if arguments else [])])
