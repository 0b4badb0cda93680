"""What an end user can do through PostgREST, attacked line by line as the role of a signed-in user and as nobody."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Jsonb
from sqlalchemy.dialects import postgresql

from draftd import db
from draftd.db import grants, hosts, schema_version
from draftd.db.schema import metadata
from fix_database import URL, claim_one, make_request, read_row
from fix_postgrest import HABIT, Host, HostOf
from fix_roles import FORGED, Roles

REFUSED = (psycopg.errors.InsufficientPrivilege, psycopg.errors.GeneratedAlways, psycopg.IntegrityError)
RESULT = Jsonb({"options": [{"length": "short", "text": "Yes."}]})
STATUSES = ["pending", "processing", "completed", "failed", "cancelled"]
FEEDBACK_COLUMNS = ("request_id", "option", "sent_text", "outcome", "rating")
Line = tuple[str, dict[str, Any]]
SNAPSHOT = """
SELECT (SELECT jsonb_agg(r ORDER BY r.id) FROM draft_requests AS r) AS requests,
       (SELECT jsonb_agg(f ORDER BY f.id) FROM draft_feedback AS f) AS feedback,
       (SELECT jsonb_agg(p ORDER BY p.requester_id) FROM draft_profiles AS p) AS profiles,
       (SELECT jsonb_agg(s) FROM draft_settings AS s) AS settings
"""
CREATE = "SELECT create_draft_request(%s) AS made"

# Each is refused or has no rows, whether ada sends it or nobody does; %(ben)s is each of ben's requests in turn.
AT_BENS_REQUESTS = [
    "SELECT 1 FROM draft_requests WHERE id = %(ben)s",
    "SELECT 1 FROM draft_replies WHERE id = %(ben)s",
    "SELECT 1 FROM draft_replies WHERE requester_id = 'ben'",
    "SELECT 1 WHERE cancel_draft_request(%(ben)s)",
    "SELECT 1 WHERE draft_request_wait(%(ben)s) IS NOT NULL",
    "UPDATE draft_requests SET status = 'cancelled' WHERE id = %(ben)s RETURNING 1",
    "UPDATE draft_requests SET status = 'pending' WHERE id = %(ben)s RETURNING 1",
    "UPDATE draft_requests SET requester_id = 'ada' WHERE id = %(ben)s RETURNING 1",
    "UPDATE draft_replies SET status = 'cancelled' WHERE id = %(ben)s RETURNING 1",
    "DELETE FROM draft_requests WHERE id = %(ben)s RETURNING 1",
    "DELETE FROM draft_replies WHERE id = %(ben)s RETURNING 1",
    "INSERT INTO draft_requests (parent_id) VALUES (%(ben)s) RETURNING 1",
    "INSERT INTO draft_requests (parent_id, requester_id) VALUES (%(ben)s, 'ben') RETURNING 1",
    "INSERT INTO draft_feedback (request_id, rating) VALUES (%(ben)s, 1) RETURNING 1",
    "UPDATE draft_feedback SET rating = -1 RETURNING 1",
    "DELETE FROM draft_feedback RETURNING 1",
    "SELECT 1 FROM draft_feedback WHERE requester_id = 'ben'",
    "SELECT 1 FROM draft_pictures",
]
AT_BEN = [
    f"INSERT INTO draft_requests (image_urls, requester_id) VALUES ('{{{URL}}}', 'ben') RETURNING 1",
    f"INSERT INTO draft_requests (image_urls, requester_id) VALUES ('{{{URL}}}', '') RETURNING 1",
    f"INSERT INTO draft_requests (image_urls, requester_id, idempotency_key) VALUES ('{{{URL}}}', 'ben', 'known') RETURNING 1",
    'SELECT create_draft_request(\'{"requester_id": "ben", "idempotency_key": "known", "image_urls": ["https://images.example/shot.png"]}\')',
    "SELECT 1 FROM draft_requests WHERE idempotency_key = 'known'",
    "SELECT 1 FROM draft_profiles WHERE requester_id = 'ben'",
    "INSERT INTO draft_profiles (requester_id, me) VALUES ('eve', 'Eve') RETURNING 1",
    "INSERT INTO draft_profiles (requester_id, me) VALUES ('', 'Nobody') RETURNING 1",
    """INSERT INTO draft_profiles (requester_id, me) VALUES ('ben', 'Ada')
       ON CONFLICT (requester_id) DO UPDATE SET me = excluded.me RETURNING 1""",
    "UPDATE draft_profiles SET me = 'Ada' WHERE requester_id = 'ben' RETURNING 1",
    "UPDATE draft_profiles SET requester_id = 'eve' RETURNING 1",
    "DELETE FROM draft_profiles WHERE requester_id = 'ben' RETURNING 1",
    "SELECT retention_days FROM draft_settings",
    "UPDATE draft_settings SET schema_revision = '' RETURNING 1",
]
BECOMING_MORE = [
    "TRUNCATE draft_requests CASCADE",
    "GRANT USAGE ON TYPE draft_worker TO public",
    "CREATE POLICY mine ON draft_requests USING (true)",
    "ALTER TABLE draft_requests DISABLE ROW LEVEL SECURITY",
    "CREATE TRIGGER mine AFTER INSERT ON draft_requests FOR EACH ROW EXECUTE FUNCTION draft_requests_ring()",
    "CREATE OR REPLACE FUNCTION draft_current_requester() RETURNS text LANGUAGE sql AS $$ SELECT 'ben' $$",
    "DROP VIEW draft_replies",
]


def at_ones_own() -> Iterator[str]:
    """What ada may not do to requests of her own; %(mine)s is each of them in turn."""
    for status in STATUSES:
        if status != "cancelled":
            yield f"UPDATE draft_requests SET status = '{status}' WHERE id = %(mine)s RETURNING 1"
    for column in metadata.tables["draft_requests"].columns:
        if column.name not in {*grants.USER_READS, *grants.USER_COLUMNS} or column.name == "image_urls":
            yield f"SELECT {column.name} FROM draft_requests WHERE id = %(mine)s"
    yield "SELECT * FROM draft_requests WHERE id = %(mine)s"


async def in_each_status(connection: db.Connection, link: db.Link, requester: str) -> list[UUID]:
    """Make one request of a requester for each status."""
    made = []
    for status in STATUSES[1:]:
        made.append(await make_request(connection, requester_id=requester))
        await claim_one(link)
        await connection.execute(
            "UPDATE draft_requests SET status = %s, result = %s WHERE id = %s",
            [status, RESULT if status == "completed" else None, made[-1]],
        )
    made.append(await make_request(connection, requester_id=requester))
    return made


both_hosts = pytest.mark.parametrize(
    "host", ["supabase", pytest.param("insforge", marks=pytest.mark.long)], indirect=True
)


class Scene:
    """The requests, feedback and profiles of ada and ben, and a connection of PostgREST's."""

    ada: list[UUID]
    ben: list[UUID]

    def __init__(self, connection: db.Connection, host: Host) -> None:
        self.connection = connection
        self.host = host

    async def build(self, link: db.Link) -> None:
        """Insert them."""
        self.ada = await in_each_status(self.connection, link, "ada")
        self.ben = await in_each_status(self.connection, link, "ben")
        await make_request(self.connection, requester_id="ben", idempotency_key="known")
        for requester, requests in (("ada", self.ada), ("ben", self.ben)):
            await self.connection.execute("INSERT INTO draft_profiles (requester_id) VALUES (%s)", [requester])
            await self.connection.execute(
                "INSERT INTO draft_feedback (request_id, rating) VALUES (%s, 1)", requests[1:2]
            )

    async def successes(self, role: str, sub: str | None, statements: Iterable[Line]) -> list[Line]:
        """Send statements, each in a transaction; return those that were not refused and had rows, or all that changed a row."""
        before, done = await self.all(), []
        async with self.host.connected() as connection:
            for statement, values in statements:
                with suppress(*REFUSED):
                    async with self.host.as_role(connection, role, sub):
                        cursor = await connection.execute(statement.encode(), values)
                        if cursor.description is not None and await cursor.fetchall():
                            done.append((statement, values))
        assert await self.all() == before
        return done

    async def all(self) -> Any:
        """Return everything that is stored."""
        return await (await self.connection.execute(SNAPSHOT)).fetchone()

    def at_ben(self) -> list[Line]:
        """Return the attacks on ben's rows."""
        return [(line, {"ben": one}) for line in AT_BENS_REQUESTS for one in self.ben] + [(line, {}) for line in AT_BEN]


@pytest.fixture(params=[("supabase", "clean"), ("insforge", "after the habit")], ids=lambda one: one[0])
async def scene(
    request: pytest.FixtureRequest, connection: db.Connection, link: db.Link, roles: Roles, host_of: HostOf
) -> Scene:
    """Two users' rows, with the preset alone, or on top of what people grant."""
    name, before = request.param
    host = host_of(roles, name)
    if before != "clean":
        roles.owner(HABIT.format(roles=host.users))
    host.grant()
    made = Scene(connection, host)
    await made.build(link)
    return made


async def test_nobody_reaches_another_users_rows(scene: Scene) -> None:
    for role, sub in (("authenticated", "ada"), ("authenticated", None), ("anon", None), ("anon", "ada")):
        assert await scene.successes(role, sub, scene.at_ben()) == []


async def test_a_user_does_nothing_to_requests_of_her_own_but_cancel_and_delete(scene: Scene) -> None:
    lines: list[Line] = [(line, {"mine": one}) for line in at_ones_own() for one in scene.ada]
    unfinished = [one for one in scene.ada if await status_of(scene, one) in STATUSES[:2]]
    lines += [("DELETE FROM draft_requests WHERE id = %(mine)s RETURNING 1", {"mine": one}) for one in unfinished]
    finished = [one for one in scene.ada if one not in unfinished]
    lines += [("SELECT 1 WHERE cancel_draft_request(%(mine)s)", {"mine": one}) for one in finished]
    lines += [("UPDATE draft_feedback SET rating = -1 RETURNING 1", {}), ("DELETE FROM draft_feedback RETURNING 1", {})]
    assert await scene.successes("authenticated", "ada", lines) == []


async def test_a_user_forges_no_column(scene: Scene) -> None:
    bases = {
        "draft_requests": (grants.USER_COLUMNS, "image_urls", f"'{{{URL}}}'"),
        "draft_feedback": (FEEDBACK_COLUMNS, "request_id", "%(mine)s"),
    }
    lines: list[Line] = []
    for table, (insertable, base, known) in bases.items():
        for column in metadata.tables[table].columns:
            values = {"value": forged(column), "mine": scene.ada[0]}
            if column.name not in insertable or column.name == "requester_id":
                insert = f"INSERT INTO {table} ({base}, {column.name}) VALUES ({known}, %(value)s) RETURNING 1"
                lines.append((insert, values))
            update = f"UPDATE {table} SET {column.name} = %(value)s"
            lines += [(f"{update} RETURNING 1", values), (f"{update} WHERE requester_id = 'ada' RETURNING 1", values)]
    for name in ("id", "requester_id", "agent", "priority", "available_at", "max_attempts"):
        request = {"image_urls": [URL], name: plain(forged(metadata.tables["draft_requests"].columns[name]))}
        lines.append((CREATE.replace("%s", "%(request)s"), {"request": Jsonb(request)}))
    assert await scene.successes("authenticated", "ada", lines) == []


@pytest.mark.parametrize(("role", "sub"), [("authenticated", "ada"), ("anon", None)])
async def test_every_other_table_is_closed(scene: Scene, role: str, sub: str | None) -> None:
    users = (
        {"draft_requests", "draft_feedback", "draft_profiles", "draft_settings"} if role == "authenticated" else set()
    )
    lines: list[Line] = []
    for table in {*grants.TABLES} - users:
        lines += [(f"SELECT 1 FROM {table}", {}), (f"DELETE FROM {table} RETURNING 1", {})]
        lines += [(f"INSERT INTO {table} DEFAULT VALUES RETURNING 1", {}), (f"SELECT count(*) FROM {table}", {})]
    assert await scene.successes(role, sub, lines) == []


@pytest.mark.parametrize(("role", "sub"), [("authenticated", "ada"), ("anon", None)])
async def test_every_other_function_is_closed(scene: Scene, role: str, sub: str | None) -> None:
    rows = await (
        await scene.connection.execute(
            """SELECT oid::regprocedure::text AS name, proname, pronargs, proisstrict,
                      has_function_privilege(%s, oid, 'EXECUTE') AS is_open
                 FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prorettype <> 'trigger'::regtype""",
            [role],
        )
    ).fetchall()
    names = "SELECT array_agg(name::regprocedure::text) AS names FROM unnest(%s::text[]) AS name"
    given = await (await scene.connection.execute(names, [list(grants.FUNCTIONS)])).fetchone()
    assert given is not None
    open_ = {*given["names"]} if role == "authenticated" else set()
    assert {row["name"] for row in rows if row["is_open"]} == open_
    for row in rows:
        # A strict function of null is null before anybody asks for the right.
        if row["name"] not in open_ and not row["proisstrict"]:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await scene.host.run(role, sub, f"SELECT {row['proname']}({', '.join(['NULL'] * row['pronargs'])})")


async def test_nobody_becomes_more_than_a_user(scene: Scene) -> None:
    for statement in BECOMING_MORE:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await scene.host.run("authenticated", "ada", statement)


async def test_rights_that_are_granted_later_open_no_other_users_rows(
    connection: db.Connection, link: db.Link, host: Host
) -> None:
    """Column rights do not help then; the restrictive policies and the guard do."""
    host.roles.owner(HABIT.format(roles=host.users))
    scene = Scene(connection, host)
    await scene.build(link)
    at_his_requests = [line for line in scene.at_ben() if "%(ben)s" in line[0]]
    assert await scene.successes("authenticated", "ada", at_his_requests) == []


async def status_of(scene: Scene, request_id: UUID) -> str:
    status: str = (await read_row(scene.connection, request_id))["status"]
    return status


def forged(column: Any) -> Any:
    """Return a value of a column's type that no row has."""
    kind = column.type.compile(dialect=postgresql.dialect()).lower()  # type: ignore[no-untyped-call]  # SQLAlchemy's
    return FORGED["ARRAY" if kind.endswith("[]") else kind.partition("(")[0]]


def plain(value: Any) -> Any:
    return str(value) if isinstance(value, UUID) else value


@both_hosts
async def test_a_user_creates_reads_refines_rates_cancels_and_keeps_a_profile(
    connection: db.Connection, link: db.Link, host: Host
) -> None:
    request = Jsonb(
        {"image_urls": [URL], "idempotency_key": "k", "context": "c", "options": {"tone": "warm"}, "priority": None}
    )
    async with host.acting("authenticated", "ada") as user:
        made = (await (await user.execute(CREATE, [request])).fetchall())[0]["made"]
        again = (await (await user.execute(CREATE, [request])).fetchall())[0]["made"]
    assert made["created"]
    assert again == made | {"created": False}
    claim = await claim_one(link)
    await connection.execute(
        "UPDATE draft_requests SET status = 'completed', result = %s WHERE id = %s", [RESULT, claim.id]
    )
    async with host.acting("authenticated", "ada") as user:
        (reply,) = await (await user.execute("SELECT * FROM draft_replies")).fetchall()
        assert (reply["requester_id"], reply["status"], reply["result"]) == ("ada", "completed", RESULT.obj)
        assert not {"image_urls", "cost_usd", "model", "errors", "worker_id"} & {*reply}
        inserted = await user.execute(
            "INSERT INTO draft_requests (parent_id, requester_id) VALUES (%s, NULL) RETURNING id, requester_id",
            [made["id"]],
        )
        (child,) = await inserted.fetchall()
        assert child["requester_id"] == "ada"
        (waits,) = await (await user.execute("SELECT draft_request_wait(%s) AS why", [child["id"]])).fetchall()
        assert waits["why"]["reason"] == "no_worker"
        rate = "INSERT INTO draft_feedback (request_id, option, rating) VALUES (%s, 'short', 1) RETURNING drafted_text"
        rated = await (await user.execute(rate, [made["id"]])).fetchall()
        assert rated == [{"drafted_text": "Yes."}]
        done = await (await user.execute("SELECT cancel_draft_request(id => %s) AS done", [child["id"]])).fetchall()
        assert done == [{"done": True}]
        assert not await (await user.execute("SELECT 1 WHERE cancel_draft_request(%s)", [child["id"]])).fetchall()
        await user.execute("INSERT INTO draft_profiles (me) VALUES ('Ada')")
        await user.execute(
            """INSERT INTO draft_profiles (requester_id, me) VALUES ('ada', 'Ada L.')
               ON CONFLICT (requester_id) DO UPDATE SET requester_id = excluded.requester_id, me = excluded.me"""
        )
        assert await (await user.execute("SELECT requester_id, me FROM draft_profiles")).fetchall() == [
            {"requester_id": "ada", "me": "Ada L."}
        ]
        assert (await user.execute("DELETE FROM draft_requests WHERE id = %s", [made["id"]])).rowcount == 1
        assert await (await user.execute("SELECT * FROM draft_replies")).fetchall() == []
        version = await (await user.execute("SELECT schema_revision FROM draft_settings")).fetchall()
    assert version == [{"schema_revision": schema_version.revisions()[-1]}]


@both_hosts
async def test_a_server_acts_for_everybody_and_does_only_what_a_backend_does(
    host: Host,
) -> None:
    server = hosts.PLATFORMS[host.name].server
    nobodys = (await host.run(server, None, CREATE, [Jsonb({"image_urls": [URL]})]))[0]["made"]["id"]
    adas = (await host.run(server, None, CREATE, [Jsonb({"image_urls": [URL], "requester_id": "ada"})]))[0]["made"][
        "id"
    ]
    rows = await host.run(server, None, "SELECT id::text, requester_id FROM draft_replies")
    assert {row["id"]: row["requester_id"] for row in rows} == {nobodys: "", adas: "ada"}
    for statement in (
        "UPDATE draft_requests SET priority = 1",
        "UPDATE draft_requests SET status = 'completed', result = '{}'",
        "DELETE FROM draft_requests",
        "SELECT 1 FROM draft_models",
        "SELECT 1 FROM draft_usage",
        f"INSERT INTO draft_requests (image_urls, priority) VALUES ('{{{URL}}}', 1)",
        "SELECT draft_requests_without_pictures('{}')",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await host.run(server, None, statement)
    assert (await host.run(server, None, "SELECT cancel_draft_request(%s) AS done", [adas])) == [{"done": True}]


async def test_a_user_does_not_flood_the_queue_and_repeats_a_key_at_the_limit(host: Host) -> None:
    flood = f"INSERT INTO draft_requests (image_urls) SELECT '{{{URL}}}' FROM generate_series(1, %s)"
    with pytest.raises(psycopg.DatabaseError, match="too many requests are waiting"):
        await host.run("authenticated", "ada", flood, [10_000])
    request = Jsonb({"image_urls": [URL], "idempotency_key": "k"})
    (first,) = await host.run("authenticated", "ada", CREATE, [request])
    await host.run("authenticated", "ada", flood, [grants.USER_MAX_PENDING - 1])
    with pytest.raises(psycopg.DatabaseError) as refused:
        await host.run("authenticated", "ada", flood, [1])
    assert refused.value.sqlstate == "PT429"
    (again,) = await host.run("authenticated", "ada", CREATE, [request])
    assert again["made"] == first["made"] | {"created": False}
    await host.run("authenticated", "ben", flood, [1])
    await host.run("service_role", None, flood, [grants.USER_MAX_PENDING + 1])


async def test_a_key_whose_request_is_just_being_deleted_is_counted_at_the_limit(
    connection: db.Connection, host: Host
) -> None:
    """Else a user repeats the keys of finished requests while they are deleted, and has twice as many waiting each time."""
    request = Jsonb({"image_urls": [URL], "idempotency_key": "k"})
    await host.run("authenticated", "ada", CREATE, [request])
    await host.run("authenticated", "ada", "UPDATE draft_requests SET status = 'cancelled'")
    await connection.execute("UPDATE draft_limits SET max_pending = 1 WHERE requester_id = '*'")
    await host.run("authenticated", "ada", CREATE, [Jsonb({"image_urls": [URL]})])
    insert = f"INSERT INTO draft_requests (image_urls, idempotency_key) VALUES ('{{{URL}}}', 'k')"
    async with host.acting("authenticated", "ada") as first:
        await first.execute("DELETE FROM draft_requests WHERE idempotency_key = 'k'")
        second = asyncio.create_task(host.run("authenticated", "ada", insert))
        waiting = "SELECT 1 FROM pg_locks WHERE NOT granted"
        while not await (await connection.execute(waiting)).fetchall():  # noqa: ASYNC110  # no event tells of another's lock
            await asyncio.sleep(0.01)
    with pytest.raises(psycopg.DatabaseError, match="too many requests are waiting"):
        await second


@pytest.mark.parametrize(
    "request_", ['{"image_urls": [1e131071]}', '{"context": [[-1e-16383]]}', '{"options": {"facts": [0e-16383]}}']
)
async def test_a_user_sends_no_number_that_is_far_longer_as_text(host: Host, request_: str) -> None:
    """It takes 8 bytes, and 128 KiB when it is read: 27 KiB of a request took 4 GB of the server's memory."""
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="at most 300 digits"):
        await host.run("authenticated", "ada", CREATE, [request_])


async def conversation(connection: db.Connection, requester: str, **last: Any) -> list[UUID]:
    """Make a request, two refinements of it, and one of a refinement."""
    root = await make_request(connection, requester_id=requester)
    children = [
        await make_request(connection, requester_id=requester, parent_id=root, image_urls="{}") for _ in range(2)
    ]
    made = [
        root,
        *children,
        await make_request(connection, requester_id=requester, parent_id=children[0], image_urls="{}"),
    ]
    await connection.execute("UPDATE draft_requests SET status = 'failed' WHERE id = ANY (%s)", [made])
    if last:
        await connection.execute(
            "UPDATE draft_requests SET status = %(status)s WHERE id = %(id)s", last | {"id": made[-1]}
        )
    return made


async def remaining(connection: db.Connection) -> list[UUID]:
    return [row["id"] for row in await (await connection.execute("SELECT id FROM draft_requests")).fetchall()]


@pytest.mark.parametrize("which", [0, 1, 2, 3])
async def test_deleting_one_request_deletes_its_conversation(connection: db.Connection, host: Host, which: int) -> None:
    gone, *kept = [await conversation(connection, requester) for requester in ("ada", "ada", "ben")]
    relation = "draft_replies" if which % 2 else "draft_requests"
    await host.run("authenticated", "ada", f"DELETE FROM {relation} WHERE id = %s", [gone[which]])
    assert {*await remaining(connection)} == {one for each in kept for one in each}


async def test_deleting_some_of_a_conversation_deletes_it_all(connection: db.Connection, host: Host) -> None:
    made = await conversation(connection, "ada")
    await host.run("authenticated", "ada", "DELETE FROM draft_requests WHERE id = ANY (%s)", [[made[0], made[1]]])
    assert await remaining(connection) == []


@pytest.mark.parametrize("status", ["pending", "processing"])
async def test_of_a_conversation_that_is_not_finished_nothing_is_deleted(
    connection: db.Connection, host: Host, status: str
) -> None:
    made = await conversation(connection, "ada", status=status)
    with pytest.raises(psycopg.errors.CheckViolation, match="cancel it first"):
        await host.run("authenticated", "ada", "DELETE FROM draft_requests WHERE id = %s", [made[0]])
    assert {*await remaining(connection)} == {*made}


async def test_two_deletions_in_one_conversation_wait_for_each_other(connection: db.Connection, host: Host) -> None:
    made = await conversation(connection, "ada")
    async with host.acting("authenticated", "ada") as first:
        await first.execute("DELETE FROM draft_requests WHERE id = %s", [made[0]])
        second = asyncio.create_task(
            host.run("authenticated", "ada", "DELETE FROM draft_requests WHERE id = %s RETURNING 1", [made[3]])
        )
        waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while not await (await connection.execute(waiting)).fetchall():  # noqa: ASYNC110  # no event tells of another's lock
            await asyncio.sleep(0.01)
    assert await second == []
    assert await remaining(connection) == []


async def test_the_owner_deletes_row_by_row(connection: db.Connection) -> None:
    made = await conversation(connection, "ada")
    await connection.execute("DELETE FROM draft_requests WHERE id = %s", [made[1]])
    assert {*await remaining(connection)} == {*made} - {made[1]}
