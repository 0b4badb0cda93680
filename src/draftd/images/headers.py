"""Headers for hosts that keep pictures private (``DRAFTD_IMAGE_HEADERS``).

Invariants: a header is sent to its own host only, over https, below its path, and no longer once a redirect has led elsewhere; no
message contains a value.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from draftd.errors import ConfigurationError, ImageBlocked
from draftd.images.urls import ImageUrl, parse_url

_LINE: Final = re.compile(
    r"(?P<place>[^=\s]+)=(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(?P<value>[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?)"
)
_OWN: Final = frozenset(
    {"host", "accept", "accept-encoding", "connection", "content-length", "transfer-encoding", "user-agent"}
)
"""What draftd sends itself, or what would change what the request is."""
_DETOURS: Final = ("/.", "//", "%2e", "%2f", "%5c", "%25")
"""Ways out of a path that a server may follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    host: str
    port: int
    path: str
    """The folder, or the picture, that is fetched with it; empty: any path."""
    name: str
    value: str = field(repr=False)

    def is_for(self, target: ImageUrl) -> bool:
        if (target.scheme, target.host, target.port) != ("https", self.host, self.port):
            return False
        path = target.path.partition("?")[0]
        is_below = path == self.path or path.startswith(f"{self.path.rstrip('/')}/")
        return not self.path or (is_below and not any(way in path.lower() for way in _DETOURS))


@dataclass(frozen=True, slots=True)
class ImageHeaders:
    """The headers of an operator, by host."""

    entries: tuple[_Header, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "ImageHeaders":
        """Parse lines of ``host=Name: value``; a host may be followed by a port, and by the path of a folder or a picture.

        Raises:
            ConfigurationError: a line has another form; the message has its number and no value.
        """
        lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
        return cls(tuple(_header(number, line) for number, line in lines if line))

    def of(self, target: ImageUrl) -> Mapping[str, str]:
        """Return the headers to send with a request."""
        return {entry.name: entry.value for entry in self.entries if entry.is_for(target)}


def _header(number: int, line: str) -> _Header:
    where = f"DRAFTD_IMAGE_HEADERS: line {number}"
    match = _LINE.fullmatch(line)
    if match is None:
        raise ConfigurationError(f"{where} is not host=Name: value")
    if match["name"].lower() in _OWN:
        raise ConfigurationError(f"{where}: draftd sets the header {match['name']} itself")
    try:
        place = parse_url(f"https://{match['place']}")
    except ImageBlocked:
        raise ConfigurationError(f"{where} has no valid host") from None
    path = "" if place.path == "/" else place.path
    return _Header(host=place.host, port=place.port, path=path, name=match["name"], value=match["value"])
