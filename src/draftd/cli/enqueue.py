"""The command that inserts a request and can wait for its drafts: enqueue."""

import asyncio
import base64
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from draftd.cli.console import (
    EXIT_NEGATIVE,
    Json,
    duration_s,
    json_or_text,
    key_value,
    print_json,
    request_id,
    say,
    settings,
    wrapped,
)
from draftd.errors import EXIT_TRY_AGAIN, CommandError, InvalidRequest, UsageError
from draftd.json_values import json_object, json_objects

if TYPE_CHECKING:
    from draftd import db

FOLLOW_INTERVAL_S = 0.25
MAX_ROW_BYTES = 24 * 1024 * 1024
MAX_FILE_BYTES = MAX_ROW_BYTES // 4 * 3
_SCHEME = re.compile("([a-z][a-z0-9+.-]*)://|data:", re.IGNORECASE)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(enqueue)


Images = Annotated[
    list[str] | None,
    typer.Argument(metavar="IMAGE", help="Screenshots in reading order: files or URLs.", show_default=False),
]
Context = Annotated[str | None, typer.Option(metavar="TEXT", help="What you want to say, or want known.")]
Tone = Annotated[str | None, typer.Option(metavar="TEXT", help="For example warm, brief or formal.")]
Language = Annotated[
    str | None,
    typer.Option(
        metavar="TAG", help="Language of the replies, e.g. en or pt-BR (BCP 47). Default: the conversation's."
    ),
]
OptionPairs = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Any key of the request's options, e.g. max_chars=200. Repeatable."),
]
Agent = Annotated[str, typer.Option(metavar="NAME", help="Agent that writes the drafts.")]
Requester = Annotated[str, typer.Option(metavar="WHO", help="User or tenant the request belongs to.")]
Priority = Annotated[int, typer.Option(metavar="N", min=-100, max=100, help="Higher runs first.")]
IdempotencyKey = Annotated[
    str | None, typer.Option(metavar="KEY", help="A key the requester has used before returns the existing request.")
]
ExpiresIn = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        help="Fail as expired if not drafted in this time, e.g. 10m. Default: the fleet's default_expiry_s.",
    ),
]
ParentId = Annotated[
    str | None, typer.Option(metavar="ID", help="Refine the drafts of this request; --context says how.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait, and print the drafts as they arrive.")]
Timeout = Annotated[
    str | None, typer.Option(metavar="DURATION", help="With --wait: give up and exit 75 after this time, e.g. 90s.")
]


def enqueue(
    images: Images = None,
    context: Context = None,
    tone: Tone = None,
    language: Language = None,
    option: OptionPairs = None,
    agent: Agent = "comment_generator",
    requester: Requester = "",
    priority: Priority = 0,
    idempotency_key: IdempotencyKey = None,
    expires_in: ExpiresIn = None,
    parent: ParentId = None,
    wait: Wait = False,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Insert a request and print its id.

    With --wait: exit 0 when it is completed, 1 when it failed or was cancelled, 75 when --timeout has passed.
    """
    _check_combination(images, parent=parent, wait=wait, timeout=timeout)
    request = {
        "context": context,
        "options": _options(option or (), tone=tone, language=language),
        "agent": agent,
        "requester_id": requester,
        "priority": priority or None,  # null means 0, and an untrusted client may not set the column
        "idempotency_key": idempotency_key,
        "parent_id": None if parent is None else str(request_id(parent)),
        "image_urls": _image_urls(images or []),
    }
    expires_s = None if expires_in is None else duration_s(expires_in)
    timeout_s = None if timeout is None else duration_s(timeout)
    raise typer.Exit(asyncio.run(_enqueue(request, expires_s, wait=wait, timeout_s=timeout_s, as_json=as_json)))


def _check_combination(images: list[str] | None, *, parent: str | None, wait: bool, timeout: str | None) -> None:
    """Raise ``UsageError`` for arguments that exclude or need each other."""
    if not images and parent is None:
        raise UsageError("give at least one screenshot, or --parent ID to refine earlier drafts")
    if images and parent is not None:
        raise UsageError("--parent takes no screenshots: a refinement reuses what was read from the original ones")
    if timeout is not None and not wait:
        raise UsageError("--timeout needs --wait")


def _options(pairs: Sequence[str], **flags: str | None) -> dict[str, Any]:
    """Return the request's options, checked as the daemon checks them.

    Args:
        pairs: ``KEY=VALUE``, from ``--option``.
        flags: options with a flag of their own.

    Raises:
        UsageError: a key is unknown or given twice, or the daemon would refuse a value.
    """
    from draftd.request import Options

    options: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
    own = {name: f"--{name}" for name in options}
    for pair in pairs:
        key, value = key_value(pair, "--option")
        if key not in Options.model_fields:
            raise UsageError(f"unknown option {key!r}; known options: {', '.join(Options.model_fields)}")
        if key in options:
            raise UsageError(f"{key} is given twice")
        options[key] = value if _accepts(key, value) else json_or_text(value)
    try:
        Options.read(options)
    except InvalidRequest as error:
        key, _, problem = error.message.removeprefix("options: ").partition(": ")
        hint = " (use a tag such as en or pt-BR)" if key.endswith("language") else ""
        raise UsageError(f"{own.get(key, f'--option {key}')}: {problem}{hint}") from error
    return options


def _accepts(key: str, value: Any) -> bool:
    """Return whether an option accepts this value."""
    from draftd.request import Options

    try:
        Options.read({key: value})
    except InvalidRequest:
        return False
    return True


def _image_urls(images: list[str]) -> list[str]:
    urls = [image_url(image) for image in images]
    if sum(map(len, urls)) > MAX_ROW_BYTES:
        raise UsageError("the screenshots exceed 24 MiB in base64; send fewer, or their URLs")
    return urls


def image_url(image: str) -> str:
    """Return a URL unchanged, and a file as a data: URL.

    Raises:
        UsageError: the file cannot be read, is empty or too large, or the URL's scheme is not supported.
    """
    if scheme := _SCHEME.match(image):
        if (scheme[1] or "").lower() not in {"", "http", "https"}:
            raise UsageError(f"{scheme[1]}:// is not supported; give a file, or an http(s) URL")
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
            f"{image!r} is larger than {MAX_FILE_BYTES // 1024**2} MiB, the most a row can hold; give its URL"
        )
    # The daemon detects the format from the bytes and ignores the type in the URL.
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
            request["expires_at"] = (await admin.time_from_now(connection, expires_s)).isoformat()
        made = await _insert(connection, request)
        if not made["created"]:
            say(f"idempotency key already used; its request is {made['status']}")
        elif await admin.is_unserved(connection, request["agent"]):
            say(f"warning: no running daemon has a prompt for the agent {request['agent']!r}; the request will wait")
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
    """Print drafts as they become ready, until the request is final."""
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
            say(f"still {row['status']} after {timeout_s:g} s; check on it with: draftd show {which}")
            return EXIT_TRY_AGAIN
        await asyncio.sleep(FOLLOW_INTERVAL_S)
    raise CommandError(f"request {which} no longer exists")


class DraftPrinter:
    """Prints a request's drafts as they arrive, each once; a draft that changes is printed again."""

    def __init__(self, *, quiet: bool = False, label: str = "") -> None:
        self._quiet = quiet
        self._label = label
        self._shown: dict[str, Any] = {}
        self._note = ""

    def update(self, row: dict[str, Any]) -> None:
        """Print what is new in the row."""
        if self._quiet:
            return
        progress = row["partial_result"] if row["status"] == "processing" else None
        source = json_object(row["result"]) or json_object(progress)
        for option in json_objects(source.get("options")):
            length, said = str(option.get("length")), (option.get("text"), option.get("unsupported"))
            if self._shown.get(length) != said:
                self._shown[length] = said
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
    """Return one draft as text for a person."""
    length = str(option.get("length"))
    head = f"{label}, {length}" if label else length
    stance = option.get("stance", "none")
    decides = "" if stance == "none" else f"; {stance}"
    angle = " ".join(str(option.get("angle")).split())
    lines = [f"\n— {head} ({angle}{decides})", str(option.get("text"))]
    if option.get("translation"):
        lines.append(f"  = {option['translation']}")
    if unsupported := json_objects(option.get("unsupported")):
        quotes = ", ".join(f'"{one.get("quote")}" ({one.get("kind")})' for one in unsupported)
        lines.append(f"  ! not in any source, check before sending: {quotes}")
    return wrapped("\n".join(lines))
