"""The command that deletes everything stored of one requester: forget."""

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from draftd.cli.console import EXIT_NEGATIVE, Json, print_json, say, settings

if TYPE_CHECKING:
    from draftd.queue.forgetting import Forgotten
    from draftd.telemetry.trace_deletion import Deletion

PROGRESS_INTERVAL_S = 1.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(forget)


def forget(
    requester: Annotated[
        str,
        typer.Option(metavar="WHO", help="The requester ('': all requests without one).", show_default=False),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show how much would be deleted; delete nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Delete everything stored of one requester.

    Requests with their drafts and pictures, feedback, the profile, and traces in Langfuse if its keys are set; usage records
    lose the name and keep their sums. Cancels what is being drafted. What the requester inserts meanwhile may stay: end their
    access first. Works in small batches: safe to run next to daemons, to interrupt and to repeat. Only for the owner of the
    tables. Exits 1 if traces are left, and prints their ids.
    """
    from draftd.queue.forgetting import Forgotten
    from draftd.signals import interrupt_on_sigterm
    from draftd.telemetry.trace_deletion import Deletion, user_id

    interrupt_on_sigterm()
    url = settings().require_database_url()
    if dry_run:
        _report(asyncio.run(_count(url, requester)), Deletion(), dry_run=True, as_json=as_json)
        return
    forgotten = Forgotten()
    try:
        asyncio.run(_forget(url, requester, forgotten))
    except BaseException:
        # The next run would not know the traces of what has been deleted.
        if forgotten.trace_ids:
            _end(requester, forgotten, user=None, as_json=as_json)
        raise
    raise typer.Exit(_end(requester, forgotten, user=user_id(requester), as_json=as_json))


async def _count(url: str, requester: str) -> "Forgotten":
    from draftd import db
    from draftd.queue.forgetting import count_forgettable

    async with db.connected(url, works=True) as connection:
        return await count_forgettable(connection, requester)


async def _forget(url: str, requester: str, forgotten: "Forgotten") -> None:
    """Forget the requester in the database, showing progress on a terminal."""
    from draftd import db
    from draftd.queue.forgetting import forget as forget_in_batches

    said_at = time.monotonic()

    def progress() -> None:
        nonlocal said_at
        if sys.stderr.isatty() and time.monotonic() - said_at >= PROGRESS_INTERVAL_S:
            say(f"{forgotten.requests} requests deleted …")
            said_at = time.monotonic()

    async with db.connected(url, works=True) as connection:
        await forget_in_batches(connection, requester, forgotten, on_batch=progress)


def _end(requester: str, forgotten: "Forgotten", *, user: str | None, as_json: bool) -> int:
    """Delete the traces and print what was forgotten; return the exit code."""
    traces = _delete_traces(forgotten, user=user)
    _report_left(requester, traces, as_json=as_json)
    _report(forgotten, traces, dry_run=False, as_json=as_json)
    return EXIT_NEGATIVE if traces.problem else 0


def _delete_traces(forgotten: "Forgotten", *, user: str | None) -> "Deletion":
    from draftd.settings import environment_value
    from draftd.telemetry.export_errors import LANGFUSE_CLOUD
    from draftd.telemetry.trace_deletion import SENT_AFTER_S, Deletion, delete_traces

    public_key, secret_key = environment_value("LANGFUSE_PUBLIC_KEY"), environment_value("LANGFUSE_SECRET_KEY")
    if not public_key or not secret_key:
        left = tuple(sorted(forgotten.trace_ids))
        return Deletion(left=left, problem="LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY are not set" if left else None)
    try:
        if forgotten.is_recent:
            say(f"waiting {SENT_AFTER_S:g} s until daemons have sent the traces they still have")
            time.sleep(SENT_AFTER_S)
        return delete_traces(
            public_key=public_key,
            secret_key=secret_key,
            host=environment_value("LANGFUSE_BASE_URL") or environment_value("LANGFUSE_HOST") or LANGFUSE_CLOUD,
            trace_ids=forgotten.trace_ids,
            user=user,
        )
    except KeyboardInterrupt:
        return Deletion(left=tuple(sorted(forgotten.trace_ids)), problem="interrupted")


def _report_left(requester: str, traces: "Deletion", *, as_json: bool) -> None:
    from draftd.telemetry.trace_deletion import user_id

    if traces.problem is None:
        return
    whose = f"those of the user {user!r}" if (user := user_id(requester)) else "the traces below"
    count = f"{len(traces.left)} trace{'' if len(traces.left) == 1 else 's'}"
    left = f"{count} left in Langfuse" if traces.left else "traces of requests deleted earlier may be left in Langfuse"
    say(f"{left}: {traces.problem}; delete {whose} there")
    if not as_json:
        for trace_id in traces.left:
            print(trace_id)


def _report(forgotten: "Forgotten", traces: "Deletion", *, dry_run: bool, as_json: bool) -> None:
    found = len(forgotten.trace_ids) if dry_run else len(traces.deleted)
    if as_json:
        told: dict[str, Any] = {"deleted": 0 if dry_run else found, "left": list(traces.left)}
        print_json({**forgotten.counts(), "traces": told, "dry_run": dry_run})
        return
    counts = ", ".join(f"{count} {name}" for name, count in {**forgotten.counts(), "traces": found}.items())
    say(f"would be forgotten: {counts}" if dry_run else f"forgotten: {counts}")
