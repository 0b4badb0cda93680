"""What a server's error means: a lost connection, temporary trouble, or a different schema.

Decided by SQLSTATE and by where the error was raised. An error from a trigger or a function has a context, and may have any
SQLSTATE that its author chose (or that another server returned, through ``dblink``): it says nothing about this connection.
"""

import psycopg

_LOST = ("08", "57P01", "57P02", "57P03", "25006")
"""Connection exceptions, shutdown, crash, start-up; and a read-only server, as a former primary is after a switch-over."""
_PASSING = ("53", "55P03", "57014", "58", "40")
"""Exhausted resources, lock and statement timeouts, system errors, conflicting transactions."""
_RESOURCES = ("53", "58")
_MISFIT = ("3F000", "42P01", "42703", "42883", "42601")
"""No such schema, table, column or function; syntax that this server does not have."""


def _is_one_of(error: psycopg.Error, states: tuple[str, ...]) -> bool:
    return (error.sqlstate or "").startswith(states)


def is_raised_in_function(error: psycopg.Error) -> bool:
    """Return whether a trigger or a function raised it, rather than the server itself."""
    return error.diag.context is not None


def is_connection_loss(error: psycopg.Error) -> bool:
    """Return whether the server will execute nothing more on this connection."""
    return isinstance(error, psycopg.InterfaceError) or (_is_one_of(error, _LOST) and not is_raised_in_function(error))


def is_transient(error: psycopg.Error) -> bool:
    """Return whether the same statement may succeed a moment later."""
    return _is_one_of(error, _PASSING)


def is_out_of_resources(error: psycopg.Error) -> bool:
    """Return whether the server ran out of something, for which no row is to blame."""
    return _is_one_of(error, _RESOURCES) and not is_raised_in_function(error)


def is_schema_mismatch(error: psycopg.Error) -> bool:
    """Return whether the schema is not the one the statement was written for, which neither another row nor waiting changes."""
    return _is_one_of(error, _MISFIT) and not is_raised_in_function(error)
