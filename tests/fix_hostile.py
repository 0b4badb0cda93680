"""Files that a stranger could send to harm a decoder, made on the spot and from nothing."""

import io
import itertools
import struct
import zlib
from collections.abc import Iterable

from PIL import Image

from fix_images import BLUE, RED, encoded, make_noise, make_picture, make_png

PNG_MARK = b"\x89PNG\r\n\x1a\n"
IEND = b"\0\0\0\0IEND\xae\x42\x60\x82"
PATIENCE_BYTES = 2_000_000
"""How large the files are that consist of many small pieces: large enough to show a cost per piece."""


def png_chunk(kind: bytes, data: bytes = b"") -> bytes:
    """Return a chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width_px: int, height_px: int, *, bits: int = 8, colour: int = 0, interlaced: bool = False) -> bytes:
    """Return the IHDR of a PNG."""
    return png_chunk(b"IHDR", struct.pack(">IIBBBBB", width_px, height_px, bits, colour, 0, 0, interlaced))


def flat_png(width_px: int, height_px: int, *, bits: int = 8, colour: int = 0, interlaced: bool = False) -> bytes:
    """Return a PNG of one colour and of any size, without ever holding it."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    squeeze = zlib.compressobj(1)
    row = bytes(1 + (width_px * channels * bits + 7) // 8)
    rows = b"".join(squeeze.compress(row) for _ in range(height_px + 14 * interlaced)) + squeeze.flush()
    header = png_header(width_px, height_px, bits=bits, colour=colour, interlaced=interlaced)
    return PNG_MARK + header + png_chunk(b"IDAT", rows) + IEND


def one_column_png(height_px: int) -> bytes:
    """Return a PNG of one column, whose pixels can be transparent: its decoder holds it three times."""
    return (
        PNG_MARK + png_header(1, height_px, colour=4) + png_chunk(b"IDAT", zlib.compress(bytes(3 * height_px))) + IEND
    )


def png_with(*chunks: bytes, width_px: int = 64, height_px: int = 48) -> bytes:
    """Return an honest PNG with chunks between its header and its pixels."""
    png = make_png(width_px, height_px)
    return png[:33] + b"".join(chunks) + png[33:]


def bomb(kind: bytes) -> bytes:
    """Return a PNG text or profile chunk of 60 KB that unfolds to 60 MB."""
    before = {b"iCCP": b"p\0\0", b"zTXt": b"k\0\0", b"iTXt": b"k\0\1\0\0\0"}[kind]
    return png_chunk(kind, before + zlib.compress(bytes(60_000_000), 9))


def png_pieces(piece: bytes, *, before: bool) -> bytes:
    """Return a PNG with very many of one chunk, before its pixels or after them."""
    png, many = make_png(), piece * (PATIENCE_BYTES // len(piece))
    return png[:33] + many + png[33:] if before else png[:-12] + many + png[-12:]


def jpeg_segment(kind: int, data: bytes = b"") -> bytes:
    """Return a segment with its length."""
    return b"\xff" + bytes([kind]) + struct.pack(">H", len(data) + 2) + data


def jpeg_with(pieces: bytes) -> bytes:
    """Return an honest JPEG with something after its first marker."""
    jpeg = encoded(make_picture(), "JPEG")
    return jpeg[:2] + pieces + jpeg[2:]


def jpeg_of_scans(scans: int, *, width_px: int = 6_000, height_px: int = 6_000) -> bytes:
    """Return a progressive grey JPEG whose scans cost a pass over all pixels and hardly a byte each."""
    quantities = jpeg_segment(0xDB, b"\0" + b"\1" * 64)
    frame = jpeg_segment(0xC2, struct.pack(">BHHBBBB", 8, height_px, width_px, 1, 1, 0x11, 0))
    # One code each: "no difference" for DC, "no more in the next 32,767 blocks" (its 14 bits follow) for AC.
    tables = b"".join(
        jpeg_segment(0xC4, bytes([kind]) + b"\1" + bytes(15) + bytes([sign])) for kind, sign in ((0, 0), (16, 0xE0))
    )
    blocks = -(-width_px // 8) * -(-height_px // 8)
    first = jpeg_segment(0xDA, bytes([1, 1, 0, 0, 0, 0])) + bytes(blocks // 8 + 1)
    runs = "".join("0" + "1" * 14 for _ in range(blocks // 32_767 + 1))
    coded = (
        int(runs.ljust(-(-len(runs) // 8) * 8, "1"), 2).to_bytes(-(-len(runs) // 8), "big").replace(b"\xff", b"\xff\0")
    )
    further = jpeg_segment(0xDA, bytes([1, 1, 0, 1, 63, 0])) + coded
    return b"\xff\xd8" + quantities + frame + tables + first + further * scans + b"\xff\xd9"


def jpeg_with_restarts() -> bytes:
    """Return a JPEG that promises a restart after each block, with markers in a senseless order among its pixels."""
    jpeg = encoded(make_noise(200, 200), "JPEG", restart_marker_blocks=1)
    parts = jpeg.split(b"\xff\xd3")
    return b"\xff\xd7\xff\xd0\xff\xd3".join(parts)


def gif_pieces(piece: bytes) -> bytes:
    """Return a GIF with very many of one extension before its frame."""
    gif = encoded(make_picture(mode="P"), "GIF")
    start = gif.index(b",\0\0\0\0")
    return gif[:start] + piece * (PATIENCE_BYTES // len(piece)) + gif[start:]


def gif_with_large_frame(width_px: int, height_px: int) -> bytes:
    """Return a GIF whose frame is larger than its screen."""
    gif = bytearray(encoded(make_picture(mode="P"), "GIF"))
    frame = gif.index(b",\0\0\0\0\x40\0\x30\0")
    gif[frame + 5 : frame + 9] = struct.pack("<HH", width_px, height_px)
    return bytes(gif)


def animation(image_format: str, frames: int) -> bytes:
    """Return an animation of small frames, the first of them red."""
    first, second, third = (Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE, "green"))
    rest = itertools.islice(itertools.cycle((second, third)), frames - 1)
    return encoded(first, image_format, save_all=True, append_images=list(rest), duration=20)


def webp_chunks(*chunks: tuple[bytes, bytes]) -> bytes:
    """Return a WebP of chunks."""
    body = b"".join(kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def exif_of(entries: Iterable[tuple[int, int, int, int]], *, count: int | None = None) -> bytes:
    """Return an EXIF note of directory entries (tag, kind, count, value), claiming to have ``count`` of them."""
    packed = [struct.pack("<HHII", *entry) for entry in entries]
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(packed) if count is None else count) + b"".join(packed) + bytes(4)


def mpo(pictures: int = 3) -> bytes:
    """Return several JPEGs in one file, as some cameras write them."""
    sink = io.BytesIO()
    make_picture().save(sink, "MPO", save_all=True, append_images=[Image.new("RGB", (64, 48), BLUE)] * (pictures - 1))
    return sink.getvalue()
