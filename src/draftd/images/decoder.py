"""The program of the helper process: one picture in, its JPEG parts out, until stdin ends.

Owns everything that uses Pillow. The parent never imports this module, but runs the file with ``python -I``; it uses only the
standard library and Pillow. Hostile bytes are expected to crash it.

A frame, in both directions: the length of the header (4 bytes, big-endian), the header (JSON), then ``size`` bytes. The helper
sends an empty frame first, when it is ready. After that, each request
``{size, format, max_pixels, long_edge_px, part_pixels}`` is answered by one frame: ``{size, outcome: "ok", width_px,
height_px, truncated, tiled, parts: [{size, width_px, height_px}]}`` with the parts one after the other, or by ``{size: 0,
outcome}`` with ``invalid``, ``unsupported``, ``pixels`` or ``memory``.

Invariants: the limits are set before the first byte of a picture is read; Pillow gets only the pieces of a file that make up its
picture; output is always newly encoded, without metadata of the original.
"""

import io
import json
import os
import resource
import signal
import struct
import sys
import warnings
from contextlib import suppress
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any, BinaryIO

from PIL import (
    GifImagePlugin,  # noqa: F401 - importing a plugin registers it, and only these four are needed
    Image,
    JpegImagePlugin,  # noqa: F401 - likewise
    PngImagePlugin,  # noqa: F401 - likewise
    WebPImagePlugin,  # noqa: F401 - likewise
)


def _load(name: str) -> Any:
    # With -I, a program cannot import its neighbours by name, and importing the package would load far more.
    spec = spec_from_file_location(name, __file__.removesuffix("decoder.py") + f"{name}.py")
    assert spec is not None and spec.loader is not None  # noqa: PT018, S101 - it has the name of a Python file
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


containers, layout, sandbox = _load("containers"), _load("layout"), _load("sandbox")

ADDRESS_SPACE_BYTES = 1 << 30
CPU_S = 10
"""CPU time for one picture, in seconds: three times the most expensive one measured. The parent limits wall-clock time."""

QUALITIES = (85, 40, 10)
"""JPEG qualities; a lower one is used only above one byte a pixel. Dense text takes half a byte, noise one and a half."""

_LENGTH = struct.Struct(">I")
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class TooManyPixels(Exception):
    """The picture exceeds the pixel limit."""


class OutOfMemory(Exception):
    """The picture does not fit into the address space."""


def render(
    data: bytes, *, image_format: str, max_pixels: int, long_edge_px: int, part_pixels: int = layout.PICTURE_PIXELS
) -> tuple[dict[str, Any], list[bytes]]:
    """Decode a picture and encode its parts.

    Returns:
        The reply's header without ``size``, and the parts as JPEG.

    Raises:
        TooManyPixels: by the picture's header.
        OutOfMemory: the picture does not fit.
        containers.Unsupported: by the picture's header.
        Exception: the picture is broken.
    """
    pixels = containers.webp_pixels(data) if image_format == "WEBP" else 0
    try:
        # Pillow allocates the canvas of a WebP when it opens it, so its header is read before that.
        if pixels > max_pixels:
            raise TooManyPixels
        found = containers.extract_image(data, image_format)
        with Image.open(io.BytesIO(found.data), formats=[image_format]) as image:
            pixels = image.width * image.height
            if pixels > max_pixels:
                raise TooManyPixels
            turn = _UPRIGHT.get(containers.orientation(found.exif or image.info.get("exif", b"")))
            return _encode(image, turn=turn, long_edge_px=long_edge_px, part_pixels=part_pixels)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise TooManyPixels from error
    except MemoryError as error:
        raise OutOfMemory from error
    except OSError as error:
        if "memory" in str(error) or not _fits(pixels):
            raise OutOfMemory from error
        raise


def _fits(pixels: int) -> bool:
    # libwebp reports a failed allocation as a broken file. It begins with two canvases of 4 bytes a pixel.
    try:
        bytearray(pixels * 8)
    except MemoryError:
        return False
    return True


def _encode(
    image: Image.Image, *, turn: Image.Transpose | None, long_edge_px: int, part_pixels: int
) -> tuple[dict[str, Any], list[bytes]]:
    image.load()
    flat = flatten(image)
    sideways = turn is not None and turn >= Image.Transpose.ROTATE_90 and turn != Image.Transpose.ROTATE_180
    width_px, height_px = flat.size[::-1] if sideways else flat.size
    plan = layout.plan(width_px, height_px, long_edge_px=long_edge_px, part_pixels=part_pixels)
    size = (plan.width_px, plan.height_px)
    # Scale first, then rotate: rotating the original would hold two copies of it.
    flat = flat.resize(size[::-1] if sideways else size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    if turn is not None:
        flat = flat.transpose(turn)
    pictures = [flat.crop(box) for box in plan.boxes]
    if plan.overview_px:
        pictures.insert(0, flat.resize(plan.overview_px, Image.Resampling.LANCZOS))
    parts = [_jpeg(picture) for picture in pictures]
    header = {
        "outcome": "ok",
        "width_px": width_px,
        "height_px": height_px,
        "truncated": plan.truncated,
        "tiled": plan.overview_px is not None,
        "parts": [
            {"size": len(part), "width_px": picture.width, "height_px": picture.height}
            for part, picture in zip(parts, pictures, strict=True)
        ],
    }
    return header, parts


def flatten(image: Image.Image) -> Image.Image:
    """Return the picture as 8-bit RGB: transparency on white, 16 bits scaled, CMYK and palettes converted.

    Colour profiles are ignored: legibility does not need them, and one parser fewer sees hostile bytes.
    """
    if image.mode.startswith("I"):
        # Pillow's conversion clips 16-bit grey at 255, which turns nearly everything white.
        return image.point(lambda value: value * (1 / 257)).convert("L").convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        canvas = Image.new("RGB", image.size, "white")
        canvas.paste(layer, mask=layer)
        return canvas
    return image.convert("RGB")


def _jpeg(part: Image.Image) -> bytes:
    part.info.clear()  # Pillow would carry a JPEG comment over
    coded = b""
    for quality in QUALITIES:
        sink = io.BytesIO()
        part.save(sink, format="JPEG", quality=quality, subsampling="4:4:4")
        coded = sink.getvalue()
        if len(coded) <= part.width * part.height + layout.JPEG_HEADER_BYTES:
            break
    return coded


def answer(header: dict[str, Any], data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """Return the reply to one request: the header without ``size``, and the parts."""
    try:
        return render(
            data,
            image_format=header["format"],
            max_pixels=header["max_pixels"],
            long_edge_px=header["long_edge_px"],
            part_pixels=header["part_pixels"],
        )
    except TooManyPixels:
        return {"outcome": "pixels"}, []
    except (OutOfMemory, MemoryError):
        return {"outcome": "memory"}, []
    except containers.Unsupported:
        return {"outcome": "unsupported"}, []
    except Exception:  # noqa: BLE001 - Pillow raises almost anything for broken files, and a new process is slow to start
        return {"outcome": "invalid"}, []


def read_frame(source: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """Return the next request, or None if the parent is gone."""
    length = source.read(_LENGTH.size)
    if len(length) < _LENGTH.size:
        return None
    header: dict[str, Any] = json.loads(source.read(_LENGTH.unpack(length)[0]))
    data = source.read(header["size"])
    return (header, data) if len(data) == header["size"] else None


def write_frame(sink: BinaryIO, header: dict[str, Any], parts: list[bytes]) -> None:
    """Send one frame."""
    head = json.dumps({**header, "size": sum(map(len, parts))}).encode()
    sink.write(b"".join([_LENGTH.pack(len(head)), head, *parts]))
    sink.flush()


def confine() -> None:
    """Give up what a decoder does not need: memory, files, processes, privileges, and the signals that stop a service."""
    sandbox.restrict()
    # If the machine runs out of memory, this process is killed first. A service may not see /proc.
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as sink:  # noqa: PTH123 - pathlib loads urllib
        sink.write("1000")
    _lower(resource.RLIMIT_AS, ADDRESS_SPACE_BYTES)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, 0)
    _lower(resource.RLIMIT_NPROC, 0)
    # Open descriptors stay open, and nothing can be opened from here on: no file, no socket, no module. Not 3, the number of
    # open descriptors: then closing one would allow opening another.
    _lower(resource.RLIMIT_NOFILE, 0)
    # The parent decides when to stop: it finishes its pictures first, then closes stdin, which ends this program.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def allow_cpu() -> None:
    """Give the next picture its CPU time; beyond it, SIGXCPU kills the program."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft_s = int(used.ru_utime + used.ru_stime) + CPU_S
    _, hard_s = resource.getrlimit(resource.RLIMIT_CPU)
    if hard_s != resource.RLIM_INFINITY:
        soft_s = min(soft_s, hard_s)
    resource.setrlimit(resource.RLIMIT_CPU, (soft_s, hard_s))


def _lower(limit: int, value: int) -> None:
    # The service itself may have a lower limit, which must not be raised.
    _, hard = resource.getrlimit(limit)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(limit, (value, value))


def main() -> None:
    """Serve until the parent closes stdin."""
    Image._initialized = 2  # noqa: SLF001 - otherwise Pillow searches for plugins at the first picture
    confine()
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    write_frame(sink, {}, [])
    while (request := read_frame(source)) is not None:
        header, data = request
        Image.MAX_IMAGE_PIXELS = header["max_pixels"]
        allow_cpu()
        write_frame(sink, *answer(header, data))
        del request, data  # free their memory before the next picture


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        os._exit(0)
