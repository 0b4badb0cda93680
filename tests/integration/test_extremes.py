"""Rows of the tables that statements over all rows read: whatever their owner writes, the statements of the fleet go on."""

import time
import uuid
from dataclasses import replace
from typing import Any, LiteralString

import pytest

from draftd import db
from draftd.cli.fleet import read_status
from draftd.daemon.gauges import OLDEST_PENDING
from draftd.errors import ModelUnavailable
from draftd.providers.catalog import AgentModels, Catalog
from draftd.providers.failure_policy import ModelState
from draftd.providers.holds import FORGET_UNUSED, MARK_USED, Holds
from draftd.providers.models import Models
from draftd.providers.permits import Permits
from draftd.providers.throttles import Throttles
from draftd.queue.leases import RENEW_AND_BEAT
from draftd.queue.reaping import FIND_REAPABLE
from fix_daemon import Client
from fix_database import beat, claim_all, make_request, overwrite, reap_now, shift
from fix_extremes import SHARED, add_extreme, cases

MODEL = "openai/m"
REAPING: dict[str, Any] = {
    "lease_s": 0.001, "older_than_s": 0.0, "last_at": None, "gap_s": 0.0, "steady_since": None,
    "now": None, "skip": [], "limit": 500,
}  # fmt: skip


async def daemons_work(link: db.Link, connection: db.Connection) -> None:
    """Carry out what daemons do for all rows: a beat and what follows of it, a pass of each actor, a failing call, status."""
    throttles = Throttles(link=link)
    holds = Holds(link=link, throttles=throttles, probe_s=10, write_wait_s=60)
    models = Models(
        holds=holds,
        throttles=throttles,
        agents=["comment_generator"],
        default=AgentModels(models=(MODEL,)),
        permits=Permits(bases=[], variables=[]),
        getenv=lambda _name: None,
    )
    (row,) = await link.run(RENEW_AND_BEAT, beat())
    models.update(Catalog.read(row["agents"], row["models"]), row["holds"], row["throttles"], as_of=time.monotonic())
    assert all(0 < group.share <= 1 for group in models.claim_groups())
    await models.take_probe(link)
    await holds.refresh(link)
    await link.run(FIND_REAPABLE, REAPING)
    await reap_now(link)
    await link.run(OLDEST_PENDING)
    await read_status(connection)
    await fails(link, throttles, holds, connection)
    await link.run(MARK_USED, {"models": [MODEL]})
    await link.run(FORGET_UNUSED)


async def fails(link: db.Link, throttles: Throttles, holds: Holds, connection: db.Connection) -> None:
    """Let a rate limit and an outage be answered: a throttle, and then a hold."""
    await make_request(connection, agent="comment_generator")
    (claim,) = await claim_all(link, limit=1)
    limit = await throttles.rate_limited(MODEL, request_id=claim.id, began=time.monotonic())
    assert limit.bursts, "it was counted"
    await link.run("UPDATE draft_holds SET probing = true")
    down = ModelUnavailable("down", model=MODEL)
    claim = replace(claim, probe=MODEL)
    assert await holds.failed(down, model=MODEL, claim=claim, began=time.monotonic()) is ModelState.HELD
    await link.run("DELETE FROM draft_requests")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("table", SHARED)
async def test_no_value_of_any_column_stops_a_statement_that_daemons_share(
    table: LiteralString, client: Client, link: db.Link, connection: db.Connection
) -> None:
    mine = {
        "draft_workers": {},
        "draft_agents": {"agent": "'comment_generator'", "model": f"'{MODEL}'"},
        "draft_models": {"name": f"'{MODEL}'"},
    }.get(table, {"model": f"'{MODEL}'"})
    made = 0
    for column, value in cases(client.connection, table):
        await make_request(connection, status="processing", worker_id=uuid.uuid4())
        if add_extreme(client.connection, table, column, value, **mine):
            made += 1
            try:
                await daemons_work(link, connection)
            except Exception as error:
                raise AssertionError(f"{table}.{column} = {value}") from error
        for one in SHARED:
            client.query(f"DELETE FROM {one}")
    assert made > 10


async def test_the_age_of_the_oldest_request_can_be_read_whatever_it_waits_for(
    link: db.Link, connection: db.Connection
) -> None:
    await overwrite(connection, await make_request(connection), available_at="-infinity")
    (row,) = await link.run(OLDEST_PENDING)
    assert (await read_status(connection))["oldest_pending_s"] == row["age_s"] > 0


@pytest.mark.parametrize("column", ["used_at", "until"])
async def test_a_hold_with_a_moment_that_no_daemon_sets_does_not_last(
    client: Client, link: db.Link, connection: db.Connection, column: str
) -> None:
    assert add_extreme(client.connection, "draft_holds", column, "'infinity'", model=f"'{MODEL}'")
    if column == "until":
        await make_request(connection)
        holds = Holds(link=link, throttles=Throttles(link=link), probe_s=10)
        await holds.refresh(link)
        assert holds.lapsed() == [MODEL]
        assert await holds.take_probe(link, MODEL, ["comment_generator"])
    else:
        await link.run(FORGET_UNUSED)
        assert not await link.run("SELECT model FROM draft_holds")


async def test_a_worker_that_beats_in_the_future_is_forgotten(client: Client, link: db.Link) -> None:
    assert add_extreme(client.connection, "draft_workers", "heartbeat_at", "'infinity'")
    await reap_now(link)
    assert not await link.run("SELECT id FROM draft_workers")


async def test_a_worker_without_a_name_for_its_agent_keeps_no_unknown_agent_alive(
    client: Client, link: db.Link, connection: db.Connection
) -> None:
    row_id = await make_request(connection, agent="nobodys")
    await shift(connection, row_id, available_at=-60)
    await link.run(RENEW_AND_BEAT, beat())
    assert add_extreme(client.connection, "draft_workers", "agents", "'{NULL}'")
    assert [(one.id, one.code) for one in await reap_now(link)] == [(row_id, "invalid_request")]
