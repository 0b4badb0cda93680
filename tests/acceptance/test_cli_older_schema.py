"""Commands of this program on a database that is not migrated yet."""

import pytest
from alembic import command

from draftd.db import schema_version
from fix_daemon import Call, environment

CONFIGURATION = 78
ANY_ID = "6f1f6a3e-0000-4000-8000-000000000001"
COMMANDS = (
    ["status"],
    ["pause"],
    ["pause", "--model", "openai/m"],
    ["resume"],
    ["limits", "list"],
    ["limits", "set", "ann", "--max-pending", "1"],
    ["limits", "unset", "ann"],
    ["settings", "list"],
    ["settings", "set", "usd_per_day=1"],
    ["models", "list"],
    ["models", "set", "openai/m", "--rpm", "5"],
    ["feedback", ANY_ID, "--option", "short"],
    ["report", "--json"],
    ["forget", "--requester", "ann"],
    ["forget", "--requester", "ann", "--dry-run"],
    ["show", ANY_ID],
    ["reap-stale"],
    ["run", "--drain"],
)


@pytest.mark.parametrize("revision", ["0019", "0023", "0027"])
def test_a_command_works_on_an_older_schema_or_says_in_one_line_what_to_do(
    call: Call, database: str, revision: str
) -> None:
    command.downgrade(schema_version._config(database), revision)
    env = environment(database, DRAFTD_MODEL="openai/m", OPENAI_API_KEY="k")
    refused = 0
    for arguments in COMMANDS:
        done = call(*arguments, env=env)
        if done.returncode == CONFIGURATION:
            refused += 1
            assert "draftd migrate" in done.stderr, arguments
            assert done.stderr.count("\n") == 1, done.stderr
        else:
            assert done.returncode in {0, 1}, done.stderr
            assert "SQLSTATE" not in done.stderr
    assert refused
