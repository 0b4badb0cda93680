"""Extracts the pieces that make up the picture from PNG, JPEG, GIF and WebP files, without decoding them.

Owns which pieces of a file Pillow sees. Colour profiles, texts, XMP, previews, comments, animation, further pictures and appended
data are left out, so that their parsers never see hostile bytes. Runs only in the helper process, and uses only the standard
library.

This protects other pictures, which wait for one of two helpers: files of up to 20 MiB that keep Pillow busy for 3 to 10 s (PNG
texts, JPEG segments or scans, GIF comments) take at most 0.1 s here (docs/adr/0021).

Invariants: a piece is kept unchanged or dropped, so that a truncated or corrupt file stays one; the work is bounded by the number
of pieces.
"""

import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

MAX_PIECES = 65_536
"""Chunks, segments or blocks per file; each costs Python time, and ordinary files have at most a few thousand."""
MAX_SCANS = 100
"""Per progressive JPEG; each may cost a pass over all pixels for a few bytes. Encoders write about 10."""

MAX_FRAMES = 100
"""Of an animation that are looked at, until one shows something."""

_PNG_PIECES = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_PNG_FRAMES = frozenset({b"acTL", b"fcTL", b"fdAT"})

_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
"""A JPEG marker (ITU-T T.81, table B.1), except those within coded pixels."""
_FRAMES = range(0xC0, 0xD0)
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
_HUFFMAN_TABLES, _START, _END, _SCAN, _JFIF, _EXIF_SEGMENT, _ADOBE = 0xC4, 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xEE
_TABLES_OR_FRAME = range(0xC0, 0xE0)

_GIF_HEADER_BYTES = 13
_GIF_EXTENSION, _GIF_FRAME = ord("!"), ord(",")
_GIF_CONTROL = 0xF9
_GIF_FRAME_HEADER_BYTES = 10
_GIF_END = b";"

_EXIF = b"Exif\0\0"
_ORIENTATION_TAG = 0x0112
_SHORT = 3


class Unsupported(Exception):
    """The picture uses a variant of its format that is not accepted."""


class ExtractedImage(NamedTuple):
    """The pieces of a file that make up its picture."""

    data: bytes
    exif: bytes = b""
    """The EXIF block; empty if there is none, or if it is still in ``data``."""
    has_more: bool = False
    """Whether further frames of an animation were left out."""


def extract_image(data: bytes, image_format: str) -> ExtractedImage:
    """Return the pieces of a file that make up its picture.

    Raises:
        Unsupported: a JPEG variant that encoders do not write.
        ValueError, IndexError: too many pieces, or a broken file; not every broken file is detected here.
    """
    match image_format:
        case "PNG":
            return _png(data)
        case "JPEG":
            return _jpeg(data)
        case "GIF":
            return _gif(data)
    return ExtractedImage(data)  # libwebp treats a WebP's metadata as plain bytes, and nothing here reads it


def frames(data: bytes, image_format: str) -> bytes:
    """Return a file with the pieces of its first frames, as far as these are ``MAX_PIECES``.

    Raises:
        ValueError, IndexError: a broken file; not every broken file is detected here.
    """
    match image_format:
        case "PNG":
            return _png(data, pieces=_PNG_PIECES | _PNG_FRAMES).data
        case "GIF":
            return _gif_frames(data)
    return data


def _png(data: bytes, *, pieces: frozenset[bytes] = _PNG_PIECES) -> ExtractedImage:
    kept, exif, start, frame_count = [data[:8]], b"", 8, 0
    for _ in range(MAX_PIECES):
        kind = data[start + 4 : start + 8]
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        if kind in pieces:
            kept.append(data[start:end])
        elif kind == b"eXIf":
            exif = data[start + 8 : end - 4]
        frame_count += kind == b"fcTL"
        if kind == b"IEND" or end >= len(data):
            return ExtractedImage(b"".join(kept), exif, has_more=frame_count > 1)
        start = end
    raise ValueError("too many chunks")


def _jpeg(data: bytes) -> ExtractedImage:
    kept, exif, start, scans = [data[:2]], b"", 2, 0
    for _ in range(MAX_PIECES):
        found = _MARKER.search(data, start)
        if scans:  # coded pixels are between the segments
            kept.append(data[start : found.start() if found else len(data)])
        if found is None:
            return ExtractedImage(b"".join(kept), exif)
        kind, body = found[1][0], found.end()
        if kind == _END:
            return ExtractedImage(b"".join([*kept, found[0]]), exif)
        start = body + int.from_bytes(data[body : body + 2], "big")
        if _makes_up_jpeg(kind):
            kept.append(data[body - 2 : start])
        elif kind == _EXIF_SEGMENT and data.startswith(_EXIF, body + 2):
            exif = exif or data[body + 2 : start]
        scans += kind == _SCAN
        if scans > MAX_SCANS:
            raise ValueError("too many scans")
    raise ValueError("too many segments")


def _makes_up_jpeg(kind: int) -> bool:
    if kind < _TABLES_OR_FRAME.start or kind == _START:
        # libjpeg may search such a segment for markers instead of skipping it, and find scans that were not counted.
        raise ValueError("unexpected marker")
    if kind in _FRAMES and kind not in {_BASELINE, _EXTENDED, _PROGRESSIVE, _HUFFMAN_TABLES}:
        raise Unsupported
    # JFIF and Adobe define the meaning of the channels.
    return kind in _TABLES_OR_FRAME or kind in {_JFIF, _ADOBE}


def _gif(data: bytes) -> ExtractedImage:
    head = data[: _gif_head_bytes(data)]
    pieces, has_more = iter(range(MAX_PIECES)), False
    start, control = _gif_frame(data, len(head), pieces)
    with suppress(ValueError, IndexError):
        _gif_frame(data, _gif_frame_end(data, start, pieces), pieces)
        has_more = True
    return ExtractedImage(
        head + control + data[start:], has_more=has_more
    )  # Pillow reads no further than the first frame


def _gif_frames(data: bytes) -> bytes:
    end = _gif_head_bytes(data)
    kept, pieces = [data[:end]], iter(range(MAX_PIECES))
    with suppress(ValueError, IndexError):
        for _ in range(MAX_FRAMES):
            start, control = _gif_frame(data, end, pieces)
            end = _gif_frame_end(data, start, pieces)
            kept += control, data[start:end]
    return b"".join([*kept, _GIF_END])


def _gif_head_bytes(data: bytes) -> int:
    flags = data[10]
    return _GIF_HEADER_BYTES + _gif_table_bytes(flags)


def _gif_table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _gif_frame(data: bytes, start: int, pieces: Iterator[int]) -> tuple[int, bytes]:
    """Return where the next frame starts, and the extension before it that says which colour is transparent."""
    control = b""
    for _ in pieces:
        if data[start] == _GIF_FRAME:
            return start, control
        if data[start] != _GIF_EXTENSION:
            raise ValueError("no further frame")
        label, begin = data[start + 1], start
        start = _gif_blocks_end(data, start + 2, pieces)
        if label == _GIF_CONTROL:
            control = data[begin:start]
    raise ValueError("too many extensions")


def _gif_frame_end(data: bytes, start: int, pieces: Iterator[int]) -> int:
    header_end = start + _GIF_FRAME_HEADER_BYTES
    # The byte before the blocks says how many bits a code has.
    return _gif_blocks_end(data, header_end + _gif_table_bytes(data[header_end - 1]) + 1, pieces)


def _gif_blocks_end(data: bytes, start: int, pieces: Iterator[int]) -> int:
    for _ in pieces:
        if data[start] == 0:
            return start + 1
        start += 1 + data[start]
    raise ValueError("too many blocks")


def orientation(exif: bytes) -> int:
    """Return the orientation in an EXIF block, 1 if it is missing or broken.

    Reads one entry of the first directory only; a complete parser would process hostile data.
    """
    exif = exif.removeprefix(_EXIF)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    with suppress(struct.error):
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, start)
        for number in range(count):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, start + 2 + 12 * number)
            if tag == _ORIENTATION_TAG and kind == _SHORT:
                return int(value)
    return 1


def webp_pixels(data: bytes) -> int:
    """Return the size of a WebP canvas in pixels, 0 if its first chunk is unknown (RFC 9649, section 2)."""
    kind, head = data[12:16], data[20:30].ljust(10, b"\0")
    if kind == b"VP8X":
        return (1 + int.from_bytes(head[4:7], "little")) * (1 + int.from_bytes(head[7:10], "little"))
    if kind == b"VP8 ":
        return (int.from_bytes(head[6:8], "little") & 0x3FFF) * (int.from_bytes(head[8:10], "little") & 0x3FFF)
    if kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        return (1 + (bits & 0x3FFF)) * (1 + (bits >> 14 & 0x3FFF))
    return 0
