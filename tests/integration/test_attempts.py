"""What an attempt reads of its row."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from draftd import db
from draftd.queue.attempts import READ_REQUEST, read_request
from draftd.request import Parent, Wish
from fix_database import claim_one, make_request, overwrite

HTTP, DATA = "https://a.example/😀.png", "data:image/png;base64,AAAA"


async def test_a_data_url_that_cannot_be_one_is_not_carried_here(connection: db.Connection, link: db.Link) -> None:
    """One letter outside of ASCII would make a string of 24 MiB four times as large."""
    await make_request(connection, image_urls=[HTTP, DATA, DATA + "😀", "DATA:image/png;base64,AAAAé"])
    request = await read_request(link, await claim_one(link))
    assert request.image_urls == (HTTP, DATA, "data:", "data:")


async def test_all_but_the_pictures_comes_once(connection: db.Connection, link: db.Link) -> None:
    await make_request(connection, image_urls=[DATA] * 8, options={"tone": "warm"}, context="c")
    claim = await claim_one(link)
    rows = await link.run(READ_REQUEST, {"id": claim.id, "lease_token": claim.lease_token})
    assert [row["options"] for row in rows].count({"tone": "warm"}) == 1
    request = await read_request(link, claim)
    assert (request.options, request.context, len(request.image_urls)) == ({"tone": "warm"}, "c", 8)


async def test_a_refinement_brings_its_parent(connection: db.Connection, link: db.Link) -> None:
    parent_id = await make_request(connection)
    await connection.execute(
        "UPDATE draft_requests SET status = 'processing', lease_token = 1 WHERE id = %s", [parent_id]
    )
    await connection.execute(
        "UPDATE draft_requests SET status = 'completed', result = '{\"summary\": \"s\"}' WHERE id = %s", [parent_id]
    )
    await make_request(connection, image_urls="{}", parent_id=parent_id, context="shorter")
    request = await read_request(link, await claim_one(link))
    assert request.image_urls == ()
    assert request.context == "shorter"
    assert request.parent is not None
    assert request.parent.result == {"summary": "s"}


async def make_draft(connection: db.Connection, text: str, parent_id: UUID | None = None, **over: Any) -> UUID:
    drafts = Jsonb({"options": [{"text": text}, {"text": f"{text}, longer"}]})
    over = {"status": "completed", "result": drafts} | over
    request_id = await make_request(connection, image_urls="{}" if parent_id else [HTTP], parent_id=parent_id)
    await overwrite(connection, request_id, **over)
    return request_id


async def test_a_refinement_brings_every_text_of_its_chain(connection: db.Connection, link: db.Link) -> None:
    first = await make_draft(connection, "one")
    partial = {"status": "failed", "result": None, "partial_result": Jsonb({"options": [{"text": "two"}, 3]})}
    second = await make_draft(connection, "-", first, **partial)
    third = await make_draft(connection, "three", second)
    await make_draft(connection, "another child of the first", first)
    await make_request(connection, image_urls="{}", parent_id=third)
    parent = (await read_request(link, await claim_one(link))).parent
    assert parent is not None
    assert parent.chain_texts == ("three", "three, longer", "two", "one", "one, longer")


async def test_a_refinement_knows_what_its_chain_had_no_source_for(connection: db.Connection, link: db.Link) -> None:
    marks = [{"quote": "14:00", "kind": "time"}, {"quote": 3}, "x"]
    drafted = {"options": [{"text": "At 14:00.", "unsupported": marks}, {"text": "Yes.", "unsupported": 7}]}
    first = await make_draft(connection, "-", result=Jsonb(drafted))
    second = await make_draft(connection, "two", first)
    await make_request(connection, image_urls="{}", parent_id=second)
    parent = (await read_request(link, await claim_one(link))).parent
    assert parent is not None
    assert parent.unsupported == ("14:00",)
    assert parent.without_unsupported("At 14:00.") == "At  ."


@pytest.mark.parametrize(
    ("created_at", "asked_at"),
    [
        ("2026-03-17 23:30-05:00", datetime(2026, 3, 18, 4, 30, tzinfo=UTC)),
        ("-infinity", datetime(2000, 1, 1, tzinfo=UTC)),
        ("infinity", None),
        ("20000-01-01", None),
    ],
)
async def test_a_request_was_made_at_its_insert_within_what_python_can_hold(
    connection: db.Connection, link: db.Link, created_at: str, asked_at: datetime | None
) -> None:
    request_id = await make_request(connection)
    before = datetime.now(UTC) - timedelta(days=1)
    await overwrite(connection, request_id, created_at=created_at)
    request = await read_request(link, await claim_one(link))
    assert request.asked_at is not None
    assert request.asked_at == asked_at if asked_at else request.asked_at > before


async def test_a_circle_of_parents_ends(connection: db.Connection, link: db.Link) -> None:
    first = await make_draft(connection, "one")
    second = await make_draft(connection, "two", first)
    await overwrite(connection, first, parent_id=second)
    await make_request(connection, image_urls="{}", parent_id=second)
    parent = (await read_request(link, await claim_one(link))).parent
    assert parent is not None
    assert set(parent.chain_texts) == {"one", "one, longer", "two", "two, longer"}


async def parent_of(connection: db.Connection, link: db.Link, parent_id: UUID, **over: Any) -> Parent:
    """Return what a refinement of a request reads of its chain."""
    await make_request(connection, image_urls="{}", parent_id=parent_id, **over)
    parent = (await read_request(link, await claim_one(link))).parent
    assert parent is not None
    return parent


async def test_a_refinement_brings_what_its_chain_asked_for(connection: db.Connection, link: db.Link) -> None:
    first = await make_draft(connection, "one", context="I'm ill", options=Jsonb({"tone": "warm"}))
    second = await make_draft(connection, "two", first, context=None)
    parent = await parent_of(connection, link, second)
    assert parent.wishes == (Wish(context="", options={}), Wish(context="I'm ill", options={"tone": "warm"}))


async def test_of_a_deeper_chain_the_nearest_20_requests_are_read(connection: db.Connection, link: db.Link) -> None:
    last = None
    for number in range(25):
        last = await make_draft(connection, f"draft {number}", last, context=f"wish {number}")
    assert last is not None
    parent = await parent_of(connection, link, last)
    assert [wish.context for wish in parent.wishes] == [f"wish {number}" for number in range(24, 4, -1)]
    assert len(parent.chain_texts) == 40


async def test_a_chain_ends_where_a_request_was_deleted(connection: db.Connection, link: db.Link) -> None:
    first = await make_draft(connection, "one")
    second = await make_draft(connection, "two", first)
    third = await make_draft(connection, "three", second)
    await connection.execute("DELETE FROM draft_requests WHERE id = %s", [first])
    parent = await parent_of(connection, link, third)
    assert parent.chain_texts == ("three", "three, longer", "two", "two, longer")
    assert len(parent.wishes) == 2


async def test_a_chain_ends_at_another_requesters_request(connection: db.Connection, link: db.Link) -> None:
    """Only the owner of the tables can make one."""
    first = await make_draft(connection, "one", context="secret")
    second = await make_draft(connection, "two", first)
    await overwrite(connection, first, requester_id="somebody else")
    parent = await parent_of(connection, link, second)
    assert (parent.chain_texts, len(parent.wishes)) == (("two", "two, longer"), 1)


async def test_of_a_chain_no_more_than_a_mebibyte_is_read(connection: db.Connection, link: db.Link) -> None:
    """Options may have 256 KiB each before they are checked."""
    first = await make_draft(connection, "one")
    for _ in range(6):
        first = await make_draft(connection, "more", first, options=Jsonb({"x": "y" * 250_000}))
    assert len((await parent_of(connection, link, first)).wishes) == 4


async def test_a_chain_is_read_by_its_ids_alone(connection: db.Connection, link: db.Link) -> None:
    last = await make_draft(connection, "one")
    for _ in range(19):
        last = await make_draft(connection, "more", last)
    await make_request(connection, image_urls="{}", parent_id=last)
    claim = await claim_one(link)
    await connection.execute(
        "INSERT INTO draft_requests (image_urls) SELECT %s FROM generate_series(1, 2000)", [[HTTP]]
    )
    await connection.execute("ANALYZE draft_requests")
    statement = f"EXPLAIN (ANALYZE, FORMAT JSON) {READ_REQUEST}".encode()
    cursor = await connection.execute(statement, {"id": claim.id, "lease_token": claim.lease_token})
    ((plan,),) = [tuple(row.values()) for row in await cursor.fetchall()]
    scans = list(_scans(plan[0]["Plan"]))
    assert {scan["Index Name"] for scan in scans} <= {"draft_requests_pkey", "draft_requests_processing_idx"}
    assert sum(scan["Actual Rows"] * scan["Actual Loops"] for scan in scans) == 23, (
        "itself, twice; its parent; the chain"
    )
    assert max(scan["Actual Loops"] for scan in scans) <= 20


def _scans(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if node.get("Relation Name") == "draft_requests":
        yield node
    for child in node.get("Plans", ()):
        yield from _scans(child)


async def test_an_entry_that_is_null_is_read_as_one_that_leads_nowhere(
    connection: db.Connection, link: db.Link
) -> None:
    request_id = await make_request(connection)
    await overwrite(connection, request_id, image_urls=[None])
    assert (await read_request(link, await claim_one(link))).image_urls == ("",)
