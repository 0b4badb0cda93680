"""A local web page for draftd: serves index.html, inserts requests and reads their rows.

Run it beside a daemon, with a role that `draftd grants --preset backend` describes:

    DATABASE_URL=postgresql://app:…@localhost/app python examples/page/serve.py

For one person on one machine: it listens on the loopback interface and has no login. Other web sites are kept out. Every request
must name this server as its host (a name that was rebound to 127.0.0.1 does not), and whatever inserts must come from this page.
"""

import argparse
import base64
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

REQUESTER = "page"
MAX_BODY_BYTES = 25 * 1024 * 1024
"""A row holds 24 MiB of pictures."""
KEYS = ("image_urls", "context", "options", "parent_id", "idempotency_key")
INSERT = "SELECT create_draft_request(%s) AS made"
SELECT = """
SELECT status, coalesce(result, CASE WHEN status IN ('processing', 'failed') THEN partial_result END) AS result,
       error_message AS message
  FROM draft_requests WHERE id = %s AND requester_id = %s"""
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class Page:
    """The page and the headers that it is served with: only its own script and style run, and it talks to this server only."""

    def __init__(self) -> None:
        text = Path(__file__).with_name("index.html").read_text(encoding="utf-8")
        self.body = text.encode()
        self.policy = "; ".join((
            "default-src 'none'",
            f"script-src {_hash(text, 'script')}",
            f"style-src {_hash(text, 'style')}",
            "img-src data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ))  # fmt: skip


def _hash(html: str, element: str) -> str:
    found = re.search(rf"<{element}>(.*?)</{element}>", html, re.DOTALL)
    assert found is not None  # noqa: S101  # the page is beside this file
    return f"'sha256-{base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()}'"


class Server(ThreadingHTTPServer):
    """The server with what its handlers share."""

    daemon_threads = True

    def __init__(self, port: int, database_url: str) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.page = Page()
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}
        self._database_url = database_url

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report a failure, unless the browser has merely gone away."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def query(self, statement: str, *params: Any) -> dict[str, Any] | None:
        """Execute a statement and return its first row."""
        with psycopg.connect(
            self._database_url, autocommit=True, connect_timeout=5, row_factory=dict_row
        ) as connection:
            return connection.execute(statement.encode(), params).fetchone()


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        """Answer with the page, or with a request's state."""
        if self.path == "/":
            self._answer(lambda: self.server.page.body, "text/html; charset=utf-8")
        else:
            self._answer(self._row)

    def do_POST(self) -> None:
        """Insert a request."""
        self._answer(self._insert)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # http.server's name
        """Log nothing: the page asks twice a second."""

    def _answer(self, make: Callable[[], bytes | Mapping[str, Any]], kind: str = "application/json") -> None:
        status = HTTPStatus.OK
        try:
            self._require_host()
            body = make()
        except Refused as error:
            status, kind, body = error.status, "application/json", {"message": str(error)}
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            status, body = HTTPStatus.BAD_REQUEST, {"message": error.diag.message_primary}
        except psycopg.Error as error:
            print(f"database: {error.diag.message_primary or type(error).__name__}", file=sys.stderr, flush=True)
            status, body = HTTPStatus.SERVICE_UNAVAILABLE, {"message": "The database cannot be used right now."}
        self._send(status, body if isinstance(body, bytes) else json.dumps(body).encode(), kind)

    def _require_host(self) -> None:
        if self.headers["Host"] not in self.server.hosts:
            raise Refused(HTTPStatus.MISDIRECTED_REQUEST, "This server has another name.")

    def _row(self) -> Mapping[str, Any]:
        found = re.fullmatch(r"/requests/([0-9a-f-]{36})", self.path)
        row = self.server.query(SELECT, found[1], REQUESTER) if found else None
        if row is None:
            raise Refused(HTTPStatus.NOT_FOUND, "There is no such page.")
        return row

    def _insert(self) -> Mapping[str, Any]:
        if self.path != "/requests" or self.headers["Origin"] != f"http://{self.headers['Host']}":
            raise Refused(HTTPStatus.FORBIDDEN, "Only this page may do that.")
        if self.headers["Content-Type"] != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Only JSON is accepted.")
        length = self.headers["Content-Length"] or ""
        if not re.fullmatch("[0-9]{1,10}", length) or int(length) > MAX_BODY_BYTES:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The pictures are too large. Please send fewer.")
        try:
            sent = json.loads(self.rfile.read(int(length)))
            given = {key: sent[key] for key in KEYS if key in sent}
        except (ValueError, TypeError, RecursionError) as error:
            raise Refused(HTTPStatus.BAD_REQUEST, "This is not the JSON that the page sends.") from error
        row = self.server.query(INSERT, Jsonb({**given, "requester_id": REQUESTER}))
        made: Mapping[str, Any] = (row or {})["made"]
        return made

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        # The body of a refused request was not read: whatever follows it would be taken for the next request.
        self.close_connection = self.close_connection or status is not HTTPStatus.OK
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Security-Policy": self.server.page.policy}.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Serve the page on the loopback interface.")
    parser.add_argument("--port", type=int, default=8008, help="0 takes a free one")
    server = Server(parser.parse_args().port, os.environ["DATABASE_URL"])
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
