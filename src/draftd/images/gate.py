"""Which addresses an image may be fetched from.

Owns the decision. ``urls`` parses URLs, ``addresses`` knows which addresses are public, and nothing here opens a connection.
Every hop of a fetch passes two checks: ``Gate.check`` checks the URL before anything is sent; ``Gate.addresses`` resolves the
host at connect time and checks the resolver's answers, so that no notation of an address (decimal, octal, hexadecimal, short,
full-width) needs to be parsed here.

Invariants: the caller connects to an address that ``addresses`` returned and never resolves the name again; one forbidden address
blocks the whole host; messages contain no more of a URL than its host.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from draftd.errors import ConfigurationError, ImageBlocked, ImageFetchFailed
from draftd.images.addresses import IPAddress, IPNetwork, embedded_ipv4, is_public
from draftd.images.resolver import SystemResolver
from draftd.images.urls import DEFAULT_PORTS, ImageUrl, host_name, parse_url

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Resolves a host and a port to numeric addresses; raises OSError if there are none."""

MAX_ADDRESSES = 64
"""Per name: a DNS answer can have thousands, and each is checked."""
MAX_PORT = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowList:
    """Private hosts and networks that an operator lets draftd fetch from."""

    names: frozenset[tuple[str, int | None]]
    networks: tuple[tuple[IPNetwork, int | None], ...]

    @classmethod
    def parse(cls, entries: Sequence[str]) -> "AllowList":
        """Parse the entries of ``DRAFTD_ALLOW_PRIVATE_IMAGE_HOSTS``.

        Args:
            entries: ``host``, ``host:port``, ``[address]:port``, an address or a network; without a port, any port.

        Raises:
            ConfigurationError: an entry is none of these.
        """
        names: set[tuple[str, int | None]] = set()
        networks: list[tuple[IPNetwork, int | None]] = []
        for entry in entries:
            host, port = _split_entry(entry.strip())
            if port is not None and not 0 < port <= MAX_PORT:
                raise ConfigurationError(f"DRAFTD_ALLOW_PRIVATE_IMAGE_HOSTS: {entry!r} has an invalid port")
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
        """Whether the address, or the IPv4 address embedded in it, is in a listed network."""
        inner = embedded_ipv4(address) or address
        return any(inner in network and allowed in (None, port) for network, allowed in self.networks)

    def may_have(self, host: str, port: int) -> bool:
        """Whether the host could be listed, before its addresses are known."""
        return self.has_name(host, port) or any(allowed in (None, port) for _, allowed in self.networks)


class Gate:
    """The two checks before every connection.

    Args:
        allow_private: entries for ``AllowList.parse``.
        resolve: resolves names; the system's resolver if None.
    """

    def __init__(self, *, allow_private: Sequence[str], resolve: Resolve | None = None) -> None:
        self._allowed = AllowList.parse(allow_private)
        self._system = SystemResolver()
        self._resolve = resolve or self._system

    def check(self, url: str) -> ImageUrl:
        """Parse a URL and check what can be checked without the network.

        Raises:
            ImageBlocked: not a plain http or https URL, or a port that is neither 80, 443 nor listed.
        """
        target = parse_url(url)
        if target.port not in DEFAULT_PORTS.values() and not self._allowed.may_have(target.host, target.port):
            raise ImageBlocked(f"the port of {target.host} is not allowed")
        return target

    async def addresses(self, host: str, port: int) -> list[IPAddress]:
        """Resolve a host and check every address; the caller must connect to one of these.

        Raises:
            ImageBlocked: an address is not public, or the port is neither a default one nor listed.
            ImageFetchFailed: the name does not resolve.
        """
        try:
            answers = await self._resolve(host, port)
        except OSError as error:
            raise ImageFetchFailed(f"the name {host} does not resolve") from error
        answers = list(dict.fromkeys(answers))
        if not answers:
            raise ImageFetchFailed(f"the name {host} does not resolve")
        if len(answers) > MAX_ADDRESSES:
            raise ImageBlocked(f"the name {host} has more than {MAX_ADDRESSES} addresses")
        found = [ip_address(text) for text in answers]
        if not self._allowed.has_name(host, port):
            for address in found:
                self._check_address(address, host, port)
        return found

    def close(self) -> None:
        """Abandon pending look-ups."""
        self._system.close()

    def _check_address(self, address: IPAddress, host: str, port: int) -> None:
        if self._allowed.has_address(address, port):
            return
        if port not in DEFAULT_PORTS.values():
            raise ImageBlocked(f"the port of {host} is not allowed")
        if not is_public(address):
            raise ImageBlocked(f"{host} is not on the public Internet")


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
