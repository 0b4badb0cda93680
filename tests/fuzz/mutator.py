"""Seed pictures of each format, and mutants of them: the same seed and number always give the same mutant.

Owns what a mutation is. Besides blind damage there are mutants with right checksums, and mutants of the pixels below zlib:
a decoder turns a PNG with a wrong checksum away before it does anything with it, so blind damage would test little else.
"""

import random
import struct
import zlib
from collections.abc import Callable, Mapping

from PIL import Image

from fix_hostile import animation, bomb, exif_of, flat_png, jpeg_of_scans, jpeg_with_restarts, mpo, png_chunk, png_with
from fix_images import encoded, heic, make_noise, make_picture

MOST_MUTATIONS = 4
MAGIC_BYTES = {"PNG": 8, "JPEG": 3, "GIF": 6, "WEBP": 12, "AVIF": 24, "HEIF": 24}
TELLING = (0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)
"""Numbers at which sizes, counts and signs go wrong."""

Mutation = Callable[[random.Random, bytearray], None]


def seed_pictures() -> Mapping[str, list[bytes]]:
    """Return small pictures by format: of each, the varieties that take other ways through its decoder."""
    grey, colours, clear = make_noise(40, 30).convert("L"), make_noise(40, 30), make_picture(40, 30, "RGBA")
    clear.putalpha(grey.resize((40, 30)))
    few = colours.quantize(16)
    exif = exif_of([(0x0112, 3, 1, 6)])
    return {
        "PNG": [
            *(encoded(picture) for picture in (grey, colours, clear, few, grey.convert("1"), grey.convert("LA"))),
            encoded(few, transparency=3),
            encoded(Image.new("I;16", (40, 30), 999)),
            flat_png(40, 30, interlaced=True),
            flat_png(40, 30, bits=16, colour=6),
            png_with(bomb(b"iCCP"), png_chunk(b"eXIf", exif)),
            animation("PNG", 4),
        ],
        "JPEG": [
            encoded(colours, "JPEG"),
            encoded(grey, "JPEG", quality=30),
            encoded(colours, "JPEG", progressive=True, exif=b"Exif\0\0" + exif),
            encoded(colours.convert("CMYK"), "JPEG"),
            encoded(colours, "JPEG", subsampling="4:2:0", restart_marker_blocks=1),
            jpeg_with_restarts(),
            jpeg_of_scans(5, width_px=64, height_px=64),
            mpo(),
        ],
        "GIF": [
            encoded(few, "GIF"),
            encoded(few, "GIF", transparency=3, comment=b"comment"),
            encoded(few, "GIF", interlace=0),
            animation("GIF", 4),
        ],
        "WEBP": [
            encoded(colours, "WEBP"),
            encoded(colours, "WEBP", lossless=True),
            encoded(clear, "WEBP", quality=40),
            encoded(clear, "WEBP", lossless=True, exif=exif),
            animation("WEBP", 4),
        ],
        "AVIF": [
            encoded(colours, "AVIF"),
            encoded(clear, "AVIF", quality=40),
            encoded(grey, "AVIF", exif=exif),
            animation("AVIF", 3),
        ],
        "HEIF": [heic(name) for name in ("plain", "grey", "clear", "turned", "several", "tiles", "hdr")],
    }


def mutant(pictures: Mapping[str, list[bytes]], image_format: str, *, seed: int, number: int) -> bytes:
    """Return a mutant; its first bytes still say what it is, or it would never reach a decoder."""
    chance = random.Random(f"{seed}/{image_format}/{number}")  # noqa: S311 - it must be repeatable
    data = bytearray(chance.choice(pictures[image_format]))
    magic = bytes(data[: MAGIC_BYTES[image_format]])
    if image_format == "PNG" and chance.random() < 0.7:
        data = _mutate_png(chance, data)
    else:
        _damage(chance, data, pictures[image_format])
    data[: len(magic)] = magic
    if image_format == "WEBP":
        data[4:8] = struct.pack("<I", max(len(data) - 8, 0))
    return bytes(data)


def _damage(chance: random.Random, data: bytearray, others: list[bytes]) -> None:
    for _ in range(chance.randint(1, MOST_MUTATIONS)):
        if chance.random() < 0.1:
            _splice(chance, data, others)
        else:
            chance.choice(MUTATIONS)(chance, data)


def _place(chance: random.Random, data: bytearray) -> int:
    # Half of the damage goes to the headers, which say the most.
    return chance.randrange(min(64, len(data)) if chance.random() < 0.5 else len(data)) if data else 0


def _flip(chance: random.Random, data: bytearray) -> None:
    if data:
        data[_place(chance, data)] ^= 1 << chance.randrange(8)


def _noise(chance: random.Random, data: bytearray) -> None:
    start, length = _place(chance, data), chance.randint(1, 16)
    data[start : start + length] = chance.randbytes(length)


def _number(chance: random.Random, data: bytearray) -> None:
    start, size, order = _place(chance, data), chance.choice((1, 2, 3, 4)), chance.choice(("big", "little"))
    value = chance.choice(TELLING) & ((1 << 8 * size) - 1)
    data[start : start + size] = value.to_bytes(size, order)  # type: ignore[arg-type]  # of a choice mypy sees a str


def _remove(chance: random.Random, data: bytearray) -> None:
    start = _place(chance, data)
    del data[start : start + chance.randint(1, 64)]


def _repeat(chance: random.Random, data: bytearray) -> None:
    start, length = _place(chance, data), chance.randint(1, 64)
    data[start:start] = data[start : start + length] * chance.choice((1, 2, 50))


def _truncate(chance: random.Random, data: bytearray) -> None:
    del data[_place(chance, data) :]


MUTATIONS: tuple[Mutation, ...] = (_flip, _flip, _noise, _number, _number, _remove, _repeat, _truncate)


def _splice(chance: random.Random, data: bytearray, others: list[bytes]) -> None:
    other = chance.choice(others)
    start = chance.randrange(len(other))
    data[_place(chance, data) :] = other[start:]


def _mutate_png(chance: random.Random, data: bytearray) -> bytearray:
    """Return a PNG whose chunks were damaged, swapped or repeated, with right lengths and checksums."""
    chunks = _chunks(bytes(data))
    for _ in range(chance.randint(1, MOST_MUTATIONS)):
        index = chance.randrange(len(chunks))
        kind, body = chunks[index]
        match chance.randrange(6):
            case 0:
                chunks.insert(chance.randrange(len(chunks) + 1), (kind, body))
            case 1 if len(chunks) > 1:
                chunks.append(chunks.pop(index))
            case 2:
                chunks[index] = (kind, _damaged_below_zlib(chance, body))
            case _:
                changed = bytearray(body)
                chance.choice(MUTATIONS)(chance, changed)
                chunks[index] = (kind, bytes(changed))
    return bytearray(data[:8] + b"".join(png_chunk(kind, body) for kind, body in chunks))


def _chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    chunks, start = [], 8
    while start < len(png):
        length = int.from_bytes(png[start : start + 4], "big")
        chunks.append((png[start + 4 : start + 8], png[start + 8 : start + 8 + length]))
        start += 12 + length
    return chunks


def _damaged_below_zlib(chance: random.Random, body: bytes) -> bytes:
    try:
        rows = bytearray(zlib.decompress(body))
    except zlib.error:
        return body
    chance.choice(MUTATIONS)(chance, rows)
    return zlib.compress(bytes(rows))
