"""The presets for hosts with PostgREST: applied again, migrated, with another identity, in a schema of their own, with push."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import psycopg
import pytest
from alembic import command
from psycopg import sql
from psycopg.types.json import Jsonb

from draftd import db
from draftd.db import grants, hosts, schema_version
from draftd.errors import UsageError
from fix_database import URL, claim_one, make_request, read_row
from fix_postgrest import DEFAULT_PRIVILEGES, Host, HostOf
from fix_roles import Roles

BEFORE = schema_version.revisions()[schema_version.revisions().index("0030") - 1]
CREATE = "SELECT create_draft_request(%s) AS made"
RESULT = Jsonb({"options": [{"length": "short", "text": "Yes."}]})
ENDS = "UPDATE draft_requests SET status = 'completed', result = %s WHERE id = %s"
PUBLISHES = "UPDATE draft_requests SET partial_result = %s WHERE id = %s"
CATALOG = """
SELECT 'relation' AS kind, relname::text AS name, relacl::text[] AS acl, relrowsecurity::text AS more FROM pg_class
 WHERE relnamespace = {schema}::regnamespace
UNION ALL SELECT 'column', attrelid::regclass || '.' || attname, attacl::text[], NULL FROM pg_attribute
  JOIN pg_class ON pg_class.oid = attrelid WHERE attacl IS NOT NULL AND relnamespace = {schema}::regnamespace
UNION ALL SELECT 'function', oid::regprocedure::text, proacl::text[], prosrc || proconfig::text FROM pg_proc
 WHERE pronamespace = {schema}::regnamespace
UNION ALL SELECT 'type', typname, typacl::text[], NULL FROM pg_type WHERE typname = 'draft_worker'
UNION ALL SELECT 'schema', nspname, nspacl::text[], NULL FROM pg_namespace WHERE nspname = {schema}
UNION ALL SELECT 'policy', schemaname || '.' || tablename || ': ' || policyname, ARRAY[permissive, cmd, roles::text],
                 coalesce(qual, '') || coalesce(with_check, '') FROM pg_policies
UNION ALL SELECT 'trigger', tgrelid::regclass || ': ' || tgname, NULL, pg_get_triggerdef(oid) FROM pg_trigger
 WHERE NOT tgisinternal
 ORDER BY kind, name
"""
REALTIME = """
CREATE SCHEMA realtime;
CREATE TABLE realtime.messages (
    id uuid NOT NULL DEFAULT gen_random_uuid(), topic text NOT NULL, extension text NOT NULL, payload jsonb, event text,
    private boolean DEFAULT false, inserted_at timestamp NOT NULL DEFAULT now());
ALTER TABLE realtime.messages ENABLE ROW LEVEL SECURITY;
GRANT USAGE ON SCHEMA realtime TO authenticated;
GRANT SELECT ON realtime.messages TO authenticated;
CREATE FUNCTION realtime.topic() RETURNS text LANGUAGE sql STABLE
AS $$ SELECT nullif(current_setting('realtime.topic', true), '')::text $$;
CREATE FUNCTION realtime.send(payload jsonb, event text, topic text, private boolean DEFAULT true) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO realtime.messages (payload, event, topic, private, extension)
    VALUES (payload, event, topic, private, 'broadcast');
END $$;
"""
"""What Supabase's Realtime has, as far as it matters here: made up, with its signatures."""
RAISES = """
CREATE OR REPLACE FUNCTION realtime.send(payload jsonb, event text, topic text, private boolean DEFAULT true) RETURNS void
LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$
"""
FORBIDS = """
REVOKE ALL ON FUNCTION realtime.send FROM PUBLIC;
GRANT USAGE ON SCHEMA realtime TO {owner};
ALTER FUNCTION draft_requests_broadcast() OWNER TO {owner};
"""
Messages = Callable[[], Awaitable[list[dict[str, Any]]]]


async def catalog(url: str, schema: str = "public") -> list[dict[str, Any]]:
    """Return every right, policy, trigger and function."""
    async with db.connected(url) as connection:
        return await (await connection.execute(sql.SQL(CATALOG).format(schema=schema))).fetchall()


def with_schema(url: str, schema: str) -> str:
    """Return a URL with another search_path."""
    return f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{schema}"


def mentions(acl: list[str] | None, host: Host) -> bool:
    """Whether one of the host's roles, or everybody, has a right."""
    return any(one.partition("=")[0].strip('"') in {"", *host.users.split(", ")} for one in acl or [])


async def test_applied_again_it_changes_nothing(database: str, host: Host) -> None:
    host.roles.owner(REALTIME)
    worker = host.roles.make()
    host.grant(worker=worker, identity="current_setting('app.user', true)")
    before = await catalog(database)
    host.grant(worker=worker, identity="current_setting('app.user', true)")
    assert await catalog(database) == before
    host.roles.owner("DROP SCHEMA realtime CASCADE")


async def test_it_replaces_what_was_granted_to_these_roles_and_to_everybody(database: str, host: Host) -> None:
    before = await catalog(database)
    host.roles.owner(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {host.users}, PUBLIC")
    host.roles.owner(f"GRANT EXECUTE ON ALL ROUTINES IN SCHEMA public TO {host.users}, PUBLIC")
    host.roles.owner("GRANT USAGE ON TYPE draft_worker TO PUBLIC, anon")
    host.grant(trusted=True)
    host.grant()
    assert await catalog(database) == before


def with_next_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a migration that makes a table and a function, and replaces a function that clients call."""
    there = tmp_path / "alembic"
    copytree(schema_version.migrations_directory(), there)
    (there / "versions/9999_next.py").write_text(
        f'''"""The next one."""
from alembic import op
from draftd.db.private import keep_private, replaced
revision, down_revision, branch_labels, depends_on = "9999", "{schema_version.revisions()[-1]}", None, None
def upgrade() -> None:
    op.execute("CREATE TABLE draft_later (id bigint GENERATED ALWAYS AS IDENTITY)")
    op.execute("CREATE FUNCTION draft_later() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    op.execute(keep_private(tables=["draft_later"], sequences=["draft_later_id_seq"], functions=["draft_later()"]))
    op.execute("""DO $do$ BEGIN EXECUTE regexp_replace(
        pg_get_functiondef('create_draft_request(jsonb)'::regprocedure), 'SET search_path TO [^$]*', 'AS '); END $do$""")
    op.execute(replaced(["create_draft_request(jsonb)"]))
'''
    )
    monkeypatch.setattr(schema_version, "migrations_directory", lambda: there)


@pytest.mark.parametrize(("name", "schema"), [("supabase", "drafts"), ("insforge", "public")])
async def test_a_later_migration_leaves_the_preset_as_it_is_and_its_own_tables_private(
    empty_database: str,
    roles_of: Callable[[str], Roles],
    host_of: HostOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    schema: str,
) -> None:
    host = host_of(roles_of(empty_database), name)
    host.roles.owner(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    host.roles.owner(DEFAULT_PRIVILEGES.format(schema=schema, roles=host.users))
    url = with_schema(empty_database, schema)
    schema_version.upgrade(url)
    assert not [one for one in await catalog(url, schema) if one["kind"] != "schema" and mentions(one["acl"], host)]
    host.grant(schema=schema, identity="current_setting('app.user', true)")
    before = await catalog(url, schema)
    with_next_migration(tmp_path, monkeypatch)
    schema_version.upgrade(url)
    after = await catalog(url, schema)
    new = [one for one in after if one["name"].startswith("draft_later")]
    assert len(new) == 3
    assert not [one for one in new if mentions(one["acl"], host)]
    assert [one for one in after if one not in new] == before
    async with db.connected(url) as connection:
        rows = await (await connection.execute("SELECT schema_revision FROM draft_settings")).fetchall()
    assert rows == [{"schema_revision": "9999"}]


async def test_in_a_schema_of_its_own_no_client_is_denied_the_schema(
    empty_database: str, roles_of: Callable[[str], Roles], host_of: HostOf
) -> None:
    host = host_of(roles_of(empty_database), "supabase")
    host.roles.owner("CREATE SCHEMA drafts")
    schema_version.upgrade(with_schema(empty_database, "drafts"))
    host.grant(schema="drafts")
    printed = hosts.platform("supabase", schema="drafts", client=None, worker=None, trusted=False, identity=None)
    assert "PGRST_DB_SCHEMAS=public, graphql_public, drafts" in printed
    for role, sub in (("authenticated", "ada"), ("service_role", None)):
        (row,) = await host.run(role, sub, CREATE.replace("create", "drafts.create"), [Jsonb({"image_urls": [URL]})])
        assert row["made"]["created"]
        rows = await host.run(role, sub, "SELECT requester_id FROM drafts.draft_replies")
        assert {"requester_id": sub or ""} in rows
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await host.run("anon", None, "SELECT 1 FROM drafts.draft_replies")


@pytest.mark.parametrize(
    ("claims", "requester"),
    [
        ('{"sub": "ada"}', "ada"),
        ('{"sub": 7}', "7"),
        ('{"role": "service_role"}', ""),
        ('{"sub": null}', ""),
        ('"ada"', ""),
        ("[]", ""),
        ("", ""),
        ("no JSON", ""),
        (json.dumps({"sub": chr(0)}), ""),
    ],
)
async def test_the_requester_is_the_subject_of_the_token(
    connection: db.Connection, claims: str, requester: str
) -> None:
    async with connection.transaction(force_rollback=True):
        await connection.execute("SELECT set_config('request.jwt.claims', %s, true)", [claims])
        for made in (await make_request(connection, requester_id=None), await make_request(connection)):
            assert (await read_row(connection, made))["requester_id"] == requester
    assert (await read_row(connection, await make_request(connection)))["requester_id"] == ""


async def test_another_identity_is_an_expression_with_the_callers_rights(
    connection: db.Connection, roles: Roles
) -> None:
    """For an app without PostgREST; here each user is a role of the database."""
    del connection
    identity = "current_user -- $draftd$ the role"
    ada, ben = roles.make("ada"), roles.make("ben")
    for role in (ada, ben):
        roles.owner(grants.backend(schema="public", client=role, worker=None, trusted=False, identity=identity))
    for role in (ada, ben):
        async with db.connected(roles.url(role)) as user:
            for request in ({"image_urls": [URL]}, {"image_urls": [URL], "requester_id": role}):
                await user.execute(CREATE, [Jsonb(request)])
            await make_request(user, requester_id=None)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await make_request(user, requester_id="eve")
            rows = await (await user.execute("SELECT requester_id FROM draft_replies")).fetchall()
            assert rows == [{"requester_id": role}] * 3
            assert (await user.execute("DELETE FROM draft_requests")).rowcount == 0
            await user.execute("UPDATE draft_requests SET status = 'cancelled'")
            assert (await user.execute("DELETE FROM draft_requests")).rowcount == 3


@pytest.mark.parametrize("identity", ["", "  ", "a\nb"])
def test_an_identity_is_an_expression_on_one_line(identity: str) -> None:
    with pytest.raises(UsageError, match="--identity"):
        hosts.platform("supabase", schema="public", client=None, worker=None, trusted=False, identity=identity)


@pytest.mark.parametrize("over", [{"client": "anon"}, {"client": "service_role"}, {"worker": "authenticated"}])
def test_the_hosts_roles_are_distinct(over: dict[str, str]) -> None:
    how: dict[str, Any] = {"client": None, "worker": None, "trusted": False, "identity": None, "schema": "public"}
    with pytest.raises(UsageError, match="two roles"):
        hosts.platform("supabase", **how | over)


async def test_clients_from_before_still_insert_without_a_requester(database: str, roles: Roles) -> None:
    """Their rights are older than the function that the default calls."""
    config = schema_version._config(database)
    command.downgrade(config, BEFORE)
    role = roles.make()
    roles.owner(sql.SQL("GRANT SELECT, INSERT (image_urls) ON draft_requests TO {}").format(sql.Identifier(role)))
    roles.owner(sql.SQL("CREATE POLICY app ON draft_requests TO {} USING (true)").format(sql.Identifier(role)))
    command.upgrade(config, "head")
    async with db.connected(roles.url(role)) as client:
        request_id = await make_request(client)
        rows = await (await client.execute("SELECT id, requester_id FROM draft_requests")).fetchall()
    assert rows == [{"id": request_id, "requester_id": ""}]


async def test_the_way_down_leaves_no_user_with_everybodys_rows(
    database: str, connection: db.Connection, host: Host
) -> None:
    await make_request(connection, requester_id="ben")
    command.downgrade(schema_version._config(database), BEFORE)
    for relation in ("draft_requests", "draft_feedback", "draft_profiles"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await host.run("authenticated", "ada", f"SELECT requester_id FROM {relation}")


@pytest.fixture
async def supabase(roles: Roles, host_of: HostOf) -> AsyncIterator[Host]:
    """A host with Realtime, to which the preset was applied."""
    host = host_of(roles, "supabase")
    roles.owner(REALTIME)
    host.grant()
    yield host
    roles.owner("DROP SCHEMA realtime CASCADE")


@pytest.fixture
def messages(connection: db.Connection, supabase: Host) -> Messages:
    """Return what was broadcast since the last call."""
    del supabase

    async def read() -> list[dict[str, Any]]:
        taken = "DELETE FROM realtime.messages RETURNING topic, event, private, payload"
        return await (await connection.execute(taken)).fetchall()

    return read


async def test_each_ready_option_and_the_end_are_broadcast_to_the_requester(
    connection: db.Connection, link: db.Link, messages: Messages
) -> None:
    request_id = await make_request(connection, requester_id="ada")
    await claim_one(link)
    await connection.execute("UPDATE draft_requests SET lease_until = now() WHERE id = %s", [request_id])
    assert await messages() == []
    for statement, status in ((PUBLISHES, "processing"), (ENDS, "completed")):
        await connection.execute(statement, [RESULT, request_id])
        payload = {"id": str(request_id), "status": status, "options_ready": 1}
        assert await messages() == [{"topic": "draftd:ada", "event": "draft", "private": True, "payload": payload}]


async def test_requests_of_nobody_are_not_broadcast(
    connection: db.Connection, link: db.Link, messages: Messages
) -> None:
    await make_request(connection)
    await connection.execute(ENDS, [RESULT, (await claim_one(link)).id])
    assert await messages() == []


async def test_a_user_hears_her_own_channel_only(connection: db.Connection, link: db.Link, supabase: Host) -> None:
    await make_request(connection, requester_id="ada")
    await connection.execute(ENDS, [RESULT, (await claim_one(link)).id])
    heard = {}
    for topic, sub in (("draftd:ada", "ada"), ("draftd:ada", "ben"), ("draftd:", None), ("other", "ada")):
        async with supabase.acting("authenticated", sub) as user:
            await user.execute("SELECT set_config('realtime.topic', %s, true)", [topic])
            heard[topic, sub] = len(await (await user.execute("SELECT 1 FROM realtime.messages")).fetchall())
    assert heard == {("draftd:ada", "ada"): 1, ("draftd:ada", "ben"): 0, ("draftd:", None): 0, ("other", "ada"): 0}


@pytest.mark.parametrize(
    "trouble",
    [
        RAISES,
        "DROP FUNCTION realtime.send",
        "DROP TABLE realtime.messages",
        "REVOKE ALL ON FUNCTION realtime.send FROM PUBLIC",
    ],
    ids=["raises", "is gone", "has no table", "is forbidden"],
)
async def test_a_broadcast_that_fails_stops_no_settlement(
    connection: db.Connection, link: db.Link, supabase: Host, trouble: str
) -> None:
    owner = supabase.roles.make()
    supabase.roles.owner(sql.SQL("GRANT CREATE ON SCHEMA public TO {}").format(sql.Identifier(owner)))
    supabase.roles.owner(trouble.replace("{owner}", f'"{owner}"'))
    request_id = await make_request(connection, requester_id="ada")
    await claim_one(link)
    await connection.execute(ENDS, [RESULT, request_id])
    assert (await read_row(connection, request_id))["status"] == "completed"
    supabase.roles.owner("ALTER FUNCTION draft_requests_broadcast() OWNER TO CURRENT_USER")


async def test_a_broadcast_waits_for_no_lock(
    database: str, connection: db.Connection, link: db.Link, messages: Messages
) -> None:
    request_id = await make_request(connection, requester_id="ada")
    await claim_one(link)
    async with db.connected(database) as other, other.transaction():
        await other.execute("LOCK TABLE realtime.messages")
        await connection.execute("SET lock_timeout = 0; SET statement_timeout = '20s'")
        await connection.execute(ENDS, [RESULT, request_id])
    assert (await read_row(connection, request_id))["status"] == "completed"
    assert await messages() == []


async def test_whoever_may_not_make_the_policy_goes_without_push(
    empty_database: str, roles_of: Callable[[str], Roles], host_of: HostOf
) -> None:
    roles = roles_of(empty_database)
    host_of(roles, "supabase")
    owner = roles.make()
    roles.owner(REALTIME)
    made = "CREATE SCHEMA drafts AUTHORIZATION {0}; GRANT USAGE ON SCHEMA realtime TO {0}"
    roles.owner(sql.SQL(made).format(sql.Identifier(owner)))
    url = with_schema(roles.url(owner), "drafts")
    schema_version.upgrade(url)
    printed = hosts.platform("supabase", schema="drafts", client=None, worker=None, trusted=False, identity=None)
    notices: list[str] = []
    with psycopg.connect(url, autocommit=True) as connection:
        connection.add_notice_handler(lambda said: notices.append(said.message_primary or ""))
        connection.execute(printed.encode())
        triggers = connection.execute("SELECT 1 FROM pg_trigger WHERE tgname LIKE '%broadcast%'").fetchall()
    assert triggers == []
    assert "no push" in notices[0]
