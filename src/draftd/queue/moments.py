"""Times in SQL that survive any value of a column: an owner may write infinity, NaN, or the year 4713 BC.

Invariant: one such row never makes a statement fail that other rows share, and never puts infinity into JSON.
"""

LONGEST_S = 36_500 * 86_400
"""A hundred years, in seconds."""
LATEST = "now() + interval '1 min'"
"""A later moment was set by no daemon; the clocks of two transactions differ by less."""


def since_s(moment: str) -> str:
    """Return the seconds since a moment, negative if it is ahead, 100 years at most; null if it is null."""
    # Of the epochs, because PostgreSQL 16 and older cannot subtract an infinite timestamp.
    elapsed = f"extract(epoch FROM now()) - extract(epoch FROM {moment})"
    return f"CASE WHEN {moment} IS NOT NULL THEN greatest(-{LONGEST_S}, least({LONGEST_S}, {elapsed}))::float8 END"


def seconds(column: str, *, most: float) -> str:
    """Return a column of seconds as 0 to ``most``; NaN and null become ``most``."""
    return f"greatest(0, least({column}, {most}))"
