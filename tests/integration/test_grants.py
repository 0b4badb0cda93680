"""What a granted role can do, and what no grant lets a stranger do."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from draftd import db
from draftd.db import grants, schema_version
from draftd.db.schema import metadata
from draftd.errors import UsageError
from fix_database import CLIENT_COLUMNS, URL, claim_one, make_request, read_row
from fix_roles import FORGED, Roles

REFUSED = (psycopg.errors.InsufficientPrivilege, psycopg.IntegrityError)
STATUSES = ["pending", "processing", "completed", "failed", "cancelled"]


@pytest.fixture(params=["client", "with_everything"])
async def stranger(request: pytest.FixtureRequest, roles: Roles) -> AsyncIterator[db.Connection]:
    """A connection as a role that is granted the preset's rights, or every right there is."""
    role = getattr(roles, request.param)()
    async with db.connected(roles.url(role)) as opened:
        yield opened


async def columns(connection: db.Connection) -> dict[str, str]:
    """Return the columns of ``draft_requests`` with their types, as the catalog has them."""
    rows = await (
        await connection.execute(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'draft_requests'"
        )
    ).fetchall()
    return {row["column_name"]: row["data_type"] for row in rows}


async def update(connection: db.Connection, request_id: UUID, **values: Any) -> int:
    """Set columns of a request; return how many rows that changed."""
    settings = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in values
    )
    statement = sql.SQL("UPDATE draft_requests SET {} WHERE id = %(request_id)s").format(settings)
    return (await connection.execute(statement, values | {"request_id": request_id})).rowcount


async def in_each_status(connection: db.Connection, link: db.Link) -> list[UUID]:
    """Make one request for each status."""
    made = []
    for status in STATUSES[1:]:
        made.append(await make_request(connection))
        await claim_one(link)
        result = Jsonb({}) if status == "completed" else None
        await update(connection, made[-1], status=status, result=result)
    return [await make_request(connection), *made]


async def stays_as_it_is(connection: db.Connection, stranger: db.Connection, target: UUID, **values: Any) -> bool:
    """Let a stranger try to change a request; return whether it matched no row, if it was not refused, and changed none."""
    before = await read_row(connection, target)
    changed = 0
    with suppress(*REFUSED):
        changed = await update(stranger, target, **values)
    return changed == 0 and await read_row(connection, target) == before


async def test_a_stranger_forges_no_column_of_any_request(
    connection: db.Connection, link: db.Link, stranger: db.Connection
) -> None:
    targets = await in_each_status(connection, link)
    for name, kind in (await columns(connection)).items():
        for target in targets:
            assert await stays_as_it_is(connection, stranger, target, **{name: FORGED[kind]}), name


@pytest.mark.parametrize("status", STATUSES[:4])
async def test_a_stranger_sets_no_status_but_cancelled(
    connection: db.Connection, link: db.Link, stranger: db.Connection, status: str
) -> None:
    for target in await in_each_status(connection, link):
        assert await stays_as_it_is(connection, stranger, target, status=status)


async def test_a_stranger_cancels_what_is_open_and_nothing_else(
    connection: db.Connection, link: db.Link, stranger: db.Connection
) -> None:
    pending, processing, *final = await in_each_status(connection, link)
    for target in (pending, processing):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await update(stranger, target, status="cancelled", error_message="forged")
        assert await update(stranger, target, status="cancelled") == 1
        row = await read_row(connection, target)
        assert (row["status"], row["lease_until"], row["error_message"]) == ("cancelled", None, None)
        assert row["finished_at"] is not None
    for target in final:
        assert await stays_as_it_is(connection, stranger, target, status="cancelled")


async def test_a_stranger_may_send_every_column_along_as_it_stands(connection: db.Connection, roles: Roles) -> None:
    request_id = await make_request(connection, context="c", options={"tone": "warm"})
    row = await read_row(connection, request_id)
    unchanged = {
        name: Jsonb(value) if isinstance(value, dict | list) and name != "image_urls" else value
        for name, value in row.items()
    }
    async with db.connected(roles.url(roles.with_everything())) as stranger:
        assert await update(stranger, request_id, **unchanged | {"status": "cancelled"}) == 1


async def test_what_an_apps_own_trigger_changes_is_not_the_strangers_doing(
    connection: db.Connection, roles: Roles
) -> None:
    roles.owner(
        """CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql
           AS $$BEGIN NEW.metadata := '{"touched": true}'; RETURN NEW; END$$;
           CREATE TRIGGER a_touch BEFORE UPDATE ON draft_requests FOR EACH ROW EXECUTE FUNCTION touch()"""
    )
    request_id = await make_request(connection)
    async with db.connected(roles.url(roles.with_everything())) as stranger:
        assert await update(stranger, request_id, status="cancelled") == 1
    assert (await read_row(connection, request_id))["metadata"] == {"touched": True}


async def test_a_stranger_deletes_nothing(connection: db.Connection, stranger: db.Connection) -> None:
    request_id = await make_request(connection)
    finished = await make_request(connection, requester_id="ada", status="failed")
    for statement in (
        "DELETE FROM draft_requests",
        "DELETE FROM draft_requests WHERE status = 'failed'",
        "TRUNCATE draft_requests CASCADE",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await stranger.execute(statement)
    assert (await read_row(connection, request_id))["status"] == "pending"
    assert (await read_row(connection, finished))["status"] == "failed"


async def test_a_stranger_inserts_nothing_that_the_daemon_writes(
    connection: db.Connection, stranger: db.Connection
) -> None:
    plain = await read_row(connection, await make_request(connection))
    for name, kind in (await columns(connection)).items():
        if name in CLIENT_COLUMNS:
            continue
        statement = sql.SQL("INSERT INTO draft_requests (image_urls, {}) VALUES (%s, %s) RETURNING id").format(
            sql.Identifier(name)
        )
        try:
            row = await (await stranger.execute(statement, [[URL], FORGED[kind]])).fetchone()
        except REFUSED:
            continue
        assert row is not None
        made = await read_row(connection, row["id"])
        if name in {"created_at", "updated_at"}:
            assert made[name] >= plain[name]
        elif name != "turn":
            assert made[name] == plain[name], name
        assert made["turn"] < FORGED["bigint"]


async def test_a_stranger_makes_nobody_a_worker(stranger: db.Connection) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await stranger.execute("GRANT USAGE ON TYPE draft_worker TO public")


async def test_a_policy_for_everybody_opens_nothing_either(connection: db.Connection, roles: Roles) -> None:
    request_id = await make_request(connection)
    role = roles.make(options="BYPASSRLS")
    roles.owner("GRANT ALL ON draft_requests TO public")
    async with db.connected(roles.url(role)) as stranger:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="may cancel a request"):
            await update(stranger, request_id, priority=7)
        assert await update(stranger, request_id, status="cancelled") == 1


@asynccontextmanager
async def opened_by(roles: Roles, role: str) -> AsyncIterator[db.Connection]:
    """Connect as a role that may not use the tables by itself."""
    connection = await db.connect(roles.url(role), session=False)
    yield connection
    await connection.close()


async def test_a_functions_owner_counts_and_not_its_caller(connection: db.Connection, roles: Roles) -> None:
    request_id = await make_request(connection)
    roles.owner(
        "CREATE FUNCTION hurry(uuid) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public "
        "AS 'UPDATE draft_requests SET priority = 1 WHERE id = $1'"
    )
    async with opened_by(roles, roles.make()) as caller:
        await caller.execute("SELECT hurry(%s)", [request_id])
    assert (await read_row(connection, request_id))["priority"] == 1


@pytest.mark.parametrize("inherits", [True, False])
async def test_a_member_of_a_worker_is_one_while_it_has_its_rights(
    connection: db.Connection,
    roles: Roles,
    inherits: bool,  # noqa: FBT001  # pytest hands parameters over by name
) -> None:
    request_id = await make_request(connection)
    worker = roles.worker()
    member = roles.make(options="INHERIT" if inherits else "NOINHERIT")
    roles.owner(sql.SQL("GRANT {} TO {}").format(sql.Identifier(worker), sql.Identifier(member)))
    async with opened_by(roles, member) as opened:
        if not inherits:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await update(opened, request_id, priority=1)
            await opened.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(worker)))
        assert await update(opened, request_id, priority=1) == 1


async def test_a_client_inserts_reads_refines_cancels_rates_and_keeps_profiles(roles: Roles) -> None:
    async with db.connected(roles.url(roles.client())) as client:
        first = await make_request(client, requester_id="ada", context="c", options={"tone": "warm"})
        child = await make_request(client, requester_id="ada", parent_id=first, image_urls="{}")
        made = await (
            await client.execute(
                "SELECT create_draft_request(%s) AS made",
                [Jsonb({"image_urls": [URL], "idempotency_key": "k", "priority": None, "max_attempts": 2})],
            )
        ).fetchone()
        assert made is not None
        assert made["made"]["created"]
        assert (await read_row(client, first))["context"] == "c"
        cancelled = await (await client.execute("SELECT cancel_draft_request(%s) AS done", [child])).fetchone()
        assert cancelled == {"done": True}
        await client.execute(
            "INSERT INTO draft_feedback (request_id, option, sent_text, rating) VALUES (%s, 'short', 'sent', 1)",
            [first],
        )
        await client.execute(
            "INSERT INTO draft_profiles (requester_id, me, facts) VALUES ('ada', 'Ada', NULL) "
            "ON CONFLICT (requester_id) DO UPDATE SET me = excluded.me, facts = excluded.facts"
        )
        rows = await (
            await client.execute("SELECT rating, me FROM draft_feedback CROSS JOIN draft_profiles")
        ).fetchall()
    assert rows == [{"rating": 1, "me": "Ada"}]


@pytest.mark.parametrize(("column", "value"), [("id", "6f1f6a3e-0000-4000-8000-000000000001"), ("priority", 3)])
async def test_only_a_trusted_client_chooses_ids_and_priorities(roles: Roles, column: str, value: object) -> None:
    request = Jsonb({"image_urls": [URL], column: value})
    async with db.connected(roles.url(roles.client())) as client:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await make_request(client, **{column: value})
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await client.execute("SELECT create_draft_request(%s)", [request])
    async with db.connected(roles.url(roles.client(trusted=True))) as trusted:
        await trusted.execute("SELECT create_draft_request(%s)", [request])


async def test_a_client_sees_nothing_of_models_workers_holds_and_usage(roles: Roles) -> None:
    closed = {*metadata.tables, schema_version.VERSION_TABLE}
    closed -= {"draft_requests", "draft_feedback", "draft_profiles", "draft_settings"}
    async with db.connected(roles.url(roles.client(trusted=True))) as client:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await client.execute("SELECT retention_days FROM draft_settings")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await client.execute("UPDATE draft_settings SET schema_revision = ''")
        for table in closed:
            for statement in ("SELECT FROM {}", "DELETE FROM {}", "INSERT INTO {} DEFAULT VALUES"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    await client.execute(sql.SQL(statement).format(sql.Identifier(table)))


async def test_nobody_rates_a_request_that_row_security_hides(connection: db.Connection, roles: Roles) -> None:
    """Or the database would fill in the drafts of others."""
    role = roles.make()
    name = sql.Identifier(role)
    for statement in (
        "GRANT SELECT, INSERT ON draft_feedback TO {}",
        "GRANT SELECT ON draft_requests TO {}",
        "CREATE POLICY everything ON draft_feedback TO {} USING (true) WITH CHECK (true)",
        "CREATE POLICY own ON draft_requests TO {} USING (requester_id = 'ada')",
    ):
        roles.owner(sql.SQL(statement).format(name))
    own, foreign = [await make_request(connection, requester_id=requester) for requester in ("ada", "eve")]
    insert = "INSERT INTO draft_feedback (request_id, rating) VALUES (%s, 1) RETURNING requester_id"
    async with db.connected(roles.url(role)) as client:
        assert await (await client.execute(insert, [own])).fetchone() == {"requester_id": "ada"}
        with pytest.raises(psycopg.IntegrityError, match="request_id is no request"):
            await client.execute(insert, [foreign])


@pytest.mark.parametrize("statement", ["UPDATE draft_settings SET retention_days = 1", "DELETE FROM draft_settings"])
async def test_a_worker_reads_the_fleets_settings_and_changes_none(roles: Roles, statement: LiteralString) -> None:
    async with db.connected(roles.url(roles.worker())) as worker:
        assert await (await worker.execute("SELECT retention_days FROM draft_settings")).fetchall()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await worker.execute(statement)


async def test_a_worker_reads_profiles_and_changes_none(roles: Roles) -> None:
    roles.owner("INSERT INTO draft_profiles (requester_id, me) VALUES ('ada', 'Ada')")
    async with db.connected(roles.url(roles.worker())) as worker:
        assert await (await worker.execute("SELECT me FROM draft_profiles")).fetchall() == [{"me": "Ada"}]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await worker.execute("UPDATE draft_profiles SET me = 'Eve'")


async def test_a_worker_cannot_say_which_models_answer(roles: Roles) -> None:
    async with db.connected(roles.url(roles.worker())) as worker:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await worker.execute("INSERT INTO draft_agents (agent, model) VALUES ('a', 'm')")


async def rights(connection: db.Connection) -> list[dict[str, Any]]:
    """Return every right and every policy that there is on the schema's objects."""
    return await (
        await connection.execute(
            """SELECT relname::text AS name, relacl::text[] AS acl FROM pg_class
                WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'S')
               UNION ALL SELECT relname || '.' || attname, attacl::text[] FROM pg_attribute
                 JOIN pg_class ON pg_class.oid = attrelid WHERE attacl IS NOT NULL AND relnamespace = 'public'::regnamespace
               UNION ALL SELECT proname, proacl::text[] FROM pg_proc WHERE pronamespace = 'public'::regnamespace
               UNION ALL SELECT typname, typacl::text[] FROM pg_type WHERE typname = 'draft_worker'
               UNION ALL SELECT tablename || ': ' || policyname, ARRAY[cmd, roles::text, qual, with_check] FROM pg_policies
                ORDER BY name"""
        )
    ).fetchall()


def both(client: str, worker: str) -> str:
    return grants.backend(schema="public", client=client, worker=worker, trusted=False)


async def test_applied_again_it_changes_nothing(connection: db.Connection, roles: Roles) -> None:
    client, worker = roles.make(), roles.make()
    roles.owner(both(client, worker))
    before = await rights(connection)
    roles.owner(both(client, worker))
    assert await rights(connection) == before


async def test_it_replaces_what_a_role_had(connection: db.Connection, roles: Roles) -> None:
    one, other = roles.make(), roles.make()
    roles.owner(both(one, other))
    before = await rights(connection)
    roles.owner(sql.SQL("GRANT ALL ON ALL TABLES IN SCHEMA public TO {}").format(sql.Identifier(one)))
    roles.owner(both(other, one))
    roles.owner(both(one, other))
    assert await rights(connection) == before


async def test_it_takes_back_what_a_restore_without_privileges_gave_everybody(
    connection: db.Connection, roles: Roles
) -> None:
    one, other = roles.make(), roles.make()
    roles.owner(both(one, other))
    before = await rights(connection)
    roles.owner("GRANT EXECUTE ON ALL ROUTINES IN SCHEMA public TO PUBLIC")
    roles.owner("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO PUBLIC")
    roles.owner("GRANT USAGE ON TYPE draft_worker, draft_trusted TO PUBLIC")
    assert await rights(connection) != before
    roles.owner(both(one, other))
    for kind, role in (("worker", one), ("trusted", one), ("trusted", other)):
        row = await (
            await connection.execute("SELECT has_type_privilege(%s, %s, 'USAGE') AS has", [role, f"draft_{kind}"])
        ).fetchone()
        assert row == {"has": False}
    assert await rights(connection) == before


async def test_what_was_granted_outlives_a_migration(database: str, connection: db.Connection, roles: Roles) -> None:
    roles.owner(both(roles.make(), roles.make()))
    before = await rights(connection)
    from alembic import command  # noqa: PLC0415  # only this test migrates downwards

    config = schema_version._config(database)
    command.downgrade(config, schema_version.revisions()[-2])
    kept = {
        one["name"] for one in await rights(connection)
    }  # a table that the migration itself makes is granted after it
    command.upgrade(config, "head")
    after = await rights(connection)
    assert [one for one in after if one["name"] in kept] == [one for one in before if one["name"] in kept]


async def test_any_name_is_granted_as_it_is(connection: db.Connection, roles: Roles) -> None:
    client = roles.make('we"ird; DROP TABLE draft_profiles; -- $$ \\ ')
    worker = roles.make("Größe {role} %s " + "x" * 20)
    roles.owner(both(client, worker))
    async with db.connected(roles.url(worker)) as opened:
        await opened.execute("SELECT FROM draft_requests")
    rows = await (await connection.execute("SELECT DISTINCT unnest(roles) AS role FROM pg_policies")).fetchall()
    assert {row["role"] for row in rows} == {client, worker}


async def test_long_names_that_begin_alike_keep_their_own_policies(connection: db.Connection, roles: Roles) -> None:
    one, other = roles.make("x" * 49), roles.make("x" * 49)
    for name in (one, other):
        roles.owner(grants.backend(schema="public", client=name, worker=None, trusted=False))
    rows = await (
        await connection.execute("SELECT roles FROM pg_policies WHERE tablename = 'draft_requests'")
    ).fetchall()
    assert len(rows) == 6


@pytest.mark.parametrize("name", ["", "public", "none", "pg_monitor", "a\nb", "x" * 64, "ü" * 32])
def test_what_cannot_be_a_role_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--worker"):
        grants.backend(schema="public", client=None, worker=name, trusted=False)


def test_one_role_is_not_both() -> None:
    with pytest.raises(UsageError, match="two different roles"):
        grants.backend(schema="public", client="app", worker="app", trusted=False)


def test_every_table_and_every_column_of_a_client_is_spoken_for() -> None:
    assert {*grants.TABLES} == {*metadata.tables, schema_version.VERSION_TABLE}
    assert {*grants.CLIENT_COLUMNS, *grants.TRUSTED_COLUMNS} == {*CLIENT_COLUMNS}


USES = {
    "SELECT": r"(FROM|JOIN)\s+{}\b",
    "INSERT": r"INSERT\s+INTO\s+{}\b",
    "UPDATE": r"UPDATE\s+{0}\b|INSERT\s+INTO\s+{0}\b[^;]*?DO UPDATE",
    "DELETE": r"DELETE\s+FROM\s+{}\b",
}
NAMED_OTHERWISE = {("draft_requests", "INSERT"), (schema_version.VERSION_TABLE, "SELECT")}
"""By ``create_draft_request``, and by a constant."""


def test_a_worker_has_no_right_that_no_statement_uses() -> None:
    """Rights that one lacks show themselves; those that one need not have do not."""
    source = Path(db.__file__).parents[1]
    statements = "\n".join(path.read_text() for path in source.rglob("*.*") if path.suffix in {".sql", ".py"})
    unused = {
        (table, right)
        for table, rights in grants.WORKER_RIGHTS.items()
        for right in re.findall(r"\b[A-Z]+\b", rights)
        if not re.search(USES[right].format(table), statements)
    }
    assert unused == NAMED_OTHERWISE


async def test_every_function_that_can_be_called_is_spoken_for(connection: db.Connection) -> None:
    rows = await (
        await connection.execute(
            "SELECT oid::regprocedure::text AS name FROM pg_proc "
            "WHERE pronamespace = 'public'::regnamespace AND prorettype <> 'trigger'::regtype"
        )
    ).fetchall()
    named = await (
        await connection.execute(
            "SELECT name::regprocedure::text AS name FROM unnest(%s::text[]) AS name", [list(grants.ALL_FUNCTIONS)]
        )
    ).fetchall()
    assert sorted(row["name"] for row in rows) == sorted(row["name"] for row in named)


TELL_NO_SECRET = {
    "draft_budget_until(text,timestamp with time zone)", "draft_request_wait_of(uuid,timestamp with time zone)",
    "draft_requester_blocked_until(text)", "draftd_demand()",
}  # fmt: skip
"""With the owner's rights, for whoever may execute them."""


async def test_the_right_to_execute_every_function_opens_none_that_has_the_owners_rights(
    connection: db.Connection, stranger: db.Connection
) -> None:
    """Hosts suggest ``GRANT ALL ON ALL ROUTINES``, for anon too."""
    rows = await (
        await connection.execute(
            """SELECT oid::regprocedure::text AS name, proname, pronargs FROM pg_proc WHERE prosecdef
                AND pronamespace = 'public'::regnamespace AND prorettype <> 'trigger'::regtype"""
        )
    ).fetchall()
    assert {row["name"] for row in rows} > TELL_NO_SECRET
    for row in rows:
        if row["name"] not in TELL_NO_SECRET:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await stranger.execute(f"SELECT {row['proname']}({', '.join(['NULL'] * row['pronargs'])})".encode())


CHANGE_THE_NEW_ROW_ONLY = {
    "draft_feedback_compare", "draft_requests_begin", "draft_requests_finish", "draft_requests_requeue",
    "draft_settings_take_revision",
}  # fmt: skip


async def test_no_trigger_on_a_strangers_own_table_has_the_owners_rights(
    connection: db.Connection, roles: Roles
) -> None:
    """Else ``draft_feedback_begin`` there reads others' drafts out."""
    rows = await (
        await connection.execute(
            """SELECT proname AS name FROM pg_proc WHERE prosecdef
                AND pronamespace = 'public'::regnamespace AND prorettype = 'trigger'::regtype"""
        )
    ).fetchall()
    names = {row["name"] for row in rows}
    assert names > CHANGE_THE_NEW_ROW_ONLY
    async with opened_by(roles, roles.with_everything()) as stranger:
        await stranger.execute("CREATE TEMP TABLE mine AS SELECT * FROM draft_requests WITH NO DATA")
        # A broadcast that fails is left out.
        for name in names - CHANGE_THE_NEW_ROW_ONLY - {"draft_requests_broadcast"}:
            await stranger.execute(
                f"CREATE OR REPLACE TRIGGER one BEFORE INSERT ON mine FOR EACH ROW EXECUTE FUNCTION {name}()".encode()
            )
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="is not for this table"):
                await stranger.execute("INSERT INTO mine DEFAULT VALUES")


async def test_no_function_lets_a_stranger_hold_requests_list_requesters_or_change_what_was_spent(
    connection: db.Connection, roles: Roles
) -> None:
    request_id = await make_request(connection, requester_id="ada")
    await connection.execute("INSERT INTO draft_limits (requester_id, usd_per_day) VALUES ('ada', 7)")
    role = roles.make()
    roles.owner(sql.SQL("GRANT ALL ON ALL ROUTINES IN SCHEMA public TO {}").format(sql.Identifier(role)))
    attacks: list[LiteralString] = [
        "SELECT draft_next_requester(false, NULL)",
        "SELECT draft_requester_room('ada')",
        "SELECT draft_budget_of('ada')",
        "SELECT * FROM draft_agent_states()",
        "SELECT draft_pass_turnstile('ada', NULL, true)",
        "SELECT draft_spending_add(current_date, 'ada', -1000, 0)",
        "SELECT draft_spending_begin(current_date)",
        "SELECT draft_forget_some('ada', NULL)",
    ]
    async with opened_by(roles, role) as stranger:
        for statement in attacks:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await stranger.execute(statement)
        # It skips whatever it may not change.
        await stranger.execute("SELECT draft_set_limited(%s, true)", [[request_id]])
    assert (await read_row(connection, request_id))["limited"] is False


@pytest.mark.parametrize("role", ["owner", "worker"])
async def test_what_the_daemon_writes_calls_no_check(connection: db.Connection, roles: Roles, role: str) -> None:
    """Else the renewal of a row of 7 MB would be dear."""
    request_id = await make_request(connection)
    url = roles.url(roles.worker()) if role == "worker" else None
    async with db.connected(url or roles._url) as opened:
        for change in ("lease_until = now()", "available_at = now(), expires_at = now() + interval '1 h', attempt = 1"):
            rows = await (
                await opened.execute(
                    f"EXPLAIN (ANALYZE, FORMAT JSON) UPDATE draft_requests SET {change} WHERE id = '{request_id}'".encode()
                )
            ).fetchall()
            assert rows[0]["QUERY PLAN"][0]["Triggers"] == []
