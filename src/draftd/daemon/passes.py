"""Passes: how a background loop repeats its work through lost connections and refusals."""

import asyncio
from collections.abc import Awaitable, Callable

import psycopg
import structlog

from draftd import db
from draftd.db.sqlstate import told_to_log

log = structlog.get_logger(__name__)


async def repeat(
    make_pass: Callable[[], Awaitable[bool | None]], *, link: db.Link, interval_s: float, refused: str | None = None
) -> None:
    """Make passes until cancelled, through any number of lost connections.

    Args:
        make_pass: makes one pass; returns False if its success does not mean that the server accepts the next one.
        link: the connection that passes use.
        interval_s: seconds between passes.
        refused: the event to log when the server refuses a pass for the 1st, 2nd, 4th, 8th … time in a row: a refusal lasts until
            somebody changes something. Without it, a refusal is treated as a lost connection.
    """
    times = 0
    while True:
        try:
            if await make_pass() is not False:
                times = 0
        except (*db.LOST, psycopg.Error) as error:
            if refused is None or isinstance(error, db.LOST):
                await link.pause(error)
            else:
                times += 1
                if times.bit_count() == 1:
                    log.error(refused, sqlstate=error.sqlstate, error=told_to_log(error), times=times)  # noqa: TRY400 - not a bug in draftd
        await asyncio.sleep(interval_s)
