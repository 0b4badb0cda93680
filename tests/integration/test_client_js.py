"""The client for JavaScript: its own tests, run by Node.js against a database in which they play the daemon."""

from pathlib import Path

import pytest

from draftd.db import schema_version
from fix_node import CLIENT, Node
from fix_roles import Roles


def test_the_client_over_node_postgres_keeps_its_promises(node: Node, database: str, roles: Roles) -> None:
    # The runner ends by itself only if nothing keeps the process alive.
    said = node("--test", "test/postgres.test.js", OWNER_URL=database, CLIENT_URL=roles.url(roles.client()))
    assert "\n# fail 0\n" in said
    assert "\n# pass 0\n" not in said


@pytest.mark.long
@pytest.mark.skipif(not (CLIENT / "node_modules/@electric-sql/pglite").is_dir(), reason="needs PGlite")
def test_the_client_over_pglite_polls(node: Node, tmp_path: Path) -> None:
    schema = tmp_path / "schema.sql"
    schema.write_text(schema_version.upgrade_sql())
    said = node("--test", "test/pglite.test.js", SCHEMA=str(schema))
    assert "\n# fail 0\n" in said
    assert "\n# pass 2\n" in said


@pytest.mark.long
def test_the_types_compile_and_refuse_what_the_table_refuses(node: Node) -> None:
    assert node("node_modules/typescript/bin/tsc", "-p", ".") == ""
