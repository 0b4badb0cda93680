"""A signed address that lives for one fetch only is enough, whatever becomes of the first attempt."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from draftd.stand_in.threaded import ThreadedStandIn
from fix_daemon import Client, Fleet, environment, wait_until
from fix_images import make_png


@contextmanager
def signed_once() -> Iterator[tuple[str, list[str]]]:
    """Serve a picture to the first fetch of each path, and 403 to every later one; yield the address and the paths asked for."""
    fetched: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = (403, b"") if self.path in fetched else (200, make_png(300, 200))
            fetched.append(self.path)
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", fetched
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def kept(client: Client) -> int:
    return int(client.query("SELECT count(*) AS n FROM draft_pictures")[0]["n"])


def test_an_outage_of_the_provider_outlasts_the_address_of_a_picture(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    stand_in.script(default={"status": 500})
    with signed_once() as (url, fetched):
        fleet.start(environment(database, stand_in))
        request_id = client.insert(f"{url}/shot.png?signature=secret")
        wait_until(lambda: client.row(request_id)["error_code"] == "model_unavailable", 60)
        assert kept(client) == 1
        stand_in.script(default={})
        row = client.wait_for(request_id, "completed", "failed")
    assert (row["status"], fetched) == ("completed", ["/shot.png?signature=secret"])
    assert (row["images"][0]["width"], row["images"][0]["height"], row["images"][0]["parts"]) == (300, 200, 1)
    assert stand_in.log[-1]["images"] == stand_in.log[0]["images"]
    assert kept(client) == 0


def test_another_daemon_goes_on_with_the_pictures_of_one_that_was_shut_down(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    stand_in.script({"hang": True})
    env = environment(database, stand_in, DRAFTD_SHUTDOWN_GRACE_S="0.2")
    with signed_once() as (url, fetched):
        first = fleet.start(env)
        request_id = client.insert(f"{url}/shot.png")
        stand_in.wait_for_calls(1)
        assert first.stop() == 0
        assert kept(client) == 1
        fleet.start(env)
        row = client.wait_for(request_id, "completed", "failed")
    assert (row["status"], row["attempt"], fetched) == ("completed", 1, ["/shot.png"])
    assert kept(client) == 0
