"""The client for JavaScript: its own tests, run by Node.js against a database in which they play the daemon."""

from fix_node import Node
from fix_roles import Roles


def test_the_client_over_node_postgres_keeps_its_promises(node: Node, database: str, roles: Roles) -> None:
    # The runner ends by itself only if nothing keeps the process alive.
    said = node("--test", "test/postgres.test.js", OWNER_URL=database, CLIENT_URL=roles.url(roles.client()))
    assert "\n# fail 0\n" in said
    assert "\n# pass 0\n" not in said


def test_the_types_compile_and_refuse_what_the_table_refuses(node: Node) -> None:
    assert node("node_modules/typescript/bin/tsc", "-p", ".") == ""
