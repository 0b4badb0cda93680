"""What tools make of the schema that they read from the database: it compiles, and it works."""

import json
from pathlib import Path
from shutil import copy

import pytest

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
FOR_APPS = ("draft_requests", "draft_replies", "draft_feedback", "draft_profiles")


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A folder of an app with the packages of clients/js."""
    (tmp_path / "node_modules").symlink_to(CLIENT / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": COMPILER, "include": ["*.ts"]}))
    return tmp_path


def compile_all(node: Node, app: Path) -> None:
    node("node_modules/typescript/bin/tsc", "-p", str(app))


@pytest.mark.parametrize("as_owner", [True, False], ids=["owner", "backend"])
def test_what_drizzle_kit_pulls_compiles_and_works(
    node: Node, database: str, roles: Roles, app: Path, *, as_owner: bool
) -> None:
    url = database if as_owner else roles.url(roles.client())
    config = {"dialect": "postgresql", "out": str(app), "tablesFilter": FOR_APPS, "dbCredentials": {"url": url}}
    (app / "drizzle.config.json").write_text(json.dumps(config))
    node("node_modules/drizzle-kit/bin.cjs", "pull", "--config", str(app / "drizzle.config.json"))
    copy(TEST / "use_drizzle.ts", app)
    compile_all(node, app)
    said = node(str(app / "use_drizzle.js"), *(["insert"] if as_owner else []), DATABASE_URL=url)
    assert json.loads(said) == {"requester": "", "options": {"tone": "warm"}, "status": "cancelled"}


@pytest.mark.parametrize("as_owner", [True, False], ids=["owner", "backend"])
def test_what_supabase_generates_compiles(
    node: Node, database: str, roles: Roles, app: Path, *, as_owner: bool
) -> None:
    url = database if as_owner else roles.url(roles.client())
    (app / "database.ts").write_text(node("test/supabase_types.mjs", DATABASE_URL=url))
    copy(TEST / "use_supabase_types.ts", app)
    compile_all(node, app)
