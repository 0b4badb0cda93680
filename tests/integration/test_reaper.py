"""The reaper's loop; what it takes back is ``test_leases``'s matter."""

import asyncio

import psycopg
import pytest
import structlog

from draftd import db
from draftd.daemon.reaper import Reaper
from draftd.queue.leases import BEATS_PER_LEASE
from draftd.queue.refused_rows import Quarantine
from draftd.telemetry.metrics import Metrics
from fix_database import claim_one, make_request, read_row
from fix_refusals import accept, refuse

LEASE_S = 0.01


async def test_a_row_that_an_apps_trigger_lets_nobody_take_back_is_told_and_ends_nothing(
    connection: db.Connection, link: db.Link
) -> None:
    await make_request(connection)
    claimed = await claim_one(link)
    await connection.execute("UPDATE draft_requests SET lease_until = now() - interval '1 h'")
    await connection.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON draft_requests FOR EACH ROW EXECUTE FUNCTION refuse()""")
    reaper = Reaper(link=link, lease_s=LEASE_S, interval_s=0.01, metrics=Metrics(), quarantine=Quarantine())
    with structlog.testing.capture_logs() as logs:
        running = asyncio.create_task(reaper.run())
        async with asyncio.timeout(20):
            while len([line for line in logs if line["event"] == "reaping refused"]) < 2:
                assert not running.done()
                await asyncio.sleep(0.01)
        await connection.execute("DROP TRIGGER refuse ON draft_requests")
        async with asyncio.timeout(20):
            while not [line for line in logs if line["event"] == "reaped"]:  # noqa: ASYNC110 - the log is all that tells
                await asyncio.sleep(0.01)
        running.cancel()
    assert [line["request_id"] for line in logs if line["event"] == "reaped"] == [claimed.id]


async def test_a_pass_that_leaves_a_refused_row_out_proves_nothing(connection: db.Connection, link: db.Link) -> None:
    """So the refusals before it and after it are one row of refusals: see ``test_passes``."""
    await make_request(connection)
    await claim_one(link)
    await connection.execute("UPDATE draft_requests SET lease_until = now() - interval '1 h'")
    await refuse(connection)
    reaper = Reaper(link=link, lease_s=1e-6, interval_s=0.01, metrics=Metrics(), quarantine=Quarantine())
    reaper._stalls.gap_s = 60.0
    for _ in range(2):
        with pytest.raises(psycopg.errors.RaiseException):
            await reaper._once()
        assert await reaper._once() is False
        reaper._refusals.quarantine._until.clear()  # as if the row's time were over
    await accept(connection)
    assert await reaper._once() is True


async def test_short_leases_are_looked_at_as_often_as_they_are_renewed(
    connection: db.Connection, link: db.Link
) -> None:
    await make_request(connection)
    claimed = await claim_one(link)
    await connection.execute("UPDATE draft_requests SET lease_until = now() - interval '1 h'")
    await link.close()
    # The first pass takes back nothing: its connection is younger than a lease.
    reaper = Reaper(link=link, lease_s=1.0, interval_s=3600, metrics=Metrics(), quarantine=Quarantine())
    left_s = 1.0 - 1.0 / BEATS_PER_LEASE
    assert reaper._stalls.gap_s <= left_s, "a standstill that the living do not outlive is noticed"
    running = asyncio.create_task(reaper.run())
    async with asyncio.timeout(60):
        while (await read_row(connection, claimed.id))["status"] != "pending":  # noqa: ASYNC110 - the table is all that tells
            await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_what_it_ends_is_counted_and_what_it_gives_back_is_not(connection: db.Connection, link: db.Link) -> None:
    await make_request(connection)
    await claim_one(link)
    await make_request(connection, max_attempts=1)
    await claim_one(link)
    await connection.execute("UPDATE draft_requests SET lease_until = now() - interval '1 h'")
    await make_request(connection, expires_at="2020-01-01")
    metrics = Metrics()
    reaper = Reaper(link=link, lease_s=LEASE_S, interval_s=0.01, metrics=metrics, quarantine=Quarantine())
    running = asyncio.create_task(reaper.run())
    ended = {("failed", "worker_lost"): 1.0, ("failed", "expired"): 1.0}
    async with asyncio.timeout(20):
        while counted(metrics) != ended:  # noqa: ASYNC110 - the figures are all that tells
            await asyncio.sleep(0.01)
    running.cancel()
    assert counted(metrics) == ended


def counted(metrics: Metrics) -> dict[tuple[str, str], float]:
    """Return what ``draftd_requests_total`` shows, by status and code."""
    (family,) = [one for one in metrics.registry.collect() if one.name == "draftd_requests"]
    return {(sample.labels["status"], sample.labels["code"]): sample.value for sample in family.samples}
