"""A headless Chromium for tests of pages, spoken to over its DevTools protocol.

Owns the process and its connections. The browser reaches the loopback interface only. Without one installed, a test that asks for
it is skipped. ``DRAFTD_TEST_SCREENSHOTS_DIR`` is where the tests leave pictures of what they look at.
"""

import asyncio
import base64
import itertools
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from benchmarks.chromium import PROGRAMS

if TYPE_CHECKING:
    from aiohttp import ClientWebSocketResponse

START_S = 60.0
LOOK_S = 0.05
PHONE, DESKTOP = (390, 844), (1280, 900)
SCHEMES = ("light", "dark")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-default-browser-check", "--no-first-run", "--remote-debugging-port=0",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)  # fmt: skip
_OVERFLOWING = """
[...document.querySelectorAll("body *")]
  .filter((one) => one.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
  .map((one) => one.tagName + "." + one.className)
  .concat(document.documentElement.scrollWidth > document.documentElement.clientWidth ? ["the page"] : [])
"""

LEAST_CONTRAST = 4.5
"""Between a text and what is behind it (WCAG 2.2, 1.4.3)."""
_FAINT = """
(least) => {
  const rgba = (color) => {
    const [red, green, blue, alpha = 1] = color.match(/[\\d.]+/g).map(Number);
    return [red, green, blue, alpha];
  };
  const over = (top, below) => [0, 1, 2].map((one) => top[one] * top[3] + below[one] * (1 - top[3])).concat(1);
  const behind = (one) => one === null ? [255, 255, 255, 1]
    : over(rgba(getComputedStyle(one).backgroundColor), behind(one.parentElement));
  const light = (color) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, one) => {
    const part = color[one] / 255;
    return sum + weight * (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  }, 0);
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest(":disabled")) continue;
    const ground = behind(element);
    const lights = [light(over(rgba(getComputedStyle(element).color), ground)), light(ground)].sort((one, other) => other - one);
    const contrast = (lights[0] + 0.05) / (lights[1] + 0.05);
    if (contrast < least) found.push(`${contrast.toFixed(2)}: ${walker.currentNode.data.trim()}`);
  }
  return found;
}
"""


NAVIGATED = {"Inspected target navigated or closed", "Cannot find default execution context"}


class Navigated(Exception):
    """The page was replaced while it was asked."""


class Page:
    """One tab."""

    def __init__(self, socket: "ClientWebSocketResponse") -> None:
        self._socket = socket
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self.context = ""
        """Holds the cookies, storage and permissions of this tab alone."""
        self.errors: list[str] = []
        """What the console reported: exceptions, errors, warnings, and violations of the Content-Security-Policy."""

    async def open(self) -> None:
        """Open the tab, which closes with the connection, and listen to its console."""
        self.context = (await self.call("Target.createBrowserContext", disposeOnDetach=True))["browserContextId"]
        target = await self.call("Target.createTarget", url="about:blank", browserContextId=self.context)
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "DOM"):
            await self.call(f"{domain}.enable")

    async def read(self) -> None:
        """Read what the browser says, until it is gone."""
        async for message in self._socket:
            if message.type.name != "TEXT":
                break
            said = message.json()
            if (waiting := self._answers.pop(said.get("id", 0), None)) is not None and not waiting.done():
                waiting.set_result(said)
            self._note(said.get("method"), said.get("params", {}))

    def _note(self, event: str | None, params: dict[str, Any]) -> None:
        match event:
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                self.errors.append(details.get("exception", {}).get("description", details["text"]))
            case "Runtime.consoleAPICalled" if params["type"] in {"error", "warning", "assert"}:
                self.errors.append(str([one.get("value", one.get("description")) for one in params["args"]]))
            case "Log.entryAdded" if params["entry"]["level"] in {"error", "warning"}:
                self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        number = next(self._numbers)
        waiting = self._answers[number] = asyncio.get_running_loop().create_future()
        session = {"sessionId": self._session} if self._session else {}
        await self._socket.send_json({"id": number, "method": method, "params": params, **session})
        said = await asyncio.wait_for(waiting, START_S)
        if said.get("error", {}).get("message") in NAVIGATED:
            raise Navigated(params.get("expression", method))
        assert "error" not in said, said["error"]
        result: dict[str, Any] = said["result"]
        return result

    async def evaluate(self, expression: str) -> Any:
        """Return the value of an expression, awaited if it is a promise."""
        said = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    async def wait_for(self, expression: str, time_s: float = 60.0) -> Any:
        """Wait until an expression has a value that is true, and return it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(time_s):
                while True:
                    with suppress(Navigated):
                        if value := await self.evaluate(expression):
                            return value
                    await asyncio.sleep(LOOK_S)
        shown = await self.evaluate("document.body?.innerText ?? ''")
        raise AssertionError(f"not within {time_s} s: {expression}\nerrors: {self.errors}\nshown: {shown}")

    async def goto(self, url: str) -> None:
        """Load a page to its end."""
        await self.call("Page.navigate", url=url)
        await self.wait_for(f"location.href.startsWith({url!r}) && document.readyState === 'complete'")

    async def look_like(self, size: tuple[int, int], scheme: str) -> None:
        """Take on the size of a device and its colour scheme."""
        width, height = size
        is_phone = size == PHONE
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2, mobile=is_phone
        )
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def overflowing(self) -> list[str]:
        """Return what stands out to the right of the page."""
        found: list[str] = await self.evaluate(_OVERFLOWING)
        return found

    async def faint(self) -> list[str]:
        """Return the texts that stand out too little from what is behind them."""
        found: list[str] = await self.evaluate(f"({_FAINT})({LEAST_CONTRAST})")
        return found

    async def screenshot(self, name: str) -> None:
        """Write the whole page as a PNG, if somebody wants to see it."""
        if not (folder := os.environ.get("DRAFTD_TEST_SCREENSHOTS_DIR")):
            return
        size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        taken = await self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        await asyncio.to_thread((Path(folder) / f"{name}.png").write_bytes, base64.b64decode(taken["data"]))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a browser, which costs half a second of CPU to start."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"needs a browser: none of {', '.join(PROGRAMS)} is installed (Debian: apt-get install chromium)")
    directory = tmp_path_factory.mktemp("browser")
    command = [program, *_FLAGS, f"--user-data-dir={directory}", "about:blank"]
    with (directory / "browser.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield _endpoint(directory)
        finally:
            process.terminate()


def _endpoint(directory: Path) -> str:
    """Return the address that a browser writes down once it listens."""
    ends_at = time.monotonic() + START_S
    while time.monotonic() < ends_at:
        with suppress(FileNotFoundError, ValueError):
            port, path = (directory / "DevToolsActivePort").read_text().splitlines()
            return f"ws://127.0.0.1:{port}{path}"
        time.sleep(LOOK_S)
    raise AssertionError((directory / "browser.log").read_text())


@pytest.fixture
async def browser_page(browser: str) -> AsyncIterator[Page]:
    """A tab that shares nothing with those of other tests."""
    from aiohttp import ClientSession  # noqa: PLC0415 - takes half a second, and most runs start no browser

    async with ClientSession() as session, session.ws_connect(browser, max_msg_size=0) as socket:
        page = Page(socket)
        reading = asyncio.create_task(page.read())
        await page.open()
        yield page
        reading.cancel()
