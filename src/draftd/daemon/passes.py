"""Passes: how a background loop repeats its work through lost connections and refusals."""

import asyncio
from collections.abc import Awaitable, Callable

import psycopg

from draftd import db


async def repeat(
    make_pass: Callable[[], Awaitable[None]],
    *,
    link: db.Link,
    interval_s: float,
    on_refusal: Callable[[psycopg.Error, int], None],
) -> None:
    """Make passes until cancelled, through any number of lost connections.

    Args:
        make_pass: makes one pass.
        link: the connection that passes use.
        interval_s: seconds between passes.
        on_refusal: logs that the server refused a pass, and how many it has refused in a row. Called for the 1st, 2nd, 4th, 8th …
            of them: a refusal lasts until somebody changes something.
    """
    refused = 0
    while True:
        try:
            await make_pass()
            refused = 0
        except db.LOST as error:
            await link.pause(error)
        except psycopg.Error as refusal:
            refused += 1
            if refused.bit_count() == 1:
                on_refusal(refusal, refused)
        await asyncio.sleep(interval_s)
