"""Look-ups in threads, of names whose servers answer when a test says so."""

import asyncio
import socket
from collections.abc import Iterator
from threading import Event, Thread
from typing import Any

import pytest

from draftd.images.resolver import SystemResolver

ANSWER = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 443))]


class NameServers:
    """Answer every name at once, but those that begin with ``slow`` when they are let go."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.reached = Event()
        self.let_go = Event()

    def getaddrinfo(self, host: str, *_: Any, **__: Any) -> list[Any]:
        self.asked.append(host)
        self.reached.set()
        if host.startswith("slow"):
            self.let_go.wait(10)
        if host.startswith("wrong"):
            raise UnicodeError("label too long")
        if host.startswith("unknown"):
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return ANSWER


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServers]:
    stand_in = NameServers()
    monkeypatch.setattr(socket, "getaddrinfo", stand_in.getaddrinfo)
    yield stand_in
    stand_in.let_go.set()


async def test_a_name_without_an_answer_keeps_no_other_waiting(servers: NameServers) -> None:
    resolver = SystemResolver()
    slow = asyncio.create_task(resolver("slow.example", 443))
    await asyncio.to_thread(servers.reached.wait, 5)

    assert await resolver("files.example", 443) == ["8.8.8.8"]

    servers.let_go.set()
    assert await slow == ["8.8.8.8"]


async def test_a_look_up_that_nobody_awaits_keeps_its_place_until_it_ends(servers: NameServers) -> None:
    resolver = SystemResolver(lookups=1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(resolver("slow.example", 443), 0.01)
    after = asyncio.create_task(resolver("files.example", 443))
    for _ in range(3):
        await asyncio.sleep(0)
    assert servers.asked == ["slow.example"]

    servers.let_go.set()

    assert await after == ["8.8.8.8"]


@pytest.mark.parametrize("host", ["unknown.example", "wrong.example"])
@pytest.mark.usefixtures("servers")
async def test_a_name_that_cannot_be_looked_up_is_an_oserror_and_gives_its_place_back(host: str) -> None:
    resolver = SystemResolver(lookups=1)

    for _ in range(2):
        with pytest.raises(OSError, match=r"unknown|label"):
            await resolver(host, 443)


async def test_look_ups_under_way_are_given_up_at_the_end(servers: NameServers) -> None:
    resolver = SystemResolver()
    slow = asyncio.create_task(resolver("slow.example", 443))
    await asyncio.to_thread(servers.reached.wait, 5)

    resolver.close()

    with pytest.raises(OSError, match="abandoned"):
        await slow


@pytest.mark.usefixtures("servers")
async def test_a_thread_that_cannot_start_is_an_oserror(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Thread) -> None:
        raise RuntimeError("can't start new thread")

    resolver = SystemResolver(lookups=1)
    with monkeypatch.context() as patch:
        patch.setattr(Thread, "start", refuse)
        with pytest.raises(OSError, match="no thread"):
            await resolver("files.example", 443)

    assert await resolver("files.example", 443) == ["8.8.8.8"]
