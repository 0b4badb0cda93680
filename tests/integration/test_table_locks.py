"""Rights and migrations change many tables at once while daemons and clients work: neither side is a deadlock's victim."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.config import Config

from draftd import db
from draftd.db import schema_version
from draftd.db.grants import backend
from fix_database import make_request
from fix_roles import Roles

ROOT = Path(__file__).parents[2]
WAITS = """
SELECT FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND wait_event IN ('relation', 'PgSleep')
"""


def apply_grants(url: str, roles: Roles, role: str = "") -> None:
    role = role or roles.make()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(backend(schema="public", client=None, worker=role, trusted=False).encode())


def migrate(url: str, roles: Roles) -> None:  # noqa: ARG001 - called like the other
    schema_version.upgrade(url)


@pytest.mark.parametrize("change", [apply_grants, migrate])
async def test_whoever_works_meanwhile_and_the_change_both_succeed(
    change: Callable[[str, Roles], None], database: str, connection: db.Connection, roles: Roles
) -> None:
    await make_request(connection)
    if change is migrate:
        await asyncio.to_thread(command.downgrade, Config(ROOT / "alembic.ini", attributes={"url": database}), "0019")
    async with db.connected(database, migrated=False) as worker, db.connected(database, migrated=False) as looking:
        async with worker.transaction():
            await worker.execute("UPDATE draft_settings SET retention_days = 7")
            changing = asyncio.create_task(asyncio.to_thread(change, database, roles))
            while (await looking.execute(WAITS)).rowcount == 0:
                assert not changing.done()
            await worker.execute("UPDATE draft_requests SET priority = 1")
        await changing


async def test_a_table_that_somebody_keeps_ends_it_with_nothing_changed(
    database: str, connection: db.Connection, roles: Roles
) -> None:
    role = roles.make()
    async with connection.transaction():
        await connection.execute("SELECT count(*) FROM draft_settings")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            await asyncio.to_thread(apply_grants, database, roles, role)
    (granted,) = await (
        await connection.execute("SELECT has_table_privilege(%s, 'draft_requests', 'SELECT') AS any", [role])
    ).fetchall()
    assert granted == {"any": False}
