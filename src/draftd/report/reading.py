"""Reads a period from the database.

Owns the statements of a report: each is one pass over the rows of the period, limited in time by the connection, and returns a
bounded number of rows. ``figures`` makes sense of them.
"""

from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import DictRow

from draftd import db
from draftd.db.statements import statements

MAX_STEPS = 48
STEPS_S = (300, 900, 3_600, 3 * 3_600, 6 * 3_600, 12 * 3_600, 86_400, 7 * 86_400, 28 * 86_400, 364 * 86_400)
"""Widths of a plot's bar: five minutes to a year."""
MAX_GROUPS = 20_000
"""Combinations that are read of platform, agent, prompt version and what feedback says; the rarest beyond are not counted."""
MAX_ANGLES = 12
MAX_TIMED = 100_000
"""Completed requests whose times are looked at; of more, about so many are sampled. The median of 100,000 is as good."""

_SQL = statements(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """What the database says of a period, row by row."""

    since: datetime
    until: datetime
    step_s: int
    timed_share: float
    """Of the completed requests, the share whose times were looked at."""
    volume: list[DictRow]
    latency: list[DictRow]
    drafted: list[DictRow]
    usage: list[DictRow]
    feedback: list[DictRow]
    angles: list[DictRow]
    """Empty without content: an angle says what a conversation is about."""
    drafts: list[DictRow]


def step_of(since_s: float) -> int:
    """Return the width of a bar, in seconds, so that a period has at most ``MAX_STEPS`` of them."""
    return next((step for step in STEPS_S if since_s / step <= MAX_STEPS), STEPS_S[-1])


async def read_period(connection: db.Connection, *, since_s: float, drafts: int, with_content: bool) -> Period:
    """Read the period that ends now.

    Args:
        connection: to the database.
        since_s: how long the period is, in seconds.
        drafts: how many of the last drafts to read.
        with_content: whether to read texts of drafts, people and clients.

    Raises:
        psycopg.errors.QueryCanceled: reading so many rows takes longer than the connection allows.
    """
    ((since, until),) = [
        (row["since"], row["until"]) for row in await _read(connection, "read_period", {"since_s": since_s})
    ]
    step_s = step_of(since_s)
    params: dict[str, object] = {"since": since, "until": until, "step_s": step_s, "most": MAX_GROUPS}
    volume = await _read(connection, "read_volume", params)
    completed = sum(row["n"] for row in volume if row["status"] == "completed")
    share = min(1.0, MAX_TIMED / max(completed, 1))
    return Period(
        since=since,
        until=until,
        step_s=step_s,
        timed_share=share,
        volume=volume,
        latency=await _read(connection, "read_latency", params | {"share": share}),
        drafted=await _read(connection, "read_drafted", params),
        usage=await _read(connection, "read_usage", params),
        feedback=await _read(connection, "read_feedback", params),
        angles=await _read(connection, "read_angles", params | {"most": MAX_ANGLES}) if with_content else [],
        drafts=await _read(connection, "read_drafts", params | {"most": drafts}) if drafts else [],
    )


async def _read(connection: db.Connection, name: str, params: dict[str, object]) -> list[DictRow]:
    return await (await connection.execute(_SQL[name].encode(), params)).fetchall()
