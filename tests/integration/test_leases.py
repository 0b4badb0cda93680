"""Who still holds what: renewals."""

import uuid

from draftd import db
from fix_database import claim_all, claim_one, lose, make_request, make_terms, read_row, reap_now, renew


async def test_a_renewal_moves_the_lease_and_nothing_else(connection: db.Connection, link: db.Link) -> None:
    await make_request(connection)
    claimed = await claim_one(link)
    before = await read_row(connection, claimed.id)
    assert (await renew(connection, claimed))["renewed"] == [claimed.id]
    after = await read_row(connection, claimed.id)
    assert after.pop("lease_until") > before.pop("lease_until")
    assert after == before


async def test_no_index_holds_a_column_that_a_renewal_writes(connection: db.Connection) -> None:
    cursor = await connection.execute(
        "SELECT indexdef FROM pg_indexes WHERE tablename = 'draft_requests' AND indexdef LIKE '%lease_until%'"
    )
    assert await cursor.fetchall() == []


async def test_a_renewal_with_an_older_token_renews_nothing(connection: db.Connection, link: db.Link) -> None:
    await make_request(connection)
    zombie = await claim_one(link)
    await lose(connection, zombie)
    await reap_now(link)
    owner = await claim_one(link)
    assert (await renew(connection, zombie))["renewed"] == []
    assert (await renew(connection, owner))["renewed"] == [owner.id]


async def test_a_cancelled_row_is_not_renewed(connection: db.Connection, link: db.Link) -> None:
    await make_request(connection)
    claimed = await claim_one(link)
    await connection.execute("SELECT cancel_draft_request(%s)", [claimed.id])
    assert (await renew(connection, claimed))["renewed"] == []


async def test_a_beat_enters_the_worker_and_brings_configuration_and_holds(connection: db.Connection) -> None:
    await connection.execute("INSERT INTO draft_agents (agent, model) VALUES ('a', 'm')")
    await connection.execute("INSERT INTO draft_models (name, api_base) VALUES ('m', 'http://gateway')")
    await connection.execute("INSERT INTO draft_holds (model, code, until) VALUES ('m', 'c', now() + interval '9 s')")
    worker_id = uuid.uuid4()
    back = await renew(connection, worker_id=worker_id)
    assert (back["agents"][0]["model"], back["models"][0]["api_base"]) == ("m", "http://gateway")
    assert 8 < float(back["holds"][0]["until_s"]) <= 9
    await renew(connection, worker_id=worker_id, state="draining")
    workers = await (await connection.execute("SELECT state, agents FROM draft_workers")).fetchall()
    assert workers == [{"state": "draining", "agents": ["comment_generator"]}]


async def test_a_locked_row_is_neither_renewed_nor_lost(
    database: str, connection: db.Connection, link: db.Link
) -> None:
    for _ in range(2):
        await make_request(connection)
    first, second = await claim_all(link, make_terms())
    async with db.connected(database) as client, client.transaction():
        await client.execute("SELECT FROM draft_requests WHERE id = %s FOR UPDATE", [first.id])
        back = await renew(connection, first, second)
    assert (back["renewed"], back["lost"]) == ([second.id], [])
