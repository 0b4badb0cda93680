"""A stand-in of Telegram's Bot API over loopback HTTP: what the users do, and what they see.

It keeps an update until a later offset confirms it, refuses an edit that changes nothing and whatever Telegram would refuse, and
remembers every text that a message has had.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

TOKEN = "42:stand-in"
MAX_TEXT_CHARS = 4096
MAX_CALLBACK_BYTES = 64
MAX_FILE_BYTES = 20 * 1024 * 1024
LONG_POLL_S = 5.0


@dataclass
class Message:
    """A message that the bot has sent, as its user sees it."""

    id: int
    chat: int
    texts: list[str]
    """Every text that it has had, as HTML; the last one is shown."""
    buttons: dict[str, str] = field(default_factory=dict)
    """What stands on a button → its data."""

    @property
    def text(self) -> str:
        return self.texts[-1]


class Refusal(Exception):
    """What Telegram answers with 400."""


class FakeTelegram:
    """The users' side of the stand-in."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.answers: list[str] = []
        """What was said to those who pressed a button."""
        self.calls: list[str] = []
        self.failures: list[dict[str, Any]] = []
        """What the next calls are answered with instead."""
        self.files: dict[str, bytes] = {}
        self.blocked_by: set[int] = set()
        """The users who get no messages of the bot."""
        self._updates: list[dict[str, Any]] = []
        self._later: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._number = 100
        self.is_closed = False
        self.url = ""

    def sends(self, user: int, *, picture: bytes | None = None, kind: str = "photo", **over: Any) -> dict[str, Any]:
        """Let a user send a message, with a picture if there is one; return the update."""
        message: dict[str, Any] = {"message_id": self._next(), "from": {"id": user}, **over}
        message.setdefault("chat", {"id": user, "type": "private"})
        if picture is not None:
            name = f"file{self._next()}"
            self.files[name] = picture
            small = f"small{self._next()}"
            document = {"file_id": name, "mime_type": "image/png"}
            message[kind] = [{"file_id": small}, {"file_id": name}] if kind == "photo" else document
        return self._update(message=message)

    def later(self, user: int, **message: Any) -> None:
        """Let a user send a message once the bot has been given those before it, each with a further look of the bot."""
        with self._changed:
            self.sends(user, **message)
            self._later.append(self._updates.pop())

    def presses(self, user: int, data: str) -> None:
        """Let a user press a button that carries this data."""
        self._update(callback_query={"id": str(self._next()), "from": {"id": user}, "data": data})

    def delivers(self, **what: Any) -> None:
        """Deliver an update of any kind."""
        self._update(**what)

    def sends_again(self, update: dict[str, Any]) -> None:
        """Deliver an update once more, as after a crash before it was confirmed."""
        with self._changed:
            self._updates.append(update)
            self._changed.notify_all()

    def wait_for_call(self, method: str, count: int = 1) -> None:
        """Wait until a method was called so often."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.calls.count(method) >= count, 60), self.calls

    def close(self) -> None:
        """Answer whoever waits."""
        with self._changed:
            self.is_closed = True
            self._changed.notify_all()

    def call(self, method: str, params: dict[str, Any]) -> Any:
        """Carry out a call of the bot."""
        with self._changed:
            self.calls.append(method)
            self._changed.notify_all()
            match method:
                case "getUpdates":
                    return self._unconfirmed(params)
                case "sendMessage" if params["chat_id"] in self.blocked_by:
                    raise Refusal("Forbidden: bot was blocked by the user")
                case "sendMessage":
                    message = Message(self._next(), params["chat_id"], [self._checked(params)])
                    self.messages.append(message)
                    return {"message_id": message.id}
                case "editMessageText":
                    return self._edit(params)
                case "deleteMessage":
                    where = (params["chat_id"], params["message_id"])
                    self.messages = [one for one in self.messages if (one.chat, one.id) != where]
                    return True
                case "answerCallbackQuery":
                    self.answers.append(params.get("text", ""))
                    return True
                case "getFile":
                    return self._file(params["file_id"])
                case _:
                    raise Refusal("Not Found")

    def _unconfirmed(self, params: dict[str, Any]) -> list[dict[str, Any]]:
        self._updates = [one for one in self._updates if one["update_id"] >= params["offset"]]
        waits_s = min(params["timeout"], LONG_POLL_S)
        self._changed.wait_for(lambda: self._updates or self.is_closed, waits_s)
        given = list(self._updates)
        if given and self._later:
            self._updates.append(self._later.pop(0) | {"update_id": self._next()})
        return given

    def _edit(self, params: dict[str, Any]) -> bool:
        text = self._checked(params)
        where = (int(params["chat_id"]), params["message_id"])
        (message,) = (one for one in self.messages if (one.chat, one.id) == where)
        keyboard = params["reply_markup"]["inline_keyboard"]
        buttons = {button["text"]: button["callback_data"] for line in keyboard for button in line}
        if any(len(data.encode()) > MAX_CALLBACK_BYTES for data in buttons.values()):
            raise Refusal("Bad Request: BUTTON_DATA_INVALID")
        if (message.text, message.buttons) == (text, buttons):
            raise Refusal("Bad Request: message is not modified")
        message.texts.append(text)
        message.buttons = buttons
        return True

    def _checked(self, params: dict[str, Any]) -> str:
        text: str = params["text"]
        shown = text
        if params.get("parse_mode") == "HTML":
            parser = _Html()
            parser.feed(text)
            shown = "".join(parser.shown)
        if not 0 < len(shown) <= MAX_TEXT_CHARS:
            raise Refusal("Bad Request: message is empty or too long")
        return text

    def _file(self, file_id: str) -> dict[str, str]:
        if file_id not in self.files or len(self.files[file_id]) > MAX_FILE_BYTES:
            raise Refusal("Bad Request: file is too big")
        return {"file_path": f"photos/{file_id}"}

    def _update(self, **what: Any) -> dict[str, Any]:
        with self._changed:
            update = {"update_id": self._next(), **what}
            self._updates.append(update)
            self._changed.notify_all()
        return update

    def _next(self) -> int:
        with self._changed:
            self._number += 1
            return self._number


class _Html(HTMLParser):
    """Reads the text of a message; Telegram refuses tags that it does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"b", "i", "u", "s", "a", "code", "pre", "blockquote"} or attrs:
            raise Refusal(f"Bad Request: can't parse entities: unsupported start tag {tag}")

    def handle_data(self, data: str) -> None:
        self.shown.append(data)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    telegram: FakeTelegram

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        pass

    def do_POST(self) -> None:
        params = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = re.fullmatch(r"/bot([^/]+)/(\w+)", self.path)
        if found is None or found[1] != TOKEN:
            self._send(401, {"ok": False, "error_code": 401, "description": "Unauthorized"})
        elif self.telegram.failures:
            failure = self.telegram.failures.pop(0)
            self._send(failure["error_code"], {"ok": False, "description": "not now", **failure})
        else:
            try:
                self._send(200, {"ok": True, "result": self.telegram.call(found[2], params)})
            except Refusal as refusal:
                self._send(400, {"ok": False, "error_code": 400, "description": str(refusal)})

    def do_GET(self) -> None:
        found = re.fullmatch(rf"/file/bot{re.escape(TOKEN)}/photos/(\w+)", self.path)
        picture = self.telegram.files.get(found[1]) if found else None
        self._send(404 if picture is None else 200, picture or b"")

    def _send(self, status: int, body: Any) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving() -> Iterator[FakeTelegram]:
    """Serve on the loopback interface while the context lasts."""
    fake = FakeTelegram()
    handler = type("Handler", (_Handler,), {"telegram": fake})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        fake.close()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def telegram() -> Iterator[FakeTelegram]:
    """Telegram, as far as a bot can see it."""
    with serving() as fake:
        yield fake
