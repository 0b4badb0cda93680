"""The fleet's settings: the one row of ``draft_settings``, which applies to all daemons and to the database itself.

Owns their names, bounds and statements. The settings of each daemon are in ``draftd.settings``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

from draftd import db

Value = int | float | None
"""As read; a switch is a bool."""
Given = int | Decimal | None


class Kind(Enum):
    """What kind of value a setting has."""

    SECONDS = 1
    """A whole number; the value is the unit in seconds, as for ``DAYS``."""
    DAYS = 86_400
    USD = "usd"
    """An amount, which may have a fraction, or None."""
    SWITCH = "switch"
    """On or off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSetting:
    """A column of ``draft_settings``, from 0 to ``maximum``."""

    kind: Kind
    default: Value
    maximum: int = 1
    meaning: str
    """For the docs, in Markdown."""


SETTINGS: Mapping[str, FleetSetting] = {
    "default_expiry_s": FleetSetting(
        kind=Kind.SECONDS,
        default=21_600,
        maximum=315_360_000,
        meaning="how long after its `available_at` a request without `expires_at` expires; 0 = never",
    ),
    "retention_days": FleetSetting(
        kind=Kind.DAYS,
        default=0,
        maximum=36_500,
        meaning="the daemons delete final requests older than this, once an hour; 0 = they are kept",
    ),
    "feedback_retention_days": FleetSetting(
        kind=Kind.DAYS,
        default=0,
        maximum=36_500,
        meaning="the daemons delete feedback older than this, once an hour; 0 = it is kept",
    ),
    "usd_per_day": FleetSetting(
        kind=Kind.USD,
        default=None,
        maximum=1_000_000,
        meaning="the most that all model calls of a day in UTC may cost together; `none` = no budget",
    ),
    "voice_learning": FleetSetting(
        kind=Kind.SWITCH,
        default=False,
        meaning="`on`: where no `voice_samples` are given, drafts take over the manner of what their requester really sent",
    ),
}

READ = f"SELECT {', '.join(SETTINGS)} FROM draft_settings"


def of(rows: Sequence[db.Row]) -> dict[str, Value]:
    """Return the fleet's settings from the rows of ``READ``; the defaults if there is no row.

    Clamps each value to its bounds, although the table checks them: a negative retention would delete everything.
    """
    row = rows[0] if rows else {name: setting.default for name, setting in SETTINGS.items()}
    return {name: _bounded(row[name], setting) for name, setting in SETTINGS.items()}


def _bounded(value: Given | Value, setting: FleetSetting) -> Value:
    if value is None:
        return None
    bounded = max(0, min(value, setting.maximum))
    match setting.kind:
        case Kind.SWITCH:
            return bool(bounded)
        case Kind.USD:
            return float(bounded)
        case Kind.SECONDS | Kind.DAYS:
            return int(bounded)


async def change(connection: db.Connection, values: Mapping[str, Given]) -> None:
    """Set some of the fleet's settings.

    Raises:
        psycopg.Error: the server refused; only the owner of the tables may do this.
    """
    names = [name for name in SETTINGS if name in values]
    statement = (
        f"INSERT INTO draft_settings ({', '.join(names)}) VALUES ({', '.join(f'%({name})s' for name in names)}) "
        f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in names)}"
    )
    await connection.execute(statement.encode(), dict(values))
