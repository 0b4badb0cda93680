"""What tools make of the schema that they read from the database: it compiles, and it works."""

import json
import re
from pathlib import Path
from shutil import copy

import pytest

from draftd import db
from fix_node import CLIENT, Node
from fix_roles import Roles

TEST = CLIENT / "test"
COMPILER = {
    "strict": True,
    "target": "es2022",
    "module": "esnext",
    "moduleResolution": "bundler",
    "skipLibCheck": True,
    "types": ["node"],
}
"""As an app has it that a bundler builds; the packages' own types are checked by their authors."""
TEXT_DEFAULTS = """
SELECT format('%s.%s', c.relname, a.attname) AS name, pg_get_expr(d.adbin, d.adrelid) AS value
  FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
 WHERE c.relnamespace = current_schema()::regnamespace AND a.atttypid = 'text'::regtype
"""
FOR_APPS = ("draft_requests", "draft_replies", "draft_feedback", "draft_profiles")


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A folder of an app with the packages of clients/js."""
    (tmp_path / "node_modules").symlink_to(CLIENT / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": COMPILER, "include": ["*.ts"]}))
    return tmp_path


def complaints(node: Node, app: Path) -> str:
    """Compile all TypeScript of an app; return what the compiler says."""
    return node("node_modules/typescript/bin/tsc", "-p", str(app))


@pytest.mark.long
@pytest.mark.parametrize("role", ["owner", "backend"])
def test_what_drizzle_kit_pulls_compiles_and_works(
    node: Node, database: str, roles: Roles, app: Path, role: str
) -> None:
    url = database if role == "owner" else roles.url(roles.client(separator="_"))
    config = {"dialect": "postgresql", "out": str(app), "tablesFilter": FOR_APPS, "dbCredentials": {"url": url}}
    (app / "drizzle.config.json").write_text(json.dumps(config))
    node("node_modules/drizzle-kit/bin.cjs", "pull", "--config", str(app / "drizzle.config.json"))
    copy(TEST / "use_drizzle.ts", app)
    assert complaints(node, app) == ""
    said = node(str(app / "use_drizzle.js"), *(["insert"] if role == "owner" else []), DATABASE_URL=url)
    assert json.loads(said) == {"requester": "", "options": {"tone": "warm"}, "status": "cancelled"}


@pytest.mark.long
@pytest.mark.parametrize("role", ["owner", "backend"])
def test_what_supabase_generates_compiles(node: Node, database: str, roles: Roles, app: Path, role: str) -> None:
    url = database if role == "owner" else roles.url(roles.client(separator="_"))
    (app / "database.ts").write_text(node("test/supabase_types.mjs", DATABASE_URL=url))
    copy(TEST / "use_supabase_types.ts", app)
    assert complaints(node, app) == ""
    assert (app / "use_supabase_types.js").is_file()


async def test_a_texts_default_is_a_text_that_is_not_empty(connection: db.Connection) -> None:
    """drizzle-kit 0.31 writes any other as code that does not compile."""
    rows = await (await connection.execute(TEXT_DEFAULTS.encode())).fetchall()
    assert rows
    assert [row["name"] for row in rows if not re.fullmatch(r"'[^'\\]+'::text", row["value"])] == []


async def test_the_typescript_of_a_reply_has_the_columns_of_the_view(connection: db.Connection) -> None:
    text = (CLIENT / "types.d.ts").read_text()
    (body,) = re.findall(r"export interface DraftReply \{\n(.*?)\n\}", text, re.DOTALL)
    cursor = await connection.execute("SELECT * FROM draft_replies")
    assert re.findall(r"^  (\w+): ", body, re.MULTILINE) == [column.name for column in cursor.description or ()]
