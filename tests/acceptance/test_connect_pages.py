"""The set-up that docs/connect shows for each host, typed in as it stands."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from draftd.db.hosts import PLATFORMS
from fix_docs import blocks
from fix_postgrest import HostOf
from fix_roles import Roles
from postgrest import serving, token

CONNECT = Path(__file__).parents[2] / "docs/connect"
REQUEST = {"request": {"image_urls": ["https://images.example/shot.png"], "idempotency_key": "k"}}


def commands(page: str) -> list[str]:
    """Return the blocks of shell of a page, without the address of the reader's database."""
    address = re.compile(r"^export DRAFTD_DATABASE_URL='postgres.*$", re.MULTILINE)
    return [address.sub("", one) for one in blocks((CONNECT / page).read_text(), "sh")]


def without_query(url: str) -> str:
    """Return a URL to which a page can add a question mark: a socket's folder is its host."""
    parts = {name: quote(str(value), safe="") for name, value in conninfo_to_dict(url).items()}
    port = f":{parts['port']}" if "port" in parts else ""
    return f"postgresql://{parts['user']}:{parts['password']}@{parts['host']}{port}/{parts['dbname']}"


@pytest.mark.skipif(shutil.which("psql") is None, reason="needs psql")
@pytest.mark.parametrize(
    ("host", "page", "part", "schema"),
    [
        ("supabase", "supabase.md", slice(0, 3), "public"),
        pytest.param("supabase", "supabase.md", slice(3, 4), "drafts", marks=pytest.mark.long),
        pytest.param("insforge", "insforge.md", slice(0, 1), "public", marks=pytest.mark.long),
    ],
    ids=["Supabase", "a schema of its own", "InsForge"],
)
def test_after_the_set_up_of_the_page_users_and_servers_create_requests(
    empty_database: str,
    roles_of: Callable[[str], Roles],
    host_of: HostOf,
    tmp_path: Path,
    host: str,
    page: str,
    part: slice,
    schema: str,
) -> None:
    there = host_of(roles_of(empty_database), host)
    owner = there.roles.make()
    name = str(conninfo_to_dict(empty_database)["dbname"])
    for right in ("GRANT CREATE ON DATABASE {} TO {}", "GRANT CREATE ON SCHEMA public TO {1}"):
        there.roles.owner(sql.SQL(right).format(sql.Identifier(name), sql.Identifier(owner)))
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "DRAFTD_DATABASE_URL": without_query(there.roles.url(owner)),
    }
    script = "set -eu\n" + "\n".join(commands(page)[part])
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with serving(there.roles.url(there.authenticator), schemas=("public", schema)) as address:
        for role, sub in (("authenticated", "ada"), (PLATFORMS[host].server, None)):
            headers = {"Authorization": f"Bearer {token(role=role, sub=sub)}", "Content-Profile": schema}
            made = httpx.post(f"{address}/rpc/create_draft_request", json=REQUEST, headers=headers, trust_env=False)
            assert (made.status_code, made.json().get("created")) == (200, True), made.text
