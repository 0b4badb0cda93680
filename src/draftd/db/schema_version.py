"""The version of the database's schema, and the version that this draftd needs.

Owns the interface to Alembic: the location of the migrations, and its commands. Only the functions that migrate load Alembic,
which takes 0.2 s; ``current`` is one query.
"""

from enum import StrEnum
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from draftd import db
from draftd.db import access
from draftd.db.command_errors import command_error
from draftd.errors import ConfigurationError
from draftd.sanitize import redact

if TYPE_CHECKING:
    from alembic.config import Config

ENCODING = "UTF8"
"""The database's encoding: replies contain emoji and any script, and SQL_ASCII does not even return text."""
VERSION_TABLE = "draftd_alembic_version"
"""Not Alembic's default name: an app that shares the schema may use Alembic too."""


TABLES = ("draft_requests", VERSION_TABLE)
"""The tables read to find the version."""
LAST_UNSQUASHED = "25b96a69bcc4"
"""The last commit with the individual migrations from before the first release."""
BEHIND = "the database's schema is older than this draftd; run `draftd migrate`"
"""The error of a daemon that cannot start."""


class SchemaState(StrEnum):
    """How the database's schema compares to this program's."""

    CURRENT = "current"
    BEHIND = "behind"
    AHEAD = "ahead"


def migrations_directory() -> Path:
    """Return where the migrations are: inside the wheel, else in the checkout."""
    packaged = Path(__file__).parents[1] / "_data" / "alembic"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "alembic"


def revisions() -> list[str]:
    """Return the known revisions, oldest first; files are named ``<revision>_<slug>.py``, and the last is the head."""
    return sorted(path.name.partition("_")[0] for path in (migrations_directory() / "versions").glob("[0-9]*_*.py"))


async def current(connection: db.Connection) -> str | None:
    """Return the database's revision, or None if draftd was never installed."""
    try:
        cursor = await connection.execute(f"SELECT version_num FROM {VERSION_TABLE}")
    except psycopg.errors.UndefinedTable:
        return None
    row = await cursor.fetchone()
    return row["version_num"] if row else None


async def state(connection: db.Connection) -> SchemaState:
    """Compare the database's revision with the newest one that this program knows.

    Raises:
        ConfigurationError: the database cannot store every text, or is older than the first migration.
    """
    encoding = connection.info.parameter_status("server_encoding") or ENCODING
    if encoding != ENCODING:
        raise ConfigurationError(
            f"the database's encoding is {encoding}, which cannot store every reply; draftd needs {ENCODING}"
        )
    known, found = revisions(), await current(connection)
    if found is not None and found < known[0]:
        raise ConfigurationError(
            f"the schema is at {found}, from before the first release: run `draftd migrate` of commit {LAST_UNSQUASHED} "
            "first, then this one"
        )
    if found == known[-1]:
        return SchemaState.CURRENT
    return SchemaState.BEHIND if found is None or found in known else SchemaState.AHEAD


async def elsewhere(connection: db.Connection) -> str | None:
    """Return where in this database draftd's tables are, if not in the search path."""
    row = await (await connection.execute(access.ACCESS_QUERY.encode())).fetchone()
    return access.elsewhere(row or {})


async def who_can(connection: db.Connection) -> str | None:
    """Return which role may migrate; None if there are no tables yet."""
    row = await (await connection.execute(access.ACCESS_QUERY.encode())).fetchone()
    return access.who_can(row) if row and row["owner"] else None


def upgrade(url: str, *, who_can: str | None = None) -> None:
    """Upgrade the database to the newest revision.

    Args:
        url: the database.
        who_can: advice for a role that may not migrate.

    Raises:
        CommandError: see ``command_errors``; nothing was changed.
    """
    from alembic import command  # noqa: PLC0415  # 0.2 s that only a migration should pay
    from alembic.util.exc import CommandError as AlembicError  # noqa: PLC0415  # likewise
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415  # likewise

    try:
        command.upgrade(_config(url), "head")
    except DBAPIError as error:
        match error.orig:
            case psycopg.errors.InsufficientPrivilege() as denied:
                said = "; ".join(filter(None, [denied.diag.message_primary, who_can]))
                raise ConfigurationError(f"this database user may not migrate: {said}") from error
            case psycopg.ProgrammingError(sqlstate=str(code)) as other if code.startswith("42"):
                said = redact(other.diag.message_primary or str(other))
                raise ConfigurationError(f"the schema is not what {VERSION_TABLE} says: {said}") from error
            case psycopg.Error() as refused:
                raise command_error(url, refused) from error
        raise
    except AlembicError as error:
        raise ConfigurationError(f"{VERSION_TABLE} names no revision of draftd: {error}") from error


def upgrade_sql() -> str:
    """Return the SQL of all migrations, for a database that draftd itself may not change."""
    from alembic import command  # noqa: PLC0415  # as above

    config = _config(None)
    printed = config.output_buffer = StringIO()
    command.upgrade(config, "head", sql=True)
    return printed.getvalue()


def _config(url: str | None) -> "Config":
    from alembic.config import Config  # noqa: PLC0415  # as above

    config = Config(attributes={"url": url})
    config.set_main_option("script_location", str(migrations_directory()).replace("%", "%%"))
    return config
