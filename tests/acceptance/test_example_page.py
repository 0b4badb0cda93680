"""The example's page in a browser with its user's own rights: a real daemon, stand-ins for PostgREST and for its sign-in."""

import base64
import json
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from draftd.demo.samples import EMAIL, PHONE_CHAT
from fix_browser import DESKTOP, PHONE, SCHEMES, Navigated, Page
from fix_daemon import DIRECTLY, Running, free_port, wait_until
from fix_demo_page import MARKED
from fix_docs import blocks
from fix_postgrest import HostOf
from fix_roles import Roles
from postgrest import serving, token

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
PASSWORD = "the password of tests"
FINISHED = "document.querySelectorAll('.turn[open] .wish').length > 0"
ENDED = "Your session has ended. Sign in again to go on."
SHORTER = "Make all of them shorter: about half as long, with the same message."
LOOKS = [(size, device, scheme) for size, device in ((PHONE, "phone"), (DESKTOP, "desktop")) for scheme in SCHEMES]


class Files(SimpleHTTPRequestHandler):
    """Serves the page's files, as any web server does, and signs in as Supabase Auth does."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # http.server's name
        pass

    def do_POST(self) -> None:
        """Answer ``/auth/v1/token``: a user's name is what stands before the @."""
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = said.get("email", said.get("refresh_token", "")).partition("@")[0]
        is_refused = "email" in said and said["password"] != PASSWORD
        tokens = {
            "access_token": token(role="authenticated", sub=name, email=f"{name}@example.com"),
            "refresh_token": name,
        }
        answer = {"error_code": "invalid_credentials", "msg": "Invalid login credentials"} if is_refused else tokens
        body = json.dumps(answer).encode()
        self.send_response(400 if is_refused else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Site:
    """The page as an app serves it; ``rest`` is the address of PostgREST."""

    def __init__(self, directory: Path, rest: str) -> None:
        self.directory, self.rest = shutil.copytree(EXAMPLE, directory), rest
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(directory)))
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        self.configure(auth=None)

    def configure(self, *, auth: str | None) -> None:
        """Write config.js as a developer does."""
        project = {"rest": self.rest, "auth": auth, "key": token(role="anon"), "schema": "public"}
        (self.directory / "config.js").write_text(f"export default {json.dumps(project)};")


@contextmanager
def served(directory: Path, rest: str) -> Iterator[Site]:
    site = Site(directory, rest)
    thread = threading.Thread(target=site.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.server.shutdown()
        site.server.server_close()
        thread.join()


@pytest.fixture
def site(running: Running, roles_of: Callable[[str], Roles], host_of: HostOf, tmp_path: Path) -> Iterator[Site]:
    """The page, and a database whose end users have what ``draftd grants --preset supabase`` gives them."""
    running.stand_in.reset()
    for table in ("draft_requests", "draft_feedback", "draft_pauses", "draft_limits"):
        running.client.query(f"DELETE FROM {table}")
    host = host_of(roles_of(running.url), "supabase")
    host.grant()
    with serving(host.roles.url(host.authenticator)) as rest, served(tmp_path / "page", rest) as made:
        yield made
    running.stand_in.reset()
    running.stand_in.release()


def picture() -> str:
    return f"data:image/png;base64,{base64.b64encode(EMAIL.path.read_bytes()).decode()}"


def rows(running: Running) -> list[dict[str, Any]]:
    return running.client.query("SELECT * FROM draft_requests ORDER BY created_at")


def failed(running: Running, **columns: Any) -> str:
    """Insert a failed request of ada's, which no daemon has seen."""
    row = running.client.insert("https://images.example/shot.png", requester_id="ada", agent="comment_generator")
    names = ", ".join(f"{name} = %s" for name in columns)
    running.client.query(f"UPDATE draft_requests SET status = 'failed', {names} WHERE id = %s", *columns.values(), row)
    return row


async def fill(page: Page, selector: str, value: str) -> None:
    await page.evaluate(f"document.querySelector({json.dumps(selector)}).value = {json.dumps(value)}")


async def click(page: Page, name: str, within: str = "body") -> None:
    """Press the first visible button of this name."""
    button = (
        f"[...document.querySelector({json.dumps(within)}).querySelectorAll('button')]"
        f".find((one) => one.textContent === {json.dumps(name)} && !one.disabled && one.checkVisibility())"
    )
    await page.wait_for(f"Boolean({button})")
    with suppress(Navigated):  # the press may replace the page
        await page.evaluate(f"{button}.click()")


async def sign_in(page: Page, site: Site, user: str, **claims: Any) -> None:
    """Open the page, and sign in with a token."""
    await page.goto(site.url)
    await page.wait_for("!document.querySelector('#sign-in').hidden")
    await enter(page, user, **claims)
    await page.wait_for("document.querySelector('#loading').hidden && !document.querySelector('#app').hidden")


async def enter(page: Page, user: str, **claims: Any) -> None:
    """Fill the form with a user's token."""
    await fill(page, "#token", token(role="authenticated", sub=user, **claims))
    await click(page, "Sign in", "#sign-in")


async def choose_and_send(page: Page, note: str = "", pictures: Sequence[Path] = (EMAIL.path,)) -> None:
    """Choose screenshots, write a note and ask for replies."""
    root = await page.call("DOM.getDocument")
    files = await page.call("DOM.querySelector", nodeId=root["root"]["nodeId"], selector="#files")
    await page.call("DOM.setFileInputFiles", nodeId=files["nodeId"], files=[*map(str, pictures)])
    await page.wait_for("!document.querySelector('#send').disabled")
    await fill(page, "#note", note)
    await page.evaluate("document.querySelector('#send').click()")


async def texts(page: Page, selector: str) -> list[str]:
    """Return the texts of elements."""
    found: list[str] = await page.evaluate(
        f"[...document.querySelectorAll({json.dumps(selector)})].map((one) => one.textContent)"
    )
    return found


async def look_at(page: Page, name: str) -> None:
    """Look at it on every device, in both colour schemes: everything fits, and every text can be read."""
    for size, device, scheme in LOOKS:
        await page.look_like(size, scheme)
        await page.screenshot(f"{name}-{device}-{scheme}")
        assert await page.overflowing() == [], (device, scheme)
        assert await page.faint() == [], (device, scheme)
    await page.look_like(DESKTOP, "light")


@pytest.mark.timeout(240)
async def test_drafts_appear_as_cards_one_after_the_other(running: Running, site: Site, browser_page: Page) -> None:
    running.stand_in.script({"fields": ANSWER, "stall_after": '"medium_stance"'}, default={"fields": ANSWER})
    await browser_page.look_like(DESKTOP, "light")
    await sign_in(browser_page, site, "ada")
    await look_at(browser_page, "empty")
    await choose_and_send(browser_page, "Yes, gladly")
    await browser_page.wait_for("document.querySelector('.turn .text') !== null")
    assert await texts(browser_page, ".text") == [HOSTILE]
    assert await texts(browser_page, ".turn .state") == ["Writing … 1 of 3"]
    assert await browser_page.evaluate("document.querySelectorAll('.ghost').length") == 2
    await look_at(browser_page, "writing")
    running.stand_in.release()
    await browser_page.wait_for(FINISHED)
    assert len(await texts(browser_page, ".text")) == 3
    assert await texts(browser_page, "mark") == ["€4,250"]
    assert await texts(browser_page, ".stance") == ["Accepts", "Declines", "Leaves it open"]
    assert (
        await browser_page.evaluate("document.querySelectorAll('article img, .actions img, .turn script').length") == 0
    )
    assert await browser_page.evaluate("document.title") == "What to reply"
    remarks = await browser_page.evaluate("document.querySelector('.remarks').innerText")
    assert "It is not clear which message to answer." in remarks
    assert "A better reply needs: the release date" in remarks
    (row,) = rows(running)
    assert (row["context"], row["requester_id"]) == ("Yes, gladly", "ada")
    await look_at(browser_page, "completed")
    assert browser_page.errors == []


async def test_a_user_neither_sees_nor_touches_what_another_user_has(
    running: Running, site: Site, browser_page: Page
) -> None:
    await sign_in(browser_page, site, "ada")
    await choose_and_send(browser_page, "a secret of Ada's")
    await browser_page.wait_for(FINISHED)
    (row,) = rows(running)
    await browser_page.evaluate("window.isAdas = true")
    await click(browser_page, "Sign out")
    await browser_page.wait_for("!window.isAdas && document.querySelector('#sign-in')?.hidden === false")
    assert await browser_page.evaluate("sessionStorage.length") == 0
    await enter(browser_page, "ben")
    await browser_page.wait_for("!document.querySelector('#empty').hidden")
    shown = await browser_page.evaluate("document.documentElement.outerHTML")
    assert row["result"]["options"][0]["text"] not in shown
    assert "secret of Ada" not in shown
    await browser_page.evaluate("import('/api.js').then((api) => { window.api = api })")
    request_id = json.dumps(str(row["id"]))
    attempts: dict[str, Any] = {
        f"api.read([{request_id}])": [],
        f"api.waitsFor({request_id})": None,
        f"api.cancel({request_id})": False,
        f"api.remove({request_id})": False,
        f"api.sent([{request_id}])": [],
        "api.list(30)": [],
    }
    for attempt, answer in attempts.items():
        assert await browser_page.evaluate(attempt) == answer, attempt
    for attempt in (
        f"api.create({{ parent_id: {request_id} }})",
        f"api.create({{ image_urls: [{json.dumps(picture())}], requester_id: 'ada' }})",
        f"api.rate({request_id}, 'short', 'forged')",
    ):
        assert await browser_page.evaluate(f"{attempt}.then(() => 'done', (error) => error.name)") == "Error", attempt
    assert rows(running) == [row]
    assert running.client.query("SELECT * FROM draft_feedback") == []


@pytest.mark.long
async def test_a_user_signs_in_with_a_password_and_a_session_renews_itself(
    running: Running, site: Site, browser_page: Page
) -> None:
    site.configure(auth=f"{site.url}auth/v1")
    await browser_page.goto(site.url)
    await browser_page.wait_for("!document.querySelector('#sign-in').hidden")
    await look_at(browser_page, "sign-in")
    for password in ("wrong", PASSWORD):
        await fill(browser_page, "#email", "ada@example.com")
        await fill(browser_page, "#password", password)
        await click(browser_page, "Sign in", "#sign-in")
        if password == "wrong":
            await browser_page.wait_for("!document.querySelector('#sign-in-problem').hidden")
            assert await texts(browser_page, "#sign-in-problem") == ["This e-mail and password do not match."]
            await look_at(browser_page, "refused")
    await browser_page.wait_for("!document.querySelector('#empty').hidden")
    assert await texts(browser_page, "#who") == ["ada@example.com"]
    old = {"token": token(role="authenticated", sub="ada", exp=int(time.time()) - 60), "refresh": "ada"}
    await browser_page.evaluate(f"sessionStorage.setItem('draftd session', {json.dumps(json.dumps(old))})")
    await browser_page.goto(site.url)
    await choose_and_send(browser_page)
    await browser_page.wait_for(FINISHED)
    assert [row["requester_id"] for row in rows(running)] == ["ada"]


@pytest.mark.parametrize(
    ("next_user", "kept"), [pytest.param("ada", "half a note", marks=pytest.mark.long), ("ben", "")]
)
async def test_a_session_that_ends_keeps_what_was_entered_for_the_same_user_only(
    running: Running, site: Site, browser_page: Page, next_user: str, kept: str
) -> None:
    await sign_in(browser_page, site, "ada", exp=int(time.time()) + 3600)
    await choose_and_send(browser_page)
    await browser_page.wait_for(FINISHED)
    await fill(browser_page, "#note", "half a note")
    await browser_page.evaluate("import('/api.js').then((api) => { window.api = api })")
    expired = token(role="authenticated", sub="ada", exp=int(time.time()) - 60)
    await browser_page.evaluate(f"api.signInWith({json.dumps(expired)})")
    await click(browser_page, "Others")
    await browser_page.wait_for("!document.querySelector('#sign-in').hidden")
    assert await texts(browser_page, "#sign-in-notice") == [ENDED]
    if next_user == "ada":
        await look_at(browser_page, "ended")
    await browser_page.evaluate("window.isAdas = true")
    await enter(browser_page, next_user)
    same_page = "window.isAdas" if next_user == "ada" else "!window.isAdas"
    shown = "document.querySelector('#app')?.hidden === false && document.querySelector('#loading').hidden"
    await browser_page.wait_for(f"{same_page} && {shown}")
    assert await browser_page.evaluate("document.querySelector('#note').value") == kept
    assert len(await texts(browser_page, ".conversation")) == (1 if next_user == "ada" else 0)
    assert len(rows(running)) == 1


async def test_what_is_no_users_token_is_refused(site: Site, browser_page: Page) -> None:
    await browser_page.goto(site.url)
    for text in ("nonsense", token(role="service_role"), "a.b.c"):
        await fill(browser_page, "#token", text)
        await click(browser_page, "Sign in", "#sign-in")
        await browser_page.wait_for("!document.querySelector('#sign-in-problem').hidden")
        assert await texts(browser_page, "#sign-in-problem") == ["This is not an access token of a user."]
    assert browser_page.errors == []


async def test_the_page_talks_to_its_project_only_runs_its_own_files_only_and_parses_no_html(
    site: Site, browser_page: Page
) -> None:
    await browser_page.goto(site.url)
    await browser_page.wait_for("!document.querySelector('#sign-in').hidden")
    outcome = "then(() => 'done', (error) => error.name)"
    assert await browser_page.evaluate(f"fetch('{site.rest}/draft_replies').{outcome}") == "done"
    with served(site.directory.with_name("other"), "") as elsewhere:
        assert await browser_page.evaluate(f"fetch('{elsewhere.url}', {{mode: 'no-cors'}}).{outcome}") == "TypeError"
        assert await browser_page.evaluate(f"import('{elsewhere.url}config.js').{outcome}") == "TypeError"
    parse = "(() => { try { document.body.innerHTML = '<b>'; return 'parsed' } catch (error) { return error.name } })()"
    assert await browser_page.evaluate(parse) == "TypeError"
    policy = await browser_page.evaluate("document.querySelector('meta[http-equiv]').content")
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy


def test_the_files_of_the_page_have_no_secret_no_handler_and_no_way_to_parse_html() -> None:
    sources = {path.name: path.read_text() for path in EXAMPLE.iterdir()}
    for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "service_role", "onclick="):
        assert [name for name, source in sources.items() if sink in source] == []
    assert {*sources} == {
        "index.html", "page.css", "page.js", "conversation.js", "card.js", "dom.js", "api.js", "config.js",
    }  # fmt: skip


def test_the_step_of_the_readme_serves_the_page() -> None:
    steps = blocks((EXAMPLE.parent / "README.md").read_text(), "sh")
    (step,) = (shlex.split(one) for one in steps if "http.server" in one)
    port = str(free_port())
    command = [sys.executable, *(port if one == "8008" else one for one in step[1:])]
    with subprocess.Popen(command, cwd=EXAMPLE.parents[1], stderr=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: _is_open(int(port)), 60)
            with DIRECTLY.open(f"http://127.0.0.1:{port}/") as page:
                assert page.read() == (EXAMPLE / "index.html").read_bytes()
            with DIRECTLY.open(f"http://127.0.0.1:{port}/page.js") as script:
                assert "javascript" in script.headers["Content-Type"]
        finally:
            server.terminate()


def _is_open(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.long
async def test_the_page_marks_quotes_as_a_whole(site: Site, browser_page: Page) -> None:
    await browser_page.goto(site.url)
    await browser_page.evaluate("import('/card.js').then((card) => { window.marked = card.marked })")
    for text, quotes, wanted in MARKED:
        given = json.dumps([text, [{"quote": quote} for quote in quotes]])
        parts = await browser_page.evaluate(
            f"marked(...{given}).map((part) => [part.textContent ?? part, part !== `${{part}}`])"
        )
        assert [part for part, is_marked in parts if is_marked] == wanted
        assert "".join(part for part, _ in parts) == text


@pytest.mark.long
async def test_a_reply_is_copied_as_it_is(running: Running, site: Site, browser_page: Page) -> None:
    running.stand_in.script(default={"fields": ANSWER})
    await sign_in(browser_page, site, "ada")
    await choose_and_send(browser_page)
    await browser_page.wait_for(FINISHED)
    permissions = ["clipboardReadWrite", "clipboardSanitizedWrite"]
    await browser_page.call("Browser.grantPermissions", permissions=permissions, browserContextId=browser_page.context)
    await browser_page.call("Page.bringToFront")
    await browser_page.evaluate("document.querySelectorAll('.copy')[1].click()")
    await browser_page.wait_for("document.querySelectorAll('.copy')[1].textContent === 'Copied'")
    assert await browser_page.evaluate("navigator.clipboard.readText()") == MEDIUM
    assert browser_page.errors == []


@pytest.mark.long
async def test_a_user_says_which_reply_was_sent_and_how(running: Running, site: Site, browser_page: Page) -> None:
    await sign_in(browser_page, site, "ada")
    await choose_and_send(browser_page)
    await browser_page.wait_for(FINISHED)
    await click(browser_page, "I sent this", ".cards article:nth-child(1)")
    await look_at(browser_page, "asking")
    await click(browser_page, "Save", ".cards article:nth-child(1)")
    await click(browser_page, "I sent this", ".cards article:nth-child(2)")
    await fill(browser_page, ".cards article:nth-child(2) textarea", "Friday, then.")
    await click(browser_page, "Save", ".cards article:nth-child(2)")
    said = ["Sent as it is", "Sent with changes"]
    await browser_page.wait_for("document.querySelectorAll('.done').length === 2")
    assert await texts(browser_page, ".done") == said
    rated = running.client.query(
        "SELECT option, outcome, sent_text, requester_id FROM draft_feedback ORDER BY option DESC"
    )
    assert [(one["option"], one["outcome"], one["requester_id"]) for one in rated] == [
        ("short", "sent", "ada"),
        ("medium", "edited", "ada"),
    ]
    assert rated[1]["sent_text"] == "Friday, then."
    await browser_page.goto(site.url)
    await browser_page.wait_for("document.querySelectorAll('.done').length === 2")
    assert await texts(browser_page, ".done") == said
    assert browser_page.errors == []


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_a_conversation_is_refined_stays_together_and_is_deleted_as_a_whole(
    running: Running, site: Site, browser_page: Page
) -> None:
    running.stand_in.script(default={"fields": {"other_targets": ["Ana: asks about prices"]}})
    theirs = running.client.insert(picture(), requester_id="ben")
    running.client.wait_for(theirs, "completed")
    await sign_in(browser_page, site, "ada")
    await choose_and_send(browser_page)
    asked: dict[str, tuple[str | None, dict[str, str], str]] = {
        "Others": (None, {}, "Others"),
        "Shorter": (SHORTER, {}, "Shorter"),
        "Ana: asks about prices": (None, {"answer_to": "t1"}, "Another message"),
        "Decline": (None, {"stance": "decline"}, "Decline"),
        "Change": ("say Friday", {}, "“say Friday”"),
    }
    for turns, (name, (context, options, label)) in enumerate(asked.items(), start=2):
        await browser_page.wait_for(FINISHED)
        if name == "Change":
            await fill(browser_page, ".turn[open] .wish input", str(context))
        await click(browser_page, name, ".turn[open] .actions")
        await browser_page.wait_for(f"document.querySelectorAll('.turn').length === {turns}")
        assert (await texts(browser_page, ".turn > summary span"))[0] == label
        parent, child = rows(running)[-2:]
        assert (child["parent_id"], child["context"], child["options"]) == (parent["id"], context, options)
    await browser_page.wait_for(FINISHED)
    await browser_page.goto(site.url)
    await browser_page.wait_for("document.querySelectorAll('.turn').length === 6")
    labels = [*(label for *_, label in asked.values())][::-1]
    assert await texts(browser_page, ".turn > summary span") == [*labels, "First drafts"]
    assert len(await texts(browser_page, ".conversation")) == 1
    await look_at(browser_page, "conversation")
    await click(browser_page, "Delete conversation")
    await look_at(browser_page, "deleting")
    await click(browser_page, "Delete")
    await browser_page.wait_for("!document.querySelector('#empty').hidden")
    assert [str(row["id"]) for row in rows(running)] == [theirs]
    assert browser_page.errors == []


async def test_a_request_is_cancelled_and_sent_again_or_deleted(
    running: Running, site: Site, browser_page: Page
) -> None:
    running.stand_in.script(default={"hang": True})
    await sign_in(browser_page, site, "ada")
    await choose_and_send(browser_page, "a note")
    await click(browser_page, "Cancel")
    await browser_page.wait_for("document.querySelector('.turn .quiet') !== null")
    assert [row["status"] for row in rows(running)] == ["cancelled"]
    await look_at(browser_page, "cancelled")
    await click(browser_page, "Try again")
    await browser_page.wait_for("document.querySelectorAll('.conversation').length === 2")
    assert [row["context"] for row in rows(running)] == ["a note", "a note"]
    await click(browser_page, "Delete conversation", ".conversation")
    await click(browser_page, "Delete", ".conversation")
    await browser_page.wait_for("document.querySelectorAll('.conversation').length === 1")
    assert [row["status"] for row in rows(running)] == ["cancelled"]
    assert browser_page.errors == []


@pytest.mark.parametrize(
    ("action", "hint", "offered"),
    [
        pytest.param("resend", "", "Choose the screenshot again", marks=pytest.mark.long),
        ("open_message", "Open the conversation first, then take the screenshot.", "Choose another screenshot"),
        pytest.param("try_later", "", "Choose the screenshot again", marks=pytest.mark.long),
        pytest.param(
            "shorten",
            "Use a smaller picture, fewer screenshots or fewer words.",
            "Change and send again",
            marks=pytest.mark.long,
        ),
        pytest.param("none", "If it happens again, tell support the number {id}.", None, marks=pytest.mark.long),
        pytest.param(
            "something new", "If it happens again, tell support the number {id}.", None, marks=pytest.mark.long
        ),
    ],
)
async def test_a_failure_says_what_its_user_can_do(
    running: Running, site: Site, browser_page: Page, action: str, hint: str, offered: str | None
) -> None:
    running.client.query("INSERT INTO draft_pauses (what, name, reason) VALUES ('requester', 'ada', 'test')")
    partial_result = {"options": [{"length": "short", "text": "What was ready."}]}
    request_id = failed(
        running,
        error_code="image_invalid",
        error_message="<b>This</b> is said to the user.",
        error_details=Jsonb({"action": action}),
        partial_result=Jsonb(partial_result),
        context="the note",
    )
    await sign_in(browser_page, site, "ada")
    await browser_page.wait_for("document.querySelector('.turn .problem') !== null")
    assert await texts(browser_page, ".turn .problem") == ["<b>This</b> is said to the user."]
    assert await texts(browser_page, ".turn .text") == ["What was ready."]
    assert await texts(browser_page, ".gist") == ["Not all replies were written"]
    assert "".join(await texts(browser_page, ".turn .actions .hint")) == hint.format(id=request_id)
    assert await texts(browser_page, ".turn .actions button") == ([offered] if offered else [])
    if action == "open_message":
        await look_at(browser_page, "failed")
    if offered:
        await click(browser_page, offered)
        assert await browser_page.evaluate("document.querySelector('#note').value") == "the note"
    assert browser_page.errors == []


@pytest.mark.long
async def test_a_screenshot_without_a_message_is_said_to_have_none(
    running: Running, site: Site, browser_page: Page
) -> None:
    running.stand_in.script(default={"nothing": True})
    await sign_in(browser_page, site, "ada")
    await choose_and_send(browser_page)
    await browser_page.wait_for("document.querySelector('.turn .problem') !== null")
    told = "There is no message to reply to in this screenshot. Please send one that shows it."
    assert await texts(browser_page, ".turn .problem") == [told]
    assert await texts(browser_page, ".gist") == ["No replies were written"]
    assert await browser_page.evaluate("document.querySelectorAll('.turn article').length") == 0
    assert browser_page.errors == []


@pytest.mark.long
async def test_a_failure_that_may_pass_is_tried_again_with_the_same_pictures(
    running: Running, site: Site, browser_page: Page
) -> None:
    running.client.query("INSERT INTO draft_pauses (what, name, reason) VALUES ('requester', 'ada', 'test')")
    await sign_in(browser_page, site, "ada")
    await choose_and_send(browser_page, "the note")
    await browser_page.wait_for("document.querySelector('.turn') !== null")
    details = Jsonb({"action": "try_later"})
    running.client.query("UPDATE draft_requests SET status = 'failed', error_details = %s", details)
    await browser_page.wait_for("document.querySelector('.turn .problem') !== null")
    assert await texts(browser_page, ".turn .problem") == ["Something went wrong. Please try again later."]
    running.client.query("DELETE FROM draft_pauses")
    await click(browser_page, "Try again", ".turn")
    await browser_page.wait_for(FINISHED)
    first, second = rows(running)
    assert (second["context"], second["images"][0]["sha256"]) == (
        "the note",
        first["image_urls"][0].removeprefix("sha256:"),
    )
    assert browser_page.errors == []


@pytest.mark.parametrize(
    ("details", "kept"),
    [
        pytest.param({}, ["email.png", "phone_chat.png"], marks=pytest.mark.long),
        ({"picture": 1}, ["phone_chat.png"]),
    ],
)
async def test_what_was_too_large_is_sent_again_without_the_picture_that_was_refused(
    running: Running, site: Site, browser_page: Page, details: dict[str, Any], kept: list[str]
) -> None:
    running.client.query("INSERT INTO draft_pauses (what, name, reason) VALUES ('requester', 'ada', 'test')")
    await sign_in(browser_page, site, "ada")
    await choose_and_send(browser_page, "the note", [EMAIL.path, PHONE_CHAT.path])
    await browser_page.wait_for("document.querySelector('.turn') !== null")
    failure = Jsonb({"action": "shorten", **details})
    running.client.query("UPDATE draft_requests SET status = 'failed', error_details = %s", failure)
    await click(browser_page, "Change and send again", ".turn")
    await browser_page.wait_for("document.querySelector('#note').value === 'the note'")
    names = "[...document.querySelectorAll('#pictures img')].map((one) => one.alt)"
    assert await browser_page.evaluate(names) == kept
    assert browser_page.errors == []


@pytest.mark.long
async def test_who_waits_is_told_why(running: Running, site: Site, browser_page: Page) -> None:
    running.client.query("INSERT INTO draft_pauses (what, name, reason) VALUES ('requester', 'ada', 'test')")
    await sign_in(browser_page, site, "ada")
    await choose_and_send(browser_page)
    await browser_page.wait_for("document.querySelector('.turn .state')?.textContent.startsWith('Paused')")
    assert await texts(browser_page, ".turn .state") == ["Paused by the operator …"]
    await look_at(browser_page, "waiting")
    running.client.query("DELETE FROM draft_pauses")
    await browser_page.wait_for(FINISHED)
    assert browser_page.errors == []


@pytest.mark.long
async def test_who_has_too_many_requests_waiting_is_told_so_and_keeps_what_was_entered(
    running: Running, site: Site, browser_page: Page
) -> None:
    running.client.query("INSERT INTO draft_limits (requester_id, max_pending) VALUES ('ada', 0)")
    await sign_in(browser_page, site, "ada")
    await choose_and_send(browser_page, "Yes")
    await browser_page.wait_for("!document.querySelector('#problem').hidden")
    told = "You have many requests waiting. Wait until some are done, or cancel one."
    assert await texts(browser_page, "#problem") == [told]
    assert await browser_page.evaluate("document.querySelector('#note').value") == "Yes"
    assert await browser_page.evaluate("document.querySelectorAll('.picture').length") == 1
    assert rows(running) == []


@pytest.mark.long
async def test_earlier_conversations_are_shown_in_pages(running: Running, site: Site, browser_page: Page) -> None:
    running.client.query("INSERT INTO draft_pauses (what, name, reason) VALUES ('all', '', 'test')")
    for number in range(32):
        failed(running, error_message=f"number {number}")
    await sign_in(browser_page, site, "ada")
    assert len(await texts(browser_page, ".conversation")) == 30
    assert await browser_page.evaluate("document.querySelectorAll('.conversation[open]').length") == 1
    await look_at(browser_page, "earlier")
    await click(browser_page, "Show earlier")
    await browser_page.wait_for("document.querySelectorAll('.conversation').length === 32")
    assert await browser_page.evaluate("document.querySelector('#more').hidden")
    shown = await texts(browser_page, ".turn .problem")
    assert shown == [f"number {number}" for number in range(31, -1, -1)]


@pytest.mark.long
async def test_without_the_server_the_page_says_so_and_keeps_what_was_entered(site: Site, browser_page: Page) -> None:
    site.rest = "http://127.0.0.1:1"
    site.configure(auth=None)
    await sign_in(browser_page, site, "ada")
    assert "cannot be reached" in (await texts(browser_page, "#list-problem"))[0]
    assert await texts(browser_page, "#more") == ["Try again"]
    await choose_and_send(browser_page, "Yes, gladly")
    await browser_page.wait_for("!document.querySelector('#problem').hidden")
    assert "cannot be reached" in (await texts(browser_page, "#problem"))[0]
    assert await browser_page.evaluate("document.querySelector('#note').value") == "Yes, gladly"
    assert await browser_page.evaluate("document.querySelectorAll('.picture').length") == 1
    await look_at(browser_page, "offline")


@pytest.mark.long
async def test_a_screenshot_can_be_pasted_or_dropped_and_taken_back(site: Site, browser_page: Page) -> None:
    await sign_in(browser_page, site, "ada")
    # The page may fetch nothing but its project, so the picture comes along as bytes.
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
