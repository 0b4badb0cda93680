"""Scores: feedback that clients insert arrives at Langfuse, whatever happens on the way."""

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from structlog.testing import capture_logs

from draftd import db
from draftd.daemon import scorer
from draftd.daemon.scorer import Scorer, scores_of
from draftd.queue.feedback import claim_scores, settle_scores
from draftd.telemetry import scores
from draftd.telemetry.langfuse import Content, load_tracing
from draftd.telemetry.scores import ScoresNotSentError
from draftd.telemetry.tracing import Tracing
from fix_database import make_request, overwrite
from fix_feedback import TEXTS, give_feedback, make_completed
from fix_otlp import OtlpReceiver, otlp_receiver
from fix_roles import Roles

TRACE = "ab" * 16


@pytest.fixture
def langfuse() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as receiver:
        yield receiver


def load(url: str, content: Content = "text", sample_rate: str | None = None) -> Tracing:
    return load_tracing(
        public_key=f"pk-{uuid4()}",
        secret_key="secret",
        host=url,
        content=content,
        release="1",
        sample_rate=sample_rate,
    )


async def rated(connection: db.Connection, link: db.Link, trace_id: str | None = TRACE, **given: Any) -> dict[str, Any]:
    """Insert feedback on a traced request."""
    request_id = await make_completed(connection, link)
    await overwrite(connection, request_id, trace_id=trace_id)
    return await give_feedback(
        connection, request_id, **{"option": "short", "sent_text": "Thursday works.", "rating": 1} | given
    )


async def waiting(connection: db.Connection) -> int:
    """Return how many rows have scores to send, due or not."""
    row = await (
        await connection.execute("SELECT count(*) AS n FROM draft_feedback WHERE score_at IS NOT NULL")
    ).fetchone()
    assert row is not None
    count: int = row["n"]
    return count


async def make_due(connection: db.Connection) -> None:
    await connection.execute("UPDATE draft_feedback SET score_at = now() WHERE score_at IS NOT NULL")


@pytest.mark.parametrize("content", ["off", "text", "full"])
async def test_feedback_arrives_as_scores_without_any_text(
    connection: db.Connection, link: db.Link, langfuse: OtlpReceiver, content: Content
) -> None:
    row = await rated(connection, link)
    assert await Scorer(link=link, tracing=load(langfuse.url, content)).send_due()
    found = {score["name"]: (score["value"], score["dataType"]) for score in langfuse.scores.values()}
    assert found == {
        "rating": (1.0, "NUMERIC"),
        "outcome": ("edited", "CATEGORICAL"),
        "similarity": (pytest.approx(row["similarity"]), "NUMERIC"),
        "option": ("short", "CATEGORICAL"),
    }
    assert {score["traceId"] for score in langfuse.scores.values()} == {TRACE}
    sent = langfuse.raw.decode()
    private = (*TEXTS.values(), "Thursday", "ada", "Bo", "confirms")
    # As words: an id may have "ada" among its digits.
    assert not [text for text in private if re.search(rf"(?<!\w){re.escape(text)}(?!\w)", sent)]
    assert await waiting(connection) == 0


async def test_a_similarity_that_is_no_number_holds_no_other_score_back(
    connection: db.Connection, link: db.Link, langfuse: OtlpReceiver
) -> None:
    await rated(connection, link)
    await connection.execute("UPDATE draft_feedback SET similarity = 'NaN'")
    assert await Scorer(link=link, tracing=load(langfuse.url)).send_due()
    assert {score["name"] for score in langfuse.scores.values()} == {"rating", "outcome", "option"}
    assert await waiting(connection) == 0


async def test_a_score_finds_its_trace_after_the_request_is_gone(
    connection: db.Connection, link: db.Link, langfuse: OtlpReceiver
) -> None:
    row = await rated(connection, link)
    await connection.execute("DELETE FROM draft_requests WHERE id = %s", [row["request_id"]])
    assert await Scorer(link=link, tracing=load(langfuse.url)).send_due()
    assert len(langfuse.scores) == 4


async def test_the_newest_feedback_replaces_the_scores_of_the_earlier_one(
    connection: db.Connection, link: db.Link, langfuse: OtlpReceiver
) -> None:
    row = await rated(connection, link, rating=1)
    sender = Scorer(link=link, tracing=load(langfuse.url))
    await sender.send_due()
    await give_feedback(connection, row["request_id"], option="medium", outcome="rejected", rating=-1)
    await sender.send_due()
    found = {score["name"]: score["value"] for score in langfuse.scores.values()}
    assert (found["rating"], found["outcome"], found["option"]) == (-1.0, "rejected", "medium")
    assert len(langfuse.scores) == 4


async def test_feedback_of_requests_without_a_trace_is_not_sent(
    connection: db.Connection, link: db.Link, langfuse: OtlpReceiver
) -> None:
    await rated(connection, link, trace_id=None)
    assert not await Scorer(link=link, tracing=load(langfuse.url)).send_due()
    assert langfuse.score_posts == 0


async def test_feedback_on_a_trace_that_was_not_sampled_is_done_without_a_score(
    connection: db.Connection, link: db.Link, langfuse: OtlpReceiver
) -> None:
    await rated(connection, link, trace_id="f" * 32)
    await rated(connection, link, trace_id="no trace id")
    assert await Scorer(link=link, tracing=load(langfuse.url, sample_rate="0.01")).send_due()
    assert (langfuse.score_posts, await waiting(connection)) == (0, 0)


async def test_scores_wait_while_langfuse_is_away_and_are_sent_when_it_is_back(
    connection: db.Connection, link: db.Link, langfuse: OtlpReceiver
) -> None:
    await rated(connection, link)
    sender = Scorer(link=link, tracing=load(langfuse.url))
    langfuse.mood = "refusing"
    with capture_logs() as logs:
        assert await sender.send_due()
    assert [(line["event"], line["detail"].startswith("answered 401")) for line in logs] == [("scores not sent", True)]
    assert await waiting(connection) == 1
    assert not await sender.send_due()  # not before its delay is over
    await make_due(connection)
    langfuse.mood = "well"
    assert await sender.send_due()
    assert (len(langfuse.scores), await waiting(connection)) == (4, 0)


async def test_a_server_that_nobody_listens_for_is_an_outage_like_another(
    connection: db.Connection, link: db.Link
) -> None:
    await rated(connection, link)
    with capture_logs() as logs:
        assert await Scorer(link=link, tracing=load("http://127.0.0.1:9")).send_due()
    assert logs[0]["event"] == "scores not sent"
    assert "secret" not in json.dumps(logs)
    assert await waiting(connection) == 1


async def test_a_server_that_hangs_holds_up_nothing_and_gets_no_second_thread(
    connection: db.Connection, link: db.Link, langfuse: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores, "TIME_S", 0.2)
    await rated(connection, link)
    langfuse.mood = "hanging"
    sender = Scorer(link=link, tracing=load(langfuse.url))
    with capture_logs() as logs:
        sending = asyncio.create_task(sender.send_due())
        assert (await make_request(connection)).version == 4  # the database is free meanwhile
        await sending
        await make_due(connection)
        await sender.send_due()
    assert [line["detail"] for line in logs] == ["no answer within 0.2 s", "the request before this one still hangs"]
    assert [thread.name for thread in threading.enumerate()].count("langfuse-scores") == 1
    langfuse.released.set()


async def test_scores_that_langfuse_rejects_are_not_sent_again(
    connection: db.Connection, link: db.Link, langfuse: OtlpReceiver
) -> None:
    await rated(connection, link)
    langfuse.rejects_scores = True
    with capture_logs() as logs:
        assert await Scorer(link=link, tracing=load(langfuse.url)).send_due()
    assert [line["event"] for line in logs] == ["scores rejected"]
    assert await waiting(connection) == 0


async def test_scores_that_nobody_takes_for_a_week_are_given_up(
    connection: db.Connection, link: db.Link, langfuse: OtlpReceiver
) -> None:
    await rated(connection, link)
    young = await rated(connection, link)
    await connection.execute(
        "UPDATE draft_feedback SET created_at = created_at - interval '8 d' WHERE id <> %s", [young["id"]]
    )
    langfuse.mood = "refusing"
    await Scorer(link=link, tracing=load(langfuse.url)).send_due()
    rows = await (await connection.execute("SELECT id FROM draft_feedback WHERE score_at IS NOT NULL")).fetchall()
    assert rows == [{"id": young["id"]}]


async def test_two_daemons_share_the_work(connection: db.Connection, link: db.Link, database: str) -> None:
    for _ in range(4):
        await rated(connection, link)
    other = db.Link(url=database, name="other")
    try:
        mine, theirs = await asyncio.gather(
            claim_scores(link, batch=2, lease_s=60), claim_scores(other, batch=2, lease_s=60)
        )
    finally:
        await other.close()
    assert len({row["id"] for row in (*mine, *theirs)}) == 4
    assert await claim_scores(link, batch=9, lease_s=60) == []


async def test_what_a_dead_daemon_had_taken_is_due_again(connection: db.Connection, link: db.Link) -> None:
    await rated(connection, link)
    (taken,) = await claim_scores(link, batch=9, lease_s=60)
    await make_due(connection)
    (again,) = await claim_scores(link, batch=9, lease_s=60)
    # The one that was slow, and not dead, changes nothing any more.
    await settle_scores(link, [taken])
    assert await waiting(connection) == 1
    await settle_scores(link, [again])
    assert await waiting(connection) == 0


async def test_a_role_without_the_right_to_update_is_said_and_the_daemon_goes_on(
    connection: db.Connection, link: db.Link, roles: Roles, langfuse: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rated(connection, link)
    role = db.Link(url=roles.url(roles.make()), name="draftd test")
    sender = Scorer(link=role, tracing=load(langfuse.url))
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    monkeypatch.setattr(sender, "_failed", told.set_result)
    task = asyncio.create_task(sender.run())
    assert "permission denied" in await asyncio.wait_for(told, 60)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await role.close()


async def test_a_workers_grants_are_enough(
    connection: db.Connection, link: db.Link, roles: Roles, langfuse: OtlpReceiver
) -> None:
    await rated(connection, link)
    worker = db.Link(url=roles.url(roles.worker()), name="draftd test")
    try:
        assert await Scorer(link=worker, tracing=load(langfuse.url)).send_due()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await worker.run("UPDATE draft_feedback SET rating = 1")
    finally:
        await worker.close()
    assert await waiting(connection) == 0


async def test_delays_grow_to_a_bound(link: db.Link) -> None:
    sender = Scorer(link=link, tracing=Tracing())
    delays = []
    for _ in range(100):
        sender._failed("x")
        delays.append(sender._delay_s())
    assert delays[:3] == [15, 30, 60]
    assert delays[-1] == max(delays) == scorer.MAX_DELAY_S


async def test_without_langfuse_nothing_is_sent(langfuse: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not Tracing().takes_scores
    assert load(langfuse.url).takes_scores
    assert not load(langfuse.url, sample_rate="0").takes_scores
    monkeypatch.setenv("LANGFUSE_TRACING_ENABLED", "false")
    assert not load(langfuse.url).takes_scores


KNOWN: dict[str, Any] = {
    "id": 1,
    "request_id": None,
    "trace_id": TRACE,
    "created_at": datetime(2026, 1, 1, tzinfo=UTC),
    "rating": -1,
    "outcome": None,
    "similarity": None,
    "option": None,
}


def test_only_what_is_known_becomes_a_score() -> None:
    assert [(score.name, score.value) for score in scores_of(KNOWN)] == [("rating", -1.0)]


async def test_an_address_that_is_none_is_not_quoted() -> None:
    with pytest.raises(ScoresNotSentError) as refused:
        await load("http://[secret/").send_scores(list(scores_of(KNOWN)))
    assert "secret" not in str(refused.value)
