"""Commands on existing requests: show, list, cancel, retry."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, NoReturn
from uuid import UUID

import typer

from draftd.cli.console import (
    Json,
    RefusedRows,
    age,
    duration_s,
    error_code,
    print_json,
    print_table,
    request_id,
    say,
    settings,
    wrapped,
)
from draftd.cli.enqueue import option_text
from draftd.errors import CommandError, UsageError
from draftd.json_values import json_object, json_objects

if TYPE_CHECKING:
    from draftd import db
    from draftd.queue import admin

RequestId = Annotated[str, typer.Argument(metavar="ID", help="A request's id.", show_default=False)]
OneId = Annotated[str | None, typer.Argument(metavar="ID", help="One request's id.", show_default=False)]
Code = Annotated[
    str | None, typer.Option(metavar="CODE", help="Only requests with this error code.", show_default=False)
]
Requester = Annotated[
    str | None,
    typer.Option(metavar="WHO", help="Only this requester's requests ('': those without one).", show_default=False),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change; change nothing.")]
COLUMNS = {
    "id": "id",
    "status": "status",
    "agent": "agent",
    "requester_id": "requester",
    "priority": "prio",
    "attempt": "tries",
    "age": "age",
    "error_code": "error",
}
SPARE = ("priority", "agent", "attempt", "requester_id")
"""Without these, a line of the list has at most 77 columns."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(show)
    app.command("list")(list_)
    app.command()(cancel)
    app.command()(retry)


def show(which: RequestId, as_json: Json = False) -> None:
    """Print one request with its history."""
    row = asyncio.run(_row(request_id(which)))
    if row is None:
        raise CommandError(f"request {which} does not exist")
    if as_json:
        print_json(row)
        return
    _print_request(row)


async def _row(which: UUID) -> dict[str, Any] | None:
    from draftd import db
    from draftd.queue import admin

    async with db.connected(settings().require_database_url()) as connection:
        row = await admin.show(connection, which)
        return row and row | {"chain": await admin.chain(connection, which)}


def _print_request(row: dict[str, Any]) -> None:
    for earlier in row["chain"]:
        _print_fact("refines", f"{earlier['id']} ({earlier['status']}) {_wish(earlier)}".rstrip())
    facts = (
        "id", "status", "agent", "requester_id", "parent_id", "context", "options", "priority", "attempt", "max_attempts",
        "model", "prompt_version", "input_tokens", "output_tokens", "cost_usd", "created_at", "available_at", "expires_at",
        "claimed_at", "lease_until", "deadline_at", "finished_at", "worker_id", "trace_id", "error_code", "error_message",
        "error_details",
    )  # fmt: skip
    for name in facts:
        if row[name] not in (None, "", {}):
            _print_fact(name, row[name])
    for error in json_objects(row["errors"]):
        model = f" [{error['model']}]" if error.get("model") else ""
        text = f"{_moment(error.get('at'))} {error.get('code')}: {error.get('message')}{model}"
        _print_fact(f"  attempt {error.get('attempt')}", text)
    result = json_object(row["result"]) or json_object(row["partial_result"])
    if result:
        _print_result(result)


def _wish(row: Mapping[str, Any]) -> str:
    """Return what a request of a chain asked for, in one line."""
    options = json.dumps(row["options"], ensure_ascii=False) if row["options"] else ""
    return " ".join(f"{row['context'] or ''} {options}".split())


def _print_result(result: dict[str, Any]) -> None:
    """Print a result, or what is ready of it."""
    _print_fact("platform", f"{result.get('platform_name', '')} ({result.get('content_type', '')})")
    _print_fact("summary", result.get("summary", ""))
    for name in ("reply_needed", "confidence"):
        if result.get(name):
            _print_fact(name, result[name])
    for name in ("warnings", "missing"):
        if isinstance(listed := result.get(name), list) and listed:
            _print_fact(name, ", ".join(map(str, listed)))
    for option in json_objects(result.get("options")):
        print(option_text(option))


def _print_fact(name: str, value: Any) -> None:
    match value:
        case dict():
            text = json.dumps(value, ensure_ascii=False)
        case datetime():
            text = _moment(value.isoformat())
        case _:
            text = str(value)
    print(wrapped(f"{name:<15} {text}", indent=" " * 16))


def _moment(text: Any) -> str:
    """Return an ISO timestamp in UTC and whole seconds; any other text unchanged."""
    try:
        return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (TypeError, ValueError, OverflowError):
        return str(text)


def list_(
    status: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STATUS",
            help="Only this status: pending, processing, completed, failed or cancelled. Repeatable.",
            show_default=False,
        ),
    ] = None,
    requester: Requester = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="Maximum number of rows.")] = 20,
    as_json: Json = False,
) -> None:
    """List requests, newest first."""
    from draftd.status import STATUSES

    for one in status or ():
        if one not in STATUSES:
            raise UsageError(f"{one!r} is not a status; use one of: {', '.join(STATUSES)}")
    rows = asyncio.run(_newest(status or [], requester, limit + 1))
    has_more = len(rows) > limit
    del rows[limit:]
    if as_json:
        print_json({"requests": rows, "has_more": has_more})
        return
    now = time.time()
    table = [
        row | {"age": age(now - row["created_at"].timestamp()), "attempt": f"{row['attempt']}/{row['max_attempts']}"}
        for row in rows
    ]
    print_table(COLUMNS, table, empty="no requests", spare=SPARE)


async def _newest(statuses: list[str], requester_id: str | None, limit: int) -> list[dict[str, Any]]:
    from draftd import db
    from draftd.queue import admin

    async with db.connected(settings().require_database_url()) as connection:
        return await admin.list_newest(connection, statuses=statuses, requester_id=requester_id, limit=limit)


def cancel(
    which: OneId = None,
    code: Code = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="AGE", help="Only requests inserted within this time, e.g. 2h.", show_default=False),
    ] = None,
    requester: Requester = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Cancel pending and processing requests, one or many."""
    chosen = _choice("cancel", which, code, since, requester)
    _change("cancel", chosen, dry_run=dry_run, as_json=as_json)


def retry(
    which: OneId = None,
    code: Code = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="AGE", help="Only requests that ended within this time, e.g. 2h.", show_default=False),
    ] = None,
    requester: Requester = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Retry failed and cancelled requests, one or many.

    Resets the attempt count to 0.
    """
    chosen = _choice("retry", which, code, since, requester)
    _change("retry", chosen, dry_run=dry_run, as_json=as_json)


def _choice(verb: str, which: str | None, code: str | None, since: str | None, requester: str | None) -> dict[str, Any]:
    """Return the arguments for ``admin.change``.

    Raises:
        UsageError: neither an ID nor a filter is given, or both are.
    """
    filters = [one for one in (code, since, requester) if one is not None]
    if which is None and not filters:
        raise UsageError(f"say what to {verb}: give an ID, or --code, --since or --requester")
    if which is not None and filters:
        raise UsageError("an ID cannot be combined with --code, --since or --requester")
    return {
        "request_id": None if which is None else request_id(which),
        "code": None if code is None else error_code(code),
        "requester_id": requester,
        "since_s": None if since is None else duration_s(since),
    }


def _change(verb: str, chosen: dict[str, Any], *, dry_run: bool, as_json: bool) -> None:
    from draftd.queue.refused_rows import RefusedRow

    changed, standing = asyncio.run(_changed(verb, chosen, dry_run=dry_run))
    which = chosen["request_id"]
    if which is not None and not changed.rows:
        _refuse(verb, which, standing, dry_run=dry_run, as_json=as_json)
    if as_json:
        matched = len(changed.rows) + len(changed.refused)
        _print_changes(matched, 0 if dry_run else len(changed.rows), changed.rows, dry_run=dry_run)
    else:
        for row in changed.rows:
            print(row["id"])
        count = f"{len(changed.rows)} request{'' if len(changed.rows) == 1 else 's'}"
        outcome = {"cancel": "cancelled", "retry": "retried"}[verb]
        say(f"{count} would be {outcome}" if dry_run else f"{count} {outcome}")
    refused = RefusedRows()
    for request, error in changed.refused.items():
        refused.report(RefusedRow(id=request, verb=verb, sqlstate=error.sqlstate, ended=False))
    refused.end()


def _print_changes(matched: int, changed: int, requests: Sequence[Mapping[str, Any]], *, dry_run: bool) -> None:
    """Print what ``cancel --json`` and ``retry --json`` answer."""
    print_json({"matched": matched, "changed": changed, "requests": requests, "dry_run": dry_run})


def _refuse(verb: str, which: UUID, standing: str | None, *, dry_run: bool, as_json: bool) -> NoReturn:
    """Explain why one request was not changed.

    Raises:
        CommandError: always.
    """
    if standing is None:
        raise CommandError(f"request {which} does not exist")
    if as_json:
        _print_changes(1, 0, [{"id": which, "status": standing}], dry_run=dry_run)
    possible = {
        "cancel": "pending and processing requests can be cancelled",
        "retry": "failed and cancelled requests can be retried",
    }
    raise CommandError(f"request {which} is {standing}; only {possible[verb]}")


async def _changed(verb: str, chosen: dict[str, Any], *, dry_run: bool) -> "tuple[admin.BulkResult, str | None]":
    """Return what was changed, and the current status of a single request that was not."""
    from draftd import db
    from draftd.queue import admin

    async with db.connected(settings().require_database_url()) as connection:
        wanted = admin.CANCEL if verb == "cancel" else admin.RETRY
        changed = await admin.change(connection, wanted, **chosen, dry_run=dry_run)
        if changed.rows:
            if verb == "retry":
                await _warn_of_dropped_pictures(connection, [row["id"] for row in changed.rows])
            return changed, None
        row = await admin.show(connection, chosen["request_id"]) if chosen["request_id"] else None
        return changed, row["status"] if row else None


async def _warn_of_dropped_pictures(connection: "db.Connection", ids: list[UUID]) -> None:
    from draftd.queue import admin

    if count := await admin.count_without_pictures(connection, ids):
        say(f"warning: {count} of them will fail as image_gone: their pictures were deleted when they ended")
