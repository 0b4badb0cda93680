"""The doubles for an app's tests: stand-in."""

import asyncio
import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from draftd.cli.console import say
from draftd.errors import CommandError, ConfigurationError, UsageError

if TYPE_CHECKING:
    from draftd.stand_in.server import StandIn

EXTRA = "install draftd with its extra `demo`, such as pip install '.[demo]' in a checkout"
NOTICE = "A stand-in answers here with scripted replies; there is no model behind it. Ctrl-C ends it."
OPEN = "warning: {host} is not a loopback address; whoever reaches this port can change the script and read the prompts"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(stand_in)


def stand_in(
    port: Annotated[int, typer.Option(metavar="N", help="Port; 0 takes a free one.", min=0, max=65_535)] = 8899,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    script: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON with the behaviour of the first calls.", show_default=False),
    ] = None,
    latency: Annotated[float, typer.Option(metavar="S", help="Seconds before each answer.", min=0)] = 0.0,
    tokens_per_s: Annotated[
        float | None,
        typer.Option(metavar="N", help="Speed of the answers. Default: all at once.", min=0.001, show_default=False),
    ] = None,
    sql: Annotated[
        bool, typer.Option("--sql", help="Print the SQL function fake_draft instead, for tests without a daemon.")
    ] = False,
) -> None:
    """Run a model server without a model, for an app's own tests.

    Prints the variables with which `draftd run` uses it, and answers until Ctrl-C. It speaks OpenAI's chat completions and can be
    told over HTTP to be slow, to fail or to say something else; docs/connect/testing.md has the vocabulary.
    """
    if sql:
        from draftd.stand_in.fake_draft import fake_draft_sql

        print(fake_draft_sql(), end="")
        return
    given = {} if script is None else _read(script)
    try:
        from draftd.stand_in.server import StandIn
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"{error.name} is missing: {EXTRA}") from error
    server = StandIn(latency_s=latency, tokens_per_s=tokens_per_s)
    try:
        server.read_script(given)
    except ValueError as error:
        raise UsageError(f"--script: {error}") from error
    asyncio.run(_serve(server, host, port))


def _read(script: Path) -> Any:
    try:
        return json.loads(script.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--script: cannot read {str(script)!r}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"--script: {str(script)!r} is not JSON: {error}") from error


async def _serve(server: "StandIn", host: str, port: int) -> None:
    from draftd.stand_in.server import is_loopback

    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    try:
        await server.start(port, host=host)
    except OSError as error:
        # The libraries' text repeats the address before the reason.
        why = str(error.strerror).rpartition(": ")[2]
        raise CommandError(f"cannot listen on {host}, port {port}: {why}") from error
    if not is_loopback(host):
        say(OPEN.format(host=host))
    # In one write, so that a script that waits for the first line has all of them.
    print("\n".join(f"{name}={value}" for name, value in server.variables().items()), flush=True)
    say(NOTICE)
    await ended.wait()
    await server.stop()
