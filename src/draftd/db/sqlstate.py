"""Classifies a server's errors: a lost connection, a transient failure, or a schema mismatch.

Goes by the SQLSTATE and by where the error was raised. An error from a trigger or a function has a context and may have any
SQLSTATE: its author chose it, or another server returned it through ``dblink``. It says nothing about this connection.
"""

import psycopg

from draftd.sanitize import redact

_LOST = ("08", "57P01", "57P02", "57P03", "25006")
"""Connection exceptions, shutdown, crash, startup; and a read-only server, such as a former primary after a switchover."""
_TRANSIENT = ("53", "55P03", "57014", "58", "40")
"""Insufficient resources, lock and statement timeouts, system errors, conflicting transactions."""
_RESOURCES = ("53", "58")
_SCHEMA_MISMATCH = ("3F000", "42P01", "42703", "42883", "42601")
"""Unknown schema, table, column or function; syntax that this server does not support."""


def _is_one_of(error: psycopg.Error, states: tuple[str, ...]) -> bool:
    return (error.sqlstate or "").startswith(states)


def is_raised_in_function(error: psycopg.Error) -> bool:
    """Return whether a trigger or a function raised the error, rather than the server itself."""
    return error.diag.context is not None


def told_to_log(error: Exception) -> str:
    """Return an error for the log, without the values of rows: they are the requesters', and a log forgets nobody.

    The server puts a refused row into the detail of its message, and an app's trigger may put it anywhere.
    """
    if not isinstance(error, psycopg.Error) or error.diag.message_primary is None:
        return redact(str(error))
    if is_raised_in_function(error):
        return f"{type(error).__name__} in a trigger or a function"
    return redact(error.diag.message_primary)


def is_connection_loss(error: psycopg.Error) -> bool:
    """Return whether the connection is of no more use."""
    return isinstance(error, psycopg.InterfaceError) or (_is_one_of(error, _LOST) and not is_raised_in_function(error))


def is_transient(error: psycopg.Error) -> bool:
    """Return whether the same statement may soon succeed."""
    return _is_one_of(error, _TRANSIENT)


def is_out_of_resources(error: psycopg.Error) -> bool:
    """Return whether the server ran out of a resource, for which no row is to blame."""
    return _is_one_of(error, _RESOURCES) and not is_raised_in_function(error)


def is_schema_mismatch(error: psycopg.Error) -> bool:
    """Return whether the schema does not match the statement; neither waiting nor another row helps."""
    return _is_one_of(error, _SCHEMA_MISMATCH) and not is_raised_in_function(error)
