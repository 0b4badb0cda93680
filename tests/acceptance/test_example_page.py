"""The example's page beside a real daemon, with a client's role; in a browser where there is one."""

import base64
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from draftd.demo.samples import EMAIL
from fix_browser import DESKTOP, PHONE, SCHEMES, Page
from fix_daemon import KEPT_VARIABLES, Running
from fix_demo_page import MARKED
from fix_roles import Roles

EXAMPLE = Path(__file__).parents[2] / "examples" / "page"
HOSTILE = "<img src=x onerror='document.title = 1'><script>document.title = 2</script> is what I got, thanks."
MEDIUM = (
    "Stand-in reply: Thursday at 14:00 is fine. That is €4,250 in all, and I would gladly take it from you on any day that "
    "you like, at your own convenience and mine."
)
ANSWER = {
    "short": HOSTILE,
    "medium": MEDIUM,
    "short_stance": "accept",
    "medium_stance": "decline",
    "detailed_stance": "open",
    "other_targets": ["Ana: asks about prices", f"<b>nobody</b>{'w' * 150}"],
    "missing": ["the release date"],
    "warnings": ["ambiguous_target"],
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server answered."""

    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """The example's server as a process."""

    def __init__(self, database_url: str) -> None:
        kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        self.process = subprocess.Popen(
            [sys.executable, EXAMPLE / "serve.py", "--port", "0"],
            env=kept | {"DATABASE_URL": database_url},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        self.host = self.url.removeprefix("http://").rstrip("/")

    def ask(self, method: str, path: str, body: Any = None, **headers: str | None) -> Answer:
        """Ask as the page does, but for these headers; None leaves one out."""
        sent = {"Host": self.host, "Origin": f"http://{self.host}", "Content-Type": "application/json"}
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {name: value for name, value in {**sent, **given}.items() if value is not None}
        text = body if isinstance(body, str) else json.dumps(body)
        with closing(http.client.HTTPConnection(self.host, timeout=60)) as connection:
            connection.request(method, path, body=text if method == "POST" else None, headers=sent)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def end(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def server(running: Running, roles_of: Callable[[str], Roles]) -> Iterator[Server]:
    """A server whose database role is a client's."""
    running.stand_in.reset()
    running.client.query("DELETE FROM draft_requests")
    roles = roles_of(running.url)
    started = Server(roles.url(roles.client()))
    yield started
    started.end()
    running.stand_in.reset()
    running.stand_in.release()


def picture() -> str:
    return f"data:image/png;base64,{base64.b64encode(EMAIL.path.read_bytes()).decode()}"


def request(**over: Any) -> dict[str, Any]:
    return {"image_urls": [picture()], "idempotency_key": "k", **over}


def count(running: Running) -> int:
    number: int = running.client.query("SELECT count(*) AS n FROM draft_requests")[0]["n"]
    return number


def test_a_request_of_the_page_becomes_drafts(running: Running, server: Server) -> None:
    made = server.ask("POST", "/requests", request(context="yes", requester_id="ann")).json
    again = server.ask("POST", "/requests", request()).json
    assert (made["id"], made["created"], again["created"]) == (again["id"], True, False)
    assert running.client.wait_for(made["id"], "completed")["requester_id"] == "page"
    row = server.ask("GET", f"/requests/{made['id']}").json
    assert (row["status"], row["message"], len(row["result"]["options"])) == ("completed", None, 3)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1:1"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": None}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Length": "99999999999"}, 413),
        ({"Content_Length": "-1"}, 413),
        ({"Content_Length": "9" * 5_000}, 413),
    ],
)
def test_other_sites_can_insert_nothing(
    running: Running, server: Server, headers: dict[str, str | None], status: int
) -> None:
    assert server.ask("POST", "/requests", request(), **headers).status == status
    assert count(running) == 0


def test_a_name_that_points_to_this_machine_reads_nothing(server: Server) -> None:
    made = server.ask("POST", "/requests", request()).json
    assert server.ask("GET", f"/requests/{made['id']}", Host="evil.example").status == 421
    assert server.ask("GET", "/", Host="evil.example").status == 421


def test_others_requests_are_not_shown(running: Running, server: Server) -> None:
    theirs = running.client.insert(picture(), requester_id="ann")
    assert server.ask("GET", f"/requests/{theirs}").status == 404
    refused = server.ask("POST", "/requests", request(image_urls=[], parent_id=theirs))
    assert refused.status == 400


@pytest.mark.parametrize("body", ["[]", "{", '"text"', '{"options": {"nonsense": 1}, "image_urls": []}', "[" * 9999])
def test_what_the_page_would_not_send_is_refused_with_a_sentence(server: Server, body: str) -> None:
    refused = server.ask("POST", "/requests", body)
    assert refused.status == 400
    assert refused.json["message"]


def test_it_listens_on_the_loopback_interface_and_lets_only_its_own_script_run(server: Server) -> None:
    assert server.host.startswith("127.0.0.1:")
    answer = server.ask("GET", "/")
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_page_parses_no_html() -> None:
    source = (EXAMPLE / "index.html").read_text()
    for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http://", "https://"):
        assert sink not in source


async def choose_and_send(page: Page, note: str) -> None:
    """Choose a screenshot, write a note and ask for replies."""
    root = await page.call("DOM.getDocument")
    files = await page.call("DOM.querySelector", nodeId=root["root"]["nodeId"], selector="#files")
    await page.call("DOM.setFileInputFiles", nodeId=files["nodeId"], files=[str(EMAIL.path)])
    await page.wait_for("!document.querySelector('#send').disabled")
    await page.evaluate(f"document.querySelector('#note').value = {json.dumps(note)}")
    await page.evaluate("document.querySelector('#send').click()")


async def cards(page: Page) -> list[str]:
    """Return the texts of the newest drafts."""
    found: list[str] = await page.evaluate(
        "[...document.querySelector('.turn').querySelectorAll('.text')].map((one) => one.textContent)"
    )
    return found


async def press(page: Page, name: str) -> None:
    """Press a button of the newest drafts."""
    buttons = "[...document.querySelector('.turn').querySelectorAll('.action')]"
    await page.evaluate(f"{buttons}.find((one) => one.textContent === {json.dumps(name)}).click()")


@pytest.mark.timeout(240)
async def test_drafts_appear_as_cards_one_after_the_other(
    running: Running, server: Server, browser_page: Page, tmp_path: Path
) -> None:
    running.stand_in.script({"fields": ANSWER, "stall_after": '"medium_stance"'}, default={"fields": ANSWER})
    await browser_page.look_like(DESKTOP, "light")
    await browser_page.goto(server.url)
    await choose_and_send(browser_page, "Yes, gladly")
    await browser_page.wait_for("document.querySelector('.turn .text') !== null")
    assert await cards(browser_page) == [HOSTILE]
    assert await browser_page.evaluate("document.querySelectorAll('.turn .ghost').length") == 2
    await browser_page.screenshot(tmp_path / "writing.png")
    running.stand_in.release()
    await browser_page.wait_for("document.querySelectorAll('.turn .action').length > 0")
    assert len(await cards(browser_page)) == 3
    assert await browser_page.evaluate("[...document.querySelectorAll('mark')].map((one) => one.textContent)") == [
        "€4,250"
    ]
    labels = await browser_page.evaluate("[...document.querySelectorAll('.stance')].map((one) => one.textContent)")
    assert labels == ["Accepts", "Declines", "Leaves it open"]
    assert (
        await browser_page.evaluate(
            "document.querySelectorAll('article img, .actions img, .turn script, .turn b').length"
        )
        == 0
    )
    assert await browser_page.evaluate("document.title") == "What to reply"
    remarks = await browser_page.evaluate("document.querySelector('.remarks').innerText")
    assert "It is not clear which message to answer." in remarks
    assert "A better reply needs: the release date" in remarks
    (row,) = running.client.query("SELECT * FROM draft_requests")
    assert (row["context"], row["requester_id"]) == ("Yes, gladly", "page")
    for size, device in ((PHONE, "phone"), (DESKTOP, "desktop")):
        for scheme in SCHEMES:
            await browser_page.look_like(size, scheme)
            await browser_page.screenshot(tmp_path / f"{device}-{scheme}.png")
            assert await browser_page.overflowing() == []
    assert browser_page.errors == []


async def test_the_page_marks_quotes_as_a_whole(server: Server, browser_page: Page) -> None:
    await browser_page.goto(server.url)
    for text, quotes, wanted in MARKED:
        given = json.dumps([text, [{"quote": quote} for quote in quotes]])
        parts = await browser_page.evaluate(
            f"marked(...{given}).map((part) => [part.textContent ?? part, part !== `${{part}}`])"
        )
        assert [part for part, is_marked in parts if is_marked] == wanted
        assert "".join(part for part, _ in parts) == text


async def test_the_browser_itself_forbids_the_page_to_parse_html(server: Server, browser_page: Page) -> None:
    await browser_page.goto(server.url)
    parse = "(() => { try { document.body.innerHTML = '<b>'; return 'parsed' } catch (error) { return error.name } })()"
    assert await browser_page.evaluate(parse) == "TypeError"


async def test_a_reply_is_copied_as_it_is(running: Running, server: Server, browser_page: Page) -> None:
    running.stand_in.script(default={"fields": ANSWER})
    await browser_page.goto(server.url)
    await choose_and_send(browser_page, "")
    await browser_page.wait_for("document.querySelectorAll('.turn .action').length > 0")
    await browser_page.call("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    await browser_page.call("Page.bringToFront")
    await browser_page.evaluate("document.querySelectorAll('.copy')[1].click()")
    await browser_page.wait_for("document.querySelectorAll('.copy')[1].textContent === 'Copied'")
    assert await browser_page.evaluate("navigator.clipboard.readText()") == MEDIUM
    assert browser_page.errors == []


async def test_buttons_refine_the_drafts_and_keep_the_earlier_ones(
    running: Running, server: Server, browser_page: Page
) -> None:
    running.stand_in.script(default={"fields": {"other_targets": ["Ana: asks about prices"]}})
    await browser_page.goto(server.url)
    await choose_and_send(browser_page, "")
    asked: dict[str, tuple[str | None, dict[str, str]]] = {
        "Others": (None, {}),
        "Shorter": ("Make all three shorter: about half as long, with the same message.", {}),
        "Ana: asks about prices": (None, {"answer_to": "t1"}),
        "Decline": (None, {"stance": "decline"}),
    }
    for turns, (name, wanted) in enumerate(asked.items(), start=2):
        await browser_page.wait_for("document.querySelector('.turn')?.querySelectorAll('.action').length > 0")
        await press(browser_page, name)
        await browser_page.wait_for(f"document.querySelectorAll('.turn').length === {turns}")
        parent, child = running.client.query("SELECT * FROM draft_requests ORDER BY created_at DESC LIMIT 2")[::-1]
        assert (child["parent_id"], child["context"], child["options"]) == (parent["id"], *wanted)
    assert browser_page.errors == []


async def test_a_screenshot_can_be_pasted_or_dropped_and_taken_back(server: Server, browser_page: Page) -> None:
    await browser_page.goto(server.url)
    # The page may fetch nothing but its own server, so the picture comes along as bytes.
    bytes_of = f"Uint8Array.from(atob({json.dumps(picture().partition(',')[2])}), (one) => one.charCodeAt(0))"
    for event, name, key in (("ClipboardEvent", "paste", "clipboardData"), ("DragEvent", "drop", "dataTransfer")):
        await browser_page.evaluate(
            f"(() => {{ const transfer = new DataTransfer();"
            f"transfer.items.add(new File([{bytes_of}], 'shot.png', {{type: 'image/png'}}));"
            f"document.dispatchEvent(new {event}('{name}', {{{key}: transfer, bubbles: true, cancelable: true}})); }})()"
        )
    await browser_page.wait_for("document.querySelectorAll('.picture img').length === 2")
    assert not await browser_page.evaluate("document.querySelector('#send').disabled")
    for _ in range(2):
        await browser_page.evaluate("document.querySelector('.picture button').click()")
    await browser_page.wait_for("document.querySelector('#send').disabled")
    assert browser_page.errors == []


async def test_a_failure_is_told_in_the_apps_words(running: Running, server: Server, browser_page: Page) -> None:
    running.stand_in.script(default={"nothing": True})
    await browser_page.goto(server.url)
    await choose_and_send(browser_page, "")
    await browser_page.wait_for("document.querySelector('.turn .problem') !== null")
    told = await browser_page.evaluate("document.querySelector('.turn .problem').textContent")
    assert told == "There is no message to reply to in this screenshot. Please send one that shows it."
    assert await browser_page.evaluate("document.querySelectorAll('.turn article').length") == 0
    assert browser_page.errors == []


async def test_without_the_server_the_page_says_so_and_keeps_what_was_entered(
    server: Server, browser_page: Page
) -> None:
    await browser_page.goto(server.url)
    server.process.terminate()
    server.process.wait()
    await choose_and_send(browser_page, "Yes, gladly")
    await browser_page.wait_for("!document.querySelector('#problem').hidden")
    assert "does not answer" in await browser_page.evaluate("document.querySelector('#problem').textContent")
    assert await browser_page.evaluate("document.querySelector('#note').value") == "Yes, gladly"
    assert await browser_page.evaluate("document.querySelectorAll('.picture').length") == 1
