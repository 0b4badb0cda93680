"""Statements in SQL files: ``sql/<module>.sql`` next to the module that executes them.

A file contains whole statements, each under a line ``-- name: <name>`` and a header of comments: what it does, its invariants,
its parameters (in psycopg's syntax). The header is not sent to the server; comments inside a statement are.
"""

import re
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_HEADER = re.compile(r"\A(?:--.*\n)+")


def statements(module: str) -> Mapping[str, str]:
    """Read a module's statements by their names.

    Args:
        module: its full name, such as ``draftd.queue.reaping`` for ``draftd/queue/sql/reaping.sql``.

    Raises:
        ValueError: two statements have the same name.
    """
    package, _, name = module.rpartition(".")
    text = files(package).joinpath("sql", f"{name}.sql").read_text("utf-8")
    _, *parts = _NAME.split(text)
    found = dict(zip(parts[::2], map(_statement, parts[1::2]), strict=True))
    if len(found) * 2 != len(parts):
        raise ValueError(f"{name}.sql names a statement twice")
    return MappingProxyType(found)


def _statement(section: str) -> str:
    return _HEADER.sub("", section).strip().removesuffix(";")
