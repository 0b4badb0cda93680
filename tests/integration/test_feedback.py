"""Feedback: what the database makes of a row that a client inserts."""

import random
import time
from typing import Any

import psycopg
import pytest

from draftd import db
from draftd.queue.attempts import AttemptWriter
from draftd.queue.refused_rows import Quarantine
from draftd.telemetry.langfuse import trace_id_of
from fix_database import claim_one, make_request, overwrite, read_row
from fix_feedback import OPTIONS, RESULT, TEXTS, give_feedback, make_completed

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def similarity(connection: db.Connection, a: str | None, b: str | None) -> float | None:
    row = await (await connection.execute("SELECT draft_text_similarity(%s, %s) AS s", [a, b])).fetchone()
    assert row is not None
    found: float | None = row["s"]
    return found


@pytest.mark.parametrize(
    ("a", "b"),
    [("", ""), ("Yes", "Yes"), ("  Yes\n", "Yes"), ("one\r\ntwo", "one\ntwo"), ("会議は明日", "会議は明日")],
)
async def test_texts_that_differ_in_space_around_them_only_are_the_same(
    connection: db.Connection, a: str, b: str
) -> None:
    assert await similarity(connection, a, b) == 1


@pytest.mark.parametrize(("a", "b"), [("aaaa", "aaaaa"), ("abab", "ababab"), ("x" * 4000 + "y", "x" * 4000 + "z")])
async def test_texts_that_differ_are_never_the_same(connection: db.Connection, a: str, b: str) -> None:
    found = await similarity(connection, a, b)
    assert found is not None
    assert 0.9 < found < 1


async def test_the_more_is_edited_the_less_alike_the_texts_are(connection: db.Connection) -> None:
    draft = TEXTS["detailed"]
    edits = [draft, draft.replace("Thursday", "Friday"), TEXTS["short"], "No thanks, not this month."]
    found = [await similarity(connection, draft, sent) for sent in edits]
    assert found == sorted(found, key=lambda one: -(one or 0))
    assert found[0] == 1
    assert found[1] is not None
    assert found[1] > 0.8
    assert found[-1] is not None
    assert found[-1] < 0.2
    assert await similarity(connection, edits[1], draft) == found[1]


async def test_languages_without_spaces_are_compared_as_well(connection: db.Connection) -> None:
    found = await similarity(connection, "会議は明日の午後二時からです", "会議は明後日の午後二時からです")
    assert found is not None
    assert 0.6 < found < 1


async def test_there_is_no_similarity_without_both_texts(connection: db.Connection) -> None:
    assert await similarity(connection, None, "x") is None
    assert await similarity(connection, "x", None) is None


async def test_long_texts_are_compared_in_bounded_time(connection: db.Connection) -> None:
    noise = random.Random(1)  # noqa: S311 - not for secrets
    long = "".join(chr(noise.randrange(0x4E00, 0x9FFF)) for _ in range(20_000))
    began = time.process_time(), time.monotonic()
    assert await similarity(connection, long, long[::-1]) == 0
    assert time.monotonic() - began[1] < 5


async def test_what_was_chosen_is_kept_with_the_feedback(connection: db.Connection, link: db.Link) -> None:
    request_id = await make_completed(connection, link, prompt_version="abc", agent="special")
    row = await give_feedback(connection, request_id, option="medium", sent_text="Thursday works.", rating=1)
    assert (row["agent"], row["prompt_version"], row["platform"]) == ("special", "abc", "slack")
    assert (row["drafted_text"], row["angle"], row["stance"]) == (TEXTS["medium"], "confirms, medium", "accept")
    assert row["similarity"] == await similarity(connection, TEXTS["medium"], "Thursday works.")


@pytest.mark.parametrize(
    ("given", "outcome", "is_compared"),
    [
        ({"option": "short", "sent_text": TEXTS["short"] + "\n"}, "sent", True),
        ({"option": "short", "sent_text": "Another day."}, "edited", True),
        ({"option": "short", "sent_text": "Another day.", "outcome": "rejected"}, "rejected", True),
        ({"option": "short", "sent_text": "Another day.", "outcome": "sent"}, "sent", True),
        ({"option": "short"}, None, False),
        ({"sent_text": "My own words."}, None, False),
        ({"rating": -1}, None, False),
    ],
)
async def test_an_outcome_that_is_left_out_follows_from_the_texts(
    connection: db.Connection, link: db.Link, given: dict[str, Any], outcome: str | None, *, is_compared: bool
) -> None:
    row = await give_feedback(connection, await make_completed(connection, link), **given)
    assert (row["outcome"], row["similarity"] is not None) == (outcome, is_compared)


FORGED = {
    "similarity": 0.5,
    "angle": "x",
    "stance": "x",
    "agent": "x",
    "prompt_version": "x",
    "trace_id": "x",
    "platform": "x",
    "author": "x",
    "drafted_text": "x",
    "score_at": "2001-01-01",
}


async def test_nothing_that_the_database_fills_in_can_be_forged(connection: db.Connection, link: db.Link) -> None:
    request_id = await make_completed(connection, link)
    plain = await give_feedback(connection, request_id, rating=1)
    forged = await give_feedback(connection, request_id, rating=1, **FORGED)
    assert {name: forged[name] for name in FORGED} == {name: plain[name] for name in FORGED}


async def test_a_sent_text_has_a_bound(connection: db.Connection, link: db.Link) -> None:
    request_id = await make_completed(connection, link)
    await give_feedback(connection, request_id, option="short", sent_text="ü" * 8000)
    with pytest.raises(psycopg.IntegrityError, match="at most 8,000 characters, not 8001"):
        await give_feedback(connection, request_id, option="short", sent_text="ü" * 8001)


async def test_an_option_that_the_request_does_not_have_is_refused(connection: db.Connection, link: db.Link) -> None:
    request_id = await make_completed(connection, link, result=RESULT | {"options": OPTIONS[:2]})
    with pytest.raises(psycopg.IntegrityError, match="no option 'detailed'") as refused:
        await give_feedback(connection, request_id, option="detailed")
    assert refused.value.diag.message_hint == "It has short, medium."
    cancelled = await make_request(connection)
    await connection.execute("SELECT cancel_draft_request(%s)", [cancelled])
    with pytest.raises(psycopg.IntegrityError, match="no option 'short'") as refused:
        await give_feedback(connection, cancelled, option="short")
    assert refused.value.diag.message_hint == "It has none at all; leave option out."
    assert (await give_feedback(connection, cancelled, rating=-1))["rating"] == -1


async def test_an_early_option_can_be_rated_before_and_after_the_request_fails(
    connection: db.Connection, link: db.Link
) -> None:
    request_id = await make_request(connection)
    await AttemptWriter(link=link, quarantine=Quarantine()).publish(
        await claim_one(link), RESULT | {"options": OPTIONS[:1]}
    )
    early = await give_feedback(connection, request_id, option="short", sent_text=TEXTS["short"])
    assert (early["outcome"], early["drafted_text"]) == ("sent", TEXTS["short"])
    # Its attempt may publish anew: an option that is not there now may have been shown.
    assert (await give_feedback(connection, request_id, option="medium"))["drafted_text"] is None
    await connection.execute("UPDATE draft_requests SET status = 'failed' WHERE id = %s", [request_id])
    late = await give_feedback(connection, request_id, option="short", sent_text="No.")
    assert (late["outcome"], late["drafted_text"], late["platform"]) == ("edited", TEXTS["short"], "slack")


async def test_a_request_may_be_rated_more_than_once(connection: db.Connection, link: db.Link) -> None:
    request_id = await make_completed(connection, link)
    first = await give_feedback(connection, request_id, option="short", rating=1)
    second = await give_feedback(connection, request_id, option="medium", rating=-1)
    assert second["id"] > first["id"]


async def test_feedback_finds_the_trace_of_its_request(connection: db.Connection, link: db.Link) -> None:
    request_id = await make_completed(connection, link)
    untraced = await give_feedback(connection, request_id, rating=1)
    assert (untraced["trace_id"], untraced["score_at"]) == (None, None)
    await overwrite(connection, request_id, trace_id="ab" * 16)
    traced = await give_feedback(connection, request_id, rating=1)
    assert (traced["trace_id"], traced["score_at"]) == ("ab" * 16, traced["created_at"])
    assert (await give_feedback(connection, request_id))["score_at"] is None


@pytest.mark.parametrize("traceparent", [None, TRACEPARENT])
async def test_feedback_on_an_unfinished_request_finds_the_trace_that_it_will_have(
    connection: db.Connection, traceparent: str | None
) -> None:
    request_id = await make_request(connection, traceparent=traceparent)
    row = await give_feedback(connection, request_id, rating=1)
    assert row["trace_id"] == trace_id_of(request_id, traceparent)


async def test_the_first_option_is_timed_once(connection: db.Connection, link: db.Link) -> None:
    request_id = await make_request(connection)
    claimed = await claim_one(link)
    assert (await read_row(connection, request_id))["first_option_at"] is None
    writer = AttemptWriter(link=link, quarantine=Quarantine())
    await writer.publish(claimed, {"options": OPTIONS[:1]})
    first = (await read_row(connection, request_id))["first_option_at"]
    await writer.publish(claimed, {"options": OPTIONS[:2]})
    row = await read_row(connection, request_id)
    assert row["claimed_at"] <= first == row["first_option_at"] < row["updated_at"]
