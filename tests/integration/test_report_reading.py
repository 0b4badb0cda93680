"""What the report reads of a period, on a real server."""

import json
from datetime import timedelta
from typing import Any, LiteralString

import psycopg
import pytest

from draftd import db
from draftd.report import reading
from draftd.report.figures import Figures, figures_of
from draftd.report.intervals import Share
from draftd.report.page import as_json, render
from fix_daemon import Client
from fix_database import make_request, overwrite
from fix_extremes import add_extreme, cases, make_extreme
from fix_feedback import OPTIONS, RESULT, TEXTS, give_feedback, make_completed
from fix_report import fill_period
from fix_roles import Roles

DAY_S = 86_400.0


async def read(connection: db.Connection, **over: Any) -> reading.Period:
    given: dict[str, Any] = {"since_s": DAY_S, "drafts": 20, "with_content": True} | over
    return await reading.read_period(connection, **given)


async def figures(connection: db.Connection) -> Figures:
    return figures_of(await read(connection))


async def test_nothing_is_read_of_an_empty_database(connection: db.Connection) -> None:
    found = await figures(connection)
    assert (found.requests["completed"], found.latency, found.usage.calls, found.all.taken.of) == (0, None, 0, 0)
    assert 24 <= len(found.steps) <= 25


async def test_only_what_is_in_the_period_counts(connection: db.Connection, link: db.Link) -> None:
    inside = await make_completed(connection, link)
    outside = await make_completed(connection, link)
    await give_feedback(connection, inside, option="short", outcome="sent")
    await give_feedback(connection, outside, option="short", outcome="sent")
    for table, key in (("draft_requests", "id"), ("draft_feedback", "request_id")):
        statement = f"UPDATE {table} SET created_at = created_at - interval '25 h' WHERE {key} = %s"
        await connection.execute(statement.encode(), [outside])
    period = await read(connection)
    found = figures_of(period)
    assert (found.requests["completed"], found.all.drafted, found.all.taken) == (1, 1, Share(1, 1))
    assert [row["id"] for row in period.drafts] == [inside]


async def test_times_count_from_when_a_request_was_due(connection: db.Connection, link: db.Link) -> None:
    request_id = await make_completed(connection, link)
    row = await (
        await connection.execute("SELECT created_at FROM draft_requests WHERE id = %s", [request_id])
    ).fetchone()
    assert row is not None

    async def measured(**seconds: float) -> tuple[float, float, float]:
        moments = {name: row["created_at"] + timedelta(seconds=by) for name, by in seconds.items()}
        if moments:
            await overwrite(connection, request_id, **moments)
        found = (await figures(connection)).latency
        assert found is not None
        return found.wait_s.p50, found.first_s.p50, found.result_s.p50

    assert await measured(available_at=100, claimed_at=101, first_option_at=103, finished_at=106) == (1, 3, 6)
    # Of a retried request it is the time of its insert: available_at is the retry's.
    await overwrite(connection, request_id, attempt=2)
    assert await measured() == (1, 103, 106)
    # Nothing was published early: the first option came with the result.
    await overwrite(connection, request_id, attempt=1, first_option_at=None)
    assert await measured() == (1, 6, 6)


async def test_of_very_many_requests_a_sample_is_timed(
    connection: db.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill_period(connection, n=2_000)
    whole = (await figures(connection)).latency
    monkeypatch.setattr(reading, "MAX_TIMED", 200)
    found = await figures(connection)
    assert whole is not None
    assert found.latency is not None
    assert whole.n == found.requests["completed"] > 1_500
    assert 150 < found.latency.n < 250
    assert found.latency.result_s.p50 == pytest.approx(whole.result_s.p50, rel=0.1)


async def test_moments_that_are_none_fail_nothing(connection: db.Connection, link: db.Link) -> None:
    request_id = await make_completed(connection, link)
    for moment in ("infinity", "-infinity"):
        await overwrite(connection, request_id, available_at=moment, claimed_at=moment, finished_at=moment)
        period = await read(connection)
        assert figures_of(period).latency is not None
        assert len(period.drafts) == 1


async def test_the_newest_outcome_and_the_newest_rating_of_a_request_count(
    connection: db.Connection, link: db.Link
) -> None:
    request_id = await make_completed(connection, link)
    await give_feedback(connection, request_id, option="short", outcome="rejected")
    await give_feedback(connection, request_id, option="medium", sent_text=TEXTS["medium"])
    await give_feedback(connection, request_id, rating=-1)
    await give_feedback(connection, request_id, rating=1)
    found = await figures(connection)
    assert (found.all.taken, found.all.unchanged, found.all.liked) == (Share(1, 1), Share(1, 1), Share(1, 1))
    assert found.lengths["medium"].sent == 1
    assert found.tenths[10] == 1


async def test_texts_say_whether_a_sent_draft_was_edited(connection: db.Connection, link: db.Link) -> None:
    request_id = await make_completed(connection, link)
    await give_feedback(connection, request_id, option="short", sent_text="Friday works.", outcome="sent")
    found = await figures(connection)
    assert (found.all.sent, found.all.edited) == (0, 1)


async def test_a_rejected_draft_is_not_compared(connection: db.Connection, link: db.Link) -> None:
    request_id = await make_completed(connection, link)
    await give_feedback(connection, request_id, option="short", sent_text="My own.", outcome="rejected")
    found = await figures(connection)
    assert (found.all.rejected, found.all.similarity, sum(found.tenths)) == (1, None, 0)


async def test_feedback_counts_after_its_request_is_gone(connection: db.Connection, link: db.Link) -> None:
    for _ in range(2):
        request_id = await make_completed(connection, link, prompt_version="v7")
        await give_feedback(connection, request_id, option="short", outcome="sent")
    await connection.execute("DELETE FROM draft_requests")
    found = await figures(connection)
    assert found.by_prompt["comment_generator", "v7"].taken == Share(2, 2)
    assert found.all.drafted == 0


async def test_feedback_from_before_the_end_of_a_request_gets_its_prompt_version(connection: db.Connection) -> None:
    request_id = await make_request(connection)
    await give_feedback(connection, request_id, outcome="sent")
    await overwrite(connection, request_id, prompt_version="v9")
    assert (await figures(connection)).by_prompt["comment_generator", "v9"].taken.of == 1


async def test_angles_of_drafts_that_were_taken_are_read_with_content_only(
    connection: db.Connection, link: db.Link
) -> None:
    for option, outcome in (("short", "sent"), ("short", "edited"), ("medium", "rejected")):
        request_id = await make_completed(connection, link)
        await give_feedback(connection, request_id, option=option, outcome=outcome)
    assert (await figures(connection)).angles == {"confirms, short": 2}
    assert (await read(connection, with_content=False)).angles == []


async def test_the_last_drafts_are_the_newest_that_have_ended(connection: db.Connection, link: db.Link) -> None:
    first, second = [await make_completed(connection, link) for _ in range(2)]
    failed = await make_request(connection)
    await overwrite(connection, failed, status="failed", partial_result=RESULT | {"options": OPTIONS[:1]})
    await make_request(connection)
    await give_feedback(connection, second, option="short", rating=1)
    rows = (await read(connection, drafts=2)).drafts
    assert [row["id"] for row in rows] == [failed, second]
    assert [row["rating"] for row in rows] == [None, 1]
    assert [row["id"] for row in (await read(connection, drafts=9)).drafts][2:] == [first]
    assert (await read(connection, drafts=0)).drafts == []


async def test_money_and_tokens_are_counted_by_day_and_model(connection: db.Connection) -> None:
    calls: list[tuple[Any, ...]] = [
        ("a", None, 10, 5, 2, 0.5),
        ("a", "output_invalid", 10, None, 2, 0.25),
        ("b", None, 1, None, 1, None),
        ("b", "model_timeout", None, None, None, None),
    ]
    for number, (model, code, *rest) in enumerate(calls):
        await connection.execute(
            """INSERT INTO draft_usage (request_id, requester_id, attempt, lease_token, call, model, code, input_tokens,
                                        cached_tokens, output_tokens, cost_usd)
               VALUES (gen_random_uuid(), '', 1, 1, %s, %s, %s, %s, %s, %s, %s)""",
            [number, model, code, *rest],
        )
    found = await figures(connection)
    assert (found.usage.calls, found.usage.failed, found.usage.input_tokens, found.usage.cached_tokens) == (4, 2, 21, 5)
    assert (found.by_model["a"].cost.usd, found.by_model["a"].cost.unpriced) == (0.75, 0)
    # A call that ended before it had tokens is no call at an unknown price.
    assert (found.by_model["b"].cost.usd, found.by_model["b"].cost.unpriced) == (None, 1)


async def test_a_worker_may_read_a_report_and_a_client_may_not(roles: Roles) -> None:
    async with db.connected(roles.url(roles.worker())) as worker:
        await read(worker)
    async with db.connected(roles.url(roles.client())) as client:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await read(client)


@pytest.mark.parametrize(
    "name",
    [
        "read_volume",
        "read_drafts",
        *(pytest.param(one, marks=pytest.mark.long) for one in ("read_latency", "read_drafted", "read_feedback")),
    ],
)
async def test_a_short_period_is_read_by_an_index(connection: db.Connection, name: str) -> None:
    await fill_period(connection, n=3_000)
    await connection.execute("ANALYZE draft_requests")
    await connection.execute("ANALYZE draft_feedback")
    row = await (await connection.execute("SELECT now() AS until, now() - interval '30 min' AS since")).fetchone()
    assert row is not None
    params = row | {"step_s": 3_600, "most": 20, "share": 1.0}
    lines = await (await connection.execute(f"EXPLAIN {reading._SQL[name]}".encode(), params)).fetchall()
    plan = "\n".join(str(line["QUERY PLAN"]) for line in lines)
    assert "_created_at_idx" in plan
    assert "Seq Scan" not in plan


async def test_what_a_worker_may_write_does_not_end_the_report(connection: db.Connection, link: db.Link) -> None:
    request_id = await make_completed(connection, link)
    await connection.execute(
        "UPDATE draft_requests SET claimed_at = 'infinity', first_option_at = 'infinity', finished_at = 'infinity', "
        "cost_usd = 'NaN'"
    )
    await connection.execute(
        "INSERT INTO draft_usage (request_id, requester_id, attempt, lease_token, call, model, input_tokens, cost_usd) "
        "VALUES (%s, '', 1, 9, 1, 'm', 1, 'NaN')",
        [request_id],
    )
    period = await read(connection)
    found = figures_of(period)
    assert json.loads(json.dumps(as_json(found, period.drafts, with_content=True), default=str, allow_nan=False))
    assert render(found, period.drafts, with_content=True)
    assert [(row["calls"], row["cost_usd"], row["unpriced"]) for row in period.usage] == [(1, 0, 1)]


FEEDBACK = """
INSERT INTO draft_feedback (request_id, outcome)
SELECT id, 'edited' FROM draft_requests WHERE id NOT IN (SELECT request_id FROM draft_feedback WHERE request_id IS NOT NULL)
"""
COMPLETED = {"status": "'completed'", "result": "'{}'"}
ANY_URL = "https://a.example/a.png"


def set_past_checks(connection: psycopg.Connection[dict[str, str]], table: str, column: str, value: str) -> bool:
    """Set a column of a table's last row without its triggers; return whether the table allows that."""
    try:
        with connection.transaction():
            connection.execute("SET LOCAL session_replication_role = replica")
            statement = f"UPDATE {table} SET {column} = {value} WHERE id = (SELECT max(id) FROM {table})"
            connection.execute(statement.encode())
    except psycopg.Error:
        return False
    return True


@pytest.mark.parametrize("table", ["draft_requests", "draft_usage", "draft_feedback"])
async def test_whatever_a_row_holds_there_is_a_report(
    table: LiteralString, client: Client, connection: db.Connection, link: db.Link
) -> None:
    await make_completed(connection, link)
    made = 0
    for number, (column, value) in enumerate(cases(client.connection, table)):
        if table == "draft_usage":
            made += add_extreme(client.connection, table, column, value)
        elif table == "draft_feedback":
            make_extreme(client.connection, ANY_URL, COMPLETED)
            client.query(FEEDBACK)
            made += set_past_checks(client.connection, table, column, value)
        else:
            state = {"status": "'failed'"} if number % 2 else COMPLETED
            made += make_extreme(client.connection, ANY_URL, state, **{column: value})
    assert made > 40
    period = await read(connection, drafts=500)
    found = figures_of(period)
    render(found, period.drafts, with_content=True)
    json.dumps(as_json(found, period.drafts, with_content=True), default=str, allow_nan=False)


@pytest.mark.long
async def test_a_report_reads_a_bounded_part_of_texts_of_any_length(connection: db.Connection, link: db.Link) -> None:
    huge = "repeat('x', 10000000)"
    request_id = await make_completed(connection, link, result=RESULT)
    await give_feedback(connection, request_id, option="short", outcome="sent")
    failed = await make_completed(connection, link)
    texts = "agent", "model", "prompt_version", "error_message"
    sets = ", ".join(f"{name} = {huge}" for name in texts)
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(
            f"UPDATE draft_requests SET {sets}, result = jsonb_build_object('platform', {huge}, 'options', '[]'::jsonb)".encode()
        )
        await connection.execute(
            "UPDATE draft_requests SET status = 'failed', result = NULL, error_code = 'x' WHERE id = %s",
            [failed],
        )
        await connection.execute(
            f"UPDATE draft_feedback SET angle = {huge}, stance = {huge}, platform = {huge}, sent_text = {huge}".encode()
        )
        await connection.execute(
            "INSERT INTO draft_usage (request_id, requester_id, attempt, lease_token, call, code, model) "
            f"VALUES (gen_random_uuid(), '', 1, 1, 1, 'x', {huge})".encode()
        )
    period = await read(connection)
    assert len(period.drafts) == 2
    assert len(repr(period)) < 100_000
    assert len(render(figures_of(period), period.drafts, with_content=True)) < 200_000
