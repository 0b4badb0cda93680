"""pending → processing."""

import asyncio
import itertools
import math
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import UUID

import pytest
from psycopg.rows import DictRow
from structlog.testing import capture_logs

from draftd import db
from draftd.errors import ConnectionLost
from draftd.queue import admission as admission_module
from draftd.queue import claiming as claiming_module
from draftd.queue import claims as claims_module
from draftd.queue.admission import Admission
from draftd.queue.attempts import AttemptWriter
from draftd.queue.claiming import CLAIM_PROBE, CLAIM_WITHIN, Claimer, claim, release_strays
from draftd.queue.claims import ClaimGroup, Claims, Probe
from draftd.queue.leases import Leases
from draftd.queue.outcome import Fail, GiveBack, Retry
from draftd.queue.refused_rows import Quarantine
from draftd.queue.settlements import Settler
from draftd.queue.wakeup import ADMIT, WakeUp
from draftd.request import Claim
from fix_database import claim_all, claim_one, make_request, make_terms, overwrite, read_row, renew
from fix_refusals import CLAIM, refuse


async def test_a_claim_counts_the_attempt_and_raises_the_token(connection: db.Connection, link: db.Link) -> None:
    request_id = await make_request(connection)
    terms = make_terms()
    claimed = await claim_one(link, terms)
    row = await read_row(connection, request_id)
    assert (claimed.id, claimed.attempt, claimed.lease_token) == (request_id, 1, 1)
    assert (row["status"], row["attempt"], row["lease_token"]) == ("processing", 1, 1)
    assert row["worker_id"] == terms.worker_id
    assert row["lease_until"] < row["deadline_at"]


async def test_a_row_is_claimed_once_by_many_claimers(connection: db.Connection, database: str) -> None:
    wanted = {await make_request(connection) for _ in range(40)}
    links = [db.Link(url=database, name=f"claimer {n}") for n in range(8)]
    claimed = [one for batch in await asyncio.gather(*(claim_all(link, limit=10) for link in links)) for one in batch]
    for link in links:
        await link.close()
    ids = [one.id for one in claimed]
    assert len(ids) == len(set(ids))
    assert set(ids) <= wanted


async def test_a_claim_takes_no_more_than_it_asked_for(connection: db.Connection, link: db.Link) -> None:
    for n in range(20):
        await make_request(connection, agent=f"agent_{n % 3}")
    claimed = await claim_all(link, agents=["agent_0", "agent_1", "agent_2"], limit=4)
    assert len(claimed) == 4
    rows = await (
        await connection.execute("SELECT count(*) AS n FROM draft_requests WHERE status = 'processing'")
    ).fetchall()
    assert rows[0]["n"] == 4


async def test_higher_priority_comes_first_and_then_the_turn(connection: db.Connection, link: db.Link) -> None:
    crowd = [await make_request(connection, requester_id="crowd") for _ in range(3)]
    lone = await make_request(connection, requester_id="lone")
    urgent = await make_request(connection, requester_id="crowd", priority=5)
    order = [one.id for one in await claim_all(link)]
    assert order[0] == urgent
    assert set(order[1:3]) == {crowd[0], lone}
    assert order[3:] == crowd[1:]


async def test_a_row_is_not_claimed_before_its_time(connection: db.Connection, link: db.Link) -> None:
    await make_request(connection, available_at=datetime.now(UTC) + timedelta(hours=1))
    assert await claim_all(link) == []


@pytest.mark.parametrize("ahead_s", [-100, 100])
async def test_a_claim_says_when_its_row_expires(connection: db.Connection, link: db.Link, ahead_s: int) -> None:
    await make_request(connection, expires_at=datetime.now(UTC) + timedelta(seconds=ahead_s))
    claimed = await claim_one(link)
    assert claimed.expires_in_s is not None
    assert ahead_s - 10 < claimed.expires_in_s < ahead_s + 10


async def test_a_claim_of_a_row_that_never_expires_says_so(connection: db.Connection, link: db.Link) -> None:
    await connection.execute("UPDATE draft_settings SET default_expiry_s = 0")
    await make_request(connection, available_at=datetime.now(UTC) - timedelta(days=400))
    assert (await claim_one(link)).expires_in_s is None


async def test_a_claim_carries_the_clients_trace_and_no_other_text(connection: db.Connection, link: db.Link) -> None:
    traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    request_id = await make_request(connection, traceparent=traceparent)
    assert (await claim_one(link)).traceparent == traceparent
    await overwrite(connection, request_id, status="pending", traceparent=f"{traceparent}\r\nx: y")
    assert (await claim_one(link)).traceparent is None


async def test_what_an_attempt_published_stays_until_the_next_one_publishes(
    connection: db.Connection, link: db.Link
) -> None:
    request_id, shown = await make_request(connection), {"options": [{"length": "short", "text": "yes"}]}
    writer, settler = AttemptWriter(link=link, quarantine=Quarantine()), Settler(link=link, quarantine=Quarantine())
    await writer.publish(first := await claim_one(link), shown)
    await settler.settle(first, Retry(code="model_timeout", message="x", delay_s=0))
    second = await claim_one(link)
    assert (await read_row(connection, request_id))["partial_result"] == shown
    await settler.settle(second, Fail(code="output_invalid", message="x"))
    row = await read_row(connection, request_id)
    assert (row["status"], row["partial_result"]) == ("failed", shown)


async def test_a_claim_carries_the_size_of_the_pictures_and_not_the_pictures(
    connection: db.Connection, link: db.Link
) -> None:
    picture = "data:image/png;base64," + "A" * 100_000
    await make_request(connection, image_urls=[picture])
    claimed = await claim_one(link)
    assert claimed.image_bytes >= 100_000
    assert not hasattr(claimed, "image_urls")


async def test_what_a_lost_connection_claimed_goes_back_with_its_attempt(
    connection: db.Connection, link: db.Link
) -> None:
    terms = make_terms()
    kept_id, stray_id = await make_request(connection), await make_request(connection)
    kept = next(one for one in await claim_all(link, terms) if one.id == kept_id)
    released = await release_strays(link, worker_id=terms.worker_id, held=[(kept.id, kept.lease_token)])
    assert released == [stray_id]
    stray = await read_row(connection, stray_id)
    assert (stray["status"], stray["attempt"]) == ("pending", 0)
    assert (await read_row(connection, kept_id))["status"] == "processing"


async def test_strays_of_another_worker_are_not_touched(connection: db.Connection, link: db.Link) -> None:
    await make_request(connection)
    await claim_one(link)
    assert await release_strays(link, worker_id=uuid.uuid4(), held=[]) == []


class CountingLink(db.Link):
    """A link that counts its statements."""

    count = 0

    async def run(self, statement: str, params: db.Params = None) -> list[DictRow]:
        self.count += 1
        return await super().run(statement, params)


class FakeSource:
    """One agent, never on hold."""

    def __init__(self) -> None:
        self.share = 1.0
        self.returned: list[str] = []

    def claim_groups(self) -> list[ClaimGroup]:
        return [ClaimGroup(agents=["comment_generator"], share=self.share)]

    def models_for(self, agents: Sequence[str]) -> list[str]:
        return ["model" for _ in agents]

    def admissible_agents(self) -> list[str]:
        return ["comment_generator"]

    async def refresh(self, _link: db.Link) -> None:
        return

    async def return_probe(self, model: str) -> None:
        self.returned.append(model)

    async def take_probe(self, _link: db.Link) -> Probe | None:
        return None


class Pump:
    """The claims of one process, with what they need."""

    def __init__(
        self, database: str, *, drain: bool = False, poll_interval_s: float = 30.0, source: FakeSource | None = None
    ) -> None:
        self.link = CountingLink(url=database, name="pump")
        self.leases, self.wakeup = Leases(), WakeUp()
        self.settler = Settler(link=self.link, quarantine=Quarantine())
        self.is_ready = True
        self.admission = Admission(link=self.link)
        self.claims = Claims(
            link=self.link,
            claimer=Claimer(link=self.link, terms=make_terms(), quarantine=Quarantine()),
            source=source or FakeSource(),
            admission=self.admission,
            leases=self.leases,
            wakeup=self.wakeup,
            release=self.release,
            concurrency=8,
            poll_interval_s=poll_interval_s,
            drain=drain,
            ready=lambda: self.is_ready,
        )

    async def release(self, claimed: Claim) -> None:
        await self.settler.settle(claimed, GiveBack())


@pytest.mark.parametrize("how", [{}, {"drain": True}])
async def test_nothing_is_claimed_until_everything_is_ready(
    database: str, connection: db.Connection, how: dict[str, bool]
) -> None:
    request_id = await make_request(connection)
    pump = Pump(database, drain=how.get("drain", False))
    pump.is_ready = False
    waiting, running = asyncio.create_task(pump.claims.next()), asyncio.create_task(pump.claims.run())
    pump.wakeup.set()
    await asyncio.wait([waiting, running], timeout=0.1)
    assert pump.link.count == 0
    pump.is_ready = True
    pump.wakeup.set()
    claimed = await waiting
    assert claimed is not None
    assert claimed.id == request_id
    pump.claims.stop()
    await running
    await pump.link.close()


async def test_a_stop_does_not_wait_for_what_is_missing(database: str) -> None:
    pump = Pump(database)
    pump.is_ready = False
    waiting, running = asyncio.create_task(pump.claims.next()), asyncio.create_task(pump.claims.run())
    await asyncio.sleep(0)
    pump.claims.stop()
    async with asyncio.timeout(60):
        assert await waiting is None
        await running


async def test_many_idle_loops_cost_one_statement(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pump, rests, wait = Pump(database), asyncio.Event(), WakeUp.wait

    async def resting(bell: WakeUp, at_most_s: float) -> None:
        rests.set()
        await wait(bell, at_most_s)

    monkeypatch.setattr(WakeUp, "wait", resting)
    loops = [asyncio.create_task(pump.claims.next()) for _ in range(200)]
    running = asyncio.create_task(pump.claims.run())
    await rests.wait()
    assert pump.link.count == 1
    pump.claims.stop()
    assert await asyncio.gather(*loops) == [None] * 200
    await running
    await pump.link.close()


async def test_waiting_loops_share_one_claim(database: str, connection: db.Connection) -> None:
    for _ in range(10):
        await make_request(connection)
    pump = Pump(database)
    loops = [asyncio.create_task(pump.claims.next()) for _ in range(10)]
    running = asyncio.create_task(pump.claims.run())
    claimed = await asyncio.gather(*loops)
    assert len({one.id for one in claimed if one}) == 10
    assert pump.link.count == 1
    pump.claims.stop()
    await running
    await pump.link.close()


async def test_a_ring_between_the_claim_and_the_wait_is_not_lost(database: str, connection: db.Connection) -> None:
    pump = Pump(database)
    original = pump.link.run

    async def insert_behind_the_claim(statement: str, params: db.Params = None) -> list[DictRow]:
        rows = await original(statement, params)
        if not rows and pump.link.count == 1:
            await make_request(connection)
            pump.wakeup.set()
        return rows

    pump.link.run = insert_behind_the_claim  # type: ignore[method-assign]  # a race, made certain
    running = asyncio.create_task(pump.claims.run())
    async with asyncio.timeout(20):
        assert await pump.claims.next() is not None
    pump.claims.stop()
    await running
    await pump.link.close()


async def test_a_row_claimed_for_a_loop_that_is_gone_is_released(database: str, connection: db.Connection) -> None:
    request_id = await make_request(connection)
    pump = Pump(database)
    waiting = asyncio.create_task(pump.claims.next())
    await asyncio.sleep(0)
    original = pump.link.run

    async def cancel_behind_the_claim(statement: str, params: db.Params = None) -> list[DictRow]:
        rows = await original(statement, params)
        waiting.cancel()
        return rows

    pump.link.run = cancel_behind_the_claim  # type: ignore[method-assign]  # a race, made certain
    running = asyncio.create_task(pump.claims.run())
    await asyncio.gather(waiting, return_exceptions=True)
    pump.claims.stop()
    await running
    row = await read_row(connection, request_id)
    assert (row["status"], row["attempt"]) == ("pending", 0)
    await pump.link.close()


async def test_a_drain_ends_when_nothing_is_due(database: str) -> None:
    pump = Pump(database, drain=True)
    waiting = asyncio.create_task(pump.claims.next())
    async with asyncio.timeout(20):
        await pump.claims.run()
    assert await waiting is None
    await pump.link.close()


class ProbingSource(FakeSource):
    """One lapsed hold whose probe is won once."""

    def __init__(self) -> None:
        super().__init__()
        self.probes = [Probe(model="m", agents=["comment_generator"])]

    async def take_probe(self, _link: db.Link) -> Probe | None:
        return self.probes.pop() if self.probes else None


async def test_a_drain_does_not_miss_a_row_that_is_locked_for_a_moment(
    database: str, connection: db.Connection
) -> None:
    request_id = await make_request(connection)
    pump = Pump(database, drain=True)
    original, looks = pump.link.run, 0

    async def locked_at_first(statement: str, params: db.Params = None) -> list[DictRow]:
        nonlocal looks
        looks += 1
        pump.wakeup.set()
        async with connection.transaction(force_rollback=True):
            if looks <= 4:
                await connection.execute("SELECT FROM draft_requests FOR UPDATE")
            return await original(statement, params)

    pump.link.run = locked_at_first  # type: ignore[method-assign]  # as another statement has it
    loop, running = asyncio.create_task(pump.claims.next()), asyncio.create_task(pump.claims.run())
    claimed = await loop
    assert claimed is not None
    assert claimed.id == request_id
    pump.claims.stop()
    await running
    await pump.link.close()


async def test_a_drain_claims_a_row_that_began_to_wait_unheard(database: str, connection: db.Connection) -> None:
    await connection.execute("INSERT INTO draft_limits (requester_id, max_in_flight) VALUES ('ann', 1)")
    pump = Pump(database, drain=True)
    pump.admission.is_needed = True
    pump.admission.asks()
    pump.admission.noted(anyone_waits=False)
    request_id = await make_request(connection, requester_id="ann")
    running = asyncio.create_task(pump.claims.run())
    async with asyncio.timeout(20):
        claimed = await pump.claims.next()
    assert claimed is not None
    assert claimed.id == request_id
    pump.leases.drop(*claimed.key)
    pump.claims.stop()
    await running
    await pump.link.close()


async def test_a_drain_does_not_wait_for_ever_for_a_locked_row(
    database: str, connection: db.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_request(connection)
    monkeypatch.setattr(claims_module, "LOCKED_TIME_S", 0.5)
    pump = Pump(database, drain=True)
    loop = asyncio.create_task(pump.claims.next())
    async with connection.transaction(force_rollback=True):
        await connection.execute("SELECT FROM draft_requests FOR UPDATE")
        with capture_logs() as logs:
            async with asyncio.timeout(60):
                await pump.claims.run()
    assert await loop is None
    assert len([line for line in logs if line["event"] == "left rows that another session has locked"]) == 1
    await pump.link.close()


async def test_a_drain_leaves_rows_behind_that_the_server_refuses_and_says_so(
    database: str, connection: db.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [await make_request(connection) for _ in range(2)]
    await refuse(connection, when=CLAIM)
    monkeypatch.setattr(claims_module, "LOCKED_TIME_S", 0.5)
    pump = Pump(database, drain=True)
    loop = asyncio.create_task(pump.claims.next())
    with capture_logs() as logs:
        async with asyncio.timeout(60):
            await pump.claims.run()
    assert await loop is None
    (line,) = [line for line in logs if line["event"].startswith("left rows that the database")]
    assert line["event"] == "left rows that the database refuses to change"
    assert (line["rows"], {*line["request_ids"]}) == (2, {str(one) for one in ids})
    await pump.link.close()


async def test_a_drain_counts_anew_for_each_locked_row(
    database: str, connection: db.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(claims_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    pump = Pump(database, drain=True)
    original, is_locked = pump.link.run, True

    async def locked_for_one_look(statement: str, params: db.Params = None) -> list[DictRow]:
        nonlocal is_locked
        async with db.connected(database) as other, other.transaction(force_rollback=True):
            if is_locked:
                await other.execute("SELECT FROM draft_requests FOR UPDATE")
            rows = await original(statement, params)
        is_locked = is_locked and statement != claims_module.LOOK_FOR_DUE
        return rows

    pump.link.run = locked_for_one_look  # type: ignore[method-assign]  # as another statement has it
    wanted = [await make_request(connection)]
    loops = [asyncio.create_task(pump.claims.next()) for _ in range(2)]
    running = asyncio.create_task(pump.claims.run())
    first = await loops[0]
    assert first is not None
    clock.now, is_locked = claims_module.LOCKED_TIME_S + 1, True
    wanted.append(await make_request(connection))
    pump.leases.drop(first.id, first.lease_token)
    second = await loops[1]
    assert second is not None
    assert [first.id, second.id] == wanted
    pump.claims.stop()
    await running
    await pump.link.close()


async def test_a_probe_that_finds_no_row_is_returned(database: str) -> None:
    source = ProbingSource()
    pump = Pump(database, drain=True, source=source)
    loop = asyncio.create_task(pump.claims.next())
    await pump.claims.run()
    assert await loop is None
    assert source.returned == ["m"]
    await pump.link.close()


async def test_a_probe_whose_claim_is_lost_with_the_connection_is_returned(
    database: str, connection: db.Connection
) -> None:
    await make_request(connection)
    source = ProbingSource()
    pump = Pump(database, source=source)
    original, calls = pump.link.run, 0

    async def lose_the_first(statement: str, params: db.Params = None) -> list[DictRow]:
        nonlocal calls
        calls += 1
        rows = await original(statement, params)
        if calls == 1:
            raise ConnectionLost
        return rows

    pump.link.run = lose_the_first  # type: ignore[method-assign]  # a loss at the worst moment
    loop = asyncio.create_task(pump.claims.next())
    running = asyncio.create_task(pump.claims.run())
    async with asyncio.timeout(20):
        claimed = await loop
    assert claimed is not None
    assert claimed.probe is None
    assert source.returned == ["m"]
    pump.claims.stop()
    await running
    await pump.link.close()


async def test_a_probe_whose_row_was_claimed_for_nobody_is_returned(database: str, connection: db.Connection) -> None:
    request_id = await make_request(connection)
    source = ProbingSource()
    pump = Pump(database, source=source)
    original = pump.link.run

    async def stop_behind_the_claim(statement: str, params: db.Params = None) -> list[DictRow]:
        rows = await original(statement, params)
        pump.claims.stop()
        return rows

    pump.link.run = stop_behind_the_claim  # type: ignore[method-assign]  # a race, made certain
    loop = asyncio.create_task(pump.claims.next())
    await asyncio.sleep(0)
    await pump.claims.run()
    assert await loop is None
    row = await read_row(connection, request_id)
    assert (row["status"], row["attempt"]) == ("pending", 0)
    assert source.returned == ["m"]
    await pump.link.close()


async def test_a_row_that_never_expires_is_claimed_like_any_other(connection: db.Connection, link: db.Link) -> None:
    request_id = await make_request(connection)
    await overwrite(connection, request_id, expires_at="infinity")
    claimed = await claim_one(link)
    assert (claimed.id, claimed.expires_in_s) == (request_id, math.inf)


async def test_a_row_that_is_due_since_before_the_year_1_is_claimed_like_any_other(
    connection: db.Connection, link: db.Link
) -> None:
    later = await make_request(connection)
    # The zero time of .NET and Go; west of Greenwich it is the last day of the year before.
    first = await make_request(connection, available_at="0001-01-01T00:00:00Z", expires_at="10000-01-01")
    await link.run("SELECT set_config('timezone', 'America/New_York', false)")
    await connection.execute("UPDATE draft_requests SET turn = 0")
    claimed = await claim_all(link)
    assert [one.id for one in claimed] == [first, later]


async def test_a_probe_is_handed_out_although_the_next_claim_fails(database: str, connection: db.Connection) -> None:
    request_id = await make_request(connection)
    pump = Pump(database)
    pump.claims._source = ProbingSource()
    original, calls = pump.link.run, 0

    async def lose_the_second(statement: str, params: db.Params = None) -> list[DictRow]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ConnectionLost
        return await original(statement, params)

    pump.link.run = lose_the_second  # type: ignore[method-assign]  # a loss at the worst moment
    loops = [asyncio.create_task(pump.claims.next()) for _ in range(2)]
    running = asyncio.create_task(pump.claims.run())
    async with asyncio.timeout(20):
        done, _ = await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
    (claimed,) = [one.result() for one in done]
    assert claimed is not None
    assert (claimed.id, claimed.probe) == (request_id, "m")
    pump.claims.stop()
    await running
    assert (await read_row(connection, request_id))["status"] == "processing"
    await pump.link.close()


async def claim_probe(link: db.Link) -> UUID:
    (claimed,) = await claim(link, terms=make_terms(), agents=["comment_generator"], limit=1, statement=CLAIM_PROBE)
    return claimed.id


async def test_a_probe_is_the_row_that_failed_least_whatever_its_place(
    connection: db.Connection, link: db.Link
) -> None:
    first = await make_request(connection, priority=9)
    await make_request(connection, priority=8, available_at=datetime.now(UTC) + timedelta(hours=1))
    last = await make_request(connection, priority=-1)
    await connection.execute("UPDATE draft_requests SET given_back = 1 WHERE id = %s", [first])
    assert [await claim_probe(link), await claim_probe(link)] == [last, first]


async def test_a_throttled_model_gets_its_share_of_the_loops_and_a_free_place_is_filled_at_once(
    database: str, connection: db.Connection
) -> None:
    for _ in range(6):
        await make_request(connection)
    source = FakeSource()
    source.share = 0.25
    pump = Pump(database, source=source)
    running = asyncio.create_task(pump.claims.run())
    loops = [asyncio.create_task(pump.claims.next()) for _ in range(8)]
    async with asyncio.timeout(20):
        done = [one async for one in finished(loops, 2)]
        assert len(pump.leases) == 2, "a quarter of eight"
        pump.leases.drop(done[0].id, done[0].lease_token)
        loops.append(asyncio.create_task(pump.claims.next()))
        await anext(finished([one for one in loops if not one.done()], 1))
    assert len(pump.leases) == 2
    pump.claims.stop()
    await running
    await pump.link.close()


async def finished(loops: list["asyncio.Task[Claim | None]"], count: int) -> AsyncIterator[Claim]:
    """Yield the first claims that these loops get."""
    for one in itertools.islice(asyncio.as_completed(loops), count):
        claimed = await one
        assert claimed is not None
        yield claimed


async def test_the_end_of_an_attempt_makes_room_for_its_requesters_next_at_once(
    database: str, connection: db.Connection
) -> None:
    await connection.execute("INSERT INTO draft_limits (requester_id, max_in_flight) VALUES ('ann', 1)")
    made = [await make_request(connection, requester_id="ann") for _ in range(2)]
    pump = Pump(database, poll_interval_s=3600)
    pump.admission.is_needed = True
    running = asyncio.create_task(pump.claims.run())
    # Another loop waits all the time, so that only the wake-up can bring a claim.
    waiting = [asyncio.create_task(pump.claims.next()) for _ in range(2)]
    async with asyncio.timeout(20):
        (ended, *_), rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        first = ended.result()
        assert first is not None
        await pump.settler.settle(first, Fail(code="image_gone", message="x"))
        third = asyncio.create_task(pump.claims.next(after=first))
        (ended, *_), _ = await asyncio.wait({third, *rest}, return_when=asyncio.FIRST_COMPLETED)
        second = ended.result()
    assert second is not None
    assert [first.id, second.id] == made
    pump.claims.stop()
    await asyncio.gather(running, *waiting, third)
    await pump.link.close()


async def test_the_end_of_an_attempt_sends_nothing_while_no_row_waits(
    database: str, connection: db.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await connection.execute("INSERT INTO draft_limits VALUES ('ann', 9, 9)")
    await make_request(connection, requester_id="ann")
    pump, rests, wait = Pump(database), asyncio.Event(), WakeUp.wait

    async def resting(bell: WakeUp, at_most_s: float) -> None:
        rests.set()
        await wait(bell, at_most_s)

    monkeypatch.setattr(WakeUp, "wait", resting)
    pump.admission.is_needed = True
    loops = [asyncio.create_task(pump.claims.next()) for _ in range(2)]
    running = asyncio.create_task(pump.claims.run())
    await rests.wait()
    assert pump.link.count == 1, "the claim alone, and no admission"
    assert not pump.admission.ended("ann")
    assert not pump.admission.is_busy()
    pump.claims.stop()
    await asyncio.gather(running, *loops)
    await pump.link.close()


class Recorder(CountingLink):
    """A link that remembers its statements."""

    def __init__(self, url: str) -> None:
        super().__init__(url=url, name="pump")
        self.ran: list[str] = []

    async def run(self, statement: str, params: db.Params = None) -> list[DictRow]:
        self.ran.append(statement)
        return await super().run(statement, params)


@pytest.mark.parametrize("moment", ["at rest", "during the claim that finds none"])
async def test_a_row_that_is_announced_is_admitted_although_none_waited_before(
    database: str, connection: db.Connection, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    monkeypatch.setattr(admission_module, "ASK_AGAIN_S", math.inf)
    await connection.execute("INSERT INTO draft_limits (requester_id, max_in_flight) VALUES ('ann', 1)")
    pump, rests, wait, run = Pump(database, poll_interval_s=3600), asyncio.Event(), WakeUp.wait, db.Link.run

    async def announce(*_: object) -> None:
        await make_request(connection, requester_id="ann")
        pump.wakeup.notified(ADMIT)

    async def resting(bell: WakeUp, at_most_s: float) -> None:
        rests.set()
        await wait(bell, at_most_s)

    async def announcing(link: db.Link, statement: str, params: db.Params = None) -> list[DictRow]:
        rows = await run(link, statement, params)
        if statement == CLAIM_WITHIN and pump.link.count == 1:
            await announce()
        return rows

    monkeypatch.setattr(WakeUp, "wait", resting)
    if moment != "at rest":
        monkeypatch.setattr(db.Link, "run", announcing)
    pump.admission.is_needed = True
    waiting, running = asyncio.create_task(pump.claims.next()), asyncio.create_task(pump.claims.run())
    async with asyncio.timeout(60):
        if moment == "at rest":
            await rests.wait()
            await announce()
        assert await waiting is not None
    pump.claims.stop()
    await running
    await pump.link.close()


async def test_a_ceiling_that_the_fleet_cannot_reach_is_not_asked_by_each_claim(
    database: str, connection: db.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claiming_module, "AMPLE_S", math.inf)
    link = Recorder(database)
    claimer = Claimer(link=link, terms=make_terms(), quarantine=Quarantine())

    async def claims(*, max_in_flight: int) -> list[str]:
        await connection.execute("UPDATE draft_models SET max_in_flight = %s", [max_in_flight])
        link.ran.clear()
        for _ in range(2):
            await claimer.claim(["comment_generator"], 1, ceiling="m")
        return link.ran

    await connection.execute("INSERT INTO draft_models (name, rpm, max_in_flight) VALUES ('m', 1000, 1)")
    assert await claims(max_in_flight=1000) == [CLAIM_WITHIN, CLAIM_WITHIN], (
        "no worker: how many there are is not known"
    )
    await renew(connection, concurrency=10)
    await renew(connection, concurrency=10, worker_id=uuid.uuid4())
    # A quarter more than the ceiling is claimed.
    assert await claims(max_in_flight=64) == [CLAIM_WITHIN, CLAIM_WITHIN]
    assert await claims(max_in_flight=65) == [CLAIM_WITHIN, claiming_module.CLAIM]
    monkeypatch.setattr(claiming_module, "AMPLE_S", 0.0)
    claimer = Claimer(link=link, terms=make_terms(), quarantine=Quarantine())
    assert await claims(max_in_flight=65) == [CLAIM_WITHIN, CLAIM_WITHIN]
    await link.close()


async def test_a_share_however_small_lets_one_request_through(database: str, connection: db.Connection) -> None:
    request_id = await make_request(connection)
    source = FakeSource()
    source.share = 0.01
    pump = Pump(database, source=source)
    running = asyncio.create_task(pump.claims.run())
    async with asyncio.timeout(20):
        claimed = await pump.claims.next()
    assert claimed is not None
    assert claimed.id == request_id
    pump.claims.stop()
    await running
    await pump.link.close()
