"""What a wire is: how requests of one format are read, and how answers and errors are written in it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from draftd.stand_in.call import Call
from draftd.stand_in.completion import Completion, Failure


class Wire(Protocol):
    """One format.

    A wire has no state: what varies between the providers that speak it stands in its fields.
    """

    @property
    def stream_type(self) -> str:
        """The media type of a streamed answer."""

    def is_question(self, path: str) -> bool:
        """Return whether a model is asked at a path of the server; ``path`` begins after the provider's base."""

    def read(self, path: str, raw: Any, /) -> Call:
        """Read a request.

        Raises:
            ValueError: it is none of this format; the message says why.
        """

    def whole(self, completion: Completion) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""

    def events(self, completion: Completion, *, piece_chars: int) -> Iterator[bytes]:
        """Yield the events of a streamed answer."""

    def error(self, failure: Failure) -> dict[str, Any]:
        """Return the body of an error."""

    def broken(self, failure: Failure) -> bytes:
        """Return the event that ends a streamed answer with an error."""


def sse(body: Mapping[str, Any], *, event: str = "") -> bytes:
    """Return a server-sent event."""
    name = f"event: {event}\n".encode() if event else b""
    return name + b"data: " + json.dumps(body).encode() + b"\n\n"


def pieces(text: str, piece_chars: int) -> Iterator[str]:
    """Yield a text in pieces."""
    for at in range(0, len(text), piece_chars):
        yield text[at : at + piece_chars]


def entries(raw: Any, name: str) -> list[Any]:
    """Return what stands under a name of a body.

    Raises:
        ValueError: it is no array, or an empty one.
    """
    found = raw.get(name) if isinstance(raw, dict) else None
    if not isinstance(found, list) or not found:
        raise ValueError(f"{name!r} must be a non-empty array")
    return found


def as_object(text: str) -> dict[str, Any]:
    """Return the arguments of a tool as an object; a text that is none stands under a key of its own."""
    try:
        value = json.loads(text)
    except ValueError:
        return {"text": text}
    return value if isinstance(value, dict) else {"text": text}
