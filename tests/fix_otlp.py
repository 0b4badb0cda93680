"""A local Langfuse: takes OTLP over HTTP and keeps the spans, or misbehaves."""

import gzip
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

TRACES = "/api/public/otel/v1/traces"
SCORES = "/api/public/scores"
Mood = Literal["well", "refusing", "hanging"]


@dataclass(slots=True)
class Received:
    name: str
    scope: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    events: int

    @classmethod
    def of(cls, span: Span, scope: str) -> "Received":
        return cls(
            name=span.name,
            scope=scope,
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            attributes={
                one.key: getattr(one.value, one.value.WhichOneof("value") or "string_value") for one in span.attributes
            },
            events=len(span.events),
        )

    def json(self, name: str) -> Any:
        return json.loads(self.attributes[f"langfuse.observation.{name}"])


@dataclass
class OtlpReceiver:
    mood: Mood = "well"
    url: str = ""
    spans: list[Received] = field(default_factory=list)
    raw: bytes = b""
    """Every body that was sent, one after the other."""
    media: list[dict[str, Any]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    """The traces that it was asked to delete."""
    lookup_status: int = 200
    """What it answers to a search for a user's observations."""
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By their ids: one that is sent again replaces the earlier one."""
    score_posts: int = 0
    rejects_scores: bool = False
    posts: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)
    released: threading.Event = field(default_factory=threading.Event)

    def named(self, name: str) -> Received:
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def take(self, path: str, body: bytes) -> tuple[int, bytes]:
        with self.changed:
            self.posts += 1
            self.raw += body
            self.changed.notify_all()
        if self.mood == "hanging":
            self.released.wait(30)
        if self.mood == "refusing":
            return 401, b"{}"
        if path == SCORES:
            return self._take_scores(json.loads(body))
        if path != TRACES:
            return self._take_media(json.loads(body))
        export = ExportTraceServiceRequest.FromString(body)
        for resource in export.resource_spans:
            for scope in resource.scope_spans:
                self.spans += [Received.of(span, scope.scope.name) for span in scope.spans]
        return 200, b""

    def delete(self, body: bytes) -> tuple[int, bytes]:
        if self.mood == "refusing":
            return 403, b'{"message": "no"}'
        ids = json.loads(body)["traceIds"]
        self.deleted += ids
        self.spans = [span for span in self.spans if span.trace_id not in ids]
        return 200, b'{"message": "Traces deleted successfully"}'

    def find(self, user_id: str) -> tuple[int, bytes]:
        if self.lookup_status != 200:
            return self.lookup_status, b"{}"
        found = [
            {
                "id": one.span_id,
                "traceId": one.trace_id,
                "startTime": "2026-01-01T00:00:00Z",
                "projectId": "p",
                "type": "SPAN",
            }
            for one in self.spans
            if one.attributes.get("user.id") == user_id
        ]
        return 200, json.dumps({"data": found, "meta": {}}).encode()

    def _take_scores(self, body: list[dict[str, Any]]) -> tuple[int, bytes]:
        with self.changed:
            self.score_posts += 1
            if self.rejects_scores:
                return 207, json.dumps({"accepted": 0, "rejected": len(body), "errors": [{"message": "no"}]}).encode()
            self.scores |= {score["id"]: score for score in body}
            self.changed.notify_all()
        return 202, b'{"message": "Accepted"}'

    def wait_for_scores(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.scores) >= count, 60), self.scores

    def wait_for_posts(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.posts >= count, 10)

    def _take_media(self, body: dict[str, Any]) -> tuple[int, bytes]:
        self.media.append(body)
        # No address for the upload: the picture is known already.
        return 200, json.dumps({"mediaId": "known", "uploadUrl": None}).encode()


@contextmanager
def otlp_receiver(mood: Mood = "well", *, tls: ssl.SSLContext | None = None) -> Iterator[OtlpReceiver]:
    receiver = OtlpReceiver(mood=mood)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            self.answer(*receiver.take(self.path, body))

        def do_DELETE(self) -> None:
            self.answer(*receiver.delete(self.rfile.read(int(self.headers["content-length"]))))

        def do_GET(self) -> None:
            (user_id,) = parse_qs(urlsplit(self.path).query)["userId"]
            self.answer(*receiver.find(user_id))

        def answer(self, status: int, answer: bytes) -> None:
            try:
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
            except ConnectionError:
                pass  # the client did not wait, which is what the hanging mood is for

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    receiver.url = (
        f"{'http' if tls is None else 'https'}://{'127.0.0.1' if tls is None else 'localhost'}:{server.server_port}"
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
