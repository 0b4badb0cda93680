"""What the stand-in was asked: a chat completion request, reduced to what is looked at and logged.

Owns reading the prompt, the pictures (their size from the header of a JPEG or PNG, without an imaging library) and the
JSON schema. Invariant: no bytes of a picture and no key are kept.
"""

import base64
import binascii
import hashlib
import json
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One chat completion request."""

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
            "images": [asdict(picture) for picture in self.pictures],
            "prompt_chars": len(self.prompt),
        }


def read_call(raw: Any) -> Call:
    """Read the body of ``POST /v1/chat/completions``.

    Raises:
        ValueError: it is not such a request; the message says why.
    """
    if not isinstance(raw, dict) or not isinstance(raw.get("messages"), list) or not raw["messages"]:
        raise ValueError("'messages' must be a non-empty array")
    parts = list(_parts(raw["messages"]))
    prompt = "\n\n".join(part["text"] for part in parts if part.get("type") == "text")
    response_format = raw.get("response_format") or {}
    stream_options = raw.get("stream_options") or {}
    given = (response_format.get("json_schema") or {}).get("schema")
    return Call(
        model=str(raw.get("model", "")),
        stream=bool(raw.get("stream")),
        include_usage=bool(stream_options.get("include_usage")),
        user=raw.get("user"),
        max_tokens=raw.get("max_completion_tokens") or raw.get("max_tokens"),
        response_format=response_format.get("type"),
        prompt=prompt,
        pictures=tuple(_picture(part["image_url"]["url"]) for part in parts if part.get("type") == "image_url"),
        schema=given or schema_in(prompt),
    )


def _parts(messages: list[Any]) -> Iterator[dict[str, Any]]:
    for message in messages:
        if not isinstance(message, dict) or "role" not in message:
            raise ValueError("every message needs a 'role'")
        content = message.get("content")
        if isinstance(content, str):
            yield {"type": "text", "text": content}
        for part in content if isinstance(content, list) else ():
            _check_part(part)
            yield part


def _check_part(part: Any) -> None:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return
    image = part.get("image_url") if kind == "image_url" else None
    if not isinstance(image, dict) or not isinstance(image.get("url"), str):
        raise ValueError("a content part is neither a text nor an image_url")  # noqa: TRY004 - malformed, not misused


def _picture(url: str) -> Picture:
    header, _, encoded = url.partition(",")
    if not header.startswith("data:") or not header.endswith(";base64"):
        return Picture(sha256=None, size_bytes=0, width_px=0, height_px=0)
    try:
        data = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise ValueError("an image is not valid base64") from error
    width_px, height_px = image_size(data)
    sha256 = hashlib.sha256(data).hexdigest()
    return Picture(sha256=sha256, size_bytes=len(data), width_px=width_px, height_px=height_px)


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
