"""processing → completed, failed or pending, fenced."""

import asyncio
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import DictRow
from structlog.testing import capture_logs

from draftd import db
from draftd.errors import LeaseLost, ModelUnavailable, RequestCancelled
from draftd.queue import admin
from draftd.queue.attempts import AttemptWriter, Usage
from draftd.queue.leases import RENEW_AND_BEAT
from draftd.queue.outcome import Done, Draft, Fail, GiveBack, Outcome, Retry
from draftd.queue.refused_rows import Quarantine
from draftd.queue.settlements import BUSY_INTERVAL_S, SETTLE, NotSettledYet, Settler, Trail, settlement
from draftd.queue.trial_outcomes import TRIAL_OUTCOMES
from draftd.reply.platforms import Platform
from draftd.reply.result import (
    Confidence,
    ContentType,
    Expects,
    Length,
    Option,
    ReplyingTo,
    ReplyNeeded,
    Result,
    Stance,
)
from draftd.request import Claim
from fix_database import beat, claim_all, claim_one, make_request, read_row


def make_done(**over: Any) -> Done:
    result = Result(
        platform=Platform.SLACK,
        platform_name="Slack",
        content_type=ContentType.THREAD,
        language="en",
        summary="A thread.",
        me="the right-hand side",
        replying_to=ReplyingTo(author="Ada", gist="asks for the date", expects=Expects.QUESTION),
        reply_needed=ReplyNeeded.YES,
        options=[
            Option(length=length, angle="says yes", stance=Stance.NONE, text=over.pop("text", "yes"))
            for length in Length
        ],
        missing=[],
        confidence=Confidence.HIGH,
        warnings=[],
    )
    draft: dict[str, Any] = {"result": result.as_json(), "reading": ["When?"]}
    return Done(draft=Draft(**draft | over), model="m", prompt_version="1")


RETRY = Retry(code="model_timeout", message="no answer", delay_s=30.0, model="m")
OUTCOMES: dict[str, Outcome] = {
    "completed": make_done(),
    "retry": RETRY,
    "failed": Fail(code="image_invalid", message="not an image"),
    "released": GiveBack(),
    "held": GiveBack(code="model_unavailable", message="down", model="m"),
}


@pytest.fixture
def settler(link: db.Link) -> Settler:
    return Settler(link=link, quarantine=Quarantine())


async def test_a_finished_draft_is_written(connection: db.Connection, link: db.Link, settler: Settler) -> None:
    await make_request(connection)
    claimed = await claim_one(link)
    trail = Trail(images=[{"host": "h", "sha256": "0", "width": 1, "height": 1, "parts": 1}], trace_id="t")
    assert (await settler.settle(claimed, make_done(), trail)).status == "completed"
    row = await read_row(connection, claimed.id)
    assert row["status"] == "completed"
    assert row["result"]["platform"] == "slack"
    assert row["reading"] == ["When?"]
    assert (row["model"], row["trace_id"], row["images"][0]["host"]) == ("m", "t", "h")
    assert row["error_code"] is row["error_details"] is row["lease_until"] is row["deadline_at"] is None
    assert row["finished_at"] is not None


async def test_an_error_leaves_what_is_known_of_it_until_a_draft_succeeds(
    connection: db.Connection, link: db.Link, settler: Settler
) -> None:
    request_id = await make_request(connection)
    details: dict[str, str | int] = {"picture": 2, "host": "images.example", "status": 503}
    for outcome, left in (
        (Retry(code="image_fetch_failed", message="x", delay_s=0, details=details), details | {"action": "resend"}),
        (GiveBack(code="model_unavailable", message="x", model="m"), {"action": "try_later"}),
        (GiveBack(), None),
        (make_done(), None),
    ):
        await settler.settle(await claim_one(link), outcome)
        assert (await read_row(connection, request_id))["error_details"] == left


async def test_a_failure_says_what_the_apps_user_can_do(
    connection: db.Connection, link: db.Link, settler: Settler
) -> None:
    request_id = await make_request(connection)
    too_large = Fail(code="image_too_large", message="x", details={"picture": 1, "limit": 20})
    await settler.settle(await claim_one(link), too_large)
    row = await read_row(connection, request_id)
    assert row["error_details"] == {"picture": 1, "limit": 20, "action": "shorten"}
    await admin.change(connection, admin.RETRY, request_id=request_id)
    assert (await read_row(connection, request_id))["error_details"] is None


async def test_a_retry_waits_and_keeps_its_history(connection: db.Connection, link: db.Link, settler: Settler) -> None:
    await make_request(connection)
    claimed = await claim_one(link)
    assert (await settler.settle(claimed, RETRY)).status == "pending"
    row = await read_row(connection, claimed.id)
    assert (row["attempt"], row["error_code"], row["lease_until"]) == (1, "model_timeout", None)
    assert 25 < (row["available_at"] - row["updated_at"]).total_seconds() <= 30
    (error,) = row["errors"]
    assert (error["attempt"], error["code"], error["message"], error["model"]) == (1, "model_timeout", "no answer", "m")
    assert error["at"]


async def test_a_retry_at_the_cap_is_a_failure(connection: db.Connection, link: db.Link, settler: Settler) -> None:
    await make_request(connection, max_attempts=1)
    claimed = await claim_one(link)
    assert (await settler.settle(claimed, RETRY)).status == "failed"
    assert (await read_row(connection, claimed.id))["error_code"] == "model_timeout"


@pytest.mark.parametrize("outcome", ["released", "held"])
async def test_an_attempt_is_given_back(
    connection: db.Connection, link: db.Link, settler: Settler, outcome: str
) -> None:
    await make_request(connection)
    claimed = await claim_one(link)
    assert (await settler.settle(claimed, OUTCOMES[outcome])).status == "pending"
    row = await read_row(connection, claimed.id)
    assert (row["attempt"], row["lease_token"]) == (0, 1)


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_nothing_is_settled_with_an_older_token(
    connection: db.Connection, link: db.Link, settler: Settler, outcome: str
) -> None:
    await make_request(connection)
    zombie = await claim_one(link)
    await settler.settle(zombie, GiveBack())
    owner = await claim_one(link)
    # The attempt was given back, so both claims are attempt 1: only the token tells them apart.
    assert zombie.attempt == owner.attempt == 1
    with pytest.raises(LeaseLost):
        await settler.settle(zombie, OUTCOMES[outcome])
    row = await read_row(connection, owner.id)
    assert (row["status"], row["lease_token"], row["attempt"]) == ("processing", 2, 1)


@pytest.mark.parametrize("outcome", ["completed", "failed"])
async def test_nothing_is_settled_after_a_cancel(
    connection: db.Connection, link: db.Link, settler: Settler, outcome: str
) -> None:
    await make_request(connection)
    claimed = await claim_one(link)
    await connection.execute("SELECT cancel_draft_request(%s)", [claimed.id])
    with pytest.raises(RequestCancelled):
        await AttemptWriter(link=link, quarantine=Quarantine()).publish(claimed, {})
    with pytest.raises(RequestCancelled):
        await settler.settle(claimed, OUTCOMES[outcome])
    row = await read_row(connection, claimed.id)
    assert (row["status"], row["result"]) == ("cancelled", None)


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_a_repeated_settlement_is_a_success(
    connection: db.Connection, link: db.Link, settler: Settler, outcome: str
) -> None:
    await make_request(connection)
    claimed = await claim_one(link)
    first = await settler.settle(claimed, OUTCOMES[outcome])
    before = await read_row(connection, claimed.id)
    assert await settler.settle(claimed, OUTCOMES[outcome]) == first
    assert await read_row(connection, claimed.id) == before


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_what_the_reaper_took_back_is_lost_also_while_nobody_claims_it(
    connection: db.Connection, link: db.Link, settler: Settler, outcome: str
) -> None:
    await make_request(connection)
    claimed = await claim_one(link)
    await connection.execute("UPDATE draft_requests SET status = 'pending', error_code = 'worker_lost'")
    with pytest.raises(LeaseLost):
        await settler.settle(claimed, OUTCOMES[outcome])


async def test_a_settlement_beside_its_own_first_try_is_a_success(
    database: str, connection: db.Connection, link: db.Link, settler: Settler
) -> None:
    await make_request(connection)
    claimed = await claim_one(link)
    row = settlement(claimed.key, make_done(), Trail())
    async with db.connected(database) as first:
        async with first.transaction():
            await first.execute(SETTLE.encode(), {"rows": f"[{row.as_json()}]"})
            again = asyncio.create_task(settler.settle(claimed, make_done()))
            await asyncio.wait([again], timeout=2 * BUSY_INTERVAL_S)
            assert not again.done()
        assert (await again).status == "completed"


async def test_a_connection_lost_in_a_settlement_is_no_loss(
    connection: db.Connection, link: db.Link, settler: Settler
) -> None:
    await make_request(connection)
    claimed = await claim_one(link)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'draftd test'"
    )
    assert (await settler.settle(claimed, make_done())).status == "completed"


async def test_concurrent_settlements_share_statements(database: str, connection: db.Connection, link: db.Link) -> None:
    for _ in range(30):
        await make_request(connection)
    claimed = await claim_all(link)
    statements = 0

    class Counting(db.Link):
        async def run(self, statement: str, params: db.Params = None) -> list[DictRow]:
            nonlocal statements
            statements += 1
            return await super().run(statement, params)

    own = Counting(url=database, name="settle")
    settler = Settler(link=own, quarantine=Quarantine())
    settled = await asyncio.gather(*(settler.settle(one, make_done()) for one in claimed))
    await own.close()
    assert settled == [("completed", None)] * 30
    assert statements == 1


async def test_one_refused_outcome_does_not_hurt_its_neighbours(
    connection: db.Connection, link: db.Link, settler: Settler, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        await make_request(connection)
    claimed = await claim_all(link)
    # storable() would mend it: the row that the server refuses must be one that got past it.
    monkeypatch.setattr("draftd.queue.settlements.storable_json", json.dumps)
    bad = make_done(reading=["a \x00 in the middle"])
    outcomes = [bad if one is claimed[2] else make_done() for one in claimed]
    statuses = await asyncio.gather(*(settler.settle(*pair) for pair in zip(claimed, outcomes, strict=True)))
    assert statuses == [("completed", None)] * 2 + [("failed", "internal_error")] + [("completed", None)] * 2
    row = await read_row(connection, claimed[2].id)
    assert row["error_code"] == "internal_error"


async def test_a_row_that_an_apps_trigger_lets_nobody_end_does_not_hurt_its_neighbours(
    connection: db.Connection, link: db.Link, settler: Settler
) -> None:
    for _ in range(3):
        await make_request(connection)
    claimed = await claim_all(link)
    await connection.execute(
        f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON draft_requests FOR EACH ROW
            WHEN (NEW.id = '{claimed[1].id}') EXECUTE FUNCTION refuse()""".encode()
    )
    settled = (settler.settle(one, make_done()) for one in claimed)
    first, refused, last = await asyncio.gather(*settled, return_exceptions=True)
    assert first == last == ("completed", None)
    assert isinstance(refused, LeaseLost)


def test_the_draft_that_is_tried_on_other_rows_is_complete() -> None:
    example = TRIAL_OUTCOMES["completed"]
    assert isinstance(example, Done)
    assert Result.model_validate(example.draft.result).as_json() == example.draft.result


async def test_an_answer_with_nul_and_surrogates_is_stored_without_them(
    connection: db.Connection, link: db.Link, settler: Settler
) -> None:
    await make_request(connection)
    claimed = await claim_one(link)
    await settler.settle(claimed, make_done(reading=["one\x00 two\ud800"]))
    assert (await read_row(connection, claimed.id))["reading"] == ["one two"]


async def test_an_error_message_is_stored_without_its_secrets(
    connection: db.Connection, link: db.Link, settler: Settler
) -> None:
    await make_request(connection)
    claimed = await claim_one(link)
    leaky = "GET https://h.example/bot1:AA/f?sig=1 sk-abcdefgh12345678"
    await settler.settle(claimed, Fail(code="x", message=leaky, told=leaky))
    row = await read_row(connection, claimed.id)
    for message in (row["error_message"], row["errors"][-1]["message"]):
        assert "h.example" in message
        assert not any(secret in message for secret in ("bot1", "sig=1", "sk-abc"))


@pytest.mark.parametrize("outcome", [Fail, partial(Retry, delay_s=0.0), GiveBack])
async def test_the_user_is_told_the_sentence_of_the_code_and_the_operator_what_happened(
    connection: db.Connection, link: db.Link, settler: Settler, outcome: Callable[..., Fail | Retry | GiveBack]
) -> None:
    await make_request(connection)
    claimed = await claim_one(link)
    await settler.settle(claimed, outcome(code="model_unavailable", message="openai/gpt-5: 503", model="openai/gpt-5"))
    row = await read_row(connection, claimed.id)
    assert row["error_message"] == ModelUnavailable.user_message
    assert row["errors"][-1]["message"] == "openai/gpt-5: 503"
    assert row["errors"][-1]["model"] == "openai/gpt-5"


async def test_only_what_a_hold_gives_back_is_counted(
    connection: db.Connection, link: db.Link, settler: Settler
) -> None:
    request_id = await make_request(connection)
    held = GiveBack(code="model_unavailable", message="down", model="m")
    for outcome in (held, GiveBack(), held, Retry(code="x", message="x", delay_s=0.0)):
        await settler.settle(await claim_one(link), outcome)
    row = await read_row(connection, request_id)
    assert (row["given_back"], row["attempt"]) == (2, 1)
    assert (await claim_one(link)).given_back == 2


async def test_a_row_that_is_given_back_can_be_made_to_wait(
    connection: db.Connection, link: db.Link, settler: Settler
) -> None:
    request_id = await make_request(connection)
    await settler.settle(
        await claim_one(link), GiveBack(code="model_rate_limited", message="429", model="m", delay_s=60)
    )
    assert await claim_all(link) == []
    assert (await read_row(connection, request_id))["attempt"] == 0


async def test_the_history_keeps_the_last_twenty(connection: db.Connection, link: db.Link, settler: Settler) -> None:
    request_id = await make_request(connection, max_attempts=10)
    for n in range(23):
        claimed = await claim_one(link)
        await settler.settle(claimed, GiveBack(code="model_unavailable", message=f"error {n}", model="m"))
    errors = (await read_row(connection, request_id))["errors"]
    assert [error["message"] for error in errors] == [f"error {n}" for n in range(3, 23)]


def make_usage(claimed: Claim, **over: Any) -> Usage:
    defaults: dict[str, Any] = {
        "request_id": claimed.id,
        "requester_id": claimed.requester_id,
        "attempt": claimed.attempt,
        "lease_token": claimed.lease_token,
        "call": 1,
        "model": "m",
        "code": None,
        "input_tokens": 100,
        "cached_tokens": None,
        "output_tokens": 10,
        "cost_usd": None,
        "elapsed_s": 1.0,
        "trace_id": None,
    }
    return Usage(**defaults | over)


async def test_tokens_are_summed_over_all_calls_of_all_attempts(
    connection: db.Connection, link: db.Link, settler: Settler
) -> None:
    await make_request(connection)
    writer = AttemptWriter(link=link, quarantine=Quarantine())
    first = await claim_one(link)
    writer.record(make_usage(first))
    await writer.wait_until_recorded(first)
    await settler.settle(first, Retry(code="output_invalid", message="", delay_s=0))
    second = await claim_one(link)
    writer.record(make_usage(second))
    writer.record(make_usage(second, call=2))
    await writer.wait_until_recorded(second)
    await settler.settle(second, make_done())
    row = await read_row(connection, first.id)
    assert (row["input_tokens"], row["output_tokens"], row["cost_usd"]) == (300, 30, None)


async def test_usage_is_written_although_the_result_is_refused(connection: db.Connection, link: db.Link) -> None:
    await make_request(connection)
    claimed = await claim_one(link)
    await connection.execute("SELECT cancel_draft_request(%s)", [claimed.id])
    writer = AttemptWriter(link=link, quarantine=Quarantine())
    writer.record(make_usage(claimed))
    await writer.wait_until_recorded(claimed)
    assert await count_usage(connection, claimed.id) == 1


async def test_usage_that_is_written_twice_stands_once(connection: db.Connection, link: db.Link) -> None:
    await make_request(connection)
    claimed = await claim_one(link)
    writer = AttemptWriter(link=link, quarantine=Quarantine())
    writer.record(make_usage(claimed))
    writer.record(make_usage(claimed))
    await writer.wait_until_recorded(claimed)
    assert await count_usage(connection, claimed.id) == 1


async def test_usage_that_was_handed_in_is_written_before_the_end(connection: db.Connection, link: db.Link) -> None:
    await make_request(connection)
    claimed = await claim_one(link)
    writer = AttemptWriter(link=link, quarantine=Quarantine())
    writer.record(make_usage(claimed))
    await writer.flush()
    assert await count_usage(connection, claimed.id) == 1


@pytest.mark.parametrize("refusal", ["a figure", "a trigger"])
async def test_usage_that_the_server_refuses_is_logged_with_its_figures_and_holds_nobody_up(
    connection: db.Connection, link: db.Link, refusal: str
) -> None:
    await make_request(connection)
    claimed = await claim_one(link)
    if refusal == "a trigger":
        await connection.execute("""
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'insufficient_privilege'; END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON draft_usage FOR EACH ROW WHEN (NEW.call = 1) EXECUTE FUNCTION refuse()
        """)
    writer = AttemptWriter(link=link, quarantine=Quarantine())
    with capture_logs() as logs:
        writer.record(make_usage(claimed, input_tokens=7 if refusal == "a trigger" else 2**40))
        writer.record(make_usage(claimed, call=2))
        await writer.wait_until_recorded(claimed)
    (line,) = [line for line in logs if line["event"] == "usage refused"]
    assert (line["request_id"], line["output_tokens"]) == (claimed.id, 10)
    assert await count_usage(connection, claimed.id) == 1


async def count_usage(connection: db.Connection, request_id: UUID) -> int:
    rows = await (
        await connection.execute("SELECT count(*) AS n FROM draft_usage WHERE request_id = %s", [request_id])
    ).fetchall()
    return int(rows[0]["n"])


async def test_of_one_request_the_latest_progress_is_shown(connection: db.Connection, link: db.Link) -> None:
    await make_request(connection)
    claimed, writer = await claim_one(link), AttemptWriter(link=link, quarantine=Quarantine())
    # The first is on its way alone; the others meet in the next statement.
    await asyncio.gather(*(writer.publish(claimed, {"options": [1] * count}) for count in (1, 2, 3)))
    assert (await read_row(connection, claimed.id))["partial_result"] == {"options": [1, 1, 1]}


async def test_progress_is_fenced(connection: db.Connection, link: db.Link, settler: Settler) -> None:
    await make_request(connection)
    zombie = await claim_one(link)
    writer = AttemptWriter(link=link, quarantine=Quarantine())
    await writer.publish(zombie, {"options": [1]})
    assert (await read_row(connection, zombie.id))["partial_result"] == {"options": [1]}
    await settler.settle(zombie, GiveBack())
    owner = await claim_one(link)
    await writer.publish(owner, {"options": [2]})
    with pytest.raises(LeaseLost):
        await writer.publish(zombie, {"options": [3]})
    assert (await read_row(connection, owner.id))["partial_result"] == {"options": [2]}


async def settle_all(link: db.Link, claims: Sequence[Claim]) -> None:
    settler = Settler(link=link, quarantine=Quarantine())
    await asyncio.gather(*(settler.settle(one, make_done()) for one in claims))


async def publish_all(link: db.Link, claims: Sequence[Claim]) -> None:
    writer = AttemptWriter(link=link, quarantine=Quarantine())
    await asyncio.gather(*(writer.publish(one, {}) for one in claims))


async def renew_all(link: db.Link, claims: Sequence[Claim]) -> None:
    await link.run(RENEW_AND_BEAT, beat(*claims, worker_id=claims[0].id))


async def test_a_row_that_a_client_has_locked_does_not_hold_its_neighbours_up(
    database: str, connection: db.Connection, link: db.Link
) -> None:
    for _ in range(8):
        await make_request(connection)
    claims = await claim_all(link)
    untouched = "SELECT id FROM draft_requests WHERE status = 'processing' AND {} ORDER BY id"
    async with db.connected(database) as client, client.transaction():
        await client.execute("SELECT FROM draft_requests WHERE id = %s FOR UPDATE", [claims[3].id])
        await renew_all(link, claims)
        await publish_all(link, claims)
        unpublished = await (await connection.execute(untouched.format("partial_result IS NULL").encode())).fetchall()
        settling = asyncio.create_task(settle_all(link, claims))
        async with asyncio.timeout(60):
            while True:
                unsettled = await (await connection.execute(untouched.format("true").encode())).fetchall()
                if len(unsettled) == 1:
                    break
        assert unpublished == unsettled == [{"id": claims[3].id}]
    await settling
    assert (await read_row(connection, claims[3].id))["status"] == "completed"


async def test_whoever_does_not_wait_out_a_lock_is_told_to_settle_later(
    database: str, connection: db.Connection, link: db.Link, settler: Settler
) -> None:
    await make_request(connection)
    claimed = await claim_one(link)
    async with db.connected(database) as client, client.transaction():
        await client.execute("SELECT FROM draft_requests FOR UPDATE")
        with pytest.raises(NotSettledYet):
            await asyncio.wait_for(settler.settle(claimed, make_done(), retry_refusals=False), 20)
    assert (await settler.settle(claimed, make_done(), retry_refusals=False)).status == "completed"


async def test_two_claims_of_one_row_in_one_statement_are_told_apart(
    connection: db.Connection, link: db.Link, settler: Settler
) -> None:
    await make_request(connection)
    zombie = await claim_one(link)
    await settler.settle(zombie, GiveBack())
    owner = await claim_one(link)
    writer = AttemptWriter(link=link, quarantine=Quarantine())
    published = await asyncio.gather(writer.publish(zombie, {}), writer.publish(owner, {}), return_exceptions=True)
    assert [type(one) for one in published] == [LeaseLost, type(None)]
    outcomes = (settler.settle(zombie, RETRY), settler.settle(owner, make_done()))
    settled = await asyncio.gather(*outcomes, return_exceptions=True)
    assert [type(settled[0]), settled[1]] == [LeaseLost, ("completed", None)]


async def test_a_row_whose_history_is_no_list_can_be_ended_all_the_same(
    connection: db.Connection, link: db.Link, settler: Settler
) -> None:
    await make_request(connection, errors={"not": "a list"})
    claimed = await claim_one(link)
    assert (await settler.settle(claimed, RETRY)).status == "pending"
    assert [one["code"] for one in (await read_row(connection, claimed.id))["errors"]] == ["model_timeout"]


def test_psycopg_sorts_refusals_by_class() -> None:
    assert issubclass(psycopg.errors.UntranslatableCharacter, psycopg.DataError)
    assert issubclass(psycopg.errors.NotNullViolation, psycopg.IntegrityError)
