"""Reads the boxes of a HEIC or AVIF file that say how large a picture is, and how its brightness is meant.

Owns ISO 14496-12 and 23008-12 as far as they are needed before a decoder sees the file. Invariants: what is missing or broken
is as if it were not there; the work is bounded by the number of boxes. Runs only in the helper process, and uses only the
standard library.
"""

import struct
from collections.abc import Iterator
from contextlib import suppress

MAX_BOXES = 4_096
"""Read of one file; a photograph of 48 megapixels in tiles has some hundred."""

_HEADER = struct.Struct(">I4s")
_LONG_HEADER_BYTES = 16
_FULL_BOX_BYTES = 4
_SIZE = struct.Struct(">II")


def most_pixels(data: bytes) -> int:
    """Return the pixels of the largest picture that a file describes, 0 if it describes none.

    libheif tells the size after cropping, and decodes the whole.
    """
    found = 0
    with suppress(ValueError, KeyError, IndexError, StopIteration):
        budget = iter(range(MAX_BOXES))
        properties = _children(data, *_meta(data, budget)[b"iprp"], budget)
        for kind, start, end in _boxes(data, *properties[b"ipco"], budget):
            if kind == b"ispe" and start + _FULL_BOX_BYTES + _SIZE.size <= end:
                width_px, height_px = _SIZE.unpack_from(data, start + _FULL_BOX_BYTES)
                found = max(found, width_px * height_px)
    return found


def transfer(data: bytes) -> int:
    """Return the transfer characteristics of a file's primary picture, 0 if it names none."""
    with suppress(ValueError, KeyError, IndexError, StopIteration):
        budget = iter(range(MAX_BOXES))
        meta = _meta(data, budget)
        properties = _children(data, *meta[b"iprp"], budget)
        wanted = _associated(data, *properties[b"ipma"], item=_primary(data, *meta[b"pitm"]), budget=budget)
        for number, (kind, start, end) in enumerate(_boxes(data, *properties[b"ipco"], budget), start=1):
            if kind == b"colr" and number in wanted and data[start : start + 4] == b"nclx" and start + 8 <= end:
                return int.from_bytes(data[start + 6 : start + 8], "big")
    return 0


def _meta(data: bytes, budget: Iterator[int]) -> dict[bytes, tuple[int, int]]:
    """Return what the first ``meta`` box has: by their kinds, where the boxes in it begin and end."""
    start, end = next(place for kind, *place in _boxes(data, 0, len(data), budget) if kind == b"meta")
    return _children(data, start + _FULL_BOX_BYTES, end, budget)


def _boxes(data: bytes, start: int, end: int, budget: Iterator[int]) -> Iterator[tuple[bytes, int, int]]:
    """Yield the boxes between two places: the kind of each, and where its content begins and ends."""
    while start + _HEADER.size <= end:
        _spend(budget)
        size, kind = _HEADER.unpack_from(data, start)
        content = start + _HEADER.size
        if size == 1:
            size, content = int.from_bytes(data[content : content + 8], "big"), start + _LONG_HEADER_BYTES
        stop = end if size == 0 else start + size
        if not content <= stop <= end:
            raise ValueError("a box ends where it cannot")
        yield kind, content, stop
        start = stop


def _spend(budget: Iterator[int]) -> None:
    if next(budget, None) is None:
        raise ValueError("too many boxes")


def _children(data: bytes, start: int, end: int, budget: Iterator[int]) -> dict[bytes, tuple[int, int]]:
    return {kind: (begin, stop) for kind, begin, stop in _boxes(data, start, end, budget)}


def _primary(data: bytes, start: int, end: int) -> int:
    return int.from_bytes(data[start + _FULL_BOX_BYTES : end], "big")


def _associated(data: bytes, start: int, end: int, *, item: int, budget: Iterator[int]) -> set[int]:
    """Return the numbers of the properties that an item has."""
    version, flags = data[start], data[start + 3]
    id_bytes, index_bytes = (4 if version else 2), (2 if flags & 1 else 1)
    at = start + _FULL_BOX_BYTES + 4
    while at + id_bytes < end:
        _spend(budget)
        found = int.from_bytes(data[at : at + id_bytes], "big")
        first = at + id_bytes + 1
        at = first + index_bytes * data[first - 1]
        if found == item:
            essential = 1 << (8 * index_bytes - 1)
            pieces = (data[place : place + index_bytes] for place in range(first, at, index_bytes))
            return {int.from_bytes(piece, "big") & ~essential for piece in pieces}
    return set()
