"""What the server refuses for one row is done without that row, by every statement over rows."""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import DictRow
from structlog.testing import capture_logs

from draftd import db
from draftd.daemon.heartbeat import Beat, Heartbeat
from draftd.errors import InternalError
from draftd.queue import admin, attempts, claiming, refused_rows, trials
from draftd.queue.admission import Admission
from draftd.queue.attempts import AttemptWriter
from draftd.queue.claiming import CLAIM_PROBE, Claimer
from draftd.queue.leases import Leases
from draftd.queue.outcome import Fail, GiveBack, Outcome
from draftd.queue.refused_rows import FIRST_QUARANTINE_S, Quarantine, Refusals
from draftd.queue.retention import prune
from draftd.queue.settlements import SETTLE, Settled, Settler, Trail
from draftd.request import Claim
from fix_database import UNKNOWN_S, claim_all, lose, make_request, make_terms, read_row, reap_now, renew, shift
from fix_heartbeat import make_heartbeat
from fix_refusals import (
    ALWAYS,
    CLAIM,
    COMPLETION,
    COUNTED,
    COUNTS,
    EXPIRY,
    PROGRESS,
    RENEWAL,
    RETURN,
    SQLSTATES,
    accept,
    refuse,
)
from integration.test_settlements import count_usage, make_done, make_usage

AGENT = "comment_generator"
DONE = make_done()
MANY = 12
"""So many refusals of a draft mean that the next one, too, changes nothing."""
STATEMENTS = 200
"""Within the 2 s that a neighbour may be delayed, at 10 ms each."""


async def make_many(connection: db.Connection, count: int, **over: Any) -> list[UUID]:
    return [await make_request(connection, **over) for _ in range(count)]


async def standing(connection: db.Connection, row_id: UUID) -> tuple[str, str | None]:
    row = await read_row(connection, row_id)
    return row["status"], row["error_code"]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110  # the table is all that tells
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a loaded machine take its time with refusals: what is refused slowly is the unit tests' subject."""
    for module in (refused_rows, claiming):
        monkeypatch.setattr(module, "PATIENCE_S", 60.0)


@dataclass
class Counted:
    """Counts the statements of every link."""

    statements: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def at_most(self, count: int) -> Iterator[None]:
        self.statements.clear()
        yield
        assert self.statements.total() <= count

    async def until(self, statement: str, times: int) -> None:
        """Wait until one of them has been run so often."""

        async def is_reached() -> bool:
            return self.statements[statement] >= times

        await until(is_reached)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    counted, run = Counted(), db.Link.run

    async def count(link: db.Link, statement: str, params: db.Params = None) -> list[Any]:
        counted.statements[statement] += 1
        return await run(link, statement, params)

    monkeypatch.setattr(db.Link, "run", count)
    return counted


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is refused be tried again at once: what becomes of many tries is seen in a moment."""
    monkeypatch.setattr(trials, "PAUSE_S", 0.05)
    monkeypatch.setattr(refused_rows, "UNDECIDED_S", 0.1)
    monkeypatch.setattr(db, "REFUSED_CAP_S", 0.1)


@pytest.fixture
def claimer(link: db.Link) -> Claimer:
    return Claimer(link=link, terms=make_terms(), quarantine=Quarantine())


@pytest.mark.parametrize("sqlstate", SQLSTATES)
@pytest.mark.usefixtures("hurried")
async def test_a_claim_goes_on_without_the_row_that_is_refused(
    connection: db.Connection, claimer: Claimer, sqlstate: str
) -> None:
    ids = await make_many(connection, 5)
    await refuse(connection, ids[2:3], when=CLAIM, sqlstate=sqlstate)
    assert {one.id for one in await claimer.claim([AGENT], 50)} == {*ids} - {ids[2]}

    async def has_ended() -> bool:
        try:
            await claimer.claim([AGENT], 50)
        except psycopg.Error as error:
            assert error.sqlstate == sqlstate  # noqa: PT017  # only where it may be the server's
        return await standing(connection, ids[2]) == ("failed", "internal_error")

    await until(has_ended)


@pytest.mark.parametrize("statement", [claiming.CLAIM, CLAIM_PROBE])
@pytest.mark.parametrize("agents", [[AGENT], [AGENT, "another"]])
async def test_every_form_of_the_claim_passes_over_what_is_set_aside(
    connection: db.Connection, claimer: Claimer, agents: list[str], statement: str
) -> None:
    bad, good = await make_many(connection, 2)
    await refuse(connection, [bad])
    assert [one.id for one in await claimer.claim(agents, 1, statement)] == [good]
    assert (await read_row(connection, bad))["status"] == "pending"
    await accept(connection)
    assert await claimer.claim(agents, 1, statement) == [], "left alone for a while"


@pytest.mark.parametrize("extreme", [{"attempt": 32_767}, {"lease_token": 2**63 - 1}])
async def test_a_row_whose_next_attempt_cannot_be_counted_ends(
    connection: db.Connection, claimer: Claimer, extreme: dict[str, int]
) -> None:
    bad, worse, good = await make_many(connection, 3)
    for one in (bad, worse):
        ((column, value),) = extreme.items()
        await connection.execute(f"UPDATE draft_requests SET {column} = %s WHERE id = %s".encode(), [value, one])
    assert [one.id for one in await claimer.claim([AGENT], 50)] == [good]
    assert await standing(connection, bad) == await standing(connection, worse) == ("failed", "internal_error")


CASTS = (
    "ALTER TABLE draft_requests ADD CONSTRAINT app CHECK (status <> 'processing' OR ('x' || agent)::int > 0) NOT VALID"
)


@pytest.mark.parametrize("room", [1, 50])
@pytest.mark.usefixtures("hurried")
async def test_values_that_every_row_is_refused_for_end_no_request(
    connection: db.Connection, claimer: Claimer, room: int
) -> None:
    ids = await make_many(connection, 3)
    await connection.execute(CASTS.encode())
    for _ in range(2):
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            await claimer.claim([AGENT], room)
        await asyncio.sleep(claimer.retry_in_s())
    assert {await standing(connection, one) for one in ids} == {("pending", None)}


async def test_many_rows_whose_attempt_cannot_be_counted_end_beside_one_that_can(
    connection: db.Connection, claimer: Claimer
) -> None:
    bad = await make_many(connection, 60, priority=9)
    await connection.execute("UPDATE draft_requests SET attempt = 32767")
    (good,) = await make_many(connection, 1)
    claimed: list[UUID] = []

    async def all_have_ended() -> bool:
        with suppress(psycopg.errors.NumericValueOutOfRange):
            claimed.extend(one.id for one in await claimer.claim([AGENT], 4))
        return {await standing(connection, one) for one in bad} == {("failed", "internal_error")}

    await until(all_have_ended)
    assert claimed == [good]


async def test_two_rows_that_are_refused_on_a_quiet_queue_end_once_another_has_got_through(
    connection: db.Connection, claimer: Claimer
) -> None:
    bad = await make_many(connection, 2)
    await refuse(connection, bad, when=CLAIM)
    with pytest.raises(psycopg.errors.RaiseException):
        await claimer.claim([AGENT], 50)
    assert {await standing(connection, one) for one in bad} == {("pending", None)}
    await make_many(connection, 1)
    assert len(await claimer.claim([AGENT], 50)) == 1, "while those two are left alone"

    async def both_have_ended() -> bool:
        assert await claimer.claim([AGENT], 50) == []
        return {await standing(connection, one) for one in bad} == {("failed", "internal_error")}

    await until(both_have_ended)


async def test_two_rows_that_are_refused_end_beside_one_that_is_not_due(
    connection: db.Connection, claimer: Claimer
) -> None:
    bad = await make_many(connection, 2)
    later = await make_request(connection, available_at=datetime.now(UTC) + timedelta(hours=1))
    await refuse(connection, bad, when=CLAIM)
    assert await claimer.claim([AGENT], 50) == []
    assert {await standing(connection, one) for one in bad} == {("failed", "internal_error")}
    assert (await read_row(connection, later))["attempt"] == 0


async def test_a_lone_row_that_is_refused_ends(connection: db.Connection, claimer: Claimer) -> None:
    (bad,) = await make_many(connection, 1)
    await refuse(connection, [bad], when=CLAIM)
    assert await claimer.claim([AGENT], 50) == []
    assert await standing(connection, bad) == ("failed", "internal_error")
    assert (await read_row(connection, bad))["error_message"] == InternalError.user_message


@pytest.mark.usefixtures("hurried")
async def test_a_row_that_can_be_neither_claimed_nor_failed_leaves_its_place_to_another_of_its_requester(
    connection: db.Connection, link: db.Link, claimer: Claimer
) -> None:
    await connection.execute("INSERT INTO draft_limits (requester_id, max_in_flight) VALUES ('ann', 1)")
    bad, good, last = await make_many(connection, 3, requester_id="ann")
    await refuse(connection, [bad], when="NEW.status <> OLD.status")
    admission = Admission(link=link)
    admission.is_needed = True
    claimed: list[UUID] = []

    async def is_claimed(row_id: UUID) -> bool:
        await admission.admit_any([AGENT], wanted=1)
        with suppress(psycopg.errors.RaiseException):
            claimed.extend(one.id for one in await claimer.claim([AGENT], 1))
        (row,) = await link.run(
            "SELECT count(*) AS n FROM draft_requests WHERE status = 'processing' OR status = 'pending' AND NOT limited"
        )
        assert row["n"] <= 1, "never more than the limit"
        return row_id in claimed

    await until(lambda: is_claimed(good))
    assert claimed == [good]
    await accept(connection)
    for row_id in (good, last):
        await connection.execute("UPDATE draft_requests SET status = 'cancelled' WHERE id = %s", [row_id])
    await until(lambda: is_claimed(bad))


async def test_a_row_that_is_set_aside_is_tried_once_after_a_restart_and_then_left_alone(
    connection: db.Connection, link: db.Link
) -> None:
    """What is set aside stands in the memory of a process, so each begins with one try."""
    (bad,) = await make_many(connection, 1)
    await refuse(connection, [bad])
    await connection.execute(COUNTED.encode())
    clock = Mock(return_value=0.0)

    async def tried() -> tuple[int, int]:
        """Return how often a claim of the row, and its plain ending, have been refused."""
        (row,) = await (await connection.execute(COUNTS.encode())).fetchall()
        return row["claims"], row["endings"]

    claims, endings = 0, 0
    for _process in range(3):
        claimer = Claimer(link=link, terms=make_terms(), quarantine=Quarantine(clock=clock))
        (good,) = await make_many(connection, 1, requester_id="other")
        assert [one.id for one in await claimer.claim([AGENT], 50)] == [good]
        once = await tried()
        assert once[0] > claims
        assert once[1] == endings + 1
        for _ in range(3):
            assert await claimer.claim([AGENT], 50) == []
        assert await tried() == once
        claims, endings = once
    clock.return_value = FIRST_QUARANTINE_S
    assert await claimer.claim([AGENT], 50) == []
    assert (await tried())[1] == endings + 1


async def test_rows_in_front_that_are_refused_do_not_keep_those_behind_them(
    connection: db.Connection, claimer: Claimer
) -> None:
    urgent = await make_many(connection, 30, priority=9)
    (other,) = await make_many(connection, 1, requester_id="other")
    await refuse(connection, urgent)
    assert [one.id for one in await claimer.claim([AGENT], 1)] == [other]


@pytest.mark.parametrize("room", [1, 50])
@pytest.mark.usefixtures("hurried")
async def test_a_server_that_refuses_every_claim_ends_no_request(
    connection: db.Connection, claimer: Claimer, room: int
) -> None:
    ids = await make_many(connection, 5)
    await refuse(connection, when=CLAIM)
    for _ in range(3):
        with pytest.raises(psycopg.errors.RaiseException):
            await claimer.claim([AGENT], room)
        await asyncio.sleep(claimer.retry_in_s())
    assert {(await standing(connection, one))[0] for one in ids} == {"pending"}
    await accept(connection)
    claimed: set[UUID] = set()

    async def all_are_claimed() -> bool:
        claimed.update(one.id for one in await claimer.claim([AGENT], 50))
        return claimed == {*ids}

    await until(all_are_claimed)


async def test_a_stray_that_is_refused_keeps_no_other_from_being_released(
    connection: db.Connection, claimer: Claimer
) -> None:
    ids = await make_many(connection, 3)
    await claimer.claim([AGENT], 50)
    await refuse(connection, ids[:1], when=RETURN)
    assert {*await claimer.release_strays([])} == {*ids[1:]}
    assert await standing(connection, ids[0]) == ("failed", "internal_error")


async def test_two_strays_that_are_refused_end_beside_a_row_that_could_be_released(
    connection: db.Connection, claimer: Claimer
) -> None:
    ids = await make_many(connection, 2)
    await claimer.claim([AGENT], 50)
    await make_many(connection, 1)
    await refuse(connection, ids, when=RETURN)
    assert await claimer.release_strays([]) == []
    assert {await standing(connection, one) for one in ids} == {("failed", "internal_error")}


async def one_beat(heartbeat: Heartbeat, link: db.Link) -> Beat:
    return await heartbeat._beat(link)


@pytest.mark.parametrize("sqlstate", SQLSTATES)
async def test_a_lease_that_cannot_be_renewed_keeps_no_other_from_being_renewed(
    database: str, connection: db.Connection, link: db.Link, sqlstate: str
) -> None:
    await make_many(connection, 5)
    claimed, leases = await claim_all(link), Leases()
    for one in claimed:
        leases.add(one.id, one.lease_token, agent=one.agent)
    before = {one.id: (await read_row(connection, one.id))["lease_until"] for one in claimed}
    await refuse(connection, [claimed[2].id], when=RENEWAL, sqlstate=sqlstate)
    heartbeat = make_heartbeat(database, leases, lease_s=10.0)
    beats = [await one_beat(heartbeat, link) for _ in range(2)]
    assert beats[-1].refused == {(claimed[2].id, claimed[2].lease_token)}
    assert beats[-1].lost == set()
    renewed = {one.id for one in claimed if (await read_row(connection, one.id))["lease_until"] > before[one.id]}
    assert renewed == {*before} - {claimed[2].id}


@pytest.mark.parametrize(("when", "sqlstate"), [(ALWAYS, "55P03"), (RENEWAL, "P0001")])
@pytest.mark.parametrize("count", [1, 3])
async def test_a_server_that_refuses_every_renewal_ends_no_attempt(
    database: str, connection: db.Connection, link: db.Link, when: str, sqlstate: str, count: int
) -> None:
    await make_many(connection, count)
    leases = Leases()
    for one in await claim_all(link):
        leases.add(one.id, one.lease_token, agent=one.agent)
    await make_many(connection, 2)
    await refuse(connection, when=when, sqlstate=sqlstate)
    heartbeat = make_heartbeat(database, leases, lease_s=10.0)
    assert [(await one_beat(heartbeat, link)).refused for _ in range(3)] == [set()] * 3


async def test_two_leases_that_cannot_be_renewed_are_told_once_another_row_could_be(
    database: str, connection: db.Connection, link: db.Link
) -> None:
    ids, leases = await make_many(connection, 2), Leases()
    held = {one.key for one in await claim_all(link)}
    for row_id, token in held:
        leases.add(row_id, token, agent=AGENT)
    await refuse(connection, ids, when=RENEWAL)
    heartbeat = make_heartbeat(database, leases, lease_s=10.0)
    assert (await one_beat(heartbeat, link)).refused == set(), "there is no other row to tell by"
    await make_many(connection, 1, agent="a")
    assert (await one_beat(heartbeat, link)).refused == held


@pytest.mark.parametrize("others", [0, 1], ids=["renewed together", "renewed in parts"])
async def test_a_lease_that_a_client_locks_is_not_cleared_by_the_renewals_of_others(
    database: str,
    connection: db.Connection,
    link: db.Link,
    monkeypatch: pytest.MonkeyPatch,
    others: int,
) -> None:
    await make_many(connection, 8)
    held = [one.key for one in await claim_all(link)]
    locked, other = held[0], held[4:5][:others]
    leases = Leases()
    monkeypatch.setattr(leases, "snapshot", lambda: held)  # in this order, the locked one is renewed with a healthy one
    heartbeat = make_heartbeat(database, leases, lease_s=10.0)
    await refuse(connection, [row_id for row_id, _ in [locked, *other]], when=RENEWAL, sqlstate="55P03")
    assert (await one_beat(heartbeat, link)).refused == set(), "it may be a lock"
    async with connection.transaction():
        await connection.execute("SELECT FROM draft_requests WHERE id = %s FOR UPDATE", [locked[0]])
        assert (await one_beat(heartbeat, link)).refused == set(other)
    assert (await one_beat(heartbeat, link)).refused == {locked, *other}


async def test_a_lease_that_was_renewed_since_it_was_refused_starts_over(
    database: str, connection: db.Connection, link: db.Link
) -> None:
    await make_many(connection, 3)
    held, leases = [one.key for one in await claim_all(link)], Leases()
    for row_id, token in held:
        leases.add(row_id, token, agent=AGENT)
    heartbeat = make_heartbeat(database, leases, lease_s=10.0)
    await refuse(connection, [held[0][0]], when=RENEWAL, sqlstate="55P03")
    assert (await one_beat(heartbeat, link)).refused == set(), "it may be a lock"
    await connection.execute("ALTER TABLE draft_requests DISABLE TRIGGER refuse")
    assert (await one_beat(heartbeat, link)).refused == set()
    await connection.execute("ALTER TABLE draft_requests ENABLE TRIGGER refuse")
    assert (await one_beat(heartbeat, link)).refused == set(), "it may be another lock"
    assert (await one_beat(heartbeat, link)).refused == {held[0]}


REFUSING_WORKERS = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no beats'; END $$;
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON draft_workers FOR EACH ROW EXECUTE FUNCTION refuse()"""


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_leases_are_renewed_while_the_workers_row_is_refused(
    database: str, connection: db.Connection, link: db.Link, count: int
) -> None:
    await make_many(connection, count)
    claimed, leases = await claim_all(link), Leases()
    for one in claimed:
        leases.add(one.id, one.lease_token, agent=one.agent)
    before = [(await read_row(connection, one.id))["lease_until"] for one in claimed]
    await connection.execute(REFUSING_WORKERS.encode())
    heartbeat = make_heartbeat(database, leases, lease_s=10.0)
    with capture_logs() as logs:
        beats = [await one_beat(heartbeat, link) for _ in range(3)]
    assert [line["event"] for line in logs] == ["beat refused"]
    assert all(beat.lost == beat.refused == set() for beat in beats)
    after = [(await read_row(connection, one.id))["lease_until"] for one in claimed]
    assert all(late > early for early, late in zip(before, after, strict=True))
    await connection.execute("DROP TRIGGER refuse ON draft_workers")
    await one_beat(heartbeat, link)
    assert await (await connection.execute("SELECT count(*) AS n FROM draft_workers")).fetchone() == {"n": 1}
    await connection.execute("UPDATE draft_workers SET heartbeat_at = now() - interval '1 h'")
    await one_beat(heartbeat, link)
    row = await (await connection.execute("SELECT now() - heartbeat_at AS age FROM draft_workers")).fetchone()
    assert row is not None
    assert row["age"] < timedelta(minutes=1)


async def test_a_lock_on_the_workers_delays_no_renewal_but_the_first(
    database: str, connection: db.Connection, link: db.Link
) -> None:
    await make_many(connection, 1)
    (claimed,), leases = await claim_all(link), Leases()
    leases.add(claimed.id, claimed.lease_token, agent=AGENT)
    before = (await read_row(connection, claimed.id))["lease_until"]
    heartbeat = make_heartbeat(database, leases, lease_s=3.0)
    own = heartbeat._link()
    async with db.connected(database) as other, other.transaction():
        await other.execute("LOCK TABLE draft_workers")
        with pytest.raises(db.LOST):
            await one_beat(heartbeat, own)
        await one_beat(heartbeat, own)
    await own.close()
    assert (await read_row(connection, claimed.id))["lease_until"] != before


async def settle_all(settler: Settler, claimed: list[Claim]) -> list[str | BaseException]:
    answers = await asyncio.gather(*(settler.settle(one, DONE) for one in claimed), return_exceptions=True)
    return [one.status if isinstance(one, Settled) else one for one in answers]


@pytest.mark.parametrize("sqlstate", SQLSTATES)
async def test_a_draft_that_is_refused_harms_no_neighbours(
    connection: db.Connection, link: db.Link, sqlstate: str
) -> None:
    await make_many(connection, 5)
    claimed = await claim_all(link)
    await refuse(connection, [claimed[2].id], when=COMPLETION, sqlstate=sqlstate)
    settled = await settle_all(Settler(link=link, quarantine=Quarantine()), claimed)
    assert settled == ["completed", "completed", "failed", "completed", "completed"]
    assert await standing(connection, claimed[2].id) == ("failed", "internal_error")


@pytest.mark.parametrize(("when", "sqlstate"), [(COMPLETION, "P0001"), (ALWAYS, "55P03"), (ALWAYS, "53100")])
@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.usefixtures("hurried")
async def test_no_draft_is_thrown_away_while_the_server_refuses_all_of_them(
    connection: db.Connection, link: db.Link, counted: Counted, when: str, sqlstate: str, count: int
) -> None:
    await make_many(connection, count)
    claimed = await claim_all(link)
    others = await make_many(connection, 3)
    before = [await read_row(connection, one) for one in others]
    await refuse(connection, when=when, sqlstate=sqlstate)
    settling = asyncio.create_task(settle_all(Settler(link=link, quarantine=Quarantine()), claimed))
    await counted.until(SETTLE, MANY * count)
    assert not settling.done()
    await accept(connection)
    assert await settling == ["completed"] * count
    assert [await read_row(connection, one) for one in others] == before, "tried, and left as they were"


async def test_a_refusal_that_ends_before_another_row_is_tried_costs_no_draft(
    connection: db.Connection, link: db.Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_many(connection, 1)
    claimed = await claim_all(link)
    await make_many(connection, 1)
    await refuse(connection, when=COMPLETION)
    run = trials.Trials.run

    async def late(self: trials.Trials, *args: Any, **over: Any) -> trials.TrialResult:
        with suppress(psycopg.errors.UndefinedObject):
            await accept(connection)
        return await run(self, *args, **over)

    monkeypatch.setattr(trials.Trials, "run", late)
    assert await settle_all(Settler(link=link, quarantine=Quarantine()), claimed) == ["completed"]


@pytest.mark.parametrize("sqlstate", ["P0001", "55P03"])
async def test_a_refusal_that_ends_before_a_neighbours_turn_costs_no_draft(
    connection: db.Connection, link: db.Link, monkeypatch: pytest.MonkeyPatch, sqlstate: str
) -> None:
    await make_many(connection, 2)
    claimed = await claim_all(link)
    await refuse(connection, when=COMPLETION, sqlstate=sqlstate)
    settlements, run = 0, db.Link.run

    async def third_passes(one: db.Link, statement: str, params: db.Params = None) -> list[Any]:
        nonlocal settlements
        settlements += statement == SETTLE
        if statement == SETTLE and settlements == 3:
            await accept(connection)
        return await run(one, statement, params)

    monkeypatch.setattr(db.Link, "run", third_passes)
    assert await settle_all(Settler(link=link, quarantine=Quarantine()), claimed) == ["completed"] * 2


@pytest.mark.parametrize("sqlstate", ["P0001", "55P03"])
async def test_a_crowd_of_refused_drafts_ends_without_waiting_for_another_to_pass(
    connection: db.Connection, link: db.Link, sqlstate: str
) -> None:
    """Every claim loop holds a draft that is refused: nothing passes until they have ended."""
    crowd = await make_many(connection, 40)
    claimed, settler = await claim_all(link), Settler(link=link, quarantine=Quarantine())
    (good,) = await make_many(connection, 1)
    await refuse(connection, crowd, when=COMPLETION, sqlstate=sqlstate)
    async with asyncio.timeout(60):
        assert await settle_all(settler, claimed) == ["failed"] * 40
    assert {await standing(connection, one) for one in crowd} == {("failed", "internal_error")}
    assert await standing(connection, good) == ("pending", None)
    assert await settle_all(settler, await claim_all(link)) == ["completed"]


async def test_what_is_wrong_with_a_draft_is_not_held_against_the_row_that_it_is_tried_on(
    connection: db.Connection, link: db.Link
) -> None:
    await make_many(connection, 3)
    (first, bad, worse), settler = await claim_all(link), Settler(link=link, quarantine=Quarantine())
    await make_many(connection, 1)
    await connection.execute(b"ALTER TABLE draft_requests ADD CONSTRAINT app CHECK (reading <> '[\"no\"]') NOT VALID")
    assert (await settler.settle(first, DONE)).status == "completed"
    refused = make_done(reading=["no"])
    async with asyncio.timeout(60):
        assert [(await settler.settle(one, refused)).status for one in (bad, worse)] == ["failed"] * 2


LEAKS = """
CREATE SEQUENCE tried;
CREATE SEQUENCE leaked;
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM nextval('tried');
    IF to_jsonb(NEW)::text LIKE '%private words%' THEN PERFORM nextval('leaked'); END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER app BEFORE UPDATE ON draft_requests FOR EACH ROW
    WHEN (OLD.requester_id = 'another' AND NEW.status IN ('completed', 'failed')) EXECUTE FUNCTION look()"""
"""An app's trigger with an effect that outlives a rollback."""


@pytest.mark.parametrize("outcome", [make_done(text="private words"), Fail(code="x", message="private words")])
async def test_a_trial_carries_nothing_of_one_request_to_another(
    connection: db.Connection, link: db.Link, outcome: Outcome
) -> None:
    await make_many(connection, 2)
    (first, bad), settler = await claim_all(link), Settler(link=link, quarantine=Quarantine())
    await make_many(connection, 1, requester_id="another")
    await connection.execute(LEAKS.encode())
    trail = Trail(images=[{"host": "private words"}], trace_id="private words")
    await settler.settle(first, outcome, trail)
    await refuse(connection, [bad.id], when="NEW.trace_id IS NOT NULL")
    async with asyncio.timeout(60):
        assert (await settler.settle(bad, outcome, trail)).status == "failed"
    assert await standing(connection, bad.id) == ("failed", "internal_error")
    (row,) = await link.run("SELECT t.is_called AS tried, l.is_called AS leaked FROM tried AS t, leaked AS l")
    assert row == {"tried": True, "leaked": False}


@pytest.mark.usefixtures("hurried")
async def test_a_lone_draft_is_kept_while_nothing_can_be_written(
    database: str, connection: db.Connection, link: db.Link, counted: Counted
) -> None:
    """A lock on the whole table: the server says so itself, and no other row gets through."""
    await make_many(connection, 2)
    claimed = (await claim_all(link))[:1]
    await link.run("SET lock_timeout = '50ms'")
    async with db.connected(database) as other, other.transaction():
        await other.execute("LOCK TABLE draft_requests")
        settling = asyncio.create_task(settle_all(Settler(link=link, quarantine=Quarantine()), claimed))
        await counted.until(SETTLE, MANY)
        assert not settling.done()
    assert await settling == ["completed"]


@pytest.mark.usefixtures("hurried")
async def test_the_first_failure_beside_refused_drafts_blames_none_of_them(
    connection: db.Connection, link: db.Link, counted: Counted
) -> None:
    """That the server accepts the end of a request says nothing about drafts."""
    await make_many(connection, 3)
    claimed = await claim_all(link)
    await refuse(connection, when=COMPLETION)
    settler = Settler(link=link, quarantine=Quarantine())
    settling = [asyncio.create_task(settler.settle(one, DONE)) for one in claimed[:2]]
    assert (await settler.settle(claimed[2], GiveBack())).status == "pending"
    await counted.until(SETTLE, MANY)
    assert not any(one.done() for one in settling)
    await accept(connection)
    assert await asyncio.gather(*settling) == [("completed", None)] * 2


async def test_neighbours_of_many_refused_rows_wait_for_a_bounded_number_of_statements(
    database: str, connection: db.Connection, link: db.Link, counted: Counted
) -> None:
    """Of 50 rows in one statement every third is refused, at each step of their way."""
    ids = await make_many(connection, 50)
    bad = ids[::3]
    good = {*ids} - {*bad}
    await refuse(connection, bad, when=CLAIM)
    with counted.at_most(STATEMENTS):
        claimed = await Claimer(link=link, terms=make_terms(), quarantine=Quarantine()).claim([AGENT], 50)
    assert {one.id for one in claimed} == good
    await accept(connection)
    await connection.execute("UPDATE draft_requests SET status = 'pending'")
    claimed, leases = await claim_all(link), Leases()
    for one in claimed:
        leases.add(one.id, one.lease_token, agent=one.agent)
    before = {one.id: (await read_row(connection, one.id))["lease_until"] for one in claimed}

    await refuse(connection, bad, when=f"({RENEWAL} OR {PROGRESS} OR {COMPLETION})")
    with counted.at_most(STATEMENTS):
        await one_beat(make_heartbeat(database, leases, lease_s=10.0), link)
    assert {one for one in ids if (await read_row(connection, one))["lease_until"] > before[one]} == good
    writer, settler = AttemptWriter(link=link, quarantine=Quarantine()), Settler(link=link, quarantine=Quarantine())
    with counted.at_most(STATEMENTS):
        await asyncio.gather(*(writer.publish(one, {"options": "1"}) for one in claimed))
    assert {one for one in ids if (await read_row(connection, one))["partial_result"]} == good
    first, second = claimed[:25], claimed[25:]
    settling = {one.id: asyncio.create_task(settler.settle(one, DONE)) for one in first}
    with counted.at_most(STATEMENTS):
        settled = await asyncio.gather(*(task for row_id, task in settling.items() if row_id in good))
    assert {*settled} == {("completed", None)}
    await asyncio.gather(*settling.values())
    await accept(connection)
    for one in second:
        await lose(connection, one)
    await refuse(connection, bad, when=RETURN)
    with counted.at_most(STATEMENTS):
        reaped = await reap_now(link)
    assert {one.id for one in reaped if one.status == "pending"} == {one.id for one in second} & good


async def test_progress_that_is_refused_keeps_no_neighbours_back(connection: db.Connection, link: db.Link) -> None:
    await make_many(connection, 3)
    claimed = await claim_all(link)
    await refuse(connection, [claimed[1].id], when=PROGRESS)
    writer = AttemptWriter(link=link, quarantine=Quarantine())
    with capture_logs() as logs:
        for _ in range(2):
            await asyncio.gather(*(writer.publish(one, {"options": [1]}) for one in claimed))
    shown = [(await read_row(connection, one.id))["partial_result"] for one in claimed]
    assert shown == [{"options": [1]}, None, {"options": [1]}]
    assert [line["request_id"] for line in logs if line["event"] == "row refused"] == [claimed[1].id]
    assert (await Settler(link=link, quarantine=Quarantine()).settle(claimed[1], DONE)).status == "completed", (
        "a courtesy costs no draft"
    )


@pytest.mark.parametrize(("when", "sqlstate"), [(PROGRESS, "P0001"), (PROGRESS, "55P03"), (ALWAYS, "53100")])
async def test_a_server_that_refuses_all_progress_ends_no_attempt_and_shows_the_next(
    connection: db.Connection, link: db.Link, when: str, sqlstate: str
) -> None:
    await make_many(connection, 3)
    claimed, writer = await claim_all(link), AttemptWriter(link=link, quarantine=Quarantine())
    await refuse(connection, when=when, sqlstate=sqlstate)
    with capture_logs() as logs:
        for _ in range(4):
            await asyncio.gather(*(writer.publish(one, {"options": [1]}) for one in claimed))
    assert [(await standing(connection, one.id)) for one in claimed] == [("processing", None)] * 3
    assert {line["request_id"]: line["ended"] for line in logs} == {one.id: False for one in claimed}
    assert len(logs) == 3
    await accept(connection)
    await asyncio.gather(*(writer.publish(one, {"options": [1, 2]}) for one in claimed))
    shown = [(await read_row(connection, one.id))["partial_result"] for one in claimed]
    assert shown == [{"options": [1, 2]}] * 3
    assert await settle_all(Settler(link=link, quarantine=Quarantine()), claimed) == ["completed"] * 3


async def refuse_usage(connection: db.Connection, which: str, *, sqlstate: str = "55P03") -> None:
    await connection.execute(
        f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = '{sqlstate}'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON draft_usage FOR EACH ROW WHEN ({which}) EXECUTE FUNCTION refuse()""".encode()
    )


async def test_usage_that_is_refused_for_now_keeps_no_neighbours_back_and_is_written_later(
    connection: db.Connection, link: db.Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "USAGE_TRIES", 1_000)
    await make_many(connection, 3)
    claimed, writer = await claim_all(link), AttemptWriter(link=link, quarantine=Quarantine())
    await refuse_usage(connection, f"NEW.request_id = '{claimed[1].id}'")
    for one in claimed:
        writer.record(make_usage(one))
    await asyncio.gather(writer.wait_until_recorded(claimed[0]), writer.wait_until_recorded(claimed[2]))
    assert not await writer.wait_until_recorded(claimed[1], retry_refusals=False)
    assert [await count_usage(connection, one.id) for one in claimed] == [1, 0, 1]
    await connection.execute("DROP TRIGGER refuse ON draft_usage")
    await writer.wait_until_recorded(claimed[1])
    assert await count_usage(connection, claimed[1].id) == 1


@pytest.mark.parametrize("sqlstate", ["P0001", "42501", "55P03", "53100", "40001"])
async def test_usage_that_the_server_refuses_of_every_request_is_all_written_once_it_accepts_it(
    connection: db.Connection, link: db.Link, monkeypatch: pytest.MonkeyPatch, sqlstate: str
) -> None:
    monkeypatch.setattr(attempts, "USAGE_TRIES", 1_000)
    await make_many(connection, 3)
    claimed, writer = await claim_all(link), AttemptWriter(link=link, quarantine=Quarantine())
    await refuse_usage(connection, "true", sqlstate=sqlstate)
    with capture_logs() as logs:
        for one in claimed:
            writer.record(make_usage(one))
        assert not any([await writer.wait_until_recorded(one, retry_refusals=False) for one in claimed])
        assert [await count_usage(connection, one.id) for one in claimed] == [0] * 3
        await connection.execute("DROP TRIGGER refuse ON draft_usage")
        await asyncio.gather(*(writer.wait_until_recorded(one) for one in claimed))
    assert [await count_usage(connection, one.id) for one in claimed] == [1] * 3
    assert logs == []


async def test_usage_waits_for_a_lock_on_its_table_until_the_attempt_ends(
    database: str, connection: db.Connection, link: db.Link
) -> None:
    await make_many(connection, 2)
    (late, early), writer = await claim_all(link), AttemptWriter(link=link, quarantine=Quarantine())
    await link.run("SET lock_timeout = '10ms'")
    async with db.connected(database) as other, other.transaction():
        await other.execute("LOCK TABLE draft_usage IN SHARE MODE")
        with capture_logs() as logs:
            writer.record(make_usage(late), until=time.monotonic() + 600)
            writer.record(make_usage(early), until=time.monotonic())
            async with asyncio.timeout(60):
                assert await writer.wait_until_recorded(early)
        assert [line["request_id"] for line in logs if line["event"] == "usage refused"] == [early.id]
        assert not await writer.wait_until_recorded(late, retry_refusals=False)
    assert await writer.wait_until_recorded(late)
    assert [await count_usage(connection, one.id) for one in (late, early)] == [1, 0]


@pytest.mark.parametrize("sqlstate", ["P0001", "42501", "55P03", "53100"])
async def test_usage_that_the_server_refuses_alone_is_given_up_with_its_figures(
    connection: db.Connection, link: db.Link, sqlstate: str
) -> None:
    await make_many(connection, 1)
    claimed, writer = (await claim_all(link))[0], AttemptWriter(link=link, quarantine=Quarantine())
    await refuse_usage(connection, "true", sqlstate=sqlstate)
    with capture_logs() as logs:
        writer.record(make_usage(claimed), until=time.monotonic() + 600)
        async with asyncio.timeout(60):
            assert await writer.wait_until_recorded(claimed)
    (line,) = logs
    assert (line["event"], line["request_id"], line["sqlstate"]) == ("usage refused", claimed.id, sqlstate)
    assert (line["input_tokens"], line["output_tokens"]) == (100, 10)
    assert not writer._unwritten
    assert not writer._refused


@pytest.mark.parametrize("sqlstate", SQLSTATES)
@pytest.mark.usefixtures("hurried")
async def test_the_reaper_goes_on_without_the_row_that_is_refused(
    connection: db.Connection, link: db.Link, sqlstate: str
) -> None:
    await make_many(connection, 3)
    claimed = await claim_all(link)
    for one in claimed:
        await lose(connection, one)
    ids = [one.id for one in claimed]
    await refuse(connection, ids[:1], when=RETURN, sqlstate=sqlstate)
    refusals = Refusals(verb="reap", quarantine=Quarantine())
    reaped = {one.id: one.status for one in await reap_now(link, refusals=refusals)}
    assert [reaped.get(one) for one in ids[1:]] == ["pending", "pending"]

    async def has_ended() -> bool:
        await reap_now(link, refusals=refusals)
        return await standing(connection, ids[0]) == ("failed", "internal_error")

    await until(has_ended)


@pytest.mark.parametrize(
    ("when", "sqlstate"),
    [(f"({RETURN} OR {EXPIRY})", "P0001"), (f"({RETURN} OR {EXPIRY})", "23514"), (ALWAYS, "55P03"), (ALWAYS, "53100")],
)
@pytest.mark.usefixtures("hurried")
async def test_a_server_that_refuses_every_reaping_ends_no_request_and_is_waited_out(
    connection: db.Connection, link: db.Link, when: str, sqlstate: str
) -> None:
    await make_many(connection, 3)
    lost = await claim_all(link)
    for one in lost:
        await lose(connection, one)
    expired = await make_many(connection, 3, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    ids = [one.id for one in lost] + expired

    async def all_stand() -> list[tuple[str, str | None]]:
        return [await standing(connection, one) for one in ids]

    before = await all_stand()
    await refuse(connection, when=when, sqlstate=sqlstate)
    refusals, refused = Refusals(verb="reap", quarantine=Quarantine()), 0
    while refused < 4:
        try:
            assert await reap_now(link, refusals=refusals) == []
        except psycopg.Error as error:
            assert error.sqlstate == sqlstate  # noqa: PT017  # a pass may also find nothing that it has not just looked at
            refused += 1
        await asyncio.sleep(min(refusals.quarantine.next_in_s(), 1.0))
    assert await all_stand() == before
    await accept(connection)

    async def all_are_reaped() -> bool:
        await reap_now(link, refusals=refusals)
        return await all_stand() == [("pending", "worker_lost")] * 3 + [("failed", "expired")] * 3

    await until(all_are_reaped)


async def lose_all(connection: db.Connection, link: db.Link) -> list[UUID]:
    claimed = await claim_all(link)
    for one in claimed:
        await lose(connection, one)
    return [one.id for one in claimed]


async def test_a_crowd_that_the_reaper_is_refused_keeps_no_other_row_from_being_taken_back(
    connection: db.Connection, link: db.Link
) -> None:
    *crowd, good = await make_many(connection, 40)
    await lose_all(connection, link)
    await refuse(connection, crowd, when=RETURN)
    reaped = {
        one.id: one.status for one in await reap_now(link, refusals=Refusals(verb="reap", quarantine=Quarantine()))
    }
    assert reaped == dict.fromkeys(crowd, "failed") | {good: "pending"}


@pytest.mark.parametrize("is_expired", [False, True])
async def test_rows_that_the_reaper_is_refused_end_beside_one_that_could_be_taken_back(
    connection: db.Connection, link: db.Link, *, is_expired: bool
) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    bad = await make_many(connection, 2, **({"expires_at": past} if is_expired else {}))
    if not is_expired:
        await lose_all(connection, link)
    (other,) = await make_many(connection, 1)
    await renew(connection)
    await refuse(connection, bad, when=EXPIRY if is_expired else RETURN)
    await reap_now(link, refusals=Refusals(verb="reap", quarantine=Quarantine()))
    assert {await standing(connection, one) for one in bad} == {("failed", "internal_error")}
    assert await standing(connection, other) == ("pending", None)


@pytest.mark.usefixtures("hurried")
async def test_a_server_that_lets_no_row_be_taken_back_ends_none(connection: db.Connection, link: db.Link) -> None:
    """That a request may expire says nothing about those that the dead held."""
    await make_many(connection, 2)
    lost = await lose_all(connection, link)
    await make_many(connection, 1, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    await make_many(connection, 1)
    await refuse(connection, when=RETURN)
    refusals = Refusals(verb="reap", quarantine=Quarantine())
    for _ in range(3):
        with suppress(psycopg.errors.RaiseException):
            await reap_now(link, refusals=refusals)
        await asyncio.sleep(min(2.0, refusals.quarantine.next_in_s()))
    assert {await standing(connection, one) for one in lost} == {("processing", None)}


async def test_what_has_expired_and_what_nobody_knows_goes_on_without_the_rows_that_are_refused(
    connection: db.Connection, link: db.Link
) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    expired = await make_many(connection, 2, expires_at=past)
    unknown = await make_many(connection, 2, agent="nobody")
    await renew(connection)
    for one in unknown:
        await shift(connection, one, available_at=-UNKNOWN_S - 1)
    await refuse(connection, [expired[0], unknown[0]], when=EXPIRY)
    await reap_now(link)
    codes = [(await standing(connection, one)) for one in (*expired, *unknown)]
    assert codes == [
        ("failed", "internal_error"),
        ("failed", "expired"),
        ("failed", "internal_error"),
        ("failed", "invalid_request"),
    ]


async def test_a_row_that_came_to_life_is_not_ended_by_the_reaper(connection: db.Connection, link: db.Link) -> None:
    """Between the refusal and the ending its worker renewed it."""
    await make_many(connection, 2)
    first, second = await claim_all(link)
    for one in (first, second):
        await lose(connection, one)
    await refuse(connection, [first.id], when=RETURN)

    class Renewing(db.Link):
        async def run(self, statement: str, params: db.Params = None) -> list[DictRow]:
            if "internal_error" in str(params):
                await renew(connection, first)
            return await super().run(statement, params)

    own = Renewing(url=connection.info.dsn, name="renewing")
    own._connection = await link._open()
    await reap_now(own)
    assert await standing(connection, first.id) == ("processing", None)
    assert (await standing(connection, second.id))[0] == "pending"


@pytest.mark.parametrize("bounds", ["NULL, NULL", "'infinity', 'infinity'", "'infinity', NULL", "'9999-01-01', NULL"])
async def test_a_row_that_is_held_for_ever_is_taken_back(connection: db.Connection, link: db.Link, bounds: str) -> None:
    await make_many(connection, 2)
    forever, held = await claim_all(link)
    await renew(connection, held)
    await connection.execute(
        f"UPDATE draft_requests SET (lease_until, deadline_at) = ({bounds}) WHERE id = %s".encode(), [forever.id]
    )
    assert [(one.id, one.code) for one in await reap_now(link)] == [(forever.id, "worker_lost")]
    assert "neither its lease nor its deadline" in (await read_row(connection, forever.id))["errors"][-1]["message"]


@pytest.mark.parametrize("bounds", ["now() + interval '9 s', NULL", "NULL, now() + interval '119 s'"])
async def test_one_sane_end_is_enough(connection: db.Connection, link: db.Link, bounds: str) -> None:
    (row_id,) = await make_many(connection, 1)
    await renew(connection, *await claim_all(link))
    await connection.execute(f"UPDATE draft_requests SET (lease_until, deadline_at) = ({bounds})".encode())
    assert await reap_now(link) == []
    assert (await read_row(connection, row_id))["status"] == "processing"


async def test_the_longest_attempt_of_any_worker_is_sane(connection: db.Connection, link: db.Link) -> None:
    await make_many(connection, 1)
    await claim_all(link, make_terms(lease_s=600.0, attempt_s=600.0))
    await renew(connection, worker_id=uuid.uuid4(), attempt_s=600.0)
    await renew(connection, worker_id=uuid.uuid4(), attempt_s=10.0)
    assert await reap_now(link) == []


async def make_old(connection: db.Connection, count: int) -> list[UUID]:
    ids = await make_many(connection, count, status="failed")
    await connection.execute(
        "UPDATE draft_requests SET created_at = now() - interval '2 d', finished_at = now() - interval '2 d'"
    )
    return ids


async def test_a_pass_goes_on_without_what_may_not_be_deleted(connection: db.Connection, link: db.Link) -> None:
    ids = await make_old(connection, 5)
    await connection.execute("CREATE TABLE tickets (draft uuid REFERENCES draft_requests (id))")
    await connection.execute("INSERT INTO tickets VALUES (%s)", [ids[2]])
    with capture_logs() as logs:
        assert sum([count async for count in prune(link, older_than_s=60, quarantine=Quarantine())]) == 4
    assert [line["request_id"] for line in logs if line["event"] == "row refused"] == [ids[2]]
    assert (await read_row(connection, ids[2]))["status"] == "failed"


@pytest.mark.parametrize(
    ("wanted", "before", "after"), [(admin.CANCEL, "pending", "cancelled"), (admin.RETRY, "failed", "pending")]
)
async def test_a_bulk_change_goes_on_without_the_row_that_is_refused(
    connection: db.Connection, wanted: admin.BulkChange, before: str, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "BATCH", 4)
    ids = await make_many(connection, 10, status=before)
    await refuse(connection, ids[3:4])
    changed = await admin.change(connection, wanted, requester_id="")
    assert {row["id"] for row in changed.rows} == {*ids} - {ids[3]}
    assert [*changed.refused] == [ids[3]]
    assert (await standing(connection, ids[0]))[0] == after
    assert (await standing(connection, ids[3]))[0] == before


async def test_a_statement_that_may_be_repeated_waits_for_a_lock_on_everything(database: str, link: db.Link) -> None:
    await link.run("SET lock_timeout = '20ms'")
    async with db.connected(database) as other, other.transaction():
        await other.execute("LOCK TABLE draft_holds")
        with capture_logs() as logs:
            waiting = asyncio.create_task(link.run_until_done("UPDATE draft_holds SET reason = ''"))

            async def was_refused() -> bool:
                return any(line["event"] == "statement refused" for line in logs)

            await until(was_refused)
        assert not waiting.done()
    assert await waiting == []
    assert "database connection lost" not in [line["event"] for line in logs]


async def test_turns_that_lie_as_far_apart_as_can_be_keep_nobody_from_claiming(
    connection: db.Connection, link: db.Link
) -> None:
    first, last = await make_many(connection, 2)
    for one, turn in ((first, -(2**63)), (last, 2**63 - 1)):
        await connection.execute("UPDATE draft_requests SET turn = %s WHERE id = %s", [turn, one])
    assert {one.id for one in await claim_all(link, agents=[AGENT, "another"])} == {first, last}
