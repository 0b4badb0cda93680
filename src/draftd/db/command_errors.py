"""Database errors as a command reports them: one line and an exit code.

Owns the table that maps psycopg's errors to draftd's. It covers every error that a server can send: nothing outside of draftd may
end a command in a traceback.
"""

import psycopg
from psycopg import errors

from draftd.db import dsn
from draftd.errors import CommandError, ConfigurationError, ConnectionLost, DatabaseUnavailable, TryAgain
from draftd.sanitize import redact

_UNAVAILABLE = "cannot use the database at {where}: {said}"
_TABLE: tuple[tuple[tuple[type[psycopg.Error], ...], type[CommandError], str], ...] = (
    (
        (errors.LockNotAvailable,),
        TryAgain,
        "another session holds a lock that is needed in the database at {where}: {said}; try again",
    ),
    ((errors.QueryCanceled,), TryAgain, "the database at {where} canceled a statement: {said}; try again"),
    (
        (errors.SerializationFailure, errors.DeadlockDetected),
        TryAgain,
        "another session changed the same rows in the database at {where}: {said}; try again",
    ),
    (
        (errors.ReadOnlySqlTransaction,),
        DatabaseUnavailable,
        "the database at {where} is read-only (a standby, or default_transaction_read_only): {said}",
    ),
    ((psycopg.OperationalError, psycopg.InterfaceError), DatabaseUnavailable, _UNAVAILABLE),
    (
        (errors.UndefinedTable, errors.UndefinedFunction, errors.UndefinedColumn),
        ConfigurationError,
        "{where} does not have this draftd's schema; run `draftd migrate`",
    ),
    (
        (errors.InvalidSchemaName,),
        ConfigurationError,
        "{where}: the search_path of this role names no schema that it can use: {said}",
    ),
    ((errors.ForeignKeyViolation,), ConfigurationError, "a foreign key of one of your tables blocks this: {said}"),
    (
        (errors.InsufficientPrivilege,),
        ConfigurationError,
        "this role may not do that: {said}; see `draftd grants` for what a role needs; only the owner of the tables migrates",
    ),
    ((psycopg.Error,), CommandError, "the database at {where} refused that: {said} (SQLSTATE {sqlstate})"),
)
"""The first matching entry applies."""


def unavailable(url: dsn.Url, error: BaseException, reason: str | None = None) -> DatabaseUnavailable:
    """Return the error for a database that cannot be reached: one line, without credentials.

    Args:
        url: the database.
        error: what was raised.
        reason: replaces the error's own message.
    """
    said = reason or redact(str(error)) or "no answer in time"
    return DatabaseUnavailable(_UNAVAILABLE.format(where=dsn.address(url), said=said))


def command_error(url: dsn.Url, error: psycopg.Error | ConnectionLost | TimeoutError) -> CommandError:
    """Return the error to show for an error of the database.

    Args:
        url: the database.
        error: what was raised.
    """
    if isinstance(error, ConnectionLost) and isinstance(error.__cause__, psycopg.Error):
        error = error.__cause__
    if not isinstance(error, psycopg.Error):
        return unavailable(url, error)
    said = redact(error.diag.message_primary or str(error)) or type(error).__name__
    kind, text = next((kind, text) for classes, kind, text in _TABLE if isinstance(error, classes))
    return kind(text.format(where=dsn.address(url), said=said, sqlstate=error.sqlstate or "unknown"))
