"""migrate: what it says, what it does, and that the printed statements do the same."""

import json
import shutil
import subprocess

import psycopg
import pytest

from fix_daemon import Call, environment
from fix_database import database_url

NEGATIVE, CONFIGURATION = 1, 78
SHAPE = """
SELECT 'column', table_name, column_name, data_type || coalesce(column_default, '') || is_nullable
  FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
           WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT 'trigger', tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'function', proname, proacl::text, pg_get_functiondef(oid) FROM pg_proc
           WHERE pronamespace = 'public'::regnamespace
UNION ALL SELECT 'table', relname, relacl::text, relrowsecurity || coalesce(reloptions::text, '') FROM pg_class
           WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
ORDER BY 1, 2, 3, 4
"""


def shape(url: str) -> list[tuple[str, ...]]:
    """Return everything that a migration makes, as text."""
    with psycopg.connect(url) as connection:
        return connection.execute(SHAPE).fetchall()


def revision(url: str) -> tuple[str, ...] | None:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT version_num FROM draftd_alembic_version").fetchone()


def test_migrate_says_what_is_and_twice_is_harmless(call: Call, empty_database: str, database: str) -> None:
    env = environment(empty_database)
    behind = call("migrate", "--check", "--json", env=env)
    assert (behind.returncode, json.loads(behind.stdout)["schema"]) == (NEGATIVE, "behind")
    assert "`draftd migrate`" in behind.stderr
    assert call("migrate", env=env).returncode == 0
    again = call("migrate", "--json", env=env)
    assert (again.returncode, json.loads(again.stdout)["schema"]) == (0, "current")
    assert call("migrate", "--check", env=env).returncode == 0
    assert shape(empty_database) == shape(database)


def test_a_schema_of_a_newer_draftd_is_left_alone(call: Call, database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE draftd_alembic_version SET version_num = '9999'")
    result = call("migrate", env=environment(database))
    assert result.returncode == 0
    assert "ahead" in result.stderr
    assert revision(database) == ("9999",)


@pytest.mark.parametrize("command", [["migrate"], ["migrate", "--check"], ["run", "--drain"]], ids=" ".join)
def test_a_schema_from_before_the_squash_is_told_its_way(call: Call, database: str, command: list[str]) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE draftd_alembic_version SET version_num = '0012'")
    refused = call(*command, env=environment(database, DRAFTD_MODEL="openai/m"))
    assert (refused.returncode, refused.stdout) == (CONFIGURATION, "")
    assert refused.stderr.endswith("first, then this one\n")
    assert refused.stderr.count("\n") == 1
    assert revision(database) == ("0012",)


def test_the_printed_statements_make_the_same_schema(call: Call, empty_database: str, database: str) -> None:
    printed = call("migrate", "--sql", env=environment("postgresql://127.0.0.1:1/away"))
    assert (printed.returncode, printed.stderr) == (0, "")
    if psql := shutil.which("psql"):
        command = [psql, "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", empty_database]
        subprocess.run(command, input=printed.stdout, text=True, check=True, capture_output=True)
    else:
        with psycopg.connect(empty_database, autocommit=True) as connection:
            connection.execute(printed.stdout.encode())
    assert shape(empty_database) == shape(database)
    assert revision(empty_database) == revision(database)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_cannot_hold_every_text_is_refused(call: Call, server_url: str, encoding: str) -> None:
    name = f"draftd_test_{encoding.lower()}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE_PROVIDER libc LOCALE 'C'".encode()
        )
        env = environment(database_url(server_url, name))
        migrated, checked = call("migrate", env=env), call("migrate", "--check", env=env)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
    assert (migrated.returncode, checked.returncode) == (78, 78)
    assert f"encoding is {encoding}" in migrated.stderr


def test_a_database_is_migrated_whatever_encoding_the_surroundings_name(call: Call, empty_database: str) -> None:
    ended = call("migrate", env=environment(empty_database, PGCLIENTENCODING="latin1"))
    assert ended.returncode == 0, ended.stderr
