"""What an error of the database is called, and the exit code that it ends a command with."""

import psycopg
from psycopg import errors

from draftd.db.command_errors import command_error
from tables import per_row

URL = "postgresql://someone:hunter2@h/d"
REFUSED, UNAVAILABLE, AGAIN, CONFIGURATION = 1, 69, 75, 78


@per_row(
    ("code", "sqlstates"),
    [
        (UNAVAILABLE, ["08006", "08P01", "53100", "53200", "53300", "57P01", "57P02", "57P03", "58030", "25006"]),
        (AGAIN, ["55P03", "57014", "40001", "40P01"]),
        (CONFIGURATION, ["42P01", "42703", "42883", "3F000", "42501", "23503"]),
        (REFUSED, ["23514", "23505", "22003", "42601", "42804", "0A000", "25P02", "P0001", "XX000", "XX001"]),
    ],
)
def test_every_class_has_its_exit_code(code: int, sqlstates: list[str]) -> None:
    for sqlstate in sqlstates:
        said = command_error(URL, errors.lookup(sqlstate)("what the server says"))
        assert said.exit_code == code, sqlstate
        assert "hunter2" not in said.message
        assert "\n" not in said.message


@per_row(
    ("error", "code"),
    [
        (psycopg.InterfaceError("the connection is closed"), UNAVAILABLE),
        (errors.ConnectionTimeout("connection timeout expired"), UNAVAILABLE),
        (TimeoutError(), UNAVAILABLE),
        (psycopg.ProgrammingError("2 placeholders but 1 parameter"), REFUSED),
        (psycopg.InternalError(), REFUSED),
    ],
)
def test_so_has_every_error_of_the_driver(error: psycopg.Error | TimeoutError, code: int) -> None:
    assert command_error(URL, error).exit_code == code


def test_a_lock_is_not_told_as_an_unavailable_database() -> None:
    said = command_error(URL, errors.LockNotAvailable("canceling statement due to lock timeout")).message
    assert said == (
        "another session holds a lock that is needed in the database at h:5432/d: "
        "canceling statement due to lock timeout; try again"
    )


def test_what_has_no_place_of_its_own_is_told_with_its_code() -> None:
    said = command_error(URL, errors.InternalError_("tuple concurrently updated")).message
    assert said == "the database at h:5432/d refused that: tuple concurrently updated (SQLSTATE XX000)"
