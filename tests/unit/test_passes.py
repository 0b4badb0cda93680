"""What a background loop does when the server refuses its passes; the integration ring breaks connections."""

from collections.abc import Callable, Iterable
from typing import cast

import psycopg
import pytest
import structlog

from draftd import db
from draftd.daemon.passes import repeat
from draftd.errors import ConnectionLost


class OverError(Exception):
    """Ends the loop, as a bug in a pass would."""


class Pauses:
    """Stands for a link whose pauses are over at once."""

    def __init__(self) -> None:
        self.after: list[Exception] = []

    async def pause(self, error: Exception) -> None:
        self.after.append(error)


Pass = Callable[[], bool | None]


def succeeds() -> None:
    pass


def proves_nothing() -> bool:
    return False


def is_refused() -> None:
    raise psycopg.errors.RaiseException("not this one")


def loses_its_connection() -> None:
    raise ConnectionLost("gone")


async def play(passes: Iterable[Pass], *, refused: str | None) -> tuple[list[int], list[Exception]]:
    """Return the counts of the refusals that were logged, and the errors that the loop paused after."""
    link, coming = Pauses(), iter(passes)

    async def make_pass() -> bool | None:
        if (one := next(coming, None)) is None:
            raise OverError
        return one()

    with structlog.testing.capture_logs() as logs, pytest.raises(OverError):
        await repeat(make_pass, link=cast("db.Link", link), interval_s=0, refused=refused)
    return [line["times"] for line in logs if line["event"] == refused], link.after


async def test_a_refusal_that_lasts_is_logged_more_and_more_rarely() -> None:
    assert await play([is_refused] * 9, refused="work refused") == ([1, 2, 4, 8], [])


async def test_a_pass_that_succeeds_ends_a_row_of_refusals_unless_it_proves_nothing() -> None:
    assert await play([is_refused, succeeds, is_refused], refused="work refused") == ([1, 1], [])
    assert await play([is_refused, proves_nothing, is_refused], refused="work refused") == ([1, 2], [])


async def test_the_loop_pauses_after_a_lost_connection_and_goes_on() -> None:
    told, paused = await play([loses_its_connection, is_refused], refused="work refused")
    assert (told, len(paused)) == ([1], 1)


async def test_without_an_event_of_its_own_the_loop_pauses_after_a_refusal_too() -> None:
    told, paused = await play([is_refused, loses_its_connection], refused=None)
    assert (told, len(paused)) == ([], 2)
