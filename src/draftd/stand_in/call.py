"""What the stand-in was asked: one request of any wire, reduced to what is looked at and logged.

Owns what all wires have in common: the pictures (their size from the header of a JPEG or PNG, without an imaging library) and
a schema in the prompt. Where a wire has the rest stands in ``wires``. Invariant: no bytes of a picture and no key are kept.
"""

import base64
import binascii
import hashlib
import json
import re
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from draftd.demo import code_word
from draftd.stand_in.eyes import code_word_in

_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE)
_PNG_HEADER = struct.Struct(">8s8xII")
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JPEG_MAGIC = b"\xff\xd8"
_JPEG_SEGMENT = struct.Struct(">BBH")
_JPEG_FRAME = struct.Struct(">xHH")
_JPEG_MARKER = 0xFF
# Frame headers of JPEG (ITU-T T.81, table B.1): C0 to CF without DHT, JPG and DAC.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture of a prompt."""

    sha256: str | None
    """Of its bytes; None when it came as an address, which is not fetched."""
    size_bytes: int
    width_px: int
    height_px: int
    code_word: str | None = None
    """What the doctor's picture shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request to a model."""

    model: str
    stream: bool
    include_usage: bool
    user: str | None
    max_tokens: int | None
    response_format: str | None
    """``json_schema``, ``json_object`` or None."""
    prompt: str
    """All texts of all messages, a blank line between them."""
    pictures: tuple[Picture, ...]
    schema: Mapping[str, Any] | None
    """The schema that the answer must match."""
    pictures_as: str | None = None
    """The field of the wire in which the pictures came; None without one."""
    schema_as: str | None = None
    """The field of the wire in which the schema came; None when the prompt alone has it."""
    tool: str | None = None
    """The tool whose arguments the answer must be; None for an answer in plain text."""
    cached: tuple[str, ...] = ()
    """The roles of the messages up to which the prompt shall be cached, by the wire's own mark."""
    first_role: str = ""
    """Whose message is the first."""

    @property
    def request_id(self) -> str | None:
        """The first UUID in the prompt."""
        found = _UUID.search(self.prompt)
        return found.group() if found else None

    def logged(self) -> dict[str, Any]:
        """Return what ``GET /log`` shows of it."""
        return {
            "model": self.model,
            "stream": self.stream,
            "user": self.user,
            "request_id": self.request_id,
            "max_tokens": self.max_tokens,
            "response_format": self.response_format,
            "has_schema": self.schema is not None,
            "schema_as": self.schema_as,
            "pictures_as": self.pictures_as,
            "cached": list(self.cached),
            "first_role": self.first_role,
            "images": [asdict(picture) for picture in self.pictures],
            "prompt_chars": len(self.prompt),
        }


def picture_at(url: str) -> Picture:
    """Read a picture from a URL; an address that is no ``data:`` URL is not fetched.

    Raises:
        ValueError: it is not base64.
    """
    header, _, encoded = url.partition(",")
    if not header.startswith("data:") or not header.endswith(";base64"):
        return Picture(sha256=None, size_bytes=0, width_px=0, height_px=0)
    return picture(encoded)


def picture(encoded: str) -> Picture:
    """Read a picture from base64.

    Raises:
        ValueError: it is not base64.
    """
    try:
        data = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise ValueError("an image is not valid base64") from error
    width_px, height_px = image_size(data)
    sha256 = hashlib.sha256(data).hexdigest()
    word = code_word_in(data) if (width_px, height_px) == (code_word.WIDTH_PX, code_word.HEIGHT_PX) else None
    return Picture(sha256=sha256, size_bytes=len(data), width_px=width_px, height_px=height_px, code_word=word)


def image_size(data: bytes) -> tuple[int, int]:
    """Return width and height in pixels as the header of a JPEG or PNG says; zeros for anything else."""
    try:
        if data.startswith(_PNG_MAGIC):
            _, width_px, height_px = _PNG_HEADER.unpack_from(data)
            return width_px, height_px
        return _jpeg_size(data) if data.startswith(_JPEG_MAGIC) else (0, 0)
    except struct.error:
        return 0, 0


def _jpeg_size(data: bytes) -> tuple[int, int]:
    at = len(_JPEG_MAGIC)
    while True:
        fill, kind, length = _JPEG_SEGMENT.unpack_from(data, at)
        if fill != _JPEG_MARKER:
            return 0, 0
        if kind in _JPEG_FRAMES:
            height_px, width_px = _JPEG_FRAME.unpack_from(data, at + _JPEG_SEGMENT.size)
            return width_px, height_px
        # A marker may be preceded by any number of fill bytes; the length counts itself but not the marker.
        at += 1 if kind == _JPEG_MARKER else 2 + length


def schema_in(text: str) -> Mapping[str, Any] | None:
    """Return the last complete JSON object with ``properties`` in a text, or None."""
    decoder = json.JSONDecoder()
    found: Mapping[str, Any] | None = None
    at = text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except ValueError:
            end = at + 1
        else:
            if isinstance(value.get("properties"), dict):
                found = value
        at = text.find("{", end)
    return found
