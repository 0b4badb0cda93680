"""A stand-in model server: OpenAI's chat completions interface over HTTP, with scripted behaviour and no model.

Owns the server and its resources. Two rules hold: it never passes for a model (each reply says that a stand-in
wrote it, the model is called ``stand-in``), and it needs nothing but the standard library. It listens on the loopback
interface alone and has no access control.

    POST /v1/chat/completions   streaming or not
    GET  /v1/models
    GET  /samples/NAME.png      the sample screenshots
    GET  /log                   what was asked, oldest first
    POST /script                {"once": [behaviour, …], "default": behaviour or list}; a bare list means "once"
    POST /release               calls that hang or stall go on
    POST /reset                 forgets script and log
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Iterable
from typing import Any, cast

from draftd.demo.behaviour import Script, Step, steps
from draftd.demo.call import Call, read_call
from draftd.demo.calllog import CallLog
from draftd.demo.completion import MODEL, Failure, failure_for
from draftd.demo.connection import converse, send
from draftd.demo.http1 import HttpRequest, Response
from draftd.demo.playback import Player, completion_of, error_response, html_response
from draftd.demo.samples import SAMPLES

_STREAM_BUFFER_BYTES = 1024 * 1024
"""Bodies carry pictures; the default of 64 KiB would pause the transport a dozen times for each."""


class StandIn:
    """The server.

    Args:
        latency_s: seconds before each answer, unless its behaviour says otherwise.
        tokens_per_s: speed of answers (a token is four characters) unless their behaviour says otherwise; None sends
            them at once.
        record_prompts: keep the text of each prompt in the log.
    """

    def __init__(
        self, *, latency_s: float = 0.0, tokens_per_s: float | None = None, record_prompts: bool = True
    ) -> None:
        self._latency_s = latency_s
        self._tokens_per_s = tokens_per_s
        self._calls = CallLog(record_prompts=record_prompts)
        self._script = Script()
        self._released = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._port = 0

    async def start(self, port: int = 0) -> None:
        """Listen on 127.0.0.1; port 0 takes a free one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=_STREAM_BUFFER_BYTES)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close every connection, also those in the middle of an answer."""
        if self._server is None:
            return
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    @property
    def root_url(self) -> str:
        """Where ``/samples`` and ``/log`` are."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """The base URL for a client of OpenAI's interface."""
        return f"{self.root_url}/v1"

    @property
    def log(self) -> list[dict[str, Any]]:
        """What was asked since the last reset, oldest first (the latest 20,000 calls)."""
        return self._calls.entries()

    def script(
        self, once: Step | Iterable[Step] | None = None, *, default: Step | Iterable[Step] | None = None
    ) -> None:
        """Set the behaviour of the calls to come, in place of what was set before.

        Args:
            once: each is played for one call that it fits, in this order.
            default: played for every other call; the first that fits.

        Raises:
            ValueError: a behaviour is not understood.
        """
        self._script = Script(steps(once), steps(default))

    def reset(self) -> None:
        """Forget script and log; calls that hang go on hanging."""
        self._script = Script()
        self._calls.clear()

    def release(self) -> None:
        """Let the calls that hang or stall now go on; later ones hang again."""
        self._released.set()
        self._released = asyncio.Event()

    async def wait_for_calls(self, count: int, *, outcome: str | None = None) -> list[dict[str, Any]]:
        """Wait until that many calls have arrived (or have ended with this outcome) and return the log.

        Args:
            count: since the last reset.
            outcome: ``answered``, ``disconnected`` or ``client_gone``; None counts arrivals.
        """
        await self._calls.wait_for(count, outcome)
        return self.log

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._connections.add(task)
        try:
            await converse(reader, writer, respond=self._respond)
            writer.close()
            await writer.wait_closed()
        except (ConnectionError, asyncio.CancelledError):
            # Only stop() cancels this task, and asyncio.streams would report a cancelled one as a defect.
            writer.transport.abort()
        finally:
            self._connections.discard(task)

    async def _respond(self, request: HttpRequest, writer: asyncio.StreamWriter) -> bool:
        """Answer, and return whether the connection can be used again."""
        try:
            if (request.method, request.path) == ("POST", "/v1/chat/completions"):
                return await self._complete(read_call(request.json()), request, writer)
            response = self._administer(request)
        except ValueError as error:
            response = _invalid(str(error))
        return await send(response, request, writer)

    async def _complete(self, call: Call, request: HttpRequest, writer: asyncio.StreamWriter) -> bool:
        behaviour = self._script.next_for(prompt=call.prompt, model=call.model)
        # Made before the log shows the call, so that a release() after wait_for_calls() reaches it.
        player = Player(
            writer=writer,
            behaviour=behaviour,
            tokens_per_s=behaviour.tokens_per_s or self._tokens_per_s,
            released=self._released,
        )
        entry = await self._calls.open(call, behaviour)
        outcome = "client_gone"
        try:
            reusable = await self._play(call, player, request, number=entry["number"])
            outcome = "disconnected" if behaviour.disconnect and not reusable else "answered"
        finally:
            await self._calls.close(entry, outcome)
        return reusable

    async def _play(self, call: Call, player: Player, request: HttpRequest, *, number: int) -> bool:
        behaviour = player.behaviour
        await asyncio.sleep(self._latency_s if behaviour.latency_s is None else behaviour.latency_s)
        if behaviour.hang:
            await player.released.wait()
        failure = failure_for(behaviour, call)
        if failure is not None:
            response = error_response(failure, retry_after_s=behaviour.retry_after_s)
            return await send(response, request, player.writer)
        if behaviour.html:
            return await send(html_response(), request, player.writer)
        completion = completion_of(call, behaviour, number=number)
        if call.stream:
            intact = await player.send_stream(completion, include_usage=call.include_usage)
        else:
            intact = await player.send_whole(completion)
        return intact and request.keep_alive

    def _administer(self, request: HttpRequest) -> Response:
        match request.method, request.path:
            case "GET", "/v1/models":
                model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "draftd"}
                return Response.of({"object": "list", "data": [model]})
            case "GET", "/log":
                return Response.of(self.log)
            case "GET", path if path.startswith("/samples/"):
                return _sample(path)
            case "POST", "/script":
                self._read_script(request.json())
            case "POST", "/release":
                self.release()
            case "POST", "/reset":
                self.reset()
            case _:
                return _invalid("no such resource", status=404)
        return Response.of({"ok": True})

    def _read_script(self, raw: Any) -> None:
        given = {"once": raw} if isinstance(raw, list) else raw
        if not isinstance(given, dict) or not given.keys() <= {"once", "default"}:
            raise ValueError('a script is a list of behaviours or {"once": …, "default": …}')
        self.script(given.get("once"), default=given.get("default"))


def _invalid(message: str, *, status: int = 400) -> Response:
    return error_response(Failure(status=status, type="invalid_request_error", code=None, message=message))


def _sample(path: str) -> Response:
    # Looked up by name, so that no path leads out of the folder.
    for sample in SAMPLES:
        if path == f"/samples/{sample.name}.png":
            return Response(body=sample.path.read_bytes(), content_type="image/png", headers={})
    return _invalid("no such sample", status=404)


async def _run_program(options: argparse.Namespace) -> None:
    stand_in = StandIn(
        latency_s=options.latency, tokens_per_s=options.tokens_per_s, record_prompts=options.record_prompts
    )
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await stand_in.start(options.port)
    sys.stdout.write(f"{stand_in.url}\n")
    sys.stdout.flush()
    await ended.wait()
    await stand_in.stop()


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C; the one line on stdout is the base URL."""
    parser = argparse.ArgumentParser(
        prog="draftd.demo.standin", description="A stand-in model server: no model behind it."
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--latency", type=float, default=0.0, metavar="S", help="seconds before each answer")
    parser.add_argument("--tokens-per-s", type=float, metavar="N", help="speed of the answers (default: at once)")
    parser.add_argument("--record-prompts", action="store_true", help="keep the text of each prompt in the log")
    asyncio.run(_run_program(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
