"""A stand-in model server: OpenAI's chat completions over HTTP, or another provider's wire, with scripted behaviour and no model.

It never passes for a model: each reply says that a stand-in wrote it, the model is called ``stand-in``, and so is the server in
every response's headers. It has no access control, and listens on the loopback interface unless it is told otherwise.

    POST /v1/chat/completions   streaming or not; where another dialect has its questions
    GET  /v1/models
    GET  /api/ps                what Ollama has loaded
    POST /token                 Google's login
    GET  /samples/NAME.png      the sample screenshots
    GET  /log                   what was asked, oldest first
    POST /script                {"once": [behaviour, …], "default": behaviour or list}; a bare list means "once"
    POST /release               calls that hang or stall go on
    POST /reset                 forgets script and log
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from draftd.demo.samples import SAMPLES
from draftd.stand_in.behaviour import Behaviour, Script, Step, steps
from draftd.stand_in.call import Call
from draftd.stand_in.calllog import CallLog
from draftd.stand_in.completion import FINGERPRINT, MODEL, Failure, failure_for
from draftd.stand_in.playback import Player, completion_of, error_response, html_response
from draftd.stand_in.wires.dialects import OPENAI, Dialect

_MAX_BODY_BYTES = 64 * 1024 * 1024

Content = Callable[[Mapping[str, Any], Mapping[str, str]], Mapping[str, Any]]
"""From the body and the headers of a call to the values of its answer; raises ``ValueError`` for a call it does not know."""


class StandIn:
    """The server.

    Args:
        latency_s: seconds before each answer, unless its behaviour says otherwise.
        tokens_per_s: speed of answers (a token is four characters) unless their behaviour says otherwise; None sends
            them at once.
        record_prompts: keep the text of each prompt in the log.
        dialect: whose wire is spoken.
        keep_requests: keep every request as it came, bodies included, under ``received``.
        content: what is answered, in place of the scenes.
        running: what Ollama's ``/api/ps`` lists.
        silent_elsewhere: accept whatever is no question to a model, and say nothing until ``release``.
    """

    def __init__(
        self,
        *,
        latency_s: float = 0.0,
        tokens_per_s: float | None = None,
        record_prompts: bool = True,
        dialect: Dialect = OPENAI,
        keep_requests: bool = False,
        silent_elsewhere: bool = False,
        content: Content | None = None,
        running: Any = None,
    ) -> None:
        self._content = content
        self._running = running
        self._dialect = dialect
        self._keep_requests = keep_requests
        self._silent_elsewhere = silent_elsewhere
        self._latency_s = latency_s
        self._tokens_per_s = tokens_per_s
        self._calls = CallLog(record_prompts=record_prompts)
        self._script = Script()
        self._released = asyncio.Event()
        self.received: list[web.Request] = []
        self._runner: web.AppRunner | None = None
        self._host, self._port = "127.0.0.1", 0

    async def start(self, port: int = 0, *, host: str = "127.0.0.1") -> None:
        """Listen; port 0 takes a free one.

        Raises:
            OSError: the address or the port cannot be had.
        """
        # A handler is cancelled when its client goes away, also while it plays a hanging call. A stop waits for none:
        # aiohttp would take a timeout of 0 for none at all.
        self._runner = web.AppRunner(self._app(), handler_cancellation=True, shutdown_timeout=0.01, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        self._host, self._port = self._runner.addresses[0][:2]

    async def stop(self) -> None:
        """Close every connection, also those in the middle of an answer."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def root_url(self) -> str:
        """Where ``/samples`` and ``/log`` are."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104  # reached here as well
        return f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    @property
    def url(self) -> str:
        """The base URL for a client of the dialect."""
        return f"{self.root_url}{self._dialect.base}"

    def variables(self) -> dict[str, str]:
        """Return the environment in which ``draftd run`` asks this server, and may fetch its samples."""
        return {
            "OPENAI_BASE_URL": self.url,
            "OPENAI_API_KEY": MODEL,
            "DRAFTD_MODEL": f"openai/{MODEL}",
            "DRAFTD_ALLOW_PRIVATE_IMAGE_HOSTS": self.root_url.removeprefix("http://"),
        }

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

    def read_script(self, raw: Any) -> None:
        """Set the behaviour of the calls to come from JSON: ``{"once": …, "default": …}``, or a list for ``once``.

        Raises:
            ValueError: it is not understood; the message says what.
        """
        given = {"once": raw} if isinstance(raw, list) else raw
        if not isinstance(given, dict) or not given.keys() <= {"once", "default"}:
            raise ValueError('a script is a list of behaviours or {"once": …, "default": …}')
        self.script(given.get("once"), default=given.get("default"))

    def reset(self) -> None:
        """Forget script and log; calls that hang go on hanging."""
        self._script = Script()
        self._calls.clear()
        self.received.clear()

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

    def _app(self) -> web.Application:
        middlewares = [self._refuse_what_is_malformed, self._answer_as_a_model]
        app = web.Application(client_max_size=_MAX_BODY_BYTES, middlewares=middlewares)
        app.on_response_prepare.append(_sign)
        app.add_routes(
            [
                web.get("/v1/models", _models),
                web.get("/api/ps", self._get_running),
                web.post("/token", _token),
                web.get("/samples/{name}", self._sample),
                web.get("/log", self._get_log),
                web.post("/script", self._post_script),
                web.post("/release", self._post_release),
                web.post("/reset", self._post_reset),
            ]
        )
        return app

    @web.middleware
    async def _refuse_what_is_malformed(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except ValueError as error:
            return self._invalid(str(error))

    @web.middleware
    async def _answer_as_a_model(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._keep_requests:
            await request.read()
            self.received.append(request)
        if request.method == "POST" and self._dialect.wire.is_question(request.path):
            return await self._complete(request)
        if self._silent_elsewhere:
            await self._released.wait()
        return await handler(request)

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        raw = await request.json()
        call = self._dialect.wire.read(request.path, raw)
        content = None if self._content is None else self._content(raw, request.headers)
        behaviour = self._script.next_for(prompt=call.prompt, model=call.model)
        # Made before the log shows the call, so that a release() after wait_for_calls() reaches it.
        player = Player(
            request=request,
            wire=self._dialect.wire,
            behaviour=behaviour,
            tokens_per_s=behaviour.tokens_per_s or self._tokens_per_s,
            released=self._released,
        )
        entry = await self._calls.open(call, behaviour)
        outcome = "client_gone"
        try:
            response = await self._play(call, player, number=entry["number"], content=content)
            outcome = "disconnected" if player.was_cut else "answered"
        finally:
            await self._calls.close(entry, outcome)
        return response

    async def _play(
        self, call: Call, player: Player, *, number: int, content: Mapping[str, Any] | None
    ) -> web.StreamResponse:
        behaviour = player.behaviour
        await asyncio.sleep(self._latency_s if behaviour.latency_s is None else behaviour.latency_s)
        if behaviour.hang:
            await player.released.wait()
        if behaviour.reset:
            return player.reset()
        failure = failure_for(behaviour, call)
        if failure is not None:
            return await player.send(error_response(self._dialect.wire, failure, behaviour))
        if behaviour.html:
            return await player.send(html_response())
        completion = completion_of(call, behaviour, number=number, content=content)
        if call.stream:
            return await player.send_stream(completion)
        return await player.send_whole(completion)

    async def _get_running(self, _request: web.Request) -> web.Response:
        return web.json_response({"models": self._running})

    async def _sample(self, request: web.Request) -> web.Response:
        # Looked up by name, so that no path leads out of the folder.
        for sample in SAMPLES:
            if request.match_info["name"] == f"{sample.name}.png":
                return web.Response(body=sample.path.read_bytes(), content_type="image/png")
        return self._invalid("no such sample", status=404)

    def _invalid(self, message: str, *, status: int = 400) -> web.Response:
        failure = Failure(status=status, type="invalid_request_error", code=None, message=message)
        return error_response(self._dialect.wire, failure, Behaviour())

    async def _get_log(self, _request: web.Request) -> web.Response:
        return web.json_response(self.log)

    async def _post_script(self, request: web.Request) -> web.Response:
        self.read_script(await request.json())
        return web.json_response({"ok": True})

    async def _post_release(self, _request: web.Request) -> web.Response:
        self.release()
        return web.json_response({"ok": True})

    async def _post_reset(self, _request: web.Request) -> web.Response:
        self.reset()
        return web.json_response({"ok": True})


async def _sign(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = FINGERPRINT


async def _models(_request: web.Request) -> web.Response:
    model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "draftd"}
    return web.json_response({"object": "list", "data": [model]})


async def _token(_request: web.Request) -> web.Response:
    return web.json_response({"access_token": "made-up", "expires_in": 3600, "token_type": "Bearer"})


def is_loopback(host: str) -> bool:
    """Return whether an address is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
