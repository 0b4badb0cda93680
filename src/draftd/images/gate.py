"""Which addresses an image may be fetched from.

Owns the rules for URLs and addresses; opens no connection itself. Two doors, and every hop of a fetch passes both:
``Gate.check`` reads the URL before anything is sent, ``Gate.addresses`` resolves the host at connect time and judges
what the resolver really answered, so no spelling of an address (decimal, octal, hexadecimal, short, full-width) needs
to be understood here.

Invariants: the caller connects to an address that ``addresses`` returned, never to the name again; one forbidden
address among many refuses the host; a message names the host at most.
"""

import asyncio
import re
import socket
import unicodedata
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import SplitResult, quote, urlsplit

from draftd.errors import ConfigurationError, ImageBlocked, ImageFetchFailed

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""From a host and a port to numeric addresses; raises OSError when there are none."""

DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_URL_CHARS = 8_192

# The standard library ignores what stands around the brackets of an IPv6 address; another client would not.
_AUTHORITY = re.compile(r"(?:\[[^\[\]]*:[^\[\]]*\]|[^\[\]:@]+)(?::[0-9]*)?")
_HOST_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.ASCII)
_TARGET_SAFE = "!#$%&'()*+,/:;=?@[]~"

# IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and its updates). A table of our own, because the
# answer of ipaddress.is_global changed between patch releases of Python.
_CLOSED_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's wire server: a metadata service on a public address
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_OPEN_V6 = IPv6Network("2000::/3")
_CLOSED_V6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # Teredo, ORCHID, benchmarking: nothing that serves images
        "2001:db8::/32",
        "2002::/16",  # 6to4 carries an IPv4 address to whatever relay is near
        "2620:4f:8000::/48",
        "3fff::/20",
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A URL that passed the first door, in the parts a request needs."""

    scheme: str
    host: str
    """ASCII, lower case, without brackets or a trailing dot."""
    port: int
    path: str
    """Path and query, ASCII. Never shown: both can carry secrets."""

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __repr__(self) -> str:
        return f"Target(host={self.host!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowList:
    """What an operator lets draftd fetch although it is private."""

    names: frozenset[tuple[str, int | None]]
    networks: tuple[tuple[IPNetwork, int | None], ...]

    @classmethod
    def parse(cls, entries: Sequence[str]) -> "AllowList":
        """Read the entries of ``DRAFTD_ALLOW_PRIVATE_IMAGE_HOSTS``.

        Args:
            entries: ``host``, ``host:port``, ``[address]:port``, an address or a network; without a port, any port.

        Raises:
            ConfigurationError: an entry is none of these.
        """
        names: set[tuple[str, int | None]] = set()
        networks: list[tuple[IPNetwork, int | None]] = []
        for entry in entries:
            host, port = _split_entry(entry.strip())
            network = _network(host)
            if network is not None:
                networks.append((network, port))
            else:
                names.add((_entry_name(host, entry), port))
        return cls(names=frozenset(names), networks=tuple(networks))

    def has_name(self, host: str, port: int) -> bool:
        """Whether the host itself is listed."""
        return (host, port) in self.names or (host, None) in self.names

    def has_address(self, address: IPAddress, port: int) -> bool:
        """Whether the address, or the IPv4 address inside it, is in a listed network."""
        inner = embedded_ipv4(address) or address
        return any(inner in network and allowed in (None, port) for network, allowed in self.networks)

    def may_have(self, host: str, port: int) -> bool:
        """Whether the host could be listed, before its addresses are known."""
        return self.has_name(host, port) or any(allowed in (None, port) for _, allowed in self.networks)


class Gate:
    """The two doors in front of every connection.

    Args:
        allow_private: entries as ``AllowList.parse`` reads them.
        resolve: answers names; the system's resolver if None.
    """

    def __init__(self, *, allow_private: Sequence[str], resolve: Resolve | None = None) -> None:
        self._allowed = AllowList.parse(allow_private)
        self._system = SystemResolver()
        self._resolve = resolve or self._system

    def check(self, url: str) -> Target:
        """Read a URL and judge what can be judged without the network.

        Raises:
            ImageBlocked: not a plain http or https URL, or a port that is neither 80, 443 nor listed.
        """
        target = parse_url(url)
        if target.port not in DEFAULT_PORTS.values() and not self._allowed.may_have(target.host, target.port):
            raise ImageBlocked(f"{target.host}: the port is not allowed")
        return target

    async def addresses(self, host: str, port: int) -> list[IPAddress]:
        """Resolve a host and judge every address; the caller connects to these and nothing else.

        Raises:
            ImageBlocked: an address is not public, or the port needs an entry of the list and has none.
            ImageFetchFailed: the name does not resolve.
        """
        try:
            answers = await self._resolve(host, port)
        except OSError as error:
            raise ImageFetchFailed(f"{host}: the name does not resolve") from error
        found = [ip_address(text) for text in dict.fromkeys(answers)]
        if not found:
            raise ImageFetchFailed(f"{host}: the name does not resolve")
        if not self._allowed.has_name(host, port):
            for address in found:
                self._judge(address, host, port)
        return found

    def close(self) -> None:
        """Let go of the resolver's threads; a look-up under way is not waited for."""
        self._system.close()

    def _judge(self, address: IPAddress, host: str, port: int) -> None:
        if self._allowed.has_address(address, port):
            return
        if port not in DEFAULT_PORTS.values():
            raise ImageBlocked(f"{host}: the port is not allowed")
        if not is_public(address):
            raise ImageBlocked(f"{host}: the address is not one that draftd may connect to")


class SystemResolver:
    """``getaddrinfo`` in threads of its own.

    A look-up cannot be cancelled. In the event loop's shared threads a few names with a slow server would stop every
    other look-up of the process, the model provider's too.
    """

    def __init__(self, *, threads: int = 8) -> None:
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="image-dns")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a host, as the system spells them."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, _getaddrinfo, host, port)

    def close(self) -> None:
        """Start no further look-up."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def parse_url(url: str) -> Target:
    """Take a URL apart, refusing what two parsers could read in two ways.

    Raises:
        ImageBlocked: another scheme, no host, userinfo, a backslash or a control character, or over 8,192 characters.
    """
    if len(url) > MAX_URL_CHARS:
        raise ImageBlocked("the URL of an image is too long")
    if "\\" in url or any(unicodedata.category(char) == "Cc" for char in url):
        raise ImageBlocked("the URL of an image holds a backslash or a control character")
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError as error:
        raise ImageBlocked("the URL of an image cannot be read") from error
    if split.scheme not in DEFAULT_PORTS:
        raise ImageBlocked("the URL of an image is neither http nor https")
    if "@" in split.netloc:
        raise ImageBlocked("the URL of an image holds a user name")
    if not _AUTHORITY.fullmatch(split.netloc):
        raise ImageBlocked("the URL of an image has no readable host")
    host = host_name(split.hostname or "")
    return Target(
        scheme=split.scheme, host=host, port=DEFAULT_PORTS[split.scheme] if port is None else port, path=_path(split)
    )


def host_name(text: str) -> str:
    """Bring a host into the one form that is compared, resolved and sent.

    Raises:
        ImageBlocked: neither a name nor an IPv6 address without a zone.
    """
    try:
        if ":" in text:
            return str(IPv6Address(text if "%" not in text else ""))
        name = text.encode("idna").decode("ascii").lower().removesuffix(".")
    except ValueError as error:
        raise ImageBlocked("the URL of an image has no readable host") from error
    if not _HOST_NAME.fullmatch(name):
        raise ImageBlocked("the URL of an image has no readable host")
    return name


def embedded_ipv4(address: IPAddress) -> IPv4Address | None:
    """Return the IPv4 address that an IPv4-mapped or NAT64 address stands for."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped


def is_public(address: IPAddress) -> bool:
    """Whether the address is ordinary unicast of the public Internet."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_V4)
    inner = embedded_ipv4(address)
    if inner is not None:
        return is_public(inner)
    return address in _OPEN_V6 and not any(address in network for network in _CLOSED_V6)


def _path(split: SplitResult) -> str:
    path = split.path or "/"
    return quote(f"{path}?{split.query}" if split.query else path, safe=_TARGET_SAFE)


def _getaddrinfo(host: str, port: int) -> list[str]:
    return [str(answer[4][0]) for answer in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _split_entry(entry: str) -> tuple[str, int | None]:
    bracketed = re.fullmatch(r"\[([^\]]+)\](?::(\d{1,5}))?", entry)
    plain = re.fullmatch(r"([^:]+):(\d{1,5})", entry)
    match = bracketed or plain
    if match is None:
        return entry, None
    return match[1], int(match[2]) if match[2] else None


def _network(text: str) -> IPNetwork | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _entry_name(host: str, entry: str) -> str:
    try:
        if ":" not in host:
            return host_name(host)
    except ImageBlocked:
        pass
    raise ConfigurationError(
        f"DRAFTD_ALLOW_PRIVATE_IMAGE_HOSTS: {entry!r} is not a host, a host:port, an address or a network"
    )
