"""Runs the migrations of draftd: in one transaction, one migrator at a time, never waiting long for a lock on a table."""

from functools import partial
from typing import Any

import psycopg
from alembic import context
from sqlalchemy import Connection, create_engine, pool, text

from draftd.db import dsn
from draftd.db.schema import metadata
from draftd.db.schema_version import VERSION_TABLE
from draftd.db.table_locks import lock_tables
from draftd.settings import load_settings

# Any fixed number: it only has to be the same in every migrator of this project.
ADVISORY_LOCK = 7_239_911_042


def ours(_object: Any, name: str | None, kind: str, reflected: bool, _compare_to: Any) -> bool:  # noqa: FBT001  # Alembic's
    """Leave the app's own tables in the same schema alone."""
    return not (kind == "table" and reflected and name not in metadata.tables)


def configure(**how: Any) -> None:
    context.configure(
        target_metadata=metadata, version_table=VERSION_TABLE, include_object=ours, compare_server_default=True, **how
    )


def migrate_online(connection: Connection) -> None:
    configure(connection=connection)
    with context.begin_transaction():
        # Another migrator may take long, and only migrators wait for this lock.
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"))
        # A migration that waits for a lock on a table makes everybody behind it wait too.
        connection.execute(text("SET LOCAL lock_timeout = '5s'"))
        connection.exec_driver_sql(lock_tables(metadata.tables))
        context.run_migrations()


def print_sql() -> None:
    configure(dialect_name="postgresql", literal_binds=True, dialect_opts={"paramstyle": "named"})
    with context.begin_transaction():
        context.execute("SET LOCAL lock_timeout = '5s'")
        context.run_migrations()


if context.is_offline_mode():
    print_sql()
else:
    url = context.config.attributes.get("url") or load_settings()[0].require_database_url()
    # psycopg reads the URL itself: SQLAlchemy's own parser knows fewer forms of it (several hosts, for one).
    connect = partial(psycopg.connect, **dsn.parameters(url, name="draftd migrate"))
    engine = create_engine("postgresql+psycopg://", creator=connect, poolclass=pool.NullPool)
    with engine.connect() as connection:
        migrate_online(connection)
        connection.commit()
