"""``fake_draft``, the daemon's double in SQL, and the printed schema that it is applied to."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from jsonschema import Draft202012Validator
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from draftd.db import schema_version
from draftd.errors import request_errors
from draftd.stand_in.fake_draft import fake_draft_sql
from fix_node import CLIENT, Node
from fix_roles import Roles

ROOT = Path(__file__).parents[2]
RESULT = Draft202012Validator(json.loads((ROOT / "schema/result.json").read_text()))
URL = "https://user:secret@cdn.example.com/shot.png?token=x"

App = psycopg.Connection[dict[str, Any]]


@pytest.fixture
def app(database: str) -> Callable[[], App]:
    """Open a connection to a database with the function."""
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(fake_draft_sql().encode())
    return lambda: psycopg.connect(database, autocommit=True, row_factory=dict_row)


def insert(app: App, **columns: Any) -> UUID:
    columns = {"image_urls": [URL], **columns}
    request = Jsonb({name: value for name, value in columns.items() if value is not None})
    made = app.execute("SELECT create_draft_request(%s) AS made", [request]).fetchone()
    assert made is not None
    return UUID(made["made"]["id"])


def fake(app: App, request_id: UUID, arguments: str = "") -> dict[str, Any]:
    row = app.execute(f"SELECT fake_draft(%s{arguments}) AS done".encode(), [request_id]).fetchone()
    assert row is not None
    done: dict[str, Any] = row["done"]
    return done


def read(app: App, request_id: UUID) -> dict[str, Any]:
    row = app.execute("SELECT * FROM draft_requests WHERE id = %s", [request_id]).fetchone()
    assert row is not None
    return row


@pytest.mark.parametrize("schema", ["public", "drafts"])
def test_the_printed_schema_and_the_function_apply_in_one_go(empty_database: str, schema: str) -> None:
    with psycopg.connect(empty_database, autocommit=True) as owner:
        owner.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}; SET search_path = {schema}".encode())
        owner.execute((schema_version.upgrade_sql() + fake_draft_sql()).encode())
    # As a session that does not look there.
    with psycopg.connect(empty_database, autocommit=True, row_factory=dict_row) as app:
        app.execute("SET search_path = pg_catalog")
        made = app.execute(
            f"INSERT INTO {schema}.draft_requests (image_urls) VALUES ('{{{URL}}}') RETURNING id".encode()
        ).fetchone()
        assert made is not None
        done = app.execute(f"SELECT {schema}.fake_draft(%s) AS done".encode(), [made["id"]]).fetchone()
        assert done is not None
        assert done["done"] == {"id": str(made["id"]), "status": "completed", "options_ready": 3}


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("schema", ["public", "drafts"])
def test_they_apply_to_pglite_in_one_go(node: Node, tmp_path: Path, schema: str) -> None:
    if not (CLIENT / "node_modules/@electric-sql/pglite").is_dir():
        pytest.skip("needs PGlite, which `make install` puts into clients/js")
    everything = tmp_path / "everything.sql"
    everything.write_text(schema_version.upgrade_sql() + fake_draft_sql())
    program = """
        import { readFile } from "node:fs/promises";
        import { PGlite } from "@electric-sql/pglite";
        const db = await PGlite.create();
        await db.exec(`CREATE SCHEMA IF NOT EXISTS ${process.env.SCHEMA}; SET search_path = ${process.env.SCHEMA}`);
        await db.exec(await readFile(process.env.EVERYTHING, "utf8"));
        const made = await db.query("SELECT create_draft_request($1) ->> 'id' AS id", [{ image_urls: [process.env.URL] }]);
        const done = await db.query("SELECT fake_draft($1) ->> 'status' AS status", [made.rows[0].id]);
        console.log(done.rows[0].status);
        await db.close();
    """
    printed = node(
        "--input-type=module",
        "--eval",
        program,
        SCHEMA=schema,
        EVERYTHING=str(everything),
        URL=URL,
        timeout_s=250,
    )
    assert printed.strip() == "completed"


@pytest.mark.parametrize(
    ("options", "lengths"),
    [
        ({}, ["short", "medium", "detailed"]),
        ({"lengths": []}, ["short", "medium", "detailed"]),
        ({"lengths": ["detailed", "short"]}, ["short", "detailed"]),
        ({"max_chars": 40}, ["short", "medium", "detailed"]),
        ({"reader_language": "de", "me": "Ines"}, ["short", "medium", "detailed"]),
        ({"stance": "decline", "reader_language": None}, ["short", "medium", "detailed"]),
    ],
)
def test_a_completed_request_has_a_valid_result_as_its_options_want_it(
    app: Callable[[], App], options: dict[str, Any], lengths: list[str]
) -> None:
    with app() as connection:
        which = insert(connection, options=options)
        assert fake(connection, which)["options_ready"] == len(lengths)
        row = read(connection, which)
    result = row["result"]
    RESULT.validate(result)
    assert [option["length"] for option in result["options"]] == lengths
    texts = [option["text"] for option in result["options"]]
    assert len(set(texts)) == len(texts)
    assert sorted(texts, key=len) == texts
    assert all(len(text) <= options.get("max_chars", 10_000) for text in texts)
    assert result["me"] == options.get("me", "the signed-in user")
    assert all(("translation" in option) == bool(options.get("reader_language")) for option in result["options"])
    assert not options.get("stance") or {option["stance"] for option in result["options"]} == {options["stance"]}


def test_everything_written_says_that_it_is_a_stand_ins_and_nothing_private_is_copied(app: Callable[[], App]) -> None:
    with app() as connection:
        which = insert(connection)
        fake(connection, which)
        row = read(connection, which)
        failed = insert(connection)
        fake(connection, failed, ", error_code => 'image_invalid'")
        message = read(connection, failed)["error_message"]
    assert (row["model"], row["prompt_version"], row["cost_usd"]) == ("stand-in", "stand-in", 0)
    assert all(option["text"].startswith("Stand-in reply") for option in row["result"]["options"])
    assert row["result"]["summary"].startswith("Stand-in")
    assert message.startswith("Stand-in: ")
    (image,) = row["images"]
    assert (image["host"], set(image)) == ("cdn.example.com", {"host", "sha256", "width", "height", "parts"})


def test_platform_and_keys_of_the_result_can_be_given_and_a_typo_is_refused(app: Callable[[], App]) -> None:
    with app() as connection:
        which = insert(connection)
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="no key 'platfrom'"):
            fake(connection, which, """, result => '{"platfrom": "x"}'""")
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="unknown error code 'gone'"):
            fake(connection, which, ", error_code => 'gone'")
        assert read(connection, which)["status"] == "pending"
        fake(connection, which, """, platform => 'email', result => '{"reply_needed": "no"}'""")
        result = read(connection, which)["result"]
    RESULT.validate(result)
    assert (result["platform"], result["platform_name"], result["content_type"]) == ("email", "Email", "email")
    assert result["reply_needed"] == "no"


def test_options_are_published_one_by_one_as_a_daemon_does_and_do_not_change(app: Callable[[], App]) -> None:
    with app() as connection, app() as listener:
        listener.execute("LISTEN draft_results")
        which = insert(connection, options={"lengths": ["medium", "detailed"]})
        assert fake(connection, which, ", options_ready => 1")["status"] == "processing"
        row = read(connection, which)
        assert (row["result"], row["attempt"], row["first_option_at"] is None) == (None, 1, False)
        RESULT.validate(row["partial_result"])
        (published,) = row["partial_result"]["options"]
        fake(connection, which, ", options_ready => 2")
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="options_ready is 2 to 2"):
            fake(connection, which, ", options_ready => 1")
        fake(connection, which, ", platform => 'x'")
        row = read(connection, which)
        heard = [json.loads(one.payload) for one in listener.notifies(timeout=20, stop_after=3)]
    assert row["result"]["options"][0] == published
    assert row["result"]["platform"] == "linkedin"
    assert (row["attempt"], len(row["result"]["options"])) == (1, 2)
    assert [(one["status"], one["options_ready"]) for one in heard] == [
        ("processing", 1),
        ("processing", 2),
        ("completed", 2),
    ]


def test_every_code_can_be_played_and_published_options_stay(app: Callable[[], App]) -> None:
    with app() as connection:
        for error in request_errors():
            which = insert(connection)
            done = fake(connection, which, f", options_ready => 1, error_code => '{error.code}'")
            row = read(connection, which)
            assert done == {"id": str(which), "status": "failed", "options_ready": 1}
            assert (row["error_code"], row["error_details"]) == (error.code, {"action": error.user_action.value})
            assert row["error_message"] == f"Stand-in: {error.user_message}"
            assert [one["code"] for one in row["errors"]] == [error.code]
            assert len(row["partial_result"]["options"]) == 1


def test_a_refinement_keeps_what_was_seen_and_has_other_texts(app: Callable[[], App]) -> None:
    with app() as connection:
        parent = insert(connection)
        fake(connection, parent, ", platform => 'slack'")
        child = insert(connection, parent_id=str(parent), image_urls=None, context="shorter")
        fake(connection, child)
        first, second = read(connection, parent)["result"], read(connection, child)["result"]
    RESULT.validate(second)
    assert second["platform"] == "slack"
    assert {one["text"] for one in first["options"]}.isdisjoint(one["text"] for one in second["options"])


def test_what_is_final_or_missing_is_refused(app: Callable[[], App]) -> None:
    with app() as connection:
        which = insert(connection)
        connection.execute("SELECT cancel_draft_request(%s)", [which])
        with pytest.raises(psycopg.errors.CheckViolation, match="is cancelled already"):
            fake(connection, which)
        with pytest.raises(psycopg.errors.NoDataFound, match="there is no request null"):
            connection.execute("SELECT fake_draft(NULL)")


def test_it_gives_nobody_a_right(app: Callable[[], App], roles: Roles) -> None:
    with app() as owner:
        which = insert(owner)
    for role in (roles.client(), roles.with_everything()):
        stranger = psycopg.connect(roles.url(role), autocommit=True)
        with stranger, pytest.raises(psycopg.errors.InsufficientPrivilege):
            stranger.execute("SELECT fake_draft(%s)", [which])
    with psycopg.connect(roles.url(roles.worker()), autocommit=True, row_factory=dict_row) as worker:
        assert fake(worker, which)["status"] == "completed"


@pytest.mark.parametrize(
    "trace",
    [
        "draft_workers (id, hostname, pid, version, state, concurrency) VALUES (gen_random_uuid(), 'h', 1, '0', 'stopped', 1)",
        "draft_usage (request_id, requester_id, attempt, lease_token, call, model) VALUES (gen_random_uuid(), '', 1, 1, 1, 'm')",
    ],
)
def test_where_a_daemon_has_worked_it_neither_works_nor_installs(app: Callable[[], App], trace: str) -> None:
    with app() as owner:
        which = insert(owner)
        owner.execute(f"INSERT INTO {trace}".encode())
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="a daemon has worked on this database"):
            fake(owner, which)
        owner.execute("DROP FUNCTION fake_draft")
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            owner.execute(fake_draft_sql().encode())
        owner.execute("ROLLBACK")
        found = owner.execute("SELECT to_regproc('fake_draft') AS found").fetchone()
        assert found == {"found": None}


def test_no_migration_has_it() -> None:
    assert "fake_draft" not in schema_version.upgrade_sql()
