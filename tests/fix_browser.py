"""A headless Chromium for tests of pages, spoken to over its DevTools protocol. It has no network."""

import asyncio
import base64
import itertools
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType
from benchmarks.chromium import FLAGS, PROGRAMS

START_S = 60.0
ANSWER_S = 60.0
_COMPLAINTS = {"Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"}
_ADDRESS = re.compile(rb"DevTools listening on (ws://\S+)")


def browser_program() -> str:
    """Return the browser's program; skip the test on a machine without one."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(PROGRAMS)} is installed")
    return found


@dataclass
class Tab:
    """A page of the browser."""

    socket: ClientWebSocketResponse
    session: str | None
    """None for the browser itself."""
    complaints: list[dict[str, Any]] = field(default_factory=list)
    """What the browser's console shows: errors, refused content, exceptions."""
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        number = next(self._numbers)
        session = {"sessionId": self.session} if self.session else {}
        await self.socket.send_json({"id": number, "method": method, "params": params, **session})
        async with asyncio.timeout(ANSWER_S):
            while True:
                message = await self._next()
                if message.get("id") == number:
                    assert "error" not in message, message
                    result: dict[str, Any] = message["result"]
                    return result

    async def open(self, page: Path, *, width_px: int, height_px: int, dark: bool) -> None:
        """Show a file in a window of this size, and wait until it is loaded."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        await self.call("Emulation.setEmulatedMedia", features=features)
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width_px,
            height=height_px,
            deviceScaleFactor=1,
            mobile=width_px < 600,
        )
        for domain in ("Page", "Runtime", "Log"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=page.as_uri())
        async with asyncio.timeout(ANSWER_S):
            while (await self._next()).get("method") != "Page.loadEventFired":
                pass

    async def value(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return found["result"].get("value")

    async def screenshot(self) -> bytes:
        """Return a picture of the whole page, as PNG."""
        height = min(int(await self.value("document.documentElement.scrollHeight")), 8_000)
        width = int(await self.value("innerWidth"))
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        taken = await self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(taken["data"])

    async def _next(self) -> dict[str, Any]:
        received = await self.socket.receive()
        assert received.type is WSMsgType.TEXT, received
        message: dict[str, Any] = received.json()
        if message.get("method") in _COMPLAINTS:
            self.complaints.append(message)
        return message


@asynccontextmanager
async def tab(folder: Path) -> AsyncIterator[Tab]:
    """Start a browser with an empty profile in a folder, and yield a page of it."""
    flags = [*FLAGS, f"--user-data-dir={folder / 'profile'}", "--remote-debugging-port=0"]
    process = await asyncio.create_subprocess_exec(
        browser_program(), *flags, "about:blank", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        address = await _address(process.stderr)
        async with ClientSession() as client, client.ws_connect(address, max_msg_size=0) as socket:
            yield await _attached(socket)
    finally:
        process.kill()
        await process.wait()


async def _attached(socket: ClientWebSocketResponse) -> Tab:
    """Open a page and return it."""
    browser = Tab(socket=socket, session=None)
    target = (await browser.call("Target.createTarget", url="about:blank"))["targetId"]
    session = (await browser.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
    return Tab(socket=socket, session=session)


async def _address(log: asyncio.StreamReader) -> str:
    """Return the address that the browser says it listens on."""
    async with asyncio.timeout(START_S):
        said = b""
        while not (found := _ADDRESS.search(said)):
            line = await log.readline()
            said += line
            assert line, said.decode(errors="replace")
    return found[1].decode()
