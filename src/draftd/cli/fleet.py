"""Commands about the fleet: status, reap-stale, doctor."""

import asyncio
import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from draftd.cli.console import (
    EXIT_NEGATIVE,
    LONGEST_S,
    Json,
    RefusedRows,
    age,
    colour_wanted,
    fitted,
    print_json,
    print_table,
    say,
    settings,
)

WATCH_INTERVAL_S = 2.0
WORKER_COLUMNS = ("hostname", "pid", "state", "load", "heartbeat", "version")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(status)
    app.command("reap-stale")(reap_stale)
    app.command()(doctor)


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Again every two seconds, until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Show the queue's depth, the workers, holds and throttles.

    A worker that has missed three of its own heartbeats, and 50 seconds more, counts as lost.
    """
    asyncio.run(_status(watch=watch, as_json=as_json))


async def _status(*, watch: bool, as_json: bool) -> None:
    from draftd import db

    reads = ("draft_requests", "draft_workers", "draft_holds", "draft_throttles")
    async with db.connected(settings().require_database_url(), reads=reads) as connection:
        while True:
            facts = await read_status(connection)
            if watch and sys.stdout.isatty():
                print("\033[H\033[2J", end="")
            print_json(facts) if as_json else _print_status(facts)
            sys.stdout.flush()
            if not watch:
                return
            await asyncio.sleep(WATCH_INTERVAL_S)


async def read_status(connection: Any) -> dict[str, Any]:
    """Return what ``status --json`` prints."""
    from draftd.providers.holds import LIST_HOLDS
    from draftd.providers.throttles import LIST_THROTTLES
    from draftd.queue import admin

    workers = await admin.workers(connection)
    held = await (await connection.execute(LIST_HOLDS)).fetchall()
    throttled = await (await connection.execute(LIST_THROTTLES)).fetchall()
    return {**await admin.counts(connection), "workers": workers, "holds": held, "throttles": throttled}


def _print_status(facts: dict[str, Any]) -> None:
    print("  ".join(f"{count} {name}" for name, count in facts["requests"].items()))
    lately = dict(facts["lately"])
    window = age(lately.pop("window_s"))
    print(f"in the last {window}: " + ", ".join(f"{count} {name}" for name, count in lately.items()))
    if facts["oldest_pending_s"] is not None:
        print(f"the oldest pending request has waited {age(facts['oldest_pending_s'])}")
    for hold in facts["holds"]:
        reason = hold["reason"].removeprefix(f"{hold['model']}: ")
        line = f"on hold: {hold['model']}: {hold['code']}: {reason} ({_next_probe(hold['until'])})"
        print(fitted(line, indent="  "))
    for throttle in facts["throttles"]:
        line = f"throttled: {throttle['model']}: {throttle['share']:.0%} of the concurrency, after rate limits"
        print(fitted(line, indent="  "))
    workers = [
        row
        | {
            "state": row["state"] if row["alive"] else "lost",
            "load": f"{row['in_flight']}/{row['concurrency']}",
            "heartbeat": f"{age(row['heartbeat_age_s'])} ago",
        }
        for row in facts["workers"]
    ]
    print_table({name: name for name in WORKER_COLUMNS}, workers, empty="no worker is running")


def _next_probe(until: datetime) -> str:
    remaining_s = (until - datetime.now(UTC)).total_seconds()
    return f"next probe in {age(remaining_s)}" if remaining_s > 0 else "a probe is due"


def reap_stale(
    older_than: Annotated[
        float, typer.Option(metavar="S", min=0, max=LONGEST_S, help="Seconds since lease or deadline ran out.")
    ] = 120,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change; change nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Take back what dead workers held, in one pass.

    Also fails what has expired and what no daemon has a prompt for. Safe beside any number of daemons; made for cron.
    """
    refused = RefusedRows()
    reaped = asyncio.run(_reap(older_than_s=older_than, dry_run=dry_run, refused=refused))
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
    from draftd.queue.isolation import Aside, Refusals
    from draftd.queue.reaping import REAP_BATCH, Reaped, judge_in_s, reap

    loaded = settings()
    url = loaded.require_database_url()
    link = db.Link(url=url, name="draftd reap-stale", session=False)
    taken: list[Reaped] = []
    refusals = Refusals(verb="reap", aside=Aside(tell=refused.tell))
    try:
        with db.translated(url):
            await db.check_access(link, url)
            if wait_s := await judge_in_s(link, lease_s=loaded.lease_s, older_than_s=older_than_s):
                say(f"waiting {wait_s:.0f} s: whoever lives must have had the time to renew")
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
                    return taken
    finally:
        await link.close()


def doctor(as_json: Json = False) -> None:
    """Check everything that a daemon needs; exit 1 if one fails.

    One line each: configuration, prompts, database, schema, a write that is taken back, holds, LISTEN, the daemons of this
    host, Langfuse, and every model by a real call with a tiny picture.
    """
    from draftd.logs import configure_logging

    # What is wrong is a finding; a log line beside it would say it twice.
    configure_logging(level="critical", style="auto", colours=colour_wanted(sys.stderr))
    findings = asyncio.run(_examine(quiet=as_json))
    if as_json:
        print_json([{"check": one.check, "ok": one.ok, "detail": one.detail} for one in findings])
    raise typer.Exit(0 if all(one.ok for one in findings) else EXIT_NEGATIVE)


async def _examine(*, quiet: bool) -> list[Any]:
    from draftd.cli.doctor import examine

    findings = []
    async for finding in examine():
        findings.append(finding)
        if not quiet:
            line = f"{'ok ' if finding.ok else 'BAD'}  {finding.check:<14} {finding.detail}"
            print(fitted(line, indent=" " * 20), flush=True)
    return findings
