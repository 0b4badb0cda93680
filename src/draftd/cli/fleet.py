"""Commands about the fleet: status, reap-stale, doctor."""

import asyncio
import sys
from typing import Annotated, Any

import typer

from draftd.cli.console import (
    EXIT_NEGATIVE,
    Json,
    RefusedRows,
    age,
    clear_screen,
    colour_wanted,
    duration_s,
    one_line,
    print_json,
    print_table,
    say,
    settings,
)
from draftd.cli.standstill import next_probe, paused, reason

WATCH_INTERVAL_S = 2.0
WORKER_COLUMNS = ("hostname", "pid", "state", "load", "heartbeat", "version")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(status)
    app.command("reap-stale")(reap_stale)
    app.command()(doctor)


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every two seconds until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Show why nothing is being drafted: workers, holds, budgets.

    A worker counts as lost 50 seconds after its third missed heartbeat.
    """
    asyncio.run(_status(watch=watch, as_json=as_json))


async def _status(*, watch: bool, as_json: bool) -> None:
    from draftd import db

    reads = (
        "draft_requests",
        "draft_workers",
        "draft_holds",
        "draft_pauses",
        "draft_throttles",
        "draft_settings",
        "draft_limits",
        "draft_models",
        "draft_spending",
    )
    async with db.connected(settings().require_database_url(), reads=reads) as connection:
        while True:
            facts = await read_status(connection)
            if watch and sys.stdout.isatty():
                clear_screen()
            print_json(facts) if as_json else _print_status(facts)
            sys.stdout.flush()
            if not watch:
                return
            await asyncio.sleep(WATCH_INTERVAL_S)


async def read_status(connection: Any) -> dict[str, Any]:
    """Return what ``status --json`` prints."""
    from draftd.providers.holds import LIST_HOLDS
    from draftd.providers.pauses import LIST_PAUSES
    from draftd.providers.reservations import LIST_CEILINGS, LIST_SPENDING, NEARLY_USED
    from draftd.providers.throttles import LIST_THROTTLES
    from draftd.queue import admin

    workers = await admin.workers(connection)
    held = await (await connection.execute(LIST_HOLDS)).fetchall()
    throttled = await (await connection.execute(LIST_THROTTLES)).fetchall()
    spending = await (await connection.execute(LIST_SPENDING, {"nearly": NEARLY_USED})).fetchall()
    facts = await admin.counts(connection) | {
        "workers": workers,
        "holds": held,
        "pauses": await (await connection.execute(LIST_PAUSES)).fetchall(),
        "throttles": throttled,
        "budgets": [row | {"nearly_used": row["used"] is None or row["used"] >= NEARLY_USED} for row in spending],
        "ceilings": await (await connection.execute(LIST_CEILINGS)).fetchall(),
        "pending": await admin.pending(connection),
        "limited": await admin.limited(connection),
    }
    return {"reason": reason(facts).as_json(), **facts}


def _print_status(facts: dict[str, Any]) -> None:
    print(one_line(facts["reason"]["message"]))
    print("  ".join(f"{count} {name}" for name, count in facts["requests"].items()))
    lately = dict(facts["lately"])
    window = age(lately.pop("window_s"))
    print(f"in the last {window}: " + ", ".join(f"{count} {name}" for name, count in lately.items()))
    if facts["oldest_pending_s"] is not None:
        print(f"oldest pending request: waiting for {age(facts['oldest_pending_s'])}")
    for hold in facts["holds"]:
        why = hold["reason"].removeprefix(f"{hold['model']}: ")
        line = f"on hold: {hold['model']}: {hold['code']}: {why} ({next_probe(hold['until'])})"
        print(one_line(line))
    for one in facts["pauses"]:
        what = "everything" if one["what"] == "all" else f"{one['what']} {one['name']}"
        print(one_line(f"paused: {paused(what, one)}"))
    for throttle in facts["throttles"]:
        line = f"throttled: {throttle['model']}: {throttle['share']:.0%} of the concurrency, after rate limits"
        print(one_line(line))
    for budget in facts["budgets"]:
        print(one_line(_budget(budget)))
    workers = [
        row
        | {
            "state": row["state"] if row["alive"] else "lost",
            "load": f"{row['in_flight']}/{row['concurrency']}",
            "heartbeat": f"{age(row['heartbeat_age_s'])} ago",
        }
        for row in facts["workers"]
    ]
    print_table({name: name for name in WORKER_COLUMNS}, workers, empty="no workers running")


def _budget(row: dict[str, Any]) -> str:
    whose = "the fleet" if row["payer"] == "fleet" else f"requester {row['requester_id']!r}"
    share = "" if row["used"] is None else f" ({row['used']:.0%})"
    spent = f"{row['spent']:,.2f} of {row['usd_per_day']:,.2f} USD spent today{share}"
    return (
        f"budget{' nearly used' if row['nearly_used'] else ''}: {whose}: {spent}, {row['reserved']:,.2f} USD reserved"
    )


def reap_stale(
    older_than: Annotated[
        str,
        typer.Option(metavar="AGE", help="Only requests whose lease or deadline expired longer ago than this."),
    ] = "120s",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change; change nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Requeue requests held by dead workers, in one pass.

    Also fails expired requests, and those whose agent no daemon has a prompt for. Safe to run next to daemons; meant for cron.
    """
    refused = RefusedRows()
    reaped = asyncio.run(_reap(older_than_s=duration_s(older_than), dry_run=dry_run, refused=refused))
    requeued = sum(one.status == "pending" for one in reaped)
    counts = {"requeued": requeued, "failed": len(reaped) - requeued}
    if as_json:
        print_json(counts | {"dry_run": dry_run})
    else:
        for one in reaped:
            print(f"{one.id}\t{one.code}\t{one.status}")
        say(f"{'would be ' if dry_run else ''}requeued: {requeued}, failed: {counts['failed']}")
    refused.end()


async def _reap(*, older_than_s: float, dry_run: bool, refused: RefusedRows) -> list[Any]:
    from draftd import db
    from draftd.providers.reservations import charge_lost
    from draftd.queue.reaping import REAP_BATCH, Reaped, may_take_in_s, reap
    from draftd.queue.refused_rows import Quarantine, Refusals

    loaded = settings()
    url = loaded.require_database_url()
    link = db.Link(url=url, name="draftd reap-stale", session=False)
    taken: list[Reaped] = []
    refusals = Refusals(verb="reap", quarantine=Quarantine(on_refused=refused.report))
    try:
        with db.translate_errors(url):
            await db.check_access(link, url)
            if wait_s := await may_take_in_s(link, lease_s=loaded.lease_s, older_than_s=older_than_s):
                say(f"waiting {wait_s:.0f} s so that live workers can renew their leases")
                await asyncio.sleep(wait_s)
            while True:
                batch = await reap(
                    link,
                    lease_s=loaded.lease_s,
                    older_than_s=older_than_s,
                    dry_run=dry_run,
                    refusals=refusals,
                )
                taken += batch
                if dry_run or len(batch) < REAP_BATCH:
                    break
            if not dry_run:
                await charge_lost(link, loaded.lease_s)
            return taken
    finally:
        await link.close()


def doctor(as_json: Json = False) -> None:
    """Check everything a daemon needs; exit 1 if a check fails.

    One line each: configuration, prompts, database, schema, rights that every role has, triggers of other roles, a test write
    that is rolled back, holds, LISTEN, the daemons on this host, each model by a real call with a tiny picture, and Langfuse.
    """
    from draftd.logs import configure_logging

    # A failure is reported as a result; a log line would repeat it.
    configure_logging(level="critical", style="auto", colours=colour_wanted(sys.stderr))
    results = asyncio.run(_examine(quiet=as_json))
    if as_json:
        print_json({"checks": [{"check": one.check, "ok": one.ok, "detail": one.detail} for one in results]})
    raise typer.Exit(0 if all(one.ok for one in results) else EXIT_NEGATIVE)


async def _examine(*, quiet: bool) -> list[Any]:
    from draftd.cli.doctor import examine

    results = []
    async for result in examine():
        results.append(result)
        if not quiet:
            line = f"{'ok' if result.ok else 'FAIL':<4} {result.check:<14} {result.detail}"
            print(one_line(line, indent=" " * 20), flush=True)
    return results
