"""Whatever URL a stranger writes and wherever servers send draftd: it connects to public or listed addresses only.

URLs come from a grammar of nasty parts and from mutations, redirects lead from host to host, names change their answers.
The judge of the addresses is written a second time here, with the standard library's tables and by bits.
"""

import asyncio
import ipaddress
import socket
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpcore
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from draftd.errors import ImageBlocked, ImageFetchFailed, ImageInvalid, ImageTooLarge, RequestError
from draftd.images import Fetched, Fetcher
from draftd.images.fetch import MAX_REDIRECTS
from fix_images import FakeDialer

# No host name can hold it, so that a mutation does not make a host of it, which may be told.
SECRET = "s~3~c~r~e~t"
OUTCOMES = (Fetched, ImageBlocked, ImageFetchFailed, ImageInvalid, ImageTooLarge)
LISTS: list[list[str]] = [[], ["10.2.0.0/16"], ["10.2.3.4:8080"], ["a.example:8080"], ["fd00::/8", "b.example"]]
NAMES = ["a.example", "b.example", "c.example"]

PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
PRIVATE = [
    "127.0.0.1",
    "10.2.3.4",
    "10.9.9.9",
    "169.254.169.254",
    "100.100.100.200",
    "168.63.129.16",
    "0.0.0.0",  # noqa: S104 - a target, not a bind
    "255.255.255.255",
    "224.0.0.1",
    "::1",
    "::ffff:10.2.3.4",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::7f00:1",
    "2002:7f00:1::",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:470::5efe:127.0.0.1",
    "fd00:ec2::254",
    "fe80::1",
    "ff02::1",
]
SPELLINGS = ["2130706433", "0x7f.1", "0177.0.0.1", "127.1", "0", "10.131844", "134744072", "127。0。0。1", "１２７.1"]  # noqa: RUF001 - full-width digits are the point

addresses = st.one_of(st.sampled_from(PUBLIC), st.sampled_from(PUBLIC + PRIVATE), st.ip_addresses().map(str))
hosts = st.one_of(
    st.sampled_from(NAMES),
    st.sampled_from(NAMES),
    st.sampled_from(SPELLINGS),
    addresses.map(lambda text: f"[{text}]" if ":" in text else text),
    st.sampled_from(
        ["A.EXAMPLE.", "a.exam%70le", "a.example..", "[::1%25lo]", "b\N{SOFT HYPHEN}.example", "", "a.example\\"]
    ),
)
plain_urls = st.builds(
    "{}://{}{}/{}".format,
    st.sampled_from(["http", "https"]),
    hosts,
    st.sampled_from(["", "", "", ":80", ":443", ":8080"]),
    st.sampled_from([SECRET, f"{SECRET}?{SECRET}#{SECRET}"]),
)
odd_urls = st.builds(
    "{}{}{}{}{}{}".format,
    st.sampled_from(["http:", "https:", "HTTP:", "", "ftp:", "file:", "data:", "ht\ttp:", " http:"]),
    st.sampled_from(["//", "/", "", "///", "\\\\", "/\\"]),
    st.sampled_from(["", "", f"user:{SECRET}@", "8.8.8.8@", f"{SECRET}℀@", "a.example#@"]),
    hosts,
    st.sampled_from(["", ":80", ":0", ":22", ":99999", f":{SECRET}", ":", ":80:80"]),
    st.sampled_from(
        ["", f"/{SECRET}", f"?{SECRET}", f"#{SECRET}", f"\\{SECRET}", f"/\r\nx: {SECRET}", f"/{SECRET}\x00"]
    ),
)


@st.composite
def mutated_urls(draw: st.DrawFn) -> str:
    url = draw(st.one_of(plain_urls, odd_urls))
    at = draw(st.integers(0, len(url)))
    piece = draw(st.one_of(st.sampled_from(list("@\\/:[]%#?.\t\n \x00。\u00ad\u200d")), st.text(max_size=3)))
    return url[:at] + piece + url[at + draw(st.integers(0, 3)) :]


usual_urls = st.builds(
    f"{{}}://{{}}/{SECRET}?{SECRET}".format, st.sampled_from(["http", "https"]), st.sampled_from(NAMES)
)
urls = st.one_of(plain_urls, odd_urls, mutated_urls())
# Mostly usual ones, so that chains get somewhere before they are cut.
links = st.one_of(*[usual_urls] * 9, urls)
locations = st.one_of(
    links,
    links,
    hosts.map(lambda host: f"//{host}/{SECRET}"),
    st.sampled_from([f"/{SECRET}", f"?{SECRET}", "", "\\\\a.example/"]),
)
redirects = st.builds(
    lambda status, location: f"HTTP/1.1 {status} Moved\r\nlocation: {location}\r\n\r\n".encode("utf-8", "replace"),
    st.sampled_from([301, 302, 303, 307, 308]),
    locations,
)
ends = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n\r\nimage",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nimage",
        b"HTTP/1.1 404 Not Found\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nnot a header: /%b?%b\r\n x" % (SECRET.encode(), SECRET.encode()),
        b"%b nonsense\r\n\r\n" % SECRET.encode(),
        b"",
    ]
)


@dataclass
class Net(FakeDialer):
    """Names, servers, and what was connected to: each connection gets the next answer."""

    allowed: list[str]
    names: dict[str, list[list[str]]]
    answers: list[bytes]
    dialled: list[tuple[str, int]] = field(default_factory=list)
    looked_up: tuple[str, int, list[str]] = ("", 0, [])
    look_ups: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """Answer numbers as the C library does, and names from the table."""
        self.look_ups += 1
        self.looked_up = (host, port, self._addresses(host))
        return self.looked_up[2]

    def _addresses(self, host: str) -> list[str]:
        with suppress(ValueError):
            return [str(ipaddress.IPv6Address(host))]
        with suppress(OSError):
            return [socket.inet_ntoa(socket.inet_aton(host))]
        many = self.names.get(host, [[]])
        return many.pop(0) if len(many) > 1 else many[0]

    async def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        self._answer = self.answers.pop(0) if self.answers else b""
        name, wanted_port, answer = self.looked_up
        assert port == wanted_port
        assert ipaddress.ip_address(host) in map(ipaddress.ip_address, answer)
        # All of them, though one is dialled: a name with a forbidden address is an attack or a mistake.
        for text in answer:
            assert may_be_reached(ipaddress.ip_address(text), port) or is_listed(self.allowed, name, text, port)
        return await super().connect_tcp(host, port, *args, **options)


def may_be_reached(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> bool:
    """Judge by the standard library and by bits."""
    if isinstance(address, ipaddress.IPv6Address):
        number = int(address)
        if number >> 32 in (0xFFFF, 0x0064_FF9B << 64):
            return may_be_reached(ipaddress.IPv4Address(number & 0xFFFF_FFFF), port)
        tunnel = (
            number >> 112 == 0x2002
            or number >> 96 == 0x2001_0000
            or number >> 32 & 0xFFFF_FFFF in (0x5EFE, 0x0200_5EFE)
        )
        if number >> 125 != 1 or tunnel:
            return False
    elif str(address) == "168.63.129.16":
        return False
    return port in (80, 443) and address.is_global and not (address.is_multicast or address.is_reserved)


def is_listed(allowed: list[str], host: str, address: str, port: int) -> bool:
    """Say what ``LISTS`` mean, one by one."""
    found: Any = ipaddress.ip_address(address)
    if found.version == 6 and int(found) >> 32 in (0xFFFF, 0x0064_FF9B << 64):
        found = ipaddress.IPv4Address(int(found) & 0xFFFF_FFFF)
    return {
        "10.2.0.0/16": str(found).startswith("10.2."),
        "10.2.3.4:8080": (str(found), port) == ("10.2.3.4", 8080),
        "a.example:8080": (host, port) == ("a.example", 8080),
        "fd00::/8": str(found).startswith("fd"),
    }.get(allowed[0] if allowed else "", False) or ("b.example" in allowed and host == "b.example")


public_answers = st.lists(st.sampled_from(PUBLIC), min_size=1, max_size=3)
mixed_answers = st.lists(addresses, min_size=1, max_size=3)
nets = st.builds(
    Net,
    allowed=st.sampled_from(LISTS),
    names=st.fixed_dictionaries(
        {
            name: st.lists(
                st.one_of(public_answers, public_answers, public_answers, mixed_answers), min_size=1, max_size=3
            )
            for name in NAMES
        }
    ),
    answers=st.builds(lambda chain, end: [*chain, end], st.lists(redirects, max_size=5), ends),
)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


async def fetch(fetcher: Fetcher, url: str) -> Fetched | RequestError:
    try:
        return await fetcher.fetch(url, time_s=5)
    except RequestError as error:
        return error


def check_fetch(url: str, net: Net, loop: asyncio.Runner) -> None:
    """Fetch, and check what must hold however it ends; the net itself checks each connection."""
    fetcher = Fetcher(max_bytes=100, allow_private=net.allowed, resolve=net.resolve, dialer=net)

    outcome = loop.run(fetch(fetcher, url))

    assert isinstance(outcome, OUTCOMES)
    told = outcome.host if isinstance(outcome, Fetched) else "".join(traceback.format_exception(outcome))
    assert SECRET not in told
    assert net.look_ups <= 1 + MAX_REDIRECTS
    event(f"{type(outcome).__name__} after {len(net.dialled)} connections")


@given(url=urls, net=nets)
def test_no_url_reaches_what_is_not_public(url: str, net: Net, loop: asyncio.Runner) -> None:
    check_fetch(url, net, loop)


@given(url=links, net=nets)
def test_no_chain_of_redirects_reaches_what_is_not_public(url: str, net: Net, loop: asyncio.Runner) -> None:
    check_fetch(url, net, loop)
