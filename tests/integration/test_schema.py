"""What the database itself guarantees: shape, fairness, transitions, privacy."""

import base64
import hashlib
import json
import re
import textwrap
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Jsonb

from draftd import db
from draftd.db import grants, schema_version
from draftd.db.schema import metadata
from draftd.images.fetch import read_data_url
from draftd.queue import admin
from draftd.queue.attempts import AttemptWriter
from draftd.queue.outcome import Done, Draft, GiveBack
from draftd.queue.refused_rows import Quarantine
from draftd.queue.settlements import Settler
from draftd.request import Options
from fix_database import CLIENT_COLUMNS, URL, claim_one, make_request, overwrite, read_row, renew

DATA_URL = "data:image/png;base64,aGVsbG8="
TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"
SHA_OF_HELLO = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
OPTIONS = [{"length": length, "text": f"text of {length}"} for length in ("short", "medium", "detailed")]


def done(**result: Any) -> Done:
    return Done(draft=Draft(result=result, reading=[]), model="m", prompt_version="1")


MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({"image_urls": "{}"}, "1 to 8 entries"),
    ({"image_urls": [URL] * 9}, "1 to 8 entries"),
    ({"image_urls": ["ftp://x/y"]}, "begins with"),
    ({"image_urls": ["/etc/passwd"]}, "begins with"),
    ({"image_urls": ["file:///etc/passwd"]}, "begins with"),
    ({"image_urls": ["data:text/html;base64,AAAA"]}, "begins with"),
    ({"image_urls": ["https://x/" + "a" * 9000]}, "8,192"),
    ({"image_urls": ["data:image/png;base64," + "A" * 25 * 1024 * 1024]}, "24 MiB"),
    ({"context": "x" * 8001}, "8,000"),
    ({"options": Jsonb([1])}, "JSON objects"),
    ({"options": {"colour": "blue"}}, "unknown key 'colour'"),
    ({"metadata": Jsonb([1])}, "JSON objects"),
    ({"metadata": {"x": "y" * 300_000}}, "256 KiB"),
    ({"metadata": '{"x": [1e131071]}'}, "at most 300 digits"),
    ({"options": '{"facts": [0e-16383]}'}, "at most 300 digits"),
    ({"max_attempts": 0}, "max_attempts"),
    ({"max_attempts": 11}, "max_attempts"),
    ({"priority": 101}, "priority is -100 to 100, not 101"),
    ({"priority": -101}, "priority is -100 to 100"),
    ({"traceparent": ""}, "not a W3C trace context"),
    ({"traceparent": f"ff-{TRACE_ID}-{SPAN_ID}-01"}, "not a W3C trace context"),
    ({"traceparent": f"00-{'0' * 32}-{SPAN_ID}-01"}, "not a W3C trace context"),
    ({"traceparent": f"00-{TRACE_ID}-{'0' * 16}-01"}, "not a W3C trace context"),
    ({"traceparent": f"00-{TRACE_ID.upper()}-{SPAN_ID}-01"}, "not a W3C trace context"),
    ({"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01\r\nx: y"}, "not a W3C trace context"),
    ({"requester_id": "x" * 300}, "256 characters"),
    ({"idempotency_key": "x" * 300}, "256 characters"),
    ({"agent": "nobody"}, "no daemon has a prompt for the agent 'nobody'"),
    ({"parent_id": UUID(int=1), "image_urls": "{}"}, "no earlier request"),
    ({"parent_id": UUID(int=1)}, "takes no image_urls"),
    ({"available_at": "infinity"}, "not infinity"),
    ({"expires_at": "-infinity"}, "not infinity"),
]


@pytest.mark.parametrize(("over", "message"), MALFORMED)
async def test_a_malformed_request_is_refused_with_a_readable_message(
    connection: db.Connection, over: dict[str, Any], message: str
) -> None:
    await renew(connection)
    with pytest.raises(psycopg.IntegrityError, match=message) as caught:
        await make_request(connection, **over)
    assert "/etc/passwd" not in str(caught.value)


@pytest.mark.parametrize(("over", "message"), MALFORMED)
async def test_no_update_makes_a_request_malformed(
    connection: db.Connection, over: dict[str, Any], message: str
) -> None:
    await renew(connection)
    request_id = await make_request(connection)
    with pytest.raises(psycopg.IntegrityError, match=message):
        await change(connection, request_id, **over)


async def change(connection: db.Connection, request_id: UUID, **over: Any) -> None:
    """Set columns of a request."""
    settings = ", ".join(f"{column} = %({column})s" for column in over)
    params = {name: Jsonb(value) if isinstance(value, dict) else value for name, value in over.items()}
    await connection.execute(
        f"UPDATE draft_requests SET {settings} WHERE id = %(request_id)s".encode(), params | {"request_id": request_id}
    )


async def test_what_a_table_has_compressed_counts_with_its_full_size(connection: db.Connection) -> None:
    await connection.execute("CREATE TEMP TABLE stored AS SELECT jsonb_build_object('x', repeat('y', 300000)) AS x")
    with pytest.raises(psycopg.errors.CheckViolation, match="256 KiB"):
        await connection.execute(
            "INSERT INTO draft_requests (image_urls, metadata) SELECT ARRAY[%s], x FROM stored", [URL]
        )


async def test_a_refinement_moves_to_no_other_requester(connection: db.Connection) -> None:
    parent = await make_request(connection, requester_id="ada")
    child = await make_request(connection, requester_id="ada", parent_id=parent, image_urls="{}")
    with pytest.raises(psycopg.IntegrityError, match="no earlier request of this requester"):
        await change(connection, child, requester_id="eve")


async def test_an_update_judges_what_it_changes(connection: db.Connection) -> None:
    """A request that older checks let in, or whose pictures are hashes by now, can be written back as it stands."""
    request_id = await make_request(connection, image_urls=[DATA_URL])
    await connection.execute("SELECT cancel_draft_request(%s)", [request_id])
    await overwrite(connection, request_id, agent="nobody", options={"colour": "blue"}, available_at="infinity")
    await renew(connection)
    row = await read_row(connection, request_id)
    assert row["image_urls"] == [SHA_OF_HELLO]
    written = {name: row[name] for name in (*CLIENT_COLUMNS, "status") if name != "available_at"}
    await change(connection, request_id, **written, available_at="infinity")
    await change(connection, request_id, context="another")


async def test_how_often_a_row_was_given_back_is_not_the_clients_to_say(connection: db.Connection) -> None:
    statement = f"INSERT INTO draft_requests (image_urls, given_back) VALUES ('{{{URL}}}', -32768) RETURNING given_back"
    assert await (await connection.execute(statement.encode())).fetchone() == {"given_back": 0}


@pytest.mark.parametrize("column", ["status = 'failed'", "attempt = 3", "lease_token = 5"])
async def test_a_client_cannot_insert_what_the_daemon_writes(connection: db.Connection, column: str) -> None:
    name, _, value = column.partition(" = ")
    statement = f"INSERT INTO draft_requests (image_urls, {name}) VALUES ('{{{URL}}}', {value})"
    with pytest.raises(psycopg.IntegrityError, match="written by draftd"):
        await connection.execute(statement.encode())


async def test_an_orms_defaults_for_the_daemons_columns_are_ignored(connection: db.Connection) -> None:
    statement = (
        "INSERT INTO draft_requests (image_urls, errors, error_code, deadline_at, cost_usd, options, metadata) "
        f"VALUES ('{{{URL}}}', '{{}}', 'x', now(), 1, NULL, NULL) RETURNING errors, error_code, deadline_at, cost_usd, options"
    )
    row = await (await connection.execute(statement.encode())).fetchone()
    assert row == {"errors": [], "error_code": None, "deadline_at": None, "cost_usd": None, "options": {}}


WRITTEN_BY_PEOPLE = sorted(
    table
    for table in metadata.tables
    if table in {"draft_requests", "draft_pauses", *grants.CLIENT_RIGHTS}
    or (
        "INSERT" not in grants.WORKER_RIGHTS.get(table, "")
        and table not in {"draft_limits", "draft_reservations", "draft_spending", *grants.OWN_TABLES}
    )
)
"""The tables with defaults that clients and operators write, too. The others are the daemon's alone, or triggers'."""


async def defaulted(connection: db.Connection, table: str) -> list[str]:
    """Return the columns that have a default and take no null."""
    rows = await (
        await connection.execute(
            """SELECT column_name AS name FROM information_schema.columns
                WHERE table_name = %s AND is_nullable = 'NO' AND column_default IS NOT NULL""",
            [table],
        )
    ).fetchall()
    assert rows
    return [row["name"] for row in rows]


NEEDED: dict[str, dict[str, Any]] = {
    "draft_requests": {"image_urls": f"{{{URL}}}"},
    "draft_feedback": {},
    "draft_profiles": {"requester_id": "ada"},
    "draft_agents": {"agent": "a", "model": "m"},
    "draft_models": {"name": "m"},
    "draft_settings": {"id": True},
    "draft_pauses": {"what": "model"},
}
"""What a row cannot be without."""


async def insert(connection: db.Connection, table: str, nulls: list[str]) -> dict[str, Any]:
    """Insert a row with these columns null, and return it."""
    needed = NEEDED[table]
    if table == "draft_feedback":
        needed = {"request_id": await make_request(connection)}
    if table == "draft_settings":
        await connection.execute("DELETE FROM draft_settings")
    values = dict.fromkeys(nulls) | needed
    names, marks = ", ".join(values), ", ".join(f"%({name})s" for name in values)
    statement = f"INSERT INTO {table} ({names}) VALUES ({marks}) RETURNING *"
    row = await (await connection.execute(statement.encode(), values)).fetchone()
    assert row is not None
    return row


def comparable(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without what differs from one to the next."""
    row = {name: type(value) if isinstance(value, datetime) else value for name, value in row.items()}
    return {name: value for name, value in row.items() if name not in {"id", "request_id", "trace_id"}}


@pytest.mark.parametrize("table", WRITTEN_BY_PEOPLE)
async def test_null_is_the_default_at_insert(connection: db.Connection, table: str) -> None:
    async with connection.transaction(force_rollback=True):
        plain = await insert(connection, table, [])
    made = await insert(connection, table, await defaulted(connection, table))
    assert comparable(made) == comparable(plain)
    assert made.get("id", 0) is not None


OTHER: dict[str, Any] = {
    "fallback_models": ["m2"],
    "params": Jsonb({"top_p": 0.5}),
    "facts": ["a fact"],
    "voice_samples": ["a text"],
    "options": Jsonb({"tone": "warm"}),
    "metadata": Jsonb({"x": 1}),
    "requester_id": "ada",
    "agent": "special",
    "priority": 3,
    "max_attempts": 2,
    "default_expiry_s": 60,
    "retention_days": 7,
    "feedback_retention_days": 7,
    "voice_learning": True,
    "usd_per_day": 7,
}
"""Values that are not the default; moments differ anyway."""


@pytest.mark.parametrize("table", WRITTEN_BY_PEOPLE)
async def test_null_is_the_default_at_update(connection: db.Connection, table: str) -> None:
    """Of a request, in what a client says: a null status, say, must not start it again."""
    columns = [
        name
        for name in await defaulted(connection, table)
        if name != "id" and (table != "draft_requests" or name in {*CLIENT_COLUMNS} - {"image_urls"})
    ]
    if table == "draft_profiles":
        columns.remove("requester_id")  # by default the token's subject, and there is none here
    plain = await insert(connection, table, [])
    for name in columns:
        statement = f"UPDATE {table} SET {name} = %s RETURNING {name}".encode()
        (other,) = await (await connection.execute(statement, [OTHER.get(name, "2001-01-01")])).fetchall()
        (row,) = await (await connection.execute(statement, [None])).fetchall()
        assert comparable(row) == comparable({name: plain[name]}), name
        assert row != other, name


async def test_the_default_of_requester_id_stands_for_the_current_requester(connection: db.Connection) -> None:
    await connection.execute("SELECT set_config('request.jwt.claims', %s, false)", [json.dumps({"sub": "ada"})])
    request_id = await make_request(connection)
    assert (await read_row(connection, request_id))["requester_id"] == "ada"
    await connection.execute("INSERT INTO draft_feedback (request_id) VALUES (%s)", [request_id])
    await connection.execute("INSERT INTO draft_profiles (me) VALUES ('Ada')")
    for table in ("draft_requests", "draft_feedback", "draft_profiles"):
        for value in ("DEFAULT", "NULL", "'(current)'"):
            statement = f"UPDATE {table} SET requester_id = {value} RETURNING requester_id".encode()
            assert await (await connection.execute(statement)).fetchall() == [{"requester_id": "ada"}]


async def test_a_pause_says_who_made_it_and_what_it_leaves_out(connection: db.Connection) -> None:
    row = await insert(connection, "draft_pauses", ["name", "reason", "by", "since"])
    assert (row["name"], row["reason"], row["by"]) == ("", "", connection.info.user)
    assert row["since"] is not None


async def test_no_null_makes_a_request_begin_again(connection: db.Connection) -> None:
    request_id = await make_request(connection)
    await connection.execute("SELECT cancel_draft_request(%s)", [request_id])
    for column in ("status", "attempt", "lease_token", "turn"):
        with pytest.raises(psycopg.errors.NotNullViolation):
            await change(connection, request_id, **{column: None}, options=None)
    with pytest.raises(psycopg.IntegrityError, match="1 to 8 entries"):
        await change(connection, request_id, image_urls=None)


async def test_create_takes_null_for_the_default_as_well(connection: db.Connection) -> None:
    plain = await read_row(connection, UUID((await create(connection, image_urls=[URL]))["id"]))
    nulls = dict.fromkeys(CLIENT_COLUMNS) | {"image_urls": [URL]}
    row = await read_row(connection, UUID((await create(connection, **nulls))["id"]))
    for name in CLIENT_COLUMNS:
        assert row[name] == plain[name] or name in {"id", "available_at", "expires_at"}, name
    with pytest.raises(psycopg.IntegrityError, match="1 to 8 entries"):
        await create(connection)


async def test_every_option_that_the_daemon_knows_passes(connection: db.Connection) -> None:
    options = dict.fromkeys(Options.model_fields)
    assert (await read_row(connection, await make_request(connection, options=options)))["options"] == options


async def test_an_agent_is_unknown_once_a_daemon_has_been_seen(connection: db.Connection) -> None:
    await make_request(connection, agent="special")
    await renew(connection)
    with pytest.raises(psycopg.IntegrityError, match="no daemon has a prompt"):
        await make_request(connection, agent="special")
    await renew(connection, worker_id=uuid.uuid4(), agents=["special"], state="stopped")
    await make_request(connection, agent="special")
    await connection.execute("UPDATE draft_workers SET heartbeat_at = now() - interval '25 h'")
    await make_request(connection, agent="nobody")


async def test_a_foreign_parent_is_refused_like_a_missing_one(connection: db.Connection) -> None:
    foreign = await make_request(connection, requester_id="ada")
    with pytest.raises(psycopg.IntegrityError, match="no earlier request of this requester"):
        await make_request(connection, requester_id="eve", parent_id=foreign, image_urls="{}")
    child = await make_request(connection, requester_id="ada", parent_id=foreign, image_urls="{}")
    assert (await read_row(connection, child))["parent_id"] == foreign


async def test_a_requester_with_many_rows_does_not_stand_before_others(connection: db.Connection) -> None:
    for _ in range(50):
        await make_request(connection, requester_id="crowd")
    lone = await make_request(connection, requester_id="lone")
    rows = await (await connection.execute("SELECT id FROM draft_requests ORDER BY turn, available_at, id")).fetchall()
    assert [row["id"] for row in rows].index(lone) <= 1


async def test_a_row_that_comes_back_from_an_attempt_goes_to_the_front(
    connection: db.Connection, link: db.Link
) -> None:
    first = await make_request(connection, requester_id="crowd")
    await claim_one(link)
    for _ in range(5):
        await make_request(connection, requester_id="crowd")
    await connection.execute("UPDATE draft_requests SET status = 'pending' WHERE id = %s", [first])
    assert (await claim_one(link)).id == first


async def test_a_retry_by_hand_takes_a_new_turn(connection: db.Connection) -> None:
    first = await make_request(connection, requester_id="crowd")
    await connection.execute("SELECT cancel_draft_request(%s)", [first])
    for _ in range(5):
        await make_request(connection, requester_id="crowd")
    await connection.execute("UPDATE draft_requests SET status = 'pending' WHERE id = %s", [first])
    assert (await read_row(connection, first))["turn"] == 5


async def test_the_end_of_a_request_drops_its_pictures(connection: db.Connection) -> None:
    request_id = await make_request(connection, image_urls=[DATA_URL, URL, "data:image/png;base64,@@@"])
    await connection.execute("SELECT cancel_draft_request(%s)", [request_id])
    kept = (await read_row(connection, request_id))["image_urls"]
    assert kept[:2] == [SHA_OF_HELLO, URL]
    assert kept[2].startswith("sha256:")


@pytest.mark.parametrize("size_bytes", [253, 254, 255])
@pytest.mark.parametrize(
    "write",
    [
        lambda text: text,
        lambda text: text.rstrip("="),
        lambda text: text.rstrip("=") + "===",
        lambda text: text.replace("+", "-").replace("/", "_"),
        lambda text: text.replace("+", "-").replace("/", "_").rstrip("="),
        lambda text: "\r\n".join(textwrap.wrap(text, 76)) + "\r\n",
        lambda text: " \t\n".join(textwrap.wrap(text.rstrip("="), 3)),
    ],
    ids=["plain", "unpadded", "overpadded", "base64url", "base64url unpadded", "lines", "unpadded pieces"],
)
async def test_a_dropped_picture_leaves_the_hash_that_the_loader_knows_it_by(
    connection: db.Connection, write: Callable[[str], str], size_bytes: int
) -> None:
    url = "data:image/png;base64," + write(base64.b64encode(bytes(range(255, 255 - size_bytes, -1))).decode())
    picture = await read_data_url(url, max_bytes=1_000)
    assert picture.nbytes == size_bytes
    request_id = await make_request(connection, image_urls=[url])
    await connection.execute("SELECT cancel_draft_request(%s)", [request_id])
    kept = (await read_row(connection, request_id))["image_urls"]
    assert kept == [f"sha256:{hashlib.sha256(picture).hexdigest()}"]


@pytest.mark.parametrize("price", ["-1", "10001", "NaN"])
async def test_a_price_of_cached_input_is_one(connection: db.Connection, price: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="cached_input_usd_per_mtok_check"):
        await connection.execute(
            "INSERT INTO draft_models (name, cached_input_usd_per_mtok) VALUES ('m', %s::numeric)", [price]
        )


async def test_a_direct_update_cancels_like_the_function(connection: db.Connection, link: db.Link) -> None:
    request_id = await make_request(connection)
    await claim_one(link)
    await connection.execute("UPDATE draft_requests SET status = 'cancelled' WHERE id = %s", [request_id])
    row = await read_row(connection, request_id)
    assert row["finished_at"] is not None
    assert row["lease_until"] is row["deadline_at"] is None


async def test_a_cancel_touches_one_row_and_says_whether(connection: db.Connection) -> None:
    one, other = await make_request(connection), await make_request(connection)

    async def cancel(request_id: UUID) -> bool:
        row = await (await connection.execute("SELECT cancel_draft_request(%s) AS done", [request_id])).fetchone()
        assert row is not None
        return bool(row["done"])

    assert await cancel(one)
    assert not await cancel(one)
    assert not await cancel(UUID(int=7))
    assert (await read_row(connection, other))["status"] == "pending"


async def test_a_final_request_cannot_be_cancelled(connection: db.Connection) -> None:
    request_id = await make_request(connection)
    await connection.execute("UPDATE draft_requests SET status = 'failed' WHERE id = %s", [request_id])
    with pytest.raises(psycopg.IntegrityError, match="failed already"):
        await connection.execute("UPDATE draft_requests SET status = 'cancelled' WHERE id = %s", [request_id])


async def create(connection: db.Connection, **request: Any) -> dict[str, Any]:
    cursor = await connection.execute("SELECT create_draft_request(%s) AS made", [json.dumps(request)])
    row = await cursor.fetchone()
    assert row is not None
    made: dict[str, Any] = row["made"]
    return made


async def test_the_same_key_gives_the_same_request(connection: db.Connection) -> None:
    first = await create(connection, image_urls=[URL], requester_id="ada", idempotency_key="k")
    again = await create(connection, image_urls=[URL], requester_id="ada", idempotency_key="k")
    other = await create(connection, image_urls=[URL], requester_id="eve", idempotency_key="k")
    assert first["created"]
    assert again == first | {"created": False}
    assert other["created"]
    with pytest.raises(psycopg.errors.UniqueViolation):
        await make_request(connection, requester_id="ada", idempotency_key="k")


async def test_a_known_key_is_answered_although_a_new_request_would_be_refused(connection: db.Connection) -> None:
    request = {"image_urls": [URL], "agent": "gone", "idempotency_key": "k"}
    first = await create(connection, **request)
    await connection.execute(
        """INSERT INTO draft_workers (id, hostname, pid, version, state, agents, concurrency)
           VALUES (gen_random_uuid(), 'h', 1, '0', 'running', '{comment_generator}', 1)"""
    )
    with pytest.raises(psycopg.IntegrityError, match="no daemon has a prompt"):
        await create(connection, **request | {"idempotency_key": "other"})
    assert await create(connection, **request) == first | {"created": False}


async def test_requests_without_a_key_are_always_new(connection: db.Connection) -> None:
    made = [await create(connection, image_urls=[URL]) for _ in range(2)]
    assert made[0]["id"] != made[1]["id"]


async def test_create_takes_every_client_column_and_no_other(connection: db.Connection) -> None:
    made = await create(
        connection,
        id="00000000-0000-0000-0000-000000000009",
        image_urls=[URL, DATA_URL],
        context="c",
        options={"tone": "warm"},
        priority=3,
        max_attempts=2,
        traceparent=TRACEPARENT,
        metadata={"x": 1},
        expires_at="2031-01-01T00:00:00Z",
    )
    row = await read_row(connection, UUID(made["id"]))
    assert (row["id"].int, row["image_urls"], row["options"]) == (9, [URL, DATA_URL], {"tone": "warm"})
    assert (row["context"], row["priority"], row["max_attempts"], row["expires_at"].year) == ("c", 3, 2, 2031)
    assert row["traceparent"] == TRACEPARENT
    with pytest.raises(psycopg.DataError, match="unknown key: status"):
        await create(connection, image_urls=[URL], status="completed")
    with pytest.raises(psycopg.DataError, match="is a list"):
        await create(connection, image_urls=URL)


async def heard(connection: db.Connection, listener: db.Connection) -> list[tuple[str, str]]:
    """Return what was heard up to now, told by a last notification of one's own."""
    await connection.execute("SELECT pg_notify('draft_results', 'end')")
    notices = []
    async for notice in listener.notifies(timeout=5):
        if notice.payload == "end":
            break
        notices.append((notice.channel, notice.payload))
    return notices


@pytest.fixture
async def listener(database: str) -> Any:
    async with db.connected(database) as opened:
        await opened.execute("LISTEN draft_requests")
        await opened.execute("LISTEN draft_results")
        yield opened


async def test_an_insert_rings_and_an_end_is_announced(connection: db.Connection, listener: db.Connection) -> None:
    request_id = await make_request(connection)
    assert await heard(connection, listener) == [("draft_requests", "")]
    await connection.execute("SELECT cancel_draft_request(%s)", [request_id])
    ((channel, payload),) = await heard(connection, listener)
    told = {"id": str(request_id), "status": "cancelled", "options_ready": 0}
    assert (channel, json.loads(payload)) == ("draft_results", told)


async def test_every_option_that_is_ready_is_announced(
    connection: db.Connection, link: db.Link, listener: db.Connection
) -> None:
    await make_request(connection)
    claimed, writer = await claim_one(link), AttemptWriter(link=link, quarantine=Quarantine())
    await heard(connection, listener)
    for count in (1, 2):
        await writer.publish(claimed, {"options": OPTIONS[:count]})
    await Settler(link=link, quarantine=Quarantine()).settle(claimed, done(options=OPTIONS))
    told = [json.loads(payload) for channel, payload in await heard(connection, listener) if channel == "draft_results"]
    assert [(one["status"], one["options_ready"]) for one in told] == [
        ("processing", 1),
        ("processing", 2),
        ("completed", 3),
    ]


async def test_an_expiry_left_open_is_filled_in_by_the_fleets_default(connection: db.Connection) -> None:
    later = datetime.now(UTC) + timedelta(days=1)
    row = await read_row(connection, await make_request(connection, available_at=later))
    assert row["expires_at"] == later + timedelta(hours=6)
    await connection.execute("UPDATE draft_settings SET default_expiry_s = 60")
    row = await read_row(connection, await make_request(connection, available_at=later, expires_at=None))
    assert row["expires_at"] == later + timedelta(seconds=60)
    await make_request(connection, available_at="294276-12-31")
    await connection.execute("UPDATE draft_settings SET default_expiry_s = 0")
    assert (await read_row(connection, await make_request(connection)))["expires_at"] is None
    await connection.execute("DELETE FROM draft_settings")
    assert (await read_row(connection, await make_request(connection)))["expires_at"] is None


async def test_a_retry_by_hand_gets_a_new_expiry(connection: db.Connection) -> None:
    request_id = await make_request(connection, expires_at=datetime.now(UTC) - timedelta(days=1))
    await connection.execute("SELECT cancel_draft_request(%s)", [request_id])
    await admin.change(connection, admin.RETRY, request_id=request_id)
    row = await read_row(connection, request_id)
    assert row["expires_at"] == row["available_at"] + timedelta(hours=6)


async def test_a_request_without_an_expiry_gets_none_when_it_comes_back_from_an_attempt(
    connection: db.Connection, link: db.Link
) -> None:
    await connection.execute("UPDATE draft_settings SET default_expiry_s = 0")
    request_id = await make_request(connection, available_at=datetime.now(UTC) - timedelta(hours=7))
    claimed = await claim_one(link)
    await connection.execute("UPDATE draft_settings SET default_expiry_s = DEFAULT")
    await Settler(link=link, quarantine=Quarantine()).settle(claimed, GiveBack())
    row = await read_row(connection, request_id)
    assert (row["status"], row["expires_at"]) == ("pending", None)


async def test_the_fleet_has_one_row_of_settings(connection: db.Connection) -> None:
    for values in ("DEFAULT", "false"):
        with pytest.raises(psycopg.IntegrityError):
            await connection.execute(f"INSERT INTO draft_settings (id) VALUES ({values})".encode())


async def test_the_settings_name_the_schemas_revision_whatever_is_written(connection: db.Connection) -> None:
    newest = {"schema_revision": schema_version.revisions()[-1]}
    read = "SELECT schema_revision FROM draft_settings"
    assert await (await connection.execute(read)).fetchone() == newest
    for statement in (
        "UPDATE draft_settings SET schema_revision = '0001'",
        "DELETE FROM draft_settings",
        "INSERT INTO draft_settings (schema_revision) VALUES ('0001')",
    ):
        await connection.execute(statement.encode())
    assert await (await connection.execute(read)).fetchone() == newest


@pytest.mark.parametrize(
    "change", ["default_expiry_s = -1", "default_expiry_s = 315360001", "feedback_retention_days = 36501"]
)
async def test_a_setting_of_the_fleet_has_its_bounds(connection: db.Connection, change: str) -> None:
    with pytest.raises(psycopg.IntegrityError):
        await connection.execute(f"UPDATE draft_settings SET {change}".encode())


async def test_a_request_is_cancelled_by_the_name_of_the_parameter(connection: db.Connection) -> None:
    request_id = await make_request(connection)
    row = await (await connection.execute("SELECT cancel_draft_request(id => %s) AS done", [request_id])).fetchone()
    assert row == {"done": True}


async def rated(connection: db.Connection, request_id: UUID, **given: Any) -> dict[str, Any]:
    """Insert feedback as a client does; return the row."""
    columns = ", ".join(["request_id", *given])
    statement = f"INSERT INTO draft_feedback ({columns}) VALUES ({', '.join(['%s'] * (len(given) + 1))}) RETURNING *"
    row = await (await connection.execute(statement.encode(), [request_id, *given.values()])).fetchone()
    assert row is not None
    return row


async def make_completed(connection: db.Connection, link: db.Link, result: dict[str, Any]) -> UUID:
    request_id = await make_request(connection, requester_id="ada")
    await Settler(link=link, quarantine=Quarantine()).settle(await claim_one(link), done(**result))
    return request_id


async def test_the_database_fills_in_what_was_rated(connection: db.Connection, link: db.Link) -> None:
    result = {"platform": "slack", "replying_to": {"author": "Bo"}, "options": OPTIONS}
    request_id = await make_completed(connection, link, result)
    row = await rated(connection, request_id, option="medium", outcome="edited", sent_text="mine", rating=1)
    assert (row["requester_id"], row["platform"], row["author"]) == ("ada", "slack", "Bo")
    assert (row["drafted_text"], row["sent_text"], row["outcome"]) == ("text of medium", "mine", "edited")
    forged = await rated(connection, request_id, requester_id="eve", drafted_text="x", created_at="2001-01-01")
    assert (forged["requester_id"], forged["drafted_text"]) == ("ada", None)
    assert forged["created_at"].year > 2001


@pytest.mark.parametrize("result", [{}, {"options": 3, "replying_to": "x"}, {"options": [3, {"length": 3}]}])
async def test_a_result_of_another_shape_can_be_rated(
    connection: db.Connection, link: db.Link, result: dict[str, Any]
) -> None:
    row = await rated(connection, await make_completed(connection, link, result), option="short", rating=-1)
    assert (row["platform"], row["author"], row["drafted_text"]) == (None, None, None)


async def test_feedback_outlives_its_request(connection: db.Connection, link: db.Link) -> None:
    request_id = await make_completed(connection, link, {"platform": "slack", "options": OPTIONS})
    await rated(connection, request_id, option="short", outcome="sent")
    await connection.execute("DELETE FROM draft_requests WHERE id = %s", [request_id])
    rows = await (await connection.execute("SELECT * FROM draft_feedback")).fetchall()
    assert [(row["request_id"], row["drafted_text"]) for row in rows] == [(None, "text of short")]


@pytest.mark.parametrize(
    ("given", "named"), [({"outcome": "liked"}, "outcome"), ({"rating": 5}, "rating"), ({"option": "long"}, "option")]
)
async def test_feedback_has_its_bounds(connection: db.Connection, given: dict[str, Any], named: str) -> None:
    request_id = await make_request(connection)
    with pytest.raises(psycopg.IntegrityError, match=f"draft_feedback_{named}_check"):
        await rated(connection, request_id, **given)
    with pytest.raises(psycopg.IntegrityError, match="request_id is no request"):
        await rated(connection, UUID(int=7))


async def test_only_a_return_to_pending_rings_again(
    connection: db.Connection, link: db.Link, listener: db.Connection
) -> None:
    request_id = await make_request(connection)
    await heard(connection, listener)
    await claim_one(link)
    await connection.execute("UPDATE draft_requests SET lease_until = now()")
    await connection.execute("UPDATE draft_requests SET updated_at = now() WHERE false")
    assert await heard(connection, listener) == []
    await connection.execute("UPDATE draft_requests SET status = 'pending' WHERE id = %s", [request_id])
    assert await heard(connection, listener) == [("draft_requests", "")]


async def test_every_table_begins_with_draft(connection: db.Connection) -> None:
    rows = await (
        await connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
    ).fetchall()
    assert {row["tablename"] for row in rows} == {*metadata.tables, schema_version.VERSION_TABLE}
    assert all(row["tablename"].startswith(("draft_", "draftd_")) for row in rows)


async def test_every_table_is_private(connection: db.Connection) -> None:
    tables = [*metadata.tables, schema_version.VERSION_TABLE]
    rows = await (
        await connection.execute(
            "SELECT relname, relrowsecurity, relacl::text FROM pg_class WHERE relname = ANY (%s)", [tables]
        )
    ).fetchall()
    assert {row["relname"] for row in rows} == set(tables)
    assert all(row["relrowsecurity"] for row in rows)
    functions = await (
        await connection.execute(
            "SELECT proname FROM pg_proc WHERE pronamespace = current_schema()::regnamespace "
            "AND has_function_privilege('public', oid, 'EXECUTE')"
        )
    ).fetchall()
    assert functions == []
    types = await (
        await connection.execute("SELECT has_type_privilege('public', 'draft_worker', 'USAGE') AS open")
    ).fetchone()
    assert types == {"open": False}


async def test_a_stranger_sees_and_does_nothing(connection: db.Connection) -> None:
    request_id = await make_request(connection)
    await connection.execute("DO $$ BEGIN CREATE ROLE draftd_stranger; EXCEPTION WHEN duplicate_object THEN END $$")
    async with connection.transaction(force_rollback=True):
        await connection.execute("SET LOCAL ROLE draftd_stranger")
        for statement in (
            "SELECT * FROM draft_requests",
            f"INSERT INTO draft_requests (image_urls) VALUES ('{{{URL}}}')",
            f"SELECT cancel_draft_request('{request_id}')",
            "SELECT create_draft_request('{}')",
            "SELECT * FROM draft_agents",
            "SELECT * FROM draft_models",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                async with connection.transaction():
                    await connection.execute(statement.encode())


async def test_functions_of_the_owner_do_not_follow_the_callers_search_path(connection: db.Connection) -> None:
    rows = await (
        await connection.execute(
            "SELECT proname, proconfig FROM pg_proc WHERE pronamespace = current_schema()::regnamespace"
        )
    ).fetchall()
    assert rows
    for row in rows:
        assert "search_path=public, pg_temp" in row["proconfig"], row["proname"]


async def test_the_tables_live_in_the_first_schema_of_the_search_path(empty_database: str) -> None:
    async with db.connected(empty_database, migrated=False) as connection:
        await connection.execute("CREATE SCHEMA drafts")
    url = f"{empty_database}{'&' if '?' in empty_database else '?'}options=-csearch_path%3Ddrafts"
    schema_version.upgrade(url)
    async with db.connected(url) as connection:
        request_id = await make_request(connection)
        assert (await read_row(connection, request_id))["status"] == "pending"
        rows = await (
            await connection.execute("SELECT schemaname FROM pg_tables WHERE tablename = 'draft_requests'")
        ).fetchall()
        assert rows == [{"schemaname": "drafts"}]


@pytest.mark.parametrize("pending", [100, 20_000])
async def test_a_claim_is_an_index_scan(connection: db.Connection, pending: int) -> None:
    from draftd.queue.claiming import CLAIM  # noqa: PLC0415  # only this test reads the statement

    await connection.execute("SET session_replication_role = replica")
    await connection.execute(
        "INSERT INTO draft_requests (image_urls, requester_id, turn, status, result) "
        "SELECT '{https://x/y}', 'r' || n %% 50, n, CASE WHEN n <= %(n)s THEN 'pending' ELSE 'completed' END, "
        "CASE WHEN n <= %(n)s THEN NULL ELSE '{}'::jsonb END FROM generate_series(1, %(n)s + 20000) AS n",
        {"n": pending},
    )
    await connection.execute("ANALYZE draft_requests")
    params = {
        "agents": ["comment_generator"],
        "models": [],
        "skip": [],
        "n": 16,
        "lease_s": 10.0,
        "attempt_s": 120.0,
        "worker_id": UUID(int=1),
        "now": None,
    }
    cursor = await connection.execute(b"EXPLAIN (FORMAT JSON) " + CLAIM.encode(), params)
    plan = json.dumps(await cursor.fetchall(), default=str)
    assert "draft_requests_claim_idx" in plan
    # Pauses are few, and read whole.
    assert not re.search(r'"Seq Scan"[^{}]*"Relation Name": "draft_requests"', plan)


async def test_a_row_at_the_last_turn_keeps_nobody_from_inserting(connection: db.Connection) -> None:
    last = 9223372036854775807
    await connection.execute(
        "UPDATE draft_requests SET turn = %s WHERE id = %s", [last, await make_request(connection)]
    )
    for requester in ("", "other", "other"):
        row = await read_row(connection, await make_request(connection, requester_id=requester))
        assert (row["status"], row["turn"]) == ("pending", last)
