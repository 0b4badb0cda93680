"""Tables that are hidden, elsewhere or missing: told apart by every command and by the daemon, each with who can help."""

import json
import re
import uuid
from collections.abc import Iterator

import psycopg
import pytest

from fix_daemon import Call, Client, environment

CONFIGURATION = 78
NOBODY = "00000000-0000-0000-0000-000000000000"
COMMANDS = [
    ["run"],
    ["enqueue", "https://a.example/b.png"],
    ["show", NOBODY],
    ["list"],
    ["cancel", NOBODY],
    ["retry", NOBODY],
    ["prune", "--older-than", "30d"],
    ["forget", "--requester", "r"],
    ["status"],
    ["reap-stale"],
]
each_command = pytest.mark.parametrize("command", COMMANDS, ids=lambda one: one[0])


@pytest.fixture
def role(client: Client) -> Iterator[str]:
    """A role that may use every table, with whatever row security leaves of them."""
    name = f"app_{uuid.uuid4().hex[:8]}"
    client.query(f"CREATE ROLE {name} LOGIN")
    client.query(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}")
    client.query(f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO {name}")
    yield name
    client.query(f"DROP OWNED BY {name}")
    client.query(f"DROP ROLE {name}")


def as_role(url: str, name: str) -> dict[str, str]:
    return environment(url, PGOPTIONS=f"-c role={name}", DRAFTD_MODEL="openai/m")


def told(call: Call, command: list[str], env: dict[str, str]) -> str:
    """Return the one line that a command ends with."""
    result = call(*command, env=env)
    assert result.returncode == CONFIGURATION, result
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    return result.stderr


@each_command
def test_rows_that_row_security_hides(call: Call, database: str, client: Client, role: str, command: list[str]) -> None:
    client.insert("https://images.example/a.png")
    said = told(call, command, as_role(database, role))
    assert f"row security hides every row of draft_requests from this role, {role}; connect as postgres," in said


@each_command
def test_tables_without_a_right_to_them(
    call: Call, database: str, client: Client, role: str, command: list[str]
) -> None:
    client.query(f"REVOKE ALL ON draft_requests FROM {role}")
    assert f"this role, {role}, may not use draft_requests; connect as postgres," in told(
        call, command, as_role(database, role)
    )


@each_command
def test_tables_in_another_schema(call: Call, database: str, client: Client, role: str, command: list[str]) -> None:
    client.query('ALTER SCHEMA public RENAME TO "the drafts"')
    client.query("CREATE SCHEMA public")
    said = told(call, command, as_role(database, role))
    assert 'draftd\'s tables are in the schema "the drafts", which is not in the search_path' in said
    advice = said.rpartition("; ")[2].strip()
    assert advice == f'ALTER ROLE {role} SET search_path = "the drafts"'
    client.query(advice)
    client.query(f"ALTER ROLE {role} RESET search_path")


def test_tables_in_a_schema_that_is_closed_to_this_role(call: Call, database: str, client: Client, role: str) -> None:
    client.query("ALTER SCHEMA public RENAME TO drafts")
    client.query("REVOKE USAGE ON SCHEMA drafts FROM public")
    said = told(call, ["list"], as_role(database, role))
    assert f"in the schema drafts, which this role, {role}, may not use; connect as postgres, who owns them" in said


@each_command
def test_no_tables_at_all(call: Call, empty_database: str, command: list[str]) -> None:
    said = told(call, command, environment(empty_database, DRAFTD_MODEL="openai/m"))
    assert said.endswith(": the database has no draftd tables; run `draftd migrate`\n")


@pytest.mark.parametrize("command", [*COMMANDS, ["migrate"]], ids=lambda one: one[0])
def test_a_search_path_to_a_schema_that_is_missing(call: Call, empty_database: str, command: list[str]) -> None:
    env = environment(empty_database, PGOPTIONS="-c search_path=nowhere", DRAFTD_MODEL="openai/m")
    assert re.search(r"search_path.*nowhere|schema has been selected", told(call, command, env))


def test_migrate_tells_where_else_there_are_tables(call: Call, database: str, client: Client) -> None:
    client.query("ALTER SCHEMA public RENAME TO drafts")
    client.query("CREATE SCHEMA public")
    result = call("migrate", "--check", env=environment(database))
    assert result.returncode == 1
    assert "note: draftd's tables are in the schema drafts, which is not in the search_path" in result.stderr


def test_a_database_that_only_reads_is_not_migrated(call: Call, empty_database: str) -> None:
    with psycopg.connect(empty_database, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())
    result = call("migrate", env=environment(empty_database))
    assert result.returncode == 69
    assert re.fullmatch(r"draftd: the database at \S+ is read-only .*: cannot execute .*\n", result.stderr)


def test_whoever_has_a_policy_passes(call: Call, database: str, client: Client, role: str) -> None:
    client.query(f"CREATE POLICY mine ON draft_requests FOR SELECT TO {role} USING (requester_id = 'me')")
    client.insert("https://images.example/a.png", requester_id="somebody")
    result = call("list", "--json", env=as_role(database, role))
    assert (result.returncode, json.loads(result.stdout)) == (0, {"requests": [], "has_more": False})
    assert "row security hides" in told(call, ["run"], as_role(database, role))


def test_a_policy_of_a_role_that_this_one_is_in_counts(call: Call, database: str, client: Client, role: str) -> None:
    client.query(f"CREATE ROLE group_{role}")
    client.query(f"CREATE POLICY all_rows ON draft_requests TO group_{role} USING (true)")
    assert "row security hides" in told(call, ["list"], as_role(database, role))
    client.query(f"GRANT group_{role} TO {role}")
    assert call("list", env=as_role(database, role)).returncode == 0
    client.query(f"DROP OWNED BY group_{role}")
    client.query(f"DROP ROLE group_{role}")


@pytest.mark.parametrize(
    ("command", "table"),
    [
        (["agents", "list"], "draft_agents"),
        (["models", "list"], "draft_agents, draft_models"),
        (["models", "unset", "m"], "draft_agents, draft_models"),
        (["settings", "list"], "draft_settings"),
        (["limits", "list"], "draft_limits"),
        (["pause"], "draft_pauses"),
        (["status"], "draft_holds, draft_limits, draft_models, draft_pauses, draft_settings, draft_spending"),
        (["migrate", "--check"], "draftd_alembic_version"),
        (["run"], "draft_agents"),
    ],
    ids=lambda one: "-".join(one) if isinstance(one, list) else "",
)
def test_a_table_beside_the_requests_that_is_hidden_is_no_empty_one(
    call: Call, database: str, client: Client, role: str, command: list[str], table: str
) -> None:
    client.query(f"CREATE POLICY everything ON draft_requests TO {role} USING (true) WITH CHECK (true)")
    assert f"row security hides every row of {table}" in told(call, command, as_role(database, role))
