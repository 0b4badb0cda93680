"""Limits and pauses of requesters: who is admitted, who waits, and whose inserts are refused."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Jsonb

from draftd import db
from draftd.daemon.limit_keeper import LimitKeeper
from draftd.db.replaced import replace_parts
from draftd.queue.admission import ADMIT, APPLY, Admission
from draftd.queue.claiming import CLAIM_THESE, Claimer
from draftd.queue.outcome import Fail, GiveBack, Retry
from draftd.queue.refused_rows import Quarantine
from draftd.queue.retention import prune_turnstiles
from draftd.queue.settlements import Settler
from draftd.request import Claim
from fix_database import URL, claim_all, make_request, make_terms, overwrite, read_row, renew

AGENT = "comment_generator"
TERMS = make_terms()


async def set_limits(connection: db.Connection, requester_id: str, **limits: Any) -> None:
    """Set limits of a requester."""
    row = {"max_pending": None, "max_in_flight": None, "usd_per_day": None} | limits
    await connection.execute(
        "INSERT INTO draft_limits (requester_id, max_pending, max_in_flight, usd_per_day) "
        "VALUES (%(requester_id)s, %(max_pending)s, %(max_in_flight)s, %(usd_per_day)s) ON CONFLICT (requester_id) DO UPDATE SET "
        "max_pending = excluded.max_pending, max_in_flight = excluded.max_in_flight, usd_per_day = excluded.usd_per_day",
        row | {"requester_id": requester_id},
    )


async def pause(connection: db.Connection, what: str, name: str = "") -> None:
    await connection.execute("INSERT INTO draft_pauses (what, name) VALUES (%s, %s)", [what, name])


async def resume(connection: db.Connection) -> None:
    await connection.execute("DELETE FROM draft_pauses")


async def admit(
    link: db.Link,
    requesters: Sequence[str] | None = None,
    *,
    agents: Sequence[str] | None = (AGENT,),
    at_most: int = 500,
) -> int:
    """Admit waiting rows once, and return how many."""
    params = {"requesters": requesters and list(requesters), "agents": agents and list(agents)}
    (row,) = await link.run(ADMIT, params | {"at_most": at_most, "after": None, "wanted": 0})
    return int(row["admitted"])


async def waiting(connection: db.Connection) -> int:
    """Return how many rows wait for their admission."""
    row = await (
        await connection.execute("SELECT count(*) AS n FROM draft_requests WHERE status = 'pending' AND limited")
    ).fetchone()
    assert row is not None
    return int(row["n"])


async def give_back(link: db.Link, claimed: Claim, **over: Any) -> None:
    outcome = Retry(code="x", message="x", **over) if over else GiveBack()
    await Settler(link=link, quarantine=Quarantine()).settle(claimed, outcome)


async def fail(link: db.Link, claimed: Claim) -> None:
    await Settler(link=link, quarantine=Quarantine()).settle(claimed, Fail(code="image_gone", message="x"))


async def test_no_more_rows_than_the_limit_become_claimable(connection: db.Connection, link: db.Link) -> None:
    await set_limits(connection, "ann", max_in_flight=2)
    made = [await make_request(connection, requester_id="ann") for _ in range(5)]
    assert await claim_all(link) == []
    assert await admit(link) == 2
    claimed = await claim_all(link)
    assert [one.id for one in claimed] == made[:2]
    assert await admit(link) == 0
    await fail(link, claimed[0])
    assert await admit(link, ["bob", "ann"]) == 1
    assert [one.id for one in await claim_all(link)] == [made[2]]


async def test_a_row_that_surely_has_room_is_claimable_at_once(connection: db.Connection, link: db.Link) -> None:
    await set_limits(connection, "ann", max_pending=9, max_in_flight=2)
    made = [await make_request(connection, requester_id="ann") for _ in range(3)]
    claimed = await claim_all(link)
    assert [one.id for one in claimed] == made[:2]
    for one in claimed:
        await fail(link, one)
    fourth = await make_request(connection, requester_id="ann")
    assert [one.id for one in await claim_all(link)] == [fourth]
    assert await admit(link) == 1
    assert [one.id for one in await claim_all(link)] == [made[2]]
    await make_request(connection, requester_id="ann")
    assert await claim_all(link) == []


async def test_a_row_that_has_room_still_waits_for_a_pause_and_for_its_time(
    connection: db.Connection, link: db.Link
) -> None:
    await set_limits(connection, "*", max_pending=9, max_in_flight=9)
    await pause(connection, "requester", "ann")
    await make_request(connection, requester_id="ann")
    await make_request(connection, requester_id="bob", available_at="2100-01-01")
    assert await waiting(connection) == 2
    assert await claim_all(link) == []


async def test_a_counted_insert_still_waits_for_a_pause_and_for_its_time(connection: db.Connection) -> None:
    await set_limits(connection, "*", max_pending=9, max_in_flight=9)
    for requester in ("ann", "bob"):
        await make_request(connection, requester_id=requester)
    await pause(connection, "requester", "ann")
    await make_request(connection, requester_id="ann")
    assert await waiting(connection) == 1
    await make_request(connection, requester_id="bob", available_at="2100-01-01")
    assert await waiting(connection) == 2


async def test_rows_that_are_admitted_together_take_their_turns_in_order(
    connection: db.Connection, link: db.Link
) -> None:
    await set_limits(connection, "ann", max_in_flight=100)
    made = [
        await make_request(connection, requester_id="ann", available_at=f"2020-01-01 00:00:{59 - number:02}")
        for number in range(40)
    ]
    assert await admit(link) == len(made)
    assert [one.id for one in await claim_all(link, limit=100)] == made[::-1]


async def test_everybody_without_limits_of_their_own_has_those_of_the_star(
    connection: db.Connection, link: db.Link
) -> None:
    await set_limits(connection, "*", max_in_flight=1)
    await set_limits(connection, "ann", max_in_flight=None)
    for requester in ("ann", "bob", "cid"):
        for _ in range(3):
            await make_request(connection, requester_id=requester)
    await admit(link)
    claimed = [one.requester_id for one in await claim_all(link)]
    assert sorted(claimed) == ["ann", "ann", "ann", "bob", "cid"]


async def test_rows_are_admitted_by_priority_and_then_by_age(connection: db.Connection, link: db.Link) -> None:
    await set_limits(connection, "ann", max_in_flight=1)
    low = [await make_request(connection, requester_id="ann", agent=agent) for agent in (AGENT, "another", AGENT)]
    high = [await make_request(connection, requester_id="ann", priority=1, agent=agent) for agent in ("another", AGENT)]
    order = []
    while await admit(link, agents=[AGENT, "another"]):
        (claimed,) = await claim_all(link, agents=[AGENT, "another"])
        order.append(claimed.id)
        await fail(link, claimed)
    assert order == high + low


async def test_an_admitted_row_stands_in_the_line_like_a_new_one(connection: db.Connection, link: db.Link) -> None:
    await set_limits(connection, "ann", max_in_flight=100)
    for _ in range(3):
        await make_request(connection, requester_id="ann")
    for _ in range(3):
        await make_request(connection, requester_id="crowd")
    await admit(link)
    order = [one.requester_id for one in await claim_all(link)]
    assert [set(order[n : n + 2]) for n in (0, 2, 4)] == [{"ann", "crowd"}] * 3


async def test_a_row_that_is_not_due_takes_no_place(connection: db.Connection, link: db.Link) -> None:
    await set_limits(connection, "ann", max_in_flight=1)
    later = await make_request(connection, requester_id="ann", priority=5, available_at="2100-01-01")
    due = await make_request(connection, requester_id="ann")
    assert await admit(link) == 1
    (claimed,) = await claim_all(link)
    assert claimed.id == due
    assert (await read_row(connection, later))["limited"]


async def test_a_row_that_comes_back_with_a_delay_gives_its_place_up(connection: db.Connection, link: db.Link) -> None:
    await set_limits(connection, "ann", max_in_flight=1)
    first, second = [await make_request(connection, requester_id="ann") for _ in range(2)]
    await admit(link)
    (claimed,) = await claim_all(link)
    await give_back(link, claimed, delay_s=3600.0)
    assert await admit(link) == 1
    assert [one.id for one in await claim_all(link)] == [second]
    assert (await read_row(connection, first))["limited"]


async def test_a_row_that_comes_back_at_once_keeps_its_place(connection: db.Connection, link: db.Link) -> None:
    await set_limits(connection, "ann", max_in_flight=1)
    for _ in range(2):
        await make_request(connection, requester_id="ann")
    await admit(link)
    (claimed,) = await claim_all(link)
    await give_back(link, claimed)
    assert await admit(link) == 0
    assert [one.id for one in await claim_all(link)] == [claimed.id]


async def test_a_retry_by_hand_waits_like_a_new_request(connection: db.Connection, link: db.Link) -> None:
    await set_limits(connection, "ann", max_in_flight=1)
    request_id = await make_request(connection, requester_id="ann")
    await connection.execute("SELECT cancel_draft_request(%s)", [request_id])
    await connection.execute("UPDATE draft_requests SET status = 'pending', attempt = 0 WHERE id = %s", [request_id])
    assert await claim_all(link) == []
    assert await admit(link) == 1


async def test_rows_of_agents_that_cannot_work_take_no_place(connection: db.Connection, link: db.Link) -> None:
    await set_limits(connection, "ann", max_in_flight=1)
    await make_request(connection, requester_id="ann", agent="held", priority=9)
    due = await make_request(connection, requester_id="ann")
    assert await admit(link, agents=[AGENT]) == 1
    assert [one.id for one in await claim_all(link, agents=["held", AGENT])] == [due]


async def beat_of(connection: db.Connection, **models: dict[str, bool]) -> None:
    """Let a live worker say what it can call."""
    await renew(connection, agents=list(models), models=Jsonb(models))


async def test_an_admitted_row_whose_model_is_held_gives_its_place_to_one_that_can_go(
    connection: db.Connection, link: db.Link
) -> None:
    await set_limits(connection, "ann", max_in_flight=1)
    await beat_of(connection, held={"a": True}, comment_generator={"b": True})
    stuck = await make_request(connection, requester_id="ann", agent="held")
    assert await admit(link, agents=["held"]) == 1
    await connection.execute(
        "INSERT INTO draft_holds (model, code, until) VALUES ('a', 'model_unavailable', now() + interval '1 h')"
    )
    await LimitKeeper(link=link, worker_id=TERMS.worker_id).keep()
    assert not (await read_row(connection, stuck))["limited"], "nobody else waits"
    due = await make_request(connection, requester_id="ann")
    await LimitKeeper(link=link, worker_id=TERMS.worker_id).keep()
    assert (await read_row(connection, stuck))["limited"]
    assert [one.id for one in await claim_all(link, agents=["held", AGENT])] == [due]


async def test_an_admitted_row_whose_daemons_have_stopped_gives_its_place_to_one_that_can_go(
    connection: db.Connection, link: db.Link
) -> None:
    await set_limits(connection, "ann", max_in_flight=1)
    await beat_of(connection, stopped={"a": True})
    await connection.execute("UPDATE draft_workers SET state = 'stopped'")
    await beat_of(connection, comment_generator={"a": True})
    stuck = await make_request(connection, requester_id="ann", agent="stopped")
    assert await admit(link, agents=["stopped"]) == 1
    due = await make_request(connection, requester_id="ann")
    for _ in range(2):
        await LimitKeeper(link=link, worker_id=TERMS.worker_id).keep()
    assert (await read_row(connection, stuck))["limited"]
    assert [one.id for one in await claim_all(link)] == [due]


async def test_a_limit_that_is_set_later_lets_rows_wait_that_are_there(
    connection: db.Connection, link: db.Link
) -> None:
    made = [await make_request(connection, requester_id="ann") for _ in range(6)]
    other = await make_request(connection, requester_id="bob")
    running = await claim_all(link, limit=1)
    await set_limits(connection, "ann", max_in_flight=3)
    await LimitKeeper(link=link, worker_id=TERMS.worker_id).keep()
    assert await waiting(connection) == len(made) - 3
    more = [one.id for one in await claim_all(link) if one.requester_id == "ann"]
    assert len(running) + len(more) == 3
    assert (await read_row(connection, other))["status"] == "processing"


async def test_a_limit_that_is_taken_away_lets_everything_go(connection: db.Connection, link: db.Link) -> None:
    await set_limits(connection, "ann", max_in_flight=1)
    for _ in range(5):
        await make_request(connection, requester_id="ann")
    await connection.execute("DELETE FROM draft_limits")
    await LimitKeeper(link=link, worker_id=TERMS.worker_id).keep()
    assert len(await claim_all(link)) == 5


async def test_nothing_of_a_paused_requester_is_claimed_from_the_pause_on(
    connection: db.Connection, link: db.Link
) -> None:
    before = await make_request(connection, requester_id="ann")
    await make_request(connection, requester_id="bob")
    await pause(connection, "requester", "ann")
    after = await make_request(connection, requester_id="ann")
    assert [one.requester_id for one in await claim_all(link)] == ["bob"]
    await LimitKeeper(link=link, worker_id=TERMS.worker_id).keep()
    assert [(await read_row(connection, one))["limited"] for one in (before, after)] == [True, True]
    assert await admit(link) == 0
    await resume(connection)
    await LimitKeeper(link=link, worker_id=TERMS.worker_id).keep()
    assert {one.id for one in await claim_all(link)} == {before, after}


async def test_the_keeper_goes_on_until_every_row_of_a_paused_requester_waits(
    connection: db.Connection, link: db.Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    await connection.execute(
        "INSERT INTO draft_requests (image_urls, requester_id) SELECT %s, 'ann' FROM generate_series(1, 2500)", [[URL]]
    )
    await pause(connection, "requester", "ann")
    monkeypatch.setattr("draftd.daemon.limit_keeper.PASS_S", 0)
    await LimitKeeper(link=link, worker_id=TERMS.worker_id).keep()
    assert await waiting(connection) == 2500


async def test_a_pause_lets_what_is_running_end_and_nothing_begin_again(
    connection: db.Connection, link: db.Link
) -> None:
    request_id = await make_request(connection, requester_id="ann")
    (claimed,) = await claim_all(link)
    await pause(connection, "requester", "ann")
    await give_back(link, claimed)
    assert (await read_row(connection, request_id))["limited"]
    assert await claim_all(link) == []


@pytest.mark.parametrize(("what", "name"), [("all", ""), ("model", "m1")])
async def test_a_pause_of_everything_or_of_a_model_holds_from_its_commit_on(
    connection: db.Connection, link: db.Link, what: str, name: str
) -> None:
    from draftd.queue.claiming import CLAIM_PROBE, claim  # noqa: PLC0415  # only this test names the model

    await make_request(connection)
    other = await make_request(connection, agent="another")
    await pause(connection, what, name)

    async def claimed(statement: str | None = None) -> list[UUID]:
        how: dict[str, Any] = {"statement": statement} if statement else {}
        rows = await claim(link, terms=TERMS, agents=[AGENT, "another"], models=["m1", "m2"], limit=1, **how)
        return [one.id for one in rows]

    assert await claimed() == ([] if what == "all" else [other])
    assert await claimed(CLAIM_PROBE) == []


@pytest.mark.parametrize(("what", "name"), [("all", ""), ("model", "m1"), ("requester", "ann")])
async def test_a_pause_that_is_committed_while_rows_are_claimed_by_id_holds_too(
    connection: db.Connection, link: db.Link, what: str, name: str
) -> None:
    candidate = await make_request(connection, requester_id="ann")
    await pause(connection, what, name)
    terms = {"n": 1, "lease_s": 30.0, "attempt_s": 60.0, "worker_id": TERMS.worker_id, "now": None}
    params = terms | {"agents": [AGENT], "models": ["m1"], "ids": [candidate]}
    assert await link.run(CLAIM_THESE, params) == []
    await resume(connection)
    assert [row["id"] for row in await link.run(CLAIM_THESE, params)] == [candidate]


WAITS_FOR_A_GATE = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = 42"


async def test_what_is_inserted_while_rows_are_admitted_takes_no_place_twice(
    connection: db.Connection, link: db.Link, database: str
) -> None:
    await set_limits(connection, "ann", max_in_flight=2, max_pending=100)
    first = [await make_request(connection, requester_id="ann") for _ in range(3)]
    await connection.execute("UPDATE draft_requests SET status = 'cancelled' WHERE id = ANY (%s)", [first[:2]])
    await connection.execute(
        replace_parts(
            "draft_admit(text[], text[], integer, text)",
            [("        candidates := ARRAY (", "        PERFORM pg_advisory_lock(42);\n        candidates := ARRAY (")],
            revision="any",
        ).encode()
    )
    async with db.connected(database) as gate, db.connected(database) as other:
        await gate.execute("SELECT pg_advisory_lock(42)")
        async with other.transaction():
            await other.execute("SELECT now()")  # so that its row is due already when rows are admitted
            admitting = asyncio.create_task(admit(link))
            while not await (await gate.execute(WAITS_FOR_A_GATE)).fetchall():
                assert not admitting.done()
            fits = await make_request(connection, requester_id="ann")
            await make_request(other, requester_id="ann")
        assert not (await read_row(connection, fits))["limited"]
        await gate.execute("SELECT pg_advisory_unlock(42)")
        await admitting
    assert await waiting(connection) == 1


@pytest.mark.parametrize("hint", ["garbage", "(0,99)", "(4294967296,1)", ""])
async def test_a_forged_setting_changes_no_count_and_fails_no_insert(connection: db.Connection, hint: str) -> None:
    await set_limits(connection, "ann", max_pending=2)
    await connection.execute("SELECT set_config('draftd.turnstile', %s, false)", [hint])
    for _ in range(2):
        await make_request(connection, requester_id="ann")
    with pytest.raises(psycopg.Error, match="too many requests are waiting"):
        await make_request(connection, requester_id="ann")


async def test_a_row_that_is_locked_does_not_keep_others_from_being_admitted(
    connection: db.Connection, link: db.Link, database: str
) -> None:
    await set_limits(connection, "ann", max_in_flight=1)
    locked = await make_request(connection, requester_id="ann")
    free = await make_request(connection, requester_id="ann")
    async with db.connected(database) as client, client.transaction():
        await client.execute("SELECT FROM draft_requests WHERE id = %s FOR UPDATE", [locked])
        assert await admit(link) == 1
        assert [one.id for one in await claim_all(link)] == [free]


async def test_a_row_that_is_refused_does_not_keep_others_from_being_admitted(
    connection: db.Connection, link: db.Link
) -> None:
    await set_limits(connection, "ann", max_in_flight=3)
    made = [await make_request(connection, requester_id="ann") for _ in range(5)]
    await connection.execute(
        f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF OLD.id IN ('{made[0]}', '{made[2]}') THEN RAISE EXCEPTION 'not this one'; END IF; RETURN NEW; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON draft_requests FOR EACH ROW EXECUTE FUNCTION refuse()""".encode()
    )
    assert await admit(link) == 3
    assert [one.id for one in await claim_all(link)] == [made[1], made[3], made[4]]


async def test_who_admits_a_requester_is_alone_and_waits_for_nobody(
    connection: db.Connection, link: db.Link, database: str
) -> None:
    await set_limits(connection, "ann", max_in_flight=1)
    for _ in range(3):
        await make_request(connection, requester_id="ann")
    admission = Admission(link=link)
    admission.is_needed = True
    async with db.connected(database) as other, other.transaction():
        await other.execute("SELECT draft_admit(NULL, NULL, 500, NULL)")
        assert not await admission.admit_any([AGENT], wanted=1)
        assert admission.retry_in_s() < 1, "the other one's count may be older than what has ended here"
    await admission.admit_next([AGENT], wanted=1)
    assert len(await claim_all(link)) == 1
    assert admission.retry_in_s() > 1


async def test_a_claim_says_whether_a_row_waits_that_nothing_blocks(connection: db.Connection, link: db.Link) -> None:
    claimer = Claimer(link=link, terms=TERMS, quarantine=Quarantine())

    async def anyone_waits() -> bool:
        await claimer.claim([AGENT], 9, are_limits=True)
        return claimer.anyone_waits

    await set_limits(connection, "*", max_pending=9, max_in_flight=1)
    await pause(connection, "requester", "ann")
    await make_request(connection, requester_id="ann")
    await make_request(connection, requester_id="bob")
    assert not await anyone_waits()
    await make_request(connection, requester_id="bob")
    assert await anyone_waits()
    await connection.execute("DELETE FROM draft_requests WHERE requester_id = 'bob'")
    assert not await anyone_waits()
    await resume(connection)
    assert await anyone_waits()


async def test_an_insert_that_was_not_counted_by_its_own_transaction_waits(
    connection: db.Connection, link: db.Link
) -> None:
    await set_limits(connection, "ann", max_pending=9, max_in_flight=9)
    async with connection.transaction(), connection.transaction():
        await make_request(connection, requester_id="ann")
    assert await waiting(connection) == 1
    assert await admit(link) == 1


async def test_nothing_is_asked_where_there_are_no_limits(connection: db.Connection) -> None:
    row = await renew(connection)
    assert row["has_limits"] is False
    await set_limits(connection, "ann", max_pending=3)
    assert (await renew(connection))["has_limits"] is False
    await set_limits(connection, "ann", max_in_flight=3)
    assert (await renew(connection))["has_limits"] is True
    await make_request(connection, requester_id="ann")
    await connection.execute("DELETE FROM draft_limits")
    assert (await renew(connection))["has_limits"] is True, "ann's request still waits"
    await connection.execute("DELETE FROM draft_requests")
    await pause(connection, "all")
    await pause(connection, "model", "m")
    assert (await renew(connection))["has_limits"] is False
    await pause(connection, "requester", "ann")
    assert (await renew(connection))["has_limits"] is True


async def test_concurrent_admissions_never_exceed_the_limit(connection: db.Connection, database: str) -> None:
    await set_limits(connection, "*", max_in_flight=3)
    for requester in ("ann", "bob"):
        for _ in range(40):
            await make_request(connection, requester_id=requester)
    most: dict[str, int] = {}
    async with db.connected(database) as watcher:

        async def watch() -> None:
            rows = await (
                await watcher.execute(
                    "SELECT requester_id, count(*) AS n FROM draft_requests WHERE status = 'processing' GROUP BY 1"
                )
            ).fetchall()
            most.update({row["requester_id"]: max(row["n"], most.get(row["requester_id"], 0)) for row in rows})

        async def work(number: int) -> None:
            link = db.Link(url=database, name=f"worker {number}")
            while await left():
                await admit(link)
                for claimed in await claim_all(link, limit=4):
                    await asyncio.sleep(0)
                    await fail(link, claimed)
            await link.close()

        async def left() -> int:
            await watch_lock.acquire()
            try:
                await watch()
                row = await (
                    await watcher.execute(
                        "SELECT count(*) AS n FROM draft_requests WHERE status IN ('pending', 'processing')"
                    )
                ).fetchone()
            finally:
                watch_lock.release()
            assert row is not None
            return int(row["n"])

        watch_lock = asyncio.Lock()
        async with asyncio.TaskGroup() as workers:
            for number in range(5):
                workers.create_task(work(number))
    assert max(most.values()) <= 3


async def test_inserts_beside_admissions_never_exceed_the_limit(connection: db.Connection, database: str) -> None:
    await set_limits(connection, "*", max_pending=1000, max_in_flight=3)
    most = 0

    async def insert() -> None:
        async with db.connected(database) as client:
            for _ in range(25):
                await make_request(client, requester_id="ann")

    async def work(number: int) -> None:
        nonlocal most
        link = db.Link(url=database, name=f"worker {number}")
        while ended < 75:
            await admit(link)
            claimed = await claim_all(link, limit=4)
            (row,) = await link.run("SELECT count(*) AS n FROM draft_requests WHERE status = 'processing'")
            most = max(most, row["n"])
            for one in claimed:
                await end(link, one)
        await link.close()

    ended = 0

    async def end(link: db.Link, claimed: Claim) -> None:
        nonlocal ended
        await fail(link, claimed)
        ended += 1

    async with asyncio.TaskGroup() as tasks:
        for number in range(3):
            tasks.create_task(work(number))
            tasks.create_task(insert())
    assert 1 <= most <= 3


REFUSED = "too many requests are waiting for this requester: at most 3"


async def test_an_insert_beyond_the_limit_is_refused_as_a_429(connection: db.Connection, link: db.Link) -> None:
    await set_limits(connection, "ann", max_pending=3)
    for _ in range(3):
        await make_request(connection, requester_id="ann")
    with pytest.raises(psycopg.Error, match=REFUSED) as raised:
        await make_request(connection, requester_id="ann")
    assert raised.value.sqlstate == "PT429"
    request = {"image_urls": [URL], "requester_id": "ann"}
    with pytest.raises(psycopg.Error, match=REFUSED):
        await connection.execute("SELECT create_draft_request(%s)", [Jsonb(request)])
    await make_request(connection, requester_id="bob")
    (claimed, *_) = await claim_all(link, limit=1)
    assert claimed.requester_id == "ann"
    await make_request(connection, requester_id="ann")
    with pytest.raises(psycopg.Error, match=REFUSED):
        await make_request(connection, requester_id="ann")


async def test_a_known_key_is_never_refused(connection: db.Connection) -> None:
    await set_limits(connection, "ann", max_pending=3)
    made = [
        await make_request(connection, requester_id="ann", idempotency_key=key, available_at="2100-01-01")
        for key in ("1", "2", "3")
    ]
    request = {"image_urls": [URL], "requester_id": "ann", "idempotency_key": "1"}
    row = await (await connection.execute("SELECT create_draft_request(%s) AS made", [Jsonb(request)])).fetchone()
    assert row is not None
    assert (row["made"]["id"], row["made"]["created"]) == (str(made[0]), False)
    with pytest.raises(psycopg.errors.UniqueViolation):
        await make_request(connection, requester_id="ann", idempotency_key="2")


async def test_an_insert_of_a_known_key_takes_no_place(connection: db.Connection) -> None:
    await set_limits(connection, "ann", max_pending=9)
    insert = (
        "INSERT INTO draft_requests (requester_id, image_urls, idempotency_key) "
        "VALUES ('ann', '{https://a.example/b.png}', %s) ON CONFLICT DO NOTHING"
    )
    bounds = []
    for key in ("first", "second", "second", "second", "third"):
        await connection.execute(insert, [key])
        (row,) = await (await connection.execute("SELECT at_most FROM draft_turnstiles")).fetchall()
        bounds.append(row["at_most"])
    assert bounds == [1, 2, 2, 2, 3]


async def test_many_inserts_of_one_transaction_do_not_look_their_turnstile_up_one_by_one(
    connection: db.Connection,
) -> None:
    lookups = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'draft_turnstiles_pkey'"
    await set_limits(connection, "*", max_pending=1000, max_in_flight=400)
    await connection.execute(
        "INSERT INTO draft_requests (requester_id, image_urls) "
        "SELECT 'ann', '{https://a.example/b.png}' FROM generate_series(1, 500)"
    )
    await connection.execute("SELECT pg_stat_force_next_flush()")
    (row,) = await (await connection.execute(lookups)).fetchall()
    assert row["idx_scan"] < 20
    assert await bounds(connection) == {"ann": 500}
    assert await waiting(connection) == 100


async def bounds(connection: db.Connection) -> dict[str, int]:
    rows = await (await connection.execute("SELECT requester_id, at_most FROM draft_turnstiles")).fetchall()
    return {row["requester_id"]: row["at_most"] for row in rows}


async def test_inserts_of_one_transaction_are_counted_exactly_whatever_is_rolled_back(
    connection: db.Connection,
) -> None:
    await set_limits(connection, "*", max_pending=5)
    async with connection.transaction():
        for requester_id in ("ann", "ann", "bob", "ann", "bob"):
            await make_request(connection, requester_id=requester_id)
        for _ in range(2):
            async with connection.transaction(force_rollback=True):
                for requester_id in ("ann", "ann", "bob"):
                    await make_request(connection, requester_id=requester_id)
        assert await bounds(connection) == {"ann": 3, "bob": 2}
        for _ in range(2):
            await make_request(connection, requester_id="ann")
        assert await bounds(connection) == {"ann": 5, "bob": 2}
        with pytest.raises(psycopg.Error, match="too many"):
            async with connection.transaction():
                await make_request(connection, requester_id="ann")
    assert await bounds(connection) == {"ann": 5, "bob": 2}


async def test_an_insert_waits_whose_requester_has_used_its_budget_up(connection: db.Connection) -> None:
    await set_limits(connection, "*", max_pending=9, max_in_flight=9, usd_per_day=1)
    for _ in range(2):
        await make_request(connection, requester_id="ann")
    assert await waiting(connection) == 0
    await connection.execute(
        "INSERT INTO draft_spending (day, payer, requester_id, spent, calls, asked, refused) "
        "VALUES ((now() AT TIME ZONE 'UTC')::date, 'requester', 'ann', 0.9, 9, 0.9, 0.2)"
    )
    await make_request(connection, requester_id="bob")
    await make_request(connection, requester_id="ann")
    assert await waiting(connection) == 0, "a usual call still fits"
    await connection.execute("UPDATE draft_spending SET spent = 0.95")
    await make_request(connection, requester_id="ann")
    assert await waiting(connection) == 1


async def test_an_insert_of_many_rows_is_refused_as_a_whole(connection: db.Connection) -> None:
    await set_limits(connection, "ann", max_pending=3)
    statement = "INSERT INTO draft_requests (image_urls, requester_id) SELECT %s, 'ann' FROM generate_series(1, %s)"
    with pytest.raises(psycopg.Error, match=REFUSED):
        await connection.execute(statement, [[URL], 4])
    await connection.execute(statement, [[URL], 3])
    with pytest.raises(psycopg.Error, match=REFUSED):
        await connection.execute(statement, [[URL], 1])


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
async def test_concurrent_inserts_never_pass_the_limit(connection: db.Connection, database: str, level: str) -> None:
    await set_limits(connection, "*", max_pending=10)
    refused = 0

    async def insert() -> None:
        nonlocal refused
        # A plain connection: draftd's own is READ COMMITTED, whatever the default.
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as client:
            await client.execute(f"SET default_transaction_isolation = '{level}'".encode())
            for _ in range(5):
                try:
                    async with client.transaction():
                        await client.execute("SELECT FROM draft_limits")
                        await asyncio.sleep(0)
                        await client.execute(
                            "INSERT INTO draft_requests (image_urls, requester_id) VALUES (%s, 'ann')", [[URL]]
                        )
                except psycopg.errors.SerializationFailure:
                    assert level != "READ COMMITTED"
                except psycopg.Error as error:
                    refused += error.sqlstate == "PT429"

    async with asyncio.TaskGroup() as clients:
        for _ in range(8):
            clients.create_task(insert())
    row = await (await connection.execute("SELECT count(*) AS n FROM draft_requests")).fetchone()
    assert row is not None
    assert row["n"] <= 10
    assert level != "READ COMMITTED" or (row["n"], refused) == (10, 30)


async def test_rows_that_return_count_too(connection: db.Connection, link: db.Link) -> None:
    await set_limits(connection, "ann", max_pending=3)
    for _ in range(3):
        await make_request(connection, requester_id="ann")
    claimed = await claim_all(link, limit=2)
    await make_request(connection, requester_id="ann")
    for one in claimed:
        await give_back(link, one)
    with pytest.raises(psycopg.Error, match=REFUSED):
        await make_request(connection, requester_id="ann")


async def test_a_retry_by_hand_counts_and_is_never_refused(connection: db.Connection) -> None:
    await set_limits(connection, "ann", max_pending=3)
    made = [await make_request(connection, requester_id="ann") for _ in range(2)]
    for one in made:
        await connection.execute("SELECT cancel_draft_request(%s)", [one])
    for _ in range(2):
        await make_request(connection, requester_id="ann")
    await connection.execute("UPDATE draft_requests SET status = 'pending' WHERE status = 'cancelled'")
    with pytest.raises(psycopg.Error, match=REFUSED):
        await make_request(connection, requester_id="ann")


async def test_what_was_inserted_while_there_was_no_limit_counts(connection: db.Connection) -> None:
    await set_limits(connection, "ann", max_pending=3)
    await make_request(connection, requester_id="ann")
    await connection.execute("DELETE FROM draft_limits")
    for _ in range(5):
        await make_request(connection, requester_id="ann")
    await set_limits(connection, "ann", max_pending=3)
    with pytest.raises(psycopg.Error, match=REFUSED):
        await make_request(connection, requester_id="ann")


async def test_what_is_inserted_without_a_limit_counts_although_a_counted_insert_is_open(
    connection: db.Connection, database: str
) -> None:
    await set_limits(connection, "ann", max_pending=3)
    async with db.connected(database) as client, client.transaction():
        await make_request(client, requester_id="ann")
        await connection.execute("DELETE FROM draft_limits")
        for _ in range(2):
            await make_request(connection, requester_id="ann")
        await set_limits(connection, "ann", max_pending=3)
    with pytest.raises(psycopg.Error, match=REFUSED):
        await make_request(connection, requester_id="ann")


async def test_turnstiles_of_idle_requesters_are_deleted(
    connection: db.Connection, link: db.Link, database: str
) -> None:
    await set_limits(connection, "*", max_pending=1)
    for requester in ("idle", "pending", "processing", "inserting"):
        await make_request(connection, requester_id=requester)
    for requester in ("idle", "inserting"):
        await connection.execute("UPDATE draft_requests SET status = 'cancelled' WHERE requester_id = %s", [requester])
    await connection.execute("UPDATE draft_requests SET agent = 'x' WHERE requester_id = 'pending'")
    assert len(await claim_all(link)) == 1
    async with db.connected(database) as client, client.transaction():
        await make_request(client, requester_id="inserting")
        await prune_turnstiles(link)
        rows = await link.run("SELECT requester_id FROM draft_turnstiles")
        assert {row["requester_id"] for row in rows} == {"pending", "processing", "inserting"}
    await make_request(connection, requester_id="idle")
    for requester in ("idle", "inserting", "pending"):
        with pytest.raises(psycopg.Error, match="at most 1 at a time"):
            await make_request(connection, requester_id=requester)


async def test_an_open_transaction_of_a_client_delays_no_admission_and_no_settlement(
    connection: db.Connection, link: db.Link, database: str
) -> None:
    await set_limits(connection, "ann", max_in_flight=1, max_pending=10)
    for _ in range(2):
        await make_request(connection, requester_id="ann")
    await admit(link)
    (claimed,) = await claim_all(link)
    async with db.connected(database) as client, client.transaction():
        await make_request(client, requester_id="ann")
        async with asyncio.timeout(5):
            await fail(link, claimed)
            assert await admit(link) == 1
            assert len(await claim_all(link)) == 1


@pytest.mark.parametrize(
    "limits", [{"max_pending": -1}, {"max_in_flight": -1}, {"usd_per_day": -1}, {"usd_per_day": "NaN"}]
)
async def test_limits_have_bounds(connection: db.Connection, limits: dict[str, Any]) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        await set_limits(connection, "ann", **limits)


async def test_a_client_cannot_say_that_its_rows_do_not_wait(connection: db.Connection) -> None:
    await set_limits(connection, "ann", max_in_flight=1)
    statement = "INSERT INTO draft_requests (image_urls, requester_id, limited) VALUES (%s, %s, %s) RETURNING limited"
    for requester, said in (("ann", False), ("bob", True)):
        row = await (await connection.execute(statement, [[URL], requester, said])).fetchone()
        assert row == {"limited": requester == "ann"}


async def test_a_row_that_waits_expires_like_any_other(connection: db.Connection, link: db.Link) -> None:
    from fix_database import reap_now  # noqa: PLC0415  # only this test reaps

    await pause(connection, "requester", "ann")
    request_id = await make_request(connection, requester_id="ann")
    await overwrite(connection, request_id, expires_at="2001-01-01")
    assert [one.id for one in await reap_now(link)] == [request_id]


async def test_a_pass_with_nothing_set_changes_nothing(connection: db.Connection, link: db.Link) -> None:
    await make_request(connection)
    (row,) = await link.run(APPLY, {"after": None})
    assert row == {"changed": 0, "reached": None}
    assert await admit(link) == 0


async def test_limits_of_requesters_who_want_nothing_cost_a_pass_nothing(
    connection: db.Connection, link: db.Link
) -> None:
    await connection.execute(
        "INSERT INTO draft_limits (requester_id, max_in_flight) SELECT 'idle ' || n, 1 FROM generate_series(1, 600) AS n"
    )
    await set_limits(connection, "zoe", max_in_flight=0)
    await overwrite(connection, await make_request(connection, requester_id="zoe"), limited=False)
    (row,) = await link.run(APPLY, {"after": None})
    assert (row["changed"], row["reached"]) == (1, None), "in one call"


async def test_a_limit_for_everybody_reaches_each_requester_in_batches(
    connection: db.Connection, link: db.Link
) -> None:
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(
            "INSERT INTO draft_requests (image_urls, requester_id) "
            "SELECT '{https://a.example/b.png}', who FROM (SELECT 'crowd ' || n FROM generate_series(1, 1500) AS n "
            "UNION ALL SELECT unnest('{ann,ann,zoe,zoe,paused,later,own,own}'::text[])) AS w(who)"
        )
        await connection.execute("UPDATE draft_requests SET available_at = '2100-01-01' WHERE requester_id = 'later'")
    await set_limits(connection, "*", max_in_flight=1)
    await set_limits(connection, "own", max_in_flight=2)
    await pause(connection, "requester", "paused")
    (row,) = await link.run(APPLY, {"after": None})
    assert row["reached"] is not None
    while row["reached"] is not None:
        (row,) = await link.run(APPLY, {"after": row["reached"]})
    rows = await link.run("SELECT requester_id, count(*) AS n FROM draft_requests WHERE limited GROUP BY 1")
    assert {row["requester_id"]: row["n"] for row in rows} == {"ann": 1, "zoe": 1, "paused": 1, "later": 1}


async def test_a_pass_over_slow_rows_ends_early_and_goes_on_where_it_ended(
    connection: db.Connection, link: db.Link
) -> None:
    for requester in ("ann", "bob"):
        await set_limits(connection, requester, max_in_flight=0)
        await overwrite(connection, await make_request(connection, requester_id=requester), limited=False)
    await connection.execute(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.06); RETURN NEW; END'"
    )
    await connection.execute("CREATE TRIGGER slow BEFORE UPDATE ON draft_requests FOR EACH ROW EXECUTE FUNCTION slow()")
    assert await link.run(APPLY, {"after": None}) == [{"changed": 1, "reached": "ann"}]
    assert await link.run(APPLY, {"after": "ann"}) == [{"changed": 1, "reached": None}]


async def test_only_the_daemon_that_has_run_longest_keeps_limits(connection: db.Connection, link: db.Link) -> None:
    oldest, younger = UUID(int=2), UUID(int=1)
    for worker_id in (oldest, younger):
        await renew(connection, worker_id=worker_id)
    await connection.execute("UPDATE draft_workers SET started_at = now() - interval '1 h' WHERE id = %s", [oldest])
    await make_request(connection, requester_id="ann")
    await set_limits(connection, "ann", max_in_flight=0)
    await LimitKeeper(link=link, worker_id=younger).keep()
    assert await waiting(connection) == 0
    await LimitKeeper(link=link, worker_id=oldest).keep()
    assert await waiting(connection) == 1
    await connection.execute("DELETE FROM draft_limits")
    await connection.execute("UPDATE draft_workers SET heartbeat_at = now() - interval '1 min' WHERE id = %s", [oldest])
    await LimitKeeper(link=link, worker_id=younger).keep()
    assert await waiting(connection) == 0
