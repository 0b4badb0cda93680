"""The command that inserts a request by hand and, if wished, follows it: enqueue."""

import asyncio
import base64
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from draftd.cli.console import (
    EXIT_NEGATIVE,
    Json,
    duration_s,
    fitted,
    json_object,
    json_objects,
    print_json,
    request_id,
    say,
    settings,
)
from draftd.errors import EXIT_TRY_AGAIN, CommandError, InvalidRequest, UsageError

if TYPE_CHECKING:
    from draftd import db

FOLLOW_INTERVAL_S = 0.25
MAX_ROW_BYTES = 24 * 1024 * 1024
MAX_FILE_BYTES = MAX_ROW_BYTES // 4 * 3
_SCHEME = re.compile("([a-z][a-z0-9+.-]*)://|data:", re.IGNORECASE)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(enqueue)


def enqueue(
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="IMAGE", help="Screenshots in reading order: files or URLs.", show_default=False),
    ] = None,
    context: Annotated[str | None, typer.Option(metavar="TEXT", help="What you want to say, or to be known.")] = None,
    tone: Annotated[str | None, typer.Option(metavar="TEXT", help="For example: warm, brief, formal.")] = None,
    language: Annotated[
        str | None, typer.Option(metavar="TAG", help="en, pt-BR, … (BCP 47); default: the conversation's own.")
    ] = None,
    agent: Annotated[str, typer.Option(metavar="NAME", help="Which prompt answers.")] = "comment_generator",
    requester: Annotated[str, typer.Option(metavar="WHO", help="Whose request it is: a user or a tenant.")] = "",
    priority: Annotated[int, typer.Option(metavar="N", min=-100, max=100, help="Higher comes first.")] = 0,
    idempotency_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="The same key of the same requester gives the same request.")
    ] = None,
    expires_in: Annotated[
        str | None,
        typer.Option(metavar="AGE", help="A later draft is worth nothing, e.g. 10m; default: see `draftd settings`."),
    ] = None,
    parent: Annotated[
        str | None, typer.Option(metavar="ID", help="Refine the drafts of this request; --context says how.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it and print the drafts as they arrive.")] = False,
    timeout: Annotated[
        float | None, typer.Option(metavar="S", min=0.1, help="With --wait: seconds to wait; then exit 75.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Insert a request by hand and print its id.

    With --wait: exit 0 when it is completed, 1 when it failed or was cancelled, 75 when it still goes on after --timeout.
    """
    if not images and parent is None:
        raise UsageError("name at least one screenshot, or --parent ID to refine earlier drafts")
    if images and parent is not None:
        raise UsageError(
            "a refinement (--parent) takes no screenshots: it works with what was read from the first ones"
        )
    if timeout is not None and not wait:
        raise UsageError("--timeout goes with --wait")
    request: dict[str, Any] = {
        "context": context,
        "options": _options(tone=tone, language=language),
        "agent": agent,
        "requester_id": requester,
        "priority": priority or None,  # null is the default; a client that is not trusted may not even name it
        "idempotency_key": idempotency_key,
        "parent_id": None if parent is None else str(request_id(parent)),
        "image_urls": _image_urls(images or []),
    }
    expires_s = None if expires_in is None else duration_s(expires_in)
    raise typer.Exit(asyncio.run(_enqueue(request, expires_s, wait=wait, timeout_s=timeout, as_json=as_json)))


def _options(**given: str | None) -> dict[str, str]:
    """Return the options that were given, checked as the daemon would check them.

    Raises:
        UsageError: the daemon would refuse one.
    """
    from draftd.request import Options

    options = {name: value for name, value in given.items() if value is not None}
    try:
        Options.read(options)
    except InvalidRequest as error:
        hint = " (en and pt-BR are such tags)" if "language:" in error.message else ""
        raise UsageError(f"--{error.message.removeprefix('options: ')}{hint}") from error
    return options


def _image_urls(images: list[str]) -> list[str]:
    urls = [image_url(image) for image in images]
    if sum(map(len, urls)) > MAX_ROW_BYTES:
        raise UsageError("the screenshots hold more than 24 MiB in base64; send fewer, or their URLs")
    return urls


def image_url(image: str) -> str:
    """Return a URL as it is, and a file as a data: URL.

    Raises:
        UsageError: the file cannot be read, is empty or too large, or the URL is of another kind.
    """
    if scheme := _SCHEME.match(image):
        if (scheme[1] or "").lower() not in {"", "http", "https"}:
            raise UsageError(f"{scheme[1]}:// cannot be fetched; give a file, or an http(s) URL")
        return image
    try:
        with Path(image).open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {image!r}: {getattr(error, 'strerror', None) or error}") from None
    if not data:
        raise UsageError(f"{image!r} is empty")
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(
            f"{image!r} is larger than the {MAX_FILE_BYTES // 1024**2} MiB that a row can hold; give its URL"
        )
    # The type in the URL is a courtesy: magic bytes decide what a picture is.
    suffix = Path(image).suffix.lstrip(".").lower()
    kind = suffix if suffix.isascii() and suffix.isalnum() else "png"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


async def _enqueue(
    request: dict[str, Any], expires_s: float | None, *, wait: bool, timeout_s: float | None, as_json: bool
) -> int:
    from draftd import db
    from draftd.queue import admin

    async with db.connected(settings().require_database_url()) as connection:
        if expires_s is not None:
            request["expires_at"] = (await admin.time_in(connection, expires_s)).isoformat()
        made = await _insert(connection, request)
        if not made["created"]:
            say(f"this idempotency key was used before: the request is {made['status']}")
        elif await admin.nobody_serves(connection, request["agent"]):
            say(
                f"warning: no running daemon has a prompt for the agent {request['agent']!r}; the request waits for one"
            )
        if not wait:
            print_json({"id": made["id"]}) if as_json else print(made["id"])
            return 0
        say(made["id"])
        return await _follow(connection, UUID(made["id"]), timeout_s=timeout_s, as_json=as_json)


async def _insert(connection: "db.Connection", request: dict[str, Any]) -> dict[str, Any]:
    """Insert the request.

    Raises:
        UsageError: the database refused it.
    """
    import psycopg

    from draftd.queue import admin

    try:
        return await admin.enqueue(connection, request)
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        message = error.diag.message_primary or "the request was refused"
        raise UsageError(message.removeprefix("draft_requests: ")) from error


async def _follow(connection: "db.Connection", which: UUID, *, timeout_s: float | None, as_json: bool) -> int:
    """Print options as they become ready, until the request is final."""
    from draftd.queue import admin

    ends_at = None if timeout_s is None else time.monotonic() + timeout_s
    printer = DraftPrinter(quiet=as_json)
    while (row := await admin.show(connection, which)) is not None:
        printer.update(row)
        if admin.is_final(row["status"]):
            if as_json:
                print_json(row)
            return 0 if row["status"] == "completed" else EXIT_NEGATIVE
        if ends_at is not None and time.monotonic() >= ends_at:
            if as_json:
                print_json(row)
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
        progress = row["partial_result"] if row["status"] == "processing" else None
        source = json_object(row["result"]) or json_object(progress)
        for option in json_objects(source.get("options")):
            length, text = str(option.get("length")), str(option.get("text"))
            if self._shown.get(length) != text:
                self._shown[length] = text
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
    length = str(option.get("length"))
    head = f"{label}, {length}" if label else length
    lines = [f"\n— {head} ({option.get('angle')})", str(option.get("text"))]
    if option.get("translation"):
        lines.append(f"  = {option['translation']}")
    return fitted("\n".join(lines))
