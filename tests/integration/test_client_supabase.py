"""The client for JavaScript over the real supabase-js, against the stand-in for PostgREST, as user, as server and as nobody."""

from collections.abc import Callable

import pytest

from draftd.db import schema_version
from fix_node import Node
from fix_postgrest import HostOf
from fix_roles import Roles
from postgrest import serving, token


@pytest.mark.parametrize("schema", ["public", pytest.param("drafts", marks=pytest.mark.long)])
def test_the_client_over_supabase_js_keeps_its_promises(
    node: Node, empty_database: str, roles_of: Callable[[str], Roles], host_of: HostOf, schema: str
) -> None:
    host = host_of(roles_of(empty_database), "supabase")
    host.roles.owner(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    schema_version.upgrade(f"{empty_database}{'&' if '?' in empty_database else '?'}options=-csearch_path%3D{schema}")
    host.grant(schema=schema)
    with serving(host.roles.url(host.authenticator), schemas=("public", schema)) as url:
        said = node(
            "--test",
            "test/supabase.test.js",
            SUPABASE_URL=url,
            OWNER_URL=empty_database,
            SCHEMA=schema,
            ANON_TOKEN=token(role="anon"),
            ADA_TOKEN=token(role="authenticated", sub="ada"),
            BEN_TOKEN=token(role="authenticated", sub="ben"),
            SERVER_TOKEN=token(role="service_role"),
        )
    assert "\n# fail 0\n" in said
    assert "\n# pass 0\n" not in said
