"""What an error of the server says: whether the connection is lost, whether the trouble passes, whether the schema is another.

Judged by SQLSTATE and by where the error was raised. What a trigger or a function raises carries a context, and may be any
SQLSTATE that its author chose (or that another server gave it, through ``dblink``): it says nothing about this connection.
"""

import psycopg

_LOST = ("08", "57P01", "57P02", "57P03", "25006")
"""Connection exceptions, shutdown, crash, start-up; and a server that only reads, as a primary does after a switch-over."""
_PASSING = ("53", "55P03", "57014", "58", "40")
"""Resources, a lock or the time that ran out, the system's own errors, transactions that conflicted."""
_RESOURCES = ("53", "58")
_MISFIT = ("3F000", "42P01", "42703", "42883", "42601")
"""No such schema, table, column, function; a syntax that this server has not."""


def _is_one_of(error: psycopg.Error, states: tuple[str, ...]) -> bool:
    return (error.sqlstate or "").startswith(states)


def is_raised_within(error: psycopg.Error) -> bool:
    """Return whether a trigger or a function raised it, and not the server by itself."""
    return error.diag.context is not None


def is_loss(error: psycopg.Error) -> bool:
    """Return whether the server says that it will carry out nothing more on this connection."""
    return isinstance(error, psycopg.InterfaceError) or (_is_one_of(error, _LOST) and not is_raised_within(error))


def is_passing(error: psycopg.Error) -> bool:
    """Return whether the same statement may well succeed a moment later."""
    return _is_one_of(error, _PASSING)


def is_exhausted(error: psycopg.Error) -> bool:
    """Return whether the server says that it ran out of something: no row is to blame for that."""
    return _is_one_of(error, _RESOURCES) and not is_raised_within(error)


def is_misfit(error: psycopg.Error) -> bool:
    """Return whether the schema is not the one that the statement was written for: no row and no time changes that."""
    return _is_one_of(error, _MISFIT) and not is_raised_within(error)
