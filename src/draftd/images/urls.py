"""Parses the URLs of images, and refuses everything that two parsers could interpret differently.

Owns the syntax of URLs and hosts; ``gate`` decides which may be fetched.

Invariant: neither a message nor an exception's chain contains a path, a query or a user name.
"""

import re
import unicodedata
from dataclasses import dataclass
from ipaddress import IPv6Address
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from draftd.errors import ImageBlocked

DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_URL_CHARS = 8_192
MAX_HOST_CHARS = 253
"""Maximum length of a name without its trailing dot (RFC 1035)."""
MAX_LABEL_CHARS = 63
"""Maximum length between two dots (RFC 1035)."""

# The standard library ignores text around the brackets of an IPv6 address; other parsers do not.
_AUTHORITY = re.compile(r"(?:\[[^\[\]]*:[^\[\]]*\]|[^\[\]:@]+)(?::[0-9]*)?")
_DOTS = re.compile("[.\u3002\uff0e\uff61]")  # the dots of RFC 3490
_HOST_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.ASCII)
_TARGET_SAFE = "!#$%&'()*+,/:;=?@[]~"
# IDNA 2003, which the standard library implements, maps these to other letters or drops them; a browser would resolve another
# name.
_AMBIGUOUS_IN_IDNA = frozenset("ßς\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageUrl:
    """A URL that passed the first check, split into what a request needs."""

    scheme: str
    host: str
    """ASCII, lower case, without brackets or a trailing dot."""
    port: int
    path: str
    """Path and query, ASCII. Never shown: both may contain secrets."""

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __repr__(self) -> str:
        return f"ImageUrl(host={self.host!r})"


def parse_url(url: str) -> ImageUrl:
    """Parse a URL; refuse what two parsers could interpret differently.

    Raises:
        ImageBlocked: it has another scheme, no host, userinfo, a backslash, a control character or over 8,192 characters.
    """
    _check_characters(url)
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError:
        # The error's text quotes the URL, which may contain a password.
        raise ImageBlocked("the URL of an image is invalid") from None
    if split.scheme not in DEFAULT_PORTS:
        raise ImageBlocked("the URL of an image is neither http nor https")
    if "@" in split.netloc:
        raise ImageBlocked("the URL of an image contains a user name")
    if not _AUTHORITY.fullmatch(split.netloc):
        raise ImageBlocked("the URL of an image has no valid host")
    host = host_name(split.hostname or "")
    return ImageUrl(
        scheme=split.scheme, host=host, port=DEFAULT_PORTS[split.scheme] if port is None else port, path=_path(split)
    )


def join_url(base: ImageUrl, location: str) -> str:
    """Return the URL that a redirect leads to; the standard library would drop control characters silently.

    Raises:
        ImageBlocked: the Location is not a valid URL.
    """
    _check_characters(location)
    try:
        return urljoin(f"{base.scheme}://{base.authority}{base.path}", location)
    except ValueError:
        raise ImageBlocked("a redirect leads to an invalid URL") from None


def host_name(text: str) -> str:
    """Normalise a host for comparing, resolving and sending.

    Raises:
        ImageBlocked: it is neither a name nor an IPv6 address without a zone, or browsers would read it differently.
    """
    # Before IDNA mapping: one letter may expand to eighteen, and processing them blocked the event loop for half a second.
    if len(text) > MAX_HOST_CHARS + 1 or max(map(len, _DOTS.split(text))) > MAX_LABEL_CHARS:
        raise ImageBlocked("the URL of an image has no valid host")
    try:
        if ":" in text:
            return str(IPv6Address(text if "%" not in text else ""))
        name = text.encode("idna").decode("ascii").lower().removesuffix(".")
    except ValueError as error:
        raise ImageBlocked("the URL of an image has no valid host") from error
    if not _HOST_NAME.fullmatch(name) or len(name) > MAX_HOST_CHARS:
        raise ImageBlocked("the URL of an image has no valid host")
    if not _AMBIGUOUS_IN_IDNA.isdisjoint(text):
        raise ImageBlocked("the host of an image's URL is ambiguous; use its xn-- form")
    return name


def _check_characters(url: str) -> None:
    if len(url) > MAX_URL_CHARS:
        raise ImageBlocked("the URL of an image is too long")
    if "\\" in url or any(unicodedata.category(char) in {"Cc", "Cs"} for char in url):
        raise ImageBlocked("the URL of an image contains a backslash or a control character")


def _path(split: SplitResult) -> str:
    path = split.path or "/"
    return quote(f"{path}?{split.query}" if split.query else path, safe=_TARGET_SAFE)
