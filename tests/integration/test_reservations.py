"""The admission of model calls: budgets and ceilings under concurrency, settlement, and what dead workers leave behind."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from draftd import db
from draftd.errors import BudgetExceeded, LeaseLost, ModelMisconfigured, NoRoomNow
from draftd.providers.reservations import CHARGE_LOST, RESERVE, PlannedCall, Reservations
from draftd.queue.attempts import AttemptWriter, Usage
from draftd.queue.claiming import Claimer
from draftd.queue.outcome import Fail
from draftd.queue.refused_rows import Quarantine
from draftd.queue.settlements import Settler
from draftd.request import Claim
from fix_database import claim_all, claim_one, lose, make_request, make_terms, overwrite, reap_now, renew

pytestmark = pytest.mark.usefixtures("same_day")

USD = Decimal("0.10")
ASK = PlannedCall(
    request_id=UUID(int=0),
    requester_id="",
    lease_token=1,
    call=1,
    model="m",
    usd=USD,
    prompt_usd=Decimal("0.02"),
    output_usd=Decimal("0.08"),
    output_tokens=1000,
    tokens=2000,
)
WORKER = uuid.UUID(int=7)
AWAITS_A_LOCK = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def ask_of(claim: Claim, **over: Any) -> PlannedCall:
    own: dict[str, Any] = {
        "request_id": claim.id,
        "requester_id": claim.requester_id,
        "lease_token": claim.lease_token,
    }
    return replace(ASK, **own | over)


def usage_of(ask: PlannedCall, cost_usd: str | None, **over: Any) -> Usage:
    known: dict[str, Any] = {"code": None, "input_tokens": 500, "output_tokens": 100}
    return Usage(
        request_id=ask.request_id,
        requester_id=ask.requester_id,
        attempt=1,
        lease_token=ask.lease_token,
        call=ask.call,
        model=ask.model,
        cached_tokens=None,
        cost_usd=None if cost_usd is None else Decimal(cost_usd),
        elapsed_s=1.0,
        trace_id=None,
        **known | over,
    )


async def fail(link: db.Link, claim: Claim) -> None:
    await Settler(link=link, quarantine=Quarantine()).settle(claim, Fail(code="image_gone", message="x"))


async def record(link: db.Link, usage: Usage) -> None:
    writer = AttemptWriter(link=link, quarantine=Quarantine())
    writer.record(usage)
    await writer.flush()


async def set_budget(connection: db.Connection, usd: str | None) -> None:
    await connection.execute("UPDATE draft_settings SET usd_per_day = %s", [usd])


async def set_model(connection: db.Connection, **ceilings: int) -> None:
    names = ", ".join(ceilings)
    values = ", ".join(str(value) for value in ceilings.values())
    await connection.execute(f"INSERT INTO draft_models (name, {names}) VALUES ('m', {values})".encode())


async def claimed(connection: db.Connection, link: db.Link, count: int = 1, **over: Any) -> list[Claim]:
    for _ in range(count):
        await make_request(connection, **over)
    return await claim_all(link, limit=count)


async def admit(link: db.Link, ask: PlannedCall, *, worker_id: UUID = WORKER, wait_s: float = 0.0) -> None:
    await Reservations(link=link, worker_id=worker_id).reserve(ask, time_s=30, wait_s=wait_s)


async def try_at(link: db.Link, ask: PlannedCall, moment: datetime) -> Any:
    """Ask for admission at a moment of the test's choice; return the refusal and the wait."""
    statement = RESERVE.replace("%(time_s)s)", "%(time_s)s, %(moment)s)")
    (row,) = await link.run(statement, asdict(ask) | {"worker_id": WORKER, "time_s": 30, "moment": moment})
    return row["refusal"], row["wait_s"]


async def abort(connection: db.Connection, reserving: Coroutine[Any, Any, None]) -> None:
    """Abort a reservation once its statement waits for a lock."""
    task = asyncio.create_task(reserving)
    while not await (await connection.execute(AWAITS_A_LOCK)).fetchall():  # noqa: ASYNC110 - the server sets no event
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def spending(connection: db.Connection, payer: str = "fleet", requester_id: str = "") -> tuple[Any, Any]:
    cursor = await connection.execute(
        "SELECT spent, reserved FROM draft_spending WHERE payer = %s AND requester_id = %s", [payer, requester_id]
    )
    row = await cursor.fetchone()
    return (row["spent"], row["reserved"]) if row else (Decimal(0), Decimal(0))


@asynccontextmanager
async def links(url: str, count: int) -> AsyncIterator[Sequence[db.Link]]:
    opened = [db.Link(url=url, name=f"racer {number}") for number in range(count)]
    try:
        yield opened
    finally:
        for one in opened:
            await one.close()


async def test_a_call_reserves_its_most_and_settles_to_its_cost(connection: db.Connection, link: db.Link) -> None:
    await set_budget(connection, "1")
    (claim,) = await claimed(connection, link, requester_id="ann")
    ask = ask_of(claim)
    await admit(link, ask)
    assert await spending(connection) == (0, USD)
    assert await spending(connection, "requester", "ann") == (0, USD)
    await record(link, usage_of(ask, "0.03"))
    assert await spending(connection) == (Decimal("0.03"), 0)
    assert await spending(connection, "requester", "ann") == (Decimal("0.03"), 0)


async def test_a_repeated_admission_and_repeated_usage_count_once(connection: db.Connection, link: db.Link) -> None:
    await set_budget(connection, "1")
    (claim,) = await claimed(connection, link)
    ask = ask_of(claim)
    await admit(link, ask)
    await admit(link, ask)
    assert await spending(connection) == (0, USD)
    await record(link, usage_of(ask, "0.03"))
    await record(link, usage_of(ask, "0.03"))
    assert await spending(connection) == (Decimal("0.03"), 0)


async def test_a_statement_that_is_repeated_before_the_first_one_has_ended_counts_once(
    connection: db.Connection, link: db.Link, database: str
) -> None:
    await set_budget(connection, "1")
    (claim,) = await claimed(connection, link)
    ask = ask_of(claim)
    params = asdict(ask) | {"worker_id": WORKER, "time_s": 30}
    async with db.connected(database) as lost:
        async with lost.transaction():
            await lost.execute(RESERVE.encode(), params)
            repeated = asyncio.create_task(admit(link, ask))
            while not await (await connection.execute(AWAITS_A_LOCK)).fetchall():  # noqa: ASYNC110 - the server sets no event
                await asyncio.sleep(0.01)
        await repeated
    assert await spending(connection) == (0, USD)


async def test_a_call_over_the_rest_of_the_day_is_refused_until_midnight(
    connection: db.Connection, link: db.Link
) -> None:
    await set_budget(connection, "0.25")
    first, second, third = await claimed(connection, link, 3)
    await admit(link, ask_of(first))
    await record(link, usage_of(ask_of(first), "0.18"))
    with pytest.raises(BudgetExceeded) as refused:
        await admit(link, ask_of(second), wait_s=5)
    now = datetime.now(UTC)
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    assert refused.value.retry_after_s == pytest.approx((midnight - now).total_seconds(), abs=30)
    await admit(link, ask_of(third, usd=Decimal("0.05")))
    assert await spending(connection) == (Decimal("0.18"), Decimal("0.05"))


async def test_a_call_that_only_open_reservations_keep_out_waits(connection: db.Connection, link: db.Link) -> None:
    await set_budget(connection, "0.15")
    first, second = await claimed(connection, link, 2)
    await admit(link, ask_of(first))
    with pytest.raises(NoRoomNow):
        await admit(link, ask_of(second))
    waiting = asyncio.create_task(admit(link, ask_of(second), wait_s=30))
    await record(link, usage_of(ask_of(first), "0.01"))
    await waiting
    assert await spending(connection) == (Decimal("0.01"), USD)


async def test_a_requesters_budget_stops_only_that_requester(connection: db.Connection, link: db.Link) -> None:
    await connection.execute("INSERT INTO draft_limits (requester_id, usd_per_day) VALUES ('ann', 0.05), ('*', 0.15)")
    (anns,) = await claimed(connection, link, requester_id="ann")
    (bobs,) = await claimed(connection, link, requester_id="bob")
    with pytest.raises(BudgetExceeded):
        await admit(link, ask_of(anns))
    await admit(link, ask_of(bobs))
    (row,) = await link.run("SELECT draft_budget_until('ann') AS ann, draft_budget_until('bob') AS bob")
    assert row["ann"] is not None
    assert row["bob"] is None


async def test_what_was_spent_before_a_budget_was_set_counts(connection: db.Connection, link: db.Link) -> None:
    first, second, third = await claimed(connection, link, 3, requester_id="ann")
    await record(link, usage_of(ask_of(first), "0.07"))
    await connection.execute("UPDATE draft_usage SET created_at = now() - interval '1 day'")
    await record(link, usage_of(ask_of(second), "0.04"))
    assert await spending(connection) == (0, 0)
    await set_budget(connection, "1")
    await admit(link, ask_of(third))
    assert await spending(connection) == (Decimal("0.04"), USD)
    assert await spending(connection, "requester", "ann") == (Decimal("0.04"), USD)


async def test_what_a_day_has_cost_counts_once_when_two_daemons_begin_the_day(
    connection: db.Connection, link: db.Link, database: str
) -> None:
    first, second = await claimed(connection, link, 2, requester_id="ann")
    await record(link, usage_of(ask_of(first), "0.04"))
    await set_budget(connection, "1")
    async with db.connected(database) as other:
        async with other.transaction():
            await other.execute("SELECT draft_spending_begin((now() AT TIME ZONE 'UTC')::date)")
            admission = asyncio.create_task(admit(link, ask_of(second)))
            while not await (await connection.execute(AWAITS_A_LOCK)).fetchall():  # noqa: ASYNC110 - the server sets no event
                await asyncio.sleep(0.01)
        await admission
    assert await spending(connection) == (Decimal("0.04"), USD)
    assert await spending(connection, "requester", "ann") == (Decimal("0.04"), USD)


async def test_a_call_that_began_before_the_budget_was_set_counts_when_it_ends(
    connection: db.Connection, link: db.Link
) -> None:
    early, later = await claimed(connection, link, 2)
    await set_budget(connection, "1")
    await admit(link, ask_of(later))
    await record(link, usage_of(ask_of(early), "0.04"))
    assert await spending(connection) == (Decimal("0.04"), USD)


async def test_what_costs_nothing_needs_no_budget(connection: db.Connection, link: db.Link) -> None:
    await set_budget(connection, "0")
    paid, free = await claimed(connection, link, 2)
    with pytest.raises(BudgetExceeded):
        await admit(link, ask_of(paid))
    await admit(link, ask_of(free, usd=Decimal(0), prompt_usd=Decimal(0), output_usd=Decimal(0)))


async def test_a_raised_budget_is_not_used_up_any_more(connection: db.Connection, link: db.Link) -> None:
    await set_budget(connection, "0.05")
    first, second = await claimed(connection, link, 2)
    with pytest.raises(BudgetExceeded):
        await admit(link, ask_of(first))
    assert (await link.run("SELECT draft_budget_until() AS until"))[0]["until"] is not None
    await set_budget(connection, "1")
    assert (await link.run("SELECT draft_budget_until() AS until"))[0]["until"] is None
    await admit(link, ask_of(second))


async def test_one_large_call_does_not_use_the_budget_up_for_the_usual_ones(
    connection: db.Connection, link: db.Link
) -> None:
    await set_budget(connection, "1")
    usual, large = await claimed(connection, link, 2)
    await admit(link, ask_of(usual))
    await record(link, usage_of(ask_of(usual), "0.10"))
    with pytest.raises(BudgetExceeded):
        await admit(link, ask_of(large, usd=Decimal("0.95")))
    assert (await link.run("SELECT draft_budget_until() AS until"))[0]["until"] is None


async def test_an_unknown_price_is_a_misconfiguration_once_a_budget_is_set(
    connection: db.Connection, link: db.Link
) -> None:
    (claim,) = await claimed(connection, link)
    unknown = ask_of(claim, usd=None, prompt_usd=None, output_usd=None)
    await set_budget(connection, "1")
    with pytest.raises(ModelMisconfigured, match="draftd models set m"):
        await admit(link, unknown)
    await set_budget(connection, None)
    await admit(link, unknown)


async def test_a_claim_that_is_lost_reserves_nothing(connection: db.Connection, link: db.Link) -> None:
    await set_budget(connection, "1")
    (claim,) = await claimed(connection, link)
    with pytest.raises(LeaseLost):
        await admit(link, ask_of(claim, lease_token=99))
    assert await spending(connection) == (0, 0)


async def test_the_next_day_has_a_budget_of_its_own(connection: db.Connection, link: db.Link) -> None:
    await set_budget(connection, "0.15")
    first, second = await claimed(connection, link, 2)
    now = datetime.now(UTC)
    assert await try_at(link, ask_of(first), now) == (None, None)
    assert await try_at(link, ask_of(second), now + timedelta(days=1)) == (None, None)


async def test_an_aborted_admission_gives_back_what_it_reserved(connection: db.Connection, link: db.Link) -> None:
    await set_budget(connection, "1")
    (claim,) = await claimed(connection, link)
    reservations = Reservations(link=link, worker_id=WORKER)
    async with connection.transaction():
        await connection.execute("LOCK TABLE draft_spending")
        await abort(connection, reservations.reserve(ask_of(claim), time_s=30, wait_s=30))
    await asyncio.gather(*reservations.releases())
    assert await spending(connection) == (0, 0)
    assert await link.run("SELECT 1 AS n FROM draft_reservations") == []


@pytest.mark.parametrize("seed", range(3))
async def test_spent_and_reserved_never_pass_the_budget_under_a_race(
    connection: db.Connection, link: db.Link, database: str, seed: int
) -> None:
    budget, draw = Decimal("2.00"), random.Random(seed)  # noqa: S311 - a race that can be repeated
    await set_budget(connection, str(budget))
    claims = await claimed(connection, link, 50)
    costs = {claim.id: Decimal(draw.randint(1, 10)) / 100 for claim in claims}

    async def work(own: db.Link, some: Sequence[Claim]) -> int:
        admitted = 0
        for claim in some:
            try:
                await admit(own, ask_of(claim))
            except (BudgetExceeded, NoRoomNow):
                continue
            admitted += 1
            await record(own, usage_of(ask_of(claim), str(costs[claim.id])))
        return admitted

    over: list[Any] = []
    is_over = asyncio.Event()

    async def watch() -> None:
        while not is_over.is_set():
            spent, reserved = await spending(connection)
            if spent + reserved > budget:
                over.append((spent, reserved))

    async with links(database, 10) as racers:
        watching = asyncio.create_task(watch())
        done = await asyncio.gather(*(work(own, claims[number::10]) for number, own in enumerate(racers)))
        is_over.set()
        await watching
    assert over == []
    assert sum(done) > 20
    (row,) = await link.run("SELECT sum(cost_usd) AS usd FROM draft_usage")
    assert await spending(connection) == (row["usd"], 0)
    assert row["usd"] <= budget


@pytest.mark.parametrize(("ceiling", "admitted"), [("max_in_flight", 7), ("rpm", 7)])
async def test_a_ceiling_is_exact_under_a_race(
    connection: db.Connection, link: db.Link, database: str, ceiling: str, admitted: int
) -> None:
    await set_model(connection, **{ceiling: admitted})
    claims = await claimed(connection, link, 40)

    async def work(own: db.Link, some: Sequence[Claim]) -> int:
        answers = [await _is_admitted(own, ask_of(claim)) for claim in some]
        return sum(answers)

    async with links(database, 10) as racers:
        done = await asyncio.gather(*(work(own, claims[number::10]) for number, own in enumerate(racers)))
    assert sum(done) == admitted


async def _is_admitted(link: db.Link, ask: PlannedCall) -> bool:
    try:
        await admit(link, ask)
    except NoRoomNow:
        return False
    return True


async def test_a_call_in_flight_that_ends_makes_room(connection: db.Connection, link: db.Link) -> None:
    await set_model(connection, max_in_flight=1)
    first, second = await claimed(connection, link, 2)
    await admit(link, ask_of(first))
    assert not await _is_admitted(link, ask_of(second))
    await record(link, usage_of(ask_of(first), None, code="model_timeout", input_tokens=None, output_tokens=None))
    await admit(link, ask_of(second))


async def test_the_calls_of_a_minute_leave_it_one_by_one(connection: db.Connection, link: db.Link) -> None:
    await set_model(connection, rpm=2)
    first, second, third, fourth = await claimed(connection, link, 4)
    now = datetime.now(UTC)
    assert await try_at(link, ask_of(first), now) == (None, None)
    assert await try_at(link, ask_of(second), now + timedelta(seconds=20)) == (None, None)
    refusal, wait_s = await try_at(link, ask_of(third), now + timedelta(seconds=50))
    assert (refusal, round(wait_s)) == ("rpm", 11)
    assert await try_at(link, ask_of(third), now + timedelta(seconds=50 + wait_s)) == (None, None)
    assert (await try_at(link, ask_of(fourth), now + timedelta(seconds=70)))[0] == "rpm"


async def test_each_http_request_of_a_call_counts_against_the_minute(connection: db.Connection, link: db.Link) -> None:
    await set_model(connection, rpm=2, max_in_flight=1)
    first, second = await claimed(connection, link, 2)
    await admit(link, ask_of(first))
    await Reservations(link=link, worker_id=WORKER).resend(ask_of(first), 2, time_s=1)
    await record(link, usage_of(ask_of(first), "0.01"))
    assert (await try_at(link, ask_of(second), datetime.now(UTC)))[0] == "rpm"


async def test_an_aborted_resend_gives_back_nothing_of_the_request_that_was_made(
    connection: db.Connection, link: db.Link
) -> None:
    await set_model(connection, rpm=2)
    (claim,) = await claimed(connection, link)
    await admit(link, ask_of(claim))
    reservations = Reservations(link=link, worker_id=WORKER)
    async with connection.transaction():
        await connection.execute("LOCK TABLE draft_reservations")
        await abort(connection, reservations.resend(ask_of(claim), 2, time_s=30))
    await asyncio.gather(*reservations.releases())
    rows = await link.run("SELECT send, settled_at IS NULL AS is_open FROM draft_reservations ORDER BY send")
    assert rows == [{"send": 1, "is_open": True}, {"send": 2, "is_open": False}]


async def test_tokens_count_as_estimated_and_then_as_used(connection: db.Connection, link: db.Link) -> None:
    await set_model(connection, tpm=5_000)
    first, second, third, fourth = await claimed(connection, link, 4)
    assert await _is_admitted(link, ask_of(first))
    assert await _is_admitted(link, ask_of(second))
    assert not await _is_admitted(link, ask_of(third))
    await record(link, usage_of(ask_of(first), "0.01"))
    assert await _is_admitted(link, ask_of(third))
    assert not await _is_admitted(link, ask_of(fourth))


async def test_tokens_that_calls_in_flight_may_not_need_are_asked_for_every_second(
    connection: db.Connection, link: db.Link
) -> None:
    await set_model(connection, tpm=5_000)
    first, second, third, fourth = await claimed(connection, link, 4)
    now = datetime.now(UTC)
    for claim in (first, second):
        assert await try_at(link, ask_of(claim), now) == (None, None)
    assert await try_at(link, ask_of(third), now + timedelta(seconds=9)) == ("tpm", 1)
    # Not when the window is about to pass them anyway.
    refusal, wait_s = await try_at(link, ask_of(third), now + timedelta(seconds=60.5))
    assert (refusal, round(wait_s, 1)) == ("tpm", 0.5)
    await record(link, usage_of(ask_of(first), "0.01"))
    assert await try_at(link, ask_of(third), now + timedelta(seconds=10)) == (None, None)
    # What has been used stays for the rest of the minute, whatever those in flight will need.
    for claim in (second, third):
        await record(link, usage_of(ask_of(claim), "0.01", input_tokens=2_000))
    refusal, wait_s = await try_at(link, ask_of(fourth), now + timedelta(seconds=30))
    assert (refusal, round(wait_s)) == ("tpm", 31)


async def test_a_call_larger_than_the_ceiling_is_admitted_alone(connection: db.Connection, link: db.Link) -> None:
    await set_model(connection, tpm=1_000)
    first, second = await claimed(connection, link, 2)
    assert await _is_admitted(link, ask_of(first))
    assert not await _is_admitted(link, ask_of(second))


async def test_estimates_are_corrected_by_the_models_last_calls(connection: db.Connection, link: db.Link) -> None:
    await set_model(connection, tpm=10_000)
    claims = await claimed(connection, link, 20)
    for claim in claims[:5]:
        await admit(link, ask_of(claim))
        await record(link, usage_of(ask_of(claim), "0.01"))
    # 5 * 600 tokens were used; 2,000 are expected each time, of which the last calls used 30 %.
    admitted = [claim for claim in claims[5:] if await _is_admitted(link, ask_of(claim))]
    assert len(admitted) == (10_000 - 5 * 600) // 600


async def room(link: db.Link, wanted: int = 50) -> tuple[int, Any]:
    (row,) = await link.run("SELECT * FROM draft_claim_room('m', '{comment_generator}', %s)", [wanted])
    return row["room"], row["wait_s"]


async def test_no_more_is_claimed_than_a_ceiling_has_room_for(connection: db.Connection, database: str) -> None:
    await set_model(connection, max_in_flight=8)
    for _ in range(40):
        await make_request(connection)

    async def work(own: db.Link) -> int:
        claimer = Claimer(link=own, terms=make_terms(), quarantine=Quarantine())
        return len(await claimer.claim(["comment_generator"], 5, ceiling="m"))

    async with links(database, 10) as racers:
        done = await asyncio.gather(*map(work, racers))
    # A quarter more is prepared while the others call.
    assert sum(done) == 8 + 2


async def test_what_is_claimed_and_does_not_call_yet_counts_against_the_minute(
    connection: db.Connection, link: db.Link
) -> None:
    await set_model(connection, rpm=5)
    claims = await claimed(connection, link, 3)
    assert await room(link) == (2, None)
    for claim in claims:
        await admit(link, ask_of(claim))
    assert await room(link) == (2, None)
    for _ in range(3):
        await make_request(connection)
    assert await room(link) == (2, 0.25)
    await claim_all(link, limit=2)
    assert (await room(link))[0] == 0


async def test_a_request_whose_call_has_ended_holds_no_place(connection: db.Connection, link: db.Link) -> None:
    await set_model(connection, max_in_flight=1)
    (first,) = await claimed(connection, link)
    await admit(link, ask_of(first))
    assert (await room(link))[0] == 1
    await record(link, usage_of(ask_of(first), "0.01"))
    assert (await room(link))[0] == 2


async def test_tokens_limit_the_claim_by_what_a_call_usually_uses(connection: db.Connection, link: db.Link) -> None:
    await set_model(connection, tpm=10_000)
    (first,) = await claimed(connection, link)
    await admit(link, ask_of(first, tokens=2_000))
    assert (await room(link))[0] == 4


async def test_nothing_is_claimed_for_fewer_tokens_than_a_usual_call_needs(
    connection: db.Connection, link: db.Link
) -> None:
    await set_model(connection, tpm=5_000)
    first, second, third = await claimed(connection, link, 3)
    await make_request(connection)
    assert (await room(link))[0] == 0  # these three have not called yet
    for claim in (first, second):
        await admit(link, ask_of(claim, tokens=2_000))
    await fail(link, third)
    assert await room(link) == (0, 1)
    for claim in (first, second):
        await record(link, usage_of(ask_of(claim), "0.01", input_tokens=1_900))
    refused_s = (await room(link))[1]
    assert refused_s == pytest.approx(60, abs=5)
    await connection.execute("UPDATE draft_reservations SET began_at = began_at - interval '62 s' WHERE call = 1")
    assert await room(link) == (2, None)


async def test_a_full_minute_tells_when_to_ask_again(connection: db.Connection, link: db.Link) -> None:
    await set_model(connection, rpm=1)
    (first,) = await claimed(connection, link)
    await admit(link, ask_of(first))
    assert await room(link) == (0, None)  # nothing is due
    await make_request(connection)
    assert (await room(link))[1] == pytest.approx(60, abs=5)


async def test_a_row_that_waits_for_its_requesters_limit_does_not_wait_for_the_ceiling(
    connection: db.Connection, link: db.Link
) -> None:
    await set_model(connection, max_in_flight=1)
    await claimed(connection, link, 2)
    await connection.execute("INSERT INTO draft_limits (requester_id, max_in_flight) VALUES ('ann', 1)")
    await make_request(connection, requester_id="ann")
    assert await room(link) == (0, None)
    await make_request(connection)
    assert await room(link) == (0, 0.25)


async def lost_call(connection: db.Connection, link: db.Link) -> PlannedCall:
    """Return a call whose worker died while it was in flight."""
    claim = await claim_one(link, make_terms(worker_id=WORKER))
    await renew(connection, claim, worker_id=WORKER)
    ask = ask_of(claim)
    await admit(link, ask)
    await lose(connection, claim)
    await reap_now(link)
    return ask


async def charge(link: db.Link) -> int:
    (row,) = await link.run(CHARGE_LOST, {"lease_s": 0.0})
    charged: int = row["charged"]
    return charged


async def test_a_dead_workers_call_is_charged_its_prompt_and_the_mean_answer(
    connection: db.Connection, link: db.Link
) -> None:
    await set_budget(connection, "1")
    (answered,) = await claimed(connection, link)
    await admit(link, ask_of(answered))
    await record(link, usage_of(ask_of(answered), "0.01", output_tokens=250))
    await make_request(connection)
    lost = await lost_call(connection, link)
    assert await charge(link) == 0  # its heartbeat is not old enough
    await connection.execute("UPDATE draft_workers SET heartbeat_at = now() - interval '1 min'")
    assert await charge(link) == 1
    assert await charge(link) == 0
    guess = Decimal("0.02") + Decimal("0.08") / 4
    assert await spending(connection) == (Decimal("0.01") + guess, USD - guess)
    await record(link, usage_of(lost, "0.07"))
    assert await spending(connection) == (Decimal("0.08"), 0)
    await record(link, usage_of(lost, "0.07"))
    assert await spending(connection) == (Decimal("0.08"), 0)


async def test_late_usage_passes_no_budget_while_the_call_may_still_have_cost_more(
    connection: db.Connection, link: db.Link
) -> None:
    await set_budget(connection, "0.15")
    await make_request(connection)
    lost = await lost_call(connection, link)
    await overwrite(connection, lost.request_id, available_at="2100-01-01")
    await connection.execute("UPDATE draft_workers SET heartbeat_at = now() - interval '1 min'")
    await connection.execute(
        "INSERT INTO draft_usage (request_id, requester_id, attempt, lease_token, call, model, output_tokens, elapsed_s) "
        "VALUES (gen_random_uuid(), '', 1, 1, 1, 'm', 125, 1)"
    )
    assert await charge(link) == 1
    guess = Decimal("0.02") + Decimal("0.08") / 8
    assert await spending(connection) == (guess, USD - guess)
    (claim,) = await claimed(connection, link)
    assert not await _is_admitted(link, ask_of(claim))
    await record(link, usage_of(lost, "0.10"))
    assert await spending(connection) == (USD, 0)


async def test_what_a_guess_leaves_is_free_once_the_calls_time_is_over(
    connection: db.Connection, link: db.Link
) -> None:
    await set_budget(connection, "1")
    await make_request(connection)
    lost = await lost_call(connection, link)
    await connection.execute("UPDATE draft_workers SET heartbeat_at = now() - interval '1 min'")
    await connection.execute("UPDATE draft_reservations SET output_usd = 0")
    assert await charge(link) == 1
    assert await spending(connection) == (Decimal("0.02"), Decimal("0.08"))
    await connection.execute("UPDATE draft_reservations SET ends_at = now()")
    for _ in range(2):
        await charge(link)
        assert await spending(connection) == (Decimal("0.02"), 0)
    await record(link, usage_of(lost, "0.03"))
    assert await spending(connection) == (Decimal("0.03"), 0)


async def test_lost_calls_of_two_days_are_settled_in_the_order_of_days(
    connection: db.Connection, link: db.Link, database: str
) -> None:
    """Else two daemons wait for each other around midnight."""
    await set_budget(connection, "1")
    await make_request(connection)
    guessed = await lost_call(connection, link)
    await connection.execute(
        "UPDATE draft_reservations SET day = day - 1, guessed = true, charged_usd = 0.02, settled_at = now(), ends_at = now()"
    )
    await connection.execute("UPDATE draft_spending SET day = day - 1, spent = 0.02, reserved = 0.08")
    await overwrite(connection, guessed.request_id, available_at="2100-01-01")
    await make_request(connection)
    await lost_call(connection, link)
    await connection.execute("UPDATE draft_workers SET heartbeat_at = now() - interval '1 min'")
    async with db.connected(database) as other, other.transaction():
        await other.execute("SELECT FROM draft_spending WHERE day < (now() AT TIME ZONE 'UTC')::date FOR UPDATE")
        charging = asyncio.create_task(charge(link))
        while not await (await connection.execute(AWAITS_A_LOCK)).fetchall():  # noqa: ASYNC110  # no event tells of another's lock
            await asyncio.sleep(0.01)
        await other.execute("SELECT FROM draft_spending FOR UPDATE NOWAIT")
    assert await charging == 1
    rows = await link.run("SELECT spent, reserved FROM draft_spending WHERE payer = 'fleet' ORDER BY day")
    assert [(row["spent"], row["reserved"]) for row in rows] == [(Decimal("0.02"), 0), (USD, 0)]


async def test_a_call_whose_time_is_over_is_charged_although_its_worker_lives(
    connection: db.Connection, link: db.Link
) -> None:
    await set_budget(connection, "1")
    (claim,) = await claimed(connection, link)
    await admit(link, ask_of(claim))
    assert await charge(link) == 0
    await connection.execute("UPDATE draft_reservations SET ends_at = now() - interval '1 s'")
    assert await charge(link) == 1
    assert (await spending(connection))[1] == 0


async def test_settled_reservations_are_deleted_once_they_are_in_no_window(
    connection: db.Connection, link: db.Link
) -> None:
    await set_budget(connection, "1")
    old, recent = await claimed(connection, link, 2)
    for claim in (old, recent):
        await admit(link, ask_of(claim))
        await record(link, usage_of(ask_of(claim), "0.01"))
    await connection.execute(
        "UPDATE draft_reservations SET settled_at = now() - interval '11 min' WHERE request_id = %s", [old.id]
    )
    await charge(link)
    rows = await link.run("SELECT request_id FROM draft_reservations")
    assert [row["request_id"] for row in rows] == [recent.id]


@pytest.mark.parametrize(
    ("code", "charged"), [("model_rate_limited", "0"), ("model_timeout", "0.10"), ("aborted", "0.10"), (None, "0.10")]
)
async def test_a_call_without_known_cost_is_charged_by_how_it_ended(
    connection: db.Connection, link: db.Link, code: str | None, charged: str
) -> None:
    """Nothing is known of the model's answers here, so a guess is the most that the call can cost."""
    await set_budget(connection, "1")
    (claim,) = await claimed(connection, link)
    await admit(link, ask_of(claim))
    await record(link, usage_of(ask_of(claim), None, code=code, input_tokens=None, output_tokens=None))
    assert await spending(connection) == (Decimal(charged), 0)


async def test_a_forgotten_requester_stands_in_no_reservation(connection: db.Connection, link: db.Link) -> None:
    await set_budget(connection, "1")
    settled, open_one = await claimed(connection, link, 2, requester_id="ann")
    for claim in (settled, open_one):
        await admit(link, ask_of(claim))
    await record(link, usage_of(ask_of(settled), "0.03"))
    await connection.execute("SELECT forget_draft_requester('ann')")
    names = await link.run("SELECT requester_id FROM draft_reservations UNION SELECT requester_id FROM draft_spending")
    assert {row["requester_id"] for row in names} == {None, ""}
    assert await spending(connection) == (Decimal("0.03"), USD)
    await record(link, usage_of(ask_of(open_one), "0.05"))
    assert await spending(connection) == (Decimal("0.08"), 0)
    assert await spending(connection, "requester", "ann") == (0, 0)


async def test_a_locked_request_is_asked_for_again(connection: db.Connection, link: db.Link) -> None:
    await set_budget(connection, "1")
    (claim,) = await claimed(connection, link)
    async with connection.transaction():
        await connection.execute("SELECT FROM draft_requests FOR UPDATE")
        with pytest.raises(NoRoomNow):
            await admit(link, ask_of(claim))
    await admit(link, ask_of(claim))


async def test_a_changed_budget_makes_what_waits_for_the_next_day_due(connection: db.Connection) -> None:
    waiting = {
        "status": "pending",
        "error_code": "budget_exceeded",
        "available_at": datetime.now(UTC) + timedelta(hours=5),
    }
    ids = {}
    for name in ("ann", "bob"):
        ids[name] = await make_request(connection, requester_id=name)
        await overwrite(connection, ids[name], **waiting)

    async def due() -> set[str]:
        cursor = await connection.execute("SELECT requester_id FROM draft_requests WHERE available_at <= now()")
        return {row["requester_id"] for row in await cursor.fetchall()}

    await connection.execute("INSERT INTO draft_limits (requester_id, usd_per_day) VALUES ('ann', 1)")
    assert await due() == {"ann"}
    await set_budget(connection, "1")
    assert await due() == {"ann", "bob"}


async def test_nothing_is_in_demand_once_the_fleets_budget_is_used_up(connection: db.Connection, link: db.Link) -> None:
    await renew(connection, models=Jsonb({"comment_generator": {"m": True}}))
    await make_request(connection)
    assert await link.run("SELECT draftd_demand() AS n") == [{"n": 1}]
    await set_budget(connection, "0.05")
    (claim,) = await claimed(connection, link)
    with pytest.raises(BudgetExceeded):
        await admit(link, ask_of(claim))
    await make_request(connection)
    assert await link.run("SELECT draftd_demand() AS n") == [{"n": 1}]  # what is being drafted
