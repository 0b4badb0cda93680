"""Commands about requests: enqueue, show, list, cancel, retry."""

import asyncio
import base64
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from draftd.cli.console import Json, age, duration_s, print_json, print_table, request_id, say, settings
from draftd.errors import CommandError, UsageError

if TYPE_CHECKING:
    from draftd import db

FOLLOW_INTERVAL_S = 0.25
MAX_ROW_BYTES = 24 * 1024 * 1024
EXIT_NEGATIVE = 1
EXIT_TRY_AGAIN = 75

RequestId = Annotated[str, typer.Argument(metavar="ID", help="The id of a request.", show_default=False)]
ManyId = Annotated[str | None, typer.Argument(metavar="[ID]", help="One request.", show_default=False)]
Code = Annotated[str | None, typer.Option(help="All with this error code.", show_default=False)]
Since = Annotated[str | None, typer.Option(help="Not older than this, e.g. 2h.", show_default=False)]
Requester = Annotated[str | None, typer.Option(help="All of this requester.", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say which.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(enqueue)
    app.command()(show)
    app.command("list")(list_)
    app.command()(cancel)
    app.command()(retry)


def enqueue(
    images: Annotated[
        list[str] | None, typer.Argument(metavar="IMAGE...", help="Screenshots in reading order: files or URLs.")
    ] = None,
    context: Annotated[str | None, typer.Option(help="What you want to say, or to be known.")] = None,
    tone: Annotated[str | None, typer.Option(help="For example: warm, brief, formal.")] = None,
    language: Annotated[str | None, typer.Option(help="BCP 47; default: the conversation's own.")] = None,
    agent: Annotated[str, typer.Option(help="Which prompt answers.")] = "comment_generator",
    requester: Annotated[str, typer.Option(help="Whose request it is.")] = "",
    priority: Annotated[int, typer.Option(min=-32_768, max=32_767, help="Higher comes first.")] = 0,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key gives the same request.")] = None,
    expires_in: Annotated[str | None, typer.Option(help="A later draft is worth nothing, e.g. 10m.")] = None,
    parent: Annotated[str | None, typer.Option(metavar="ID", help="Refine the drafts of this request.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it and print the drafts as they arrive.")] = False,
    timeout: Annotated[float | None, typer.Option(min=0.1, help="Seconds to wait; then exit 75.")] = None,
    as_json: Json = False,
) -> None:
    """Insert a request by hand and print its id."""
    if not images and parent is None:
        raise UsageError("name at least one screenshot, or --parent ID to refine earlier drafts")
    if timeout is not None and not wait:
        raise UsageError("--timeout goes with --wait")
    options = {"tone": tone, "language": language}
    request: dict[str, Any] = {
        "image_urls": [image_url(image) for image in images or []],
        "context": context,
        "options": {key: value for key, value in options.items() if value is not None},
        "agent": agent,
        "requester_id": requester,
        "priority": priority,
        "idempotency_key": idempotency_key,
        "parent_id": None if parent is None else str(request_id(parent)),
    }
    if sum(len(url) for url in request["image_urls"]) > MAX_ROW_BYTES:
        raise UsageError("the screenshots hold more than 24 MiB in base64; send fewer, or their URLs")
    expires_s = None if expires_in is None else duration_s(expires_in)
    raise typer.Exit(asyncio.run(_enqueue(request, expires_s, wait=wait, timeout_s=timeout, as_json=as_json)))


def image_url(image: str) -> str:
    """Return a URL as it is, and a file as a data: URL.

    Raises:
        UsageError: the file cannot be read.
    """
    if image.startswith(("http://", "https://", "data:")):
        return image
    try:
        data = Path(image).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {image}: {error.strerror}") from None
    # The type in the URL is a courtesy: magic bytes decide what a picture is.
    suffix = Path(image).suffix.lstrip(".").lower() or "png"
    kind = suffix if suffix.isalnum() else "png"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


async def _enqueue(
    request: dict[str, Any], expires_s: float | None, *, wait: bool, timeout_s: float | None, as_json: bool
) -> int:
    import psycopg

    from draftd import db
    from draftd.queue import desk

    async with db.connected(settings().require_database_url()) as connection:
        if expires_s is not None:
            request["expires_at"] = (await desk.time_in(connection, expires_s)).isoformat()
        try:
            made = await desk.enqueue(connection, request)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            message = (error.diag.message_primary or "the request was refused").removeprefix("draft_requests: ")
            raise UsageError(message) from error
        if not made["created"]:
            say(f"this idempotency key was used before: the request is {made['status']}")
        if not wait:
            print_json({"id": made["id"]}) if as_json else print(made["id"])
            return 0
        say(made["id"])
        return await _follow(connection, UUID(made["id"]), timeout_s=timeout_s, as_json=as_json)


async def _follow(connection: "db.Connection", which: UUID, *, timeout_s: float | None, as_json: bool) -> int:
    """Print options as they become ready, until the request is final."""
    from draftd.queue import desk

    ends_at = None if timeout_s is None else time.monotonic() + timeout_s
    printer = DraftPrinter(quiet=as_json)
    while (row := await desk.show(connection, which)) is not None:
        printer.update(row)
        if desk.is_final(row["status"]):
            if as_json:
                print_json(row)
            return 0 if row["status"] == "completed" else EXIT_NEGATIVE
        if ends_at is not None and time.monotonic() >= ends_at:
            say(f"still {row['status']} after {timeout_s:g} s; it goes on: draftd show {which}")
            return EXIT_TRY_AGAIN
        await asyncio.sleep(FOLLOW_INTERVAL_S)
    raise CommandError(f"request {which} is gone")


class DraftPrinter:
    """Prints a request's drafts while they arrive, each once; what changed until the end is printed again."""

    def __init__(self, *, quiet: bool = False, label: str = "") -> None:
        self._quiet = quiet
        self._label = label
        self._shown: dict[str, str] = {}
        self._note = ""

    def update(self, row: dict[str, Any]) -> None:
        """Look at the row again and print what is new."""
        if self._quiet:
            return
        source = row["result"] or (row["partial_result"] if row["status"] == "processing" else None) or {}
        for option in source.get("options", ()):
            if self._shown.get(option["length"]) != option["text"]:
                self._shown[option["length"]] = option["text"]
                print(option_text(option, self._label), flush=True)
        self._progress(row)

    def _progress(self, row: dict[str, Any]) -> None:
        note = row["status"]
        if row["error_code"] and row["status"] != "completed":
            note += f": {row['error_code']}: {row['error_message']}"
        if note != self._note:
            self._note = note
            say(f"{self._label}: {note}" if self._label else note)


def option_text(option: dict[str, Any], label: str = "") -> str:
    """Return one draft for a person to read."""
    head = f"{label}, {option['length']}" if label else option["length"]
    lines = [f"\n— {head} ({option['angle']})", option["text"]]
    if option.get("translation"):
        lines.append(f"  = {option['translation']}")
    return "\n".join(lines)


def show(which: RequestId, as_json: Json = False) -> None:
    """Print one request with its history."""
    row = asyncio.run(_row(request_id(which)))
    if row is None:
        raise CommandError(f"there is no request {which}")
    if as_json:
        print_json(row)
        return
    _print_request(row)


async def _row(which: UUID) -> dict[str, Any] | None:
    from draftd import db
    from draftd.queue import desk

    async with db.connected(settings().require_database_url()) as connection:
        return await desk.show(connection, which)


def _print_request(row: dict[str, Any]) -> None:
    facts = (
        "id", "status", "agent", "requester_id", "priority", "attempt", "max_attempts", "model", "prompt_version",
        "input_tokens", "output_tokens", "cost_usd", "created_at", "available_at", "expires_at", "claimed_at",
        "finished_at", "worker_id", "trace_id", "error_code", "error_message",
    )  # fmt: skip
    for name in facts:
        if row[name] not in (None, ""):
            print(f"{name:<15} {row[name]}")
    for error in row["errors"]:
        model = f" [{error['model']}]" if error.get("model") else ""
        print(f"{'  attempt ' + str(error['attempt']):<15} {error['at']} {error['code']}: {error['message']}{model}")
    result = row["result"] or row["partial_result"]
    if result:
        print(f"{'platform':<15} {result.get('platform_name', '')} ({result.get('content_type', '')})")
        print(f"{'summary':<15} {result.get('summary', '')}")
        if result.get("warnings"):
            print(f"{'warnings':<15} {', '.join(result['warnings'])}")
        for option in result.get("options", ()):
            print(option_text(option))


def list_(
    status: Annotated[list[str] | None, typer.Option(help="Only these; may be given again.")] = None,
    requester: Requester = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 20,
    as_json: Json = False,
) -> None:
    """List requests, newest first."""
    from draftd.schema import STATUSES

    for one in status or ():
        if one not in STATUSES:
            raise UsageError(f"{one!r} is no status; choose from {', '.join(STATUSES)}")
    rows = asyncio.run(_newest(status or [], requester, limit))
    if as_json:
        print_json(rows)
        return
    now = time.time()
    table = [
        row | {"age": age(now - row["created_at"].timestamp()), "attempt": f"{row['attempt']}/{row['max_attempts']}"}
        for row in rows
    ]
    columns = ("id", "status", "agent", "requester_id", "priority", "attempt", "age", "error_code")
    print_table(columns, table, empty="no requests")


async def _newest(statuses: list[str], requester_id: str | None, limit: int) -> list[dict[str, Any]]:
    from draftd import db
    from draftd.queue import desk

    async with db.connected(settings().require_database_url()) as connection:
        return await desk.newest(connection, statuses=statuses, requester_id=requester_id, limit=limit)


def cancel(
    which: ManyId = None,
    code: Code = None,
    since: Since = None,
    requester: Requester = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Cancel pending and running requests: one, or all that match."""
    _change("cancel", which, code, since, requester, dry_run=dry_run, as_json=as_json)


def retry(
    which: ManyId = None,
    code: Code = None,
    since: Since = None,
    requester: Requester = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Give failed and cancelled requests a new start: one, or all that match."""
    _change("retry", which, code, since, requester, dry_run=dry_run, as_json=as_json)


def _change(
    verb: str,
    which: str | None,
    code: str | None,
    since: str | None,
    requester: str | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    if which is None and code is None and since is None and requester is None:
        raise UsageError(f"say what to {verb}: an ID, or --code, --since or --requester")
    wanted = {
        "request_id": None if which is None else request_id(which),
        "code": code,
        "requester_id": requester,
        "since_s": None if since is None else duration_s(since),
        "dry_run": dry_run,
    }
    changed, standing = asyncio.run(_changed(verb, wanted))
    status = "cancelled" if verb == "cancel" else "pending"
    rows = [{"id": one, "status": status} for one in changed]
    if which is not None and not changed:
        raise CommandError(
            f"request {which} is {standing}, not changed" if standing else f"there is no request {which}"
        )
    if as_json:
        print_json(rows[0] if which is not None else rows)
        return
    for row in rows:
        print(row["id"])
    say(f"{len(rows)} {'would be ' if dry_run else ''}{status}")


async def _changed(verb: str, wanted: dict[str, Any]) -> tuple[list[UUID], str | None]:
    """Return the changed ids, and for one request that was not changed the status that it has."""
    from draftd import db
    from draftd.queue import desk

    async with db.connected(settings().require_database_url()) as connection:
        changed = await desk.change(connection, desk.CANCEL if verb == "cancel" else desk.RETRY, **wanted)
        if changed or wanted["request_id"] is None:
            return changed, None
        row = await desk.show(connection, wanted["request_id"])
        return [], row["status"] if row else None
