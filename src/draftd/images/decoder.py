"""The program of the helper process: one picture in, its JPEG parts out, until stdin ends.

Owns everything that uses Pillow and pi-heif. The parent never imports this module, but runs the file with ``python -I``; it
uses only the standard library and these two. Hostile bytes are expected to crash it. HEIC has a process for each
picture, started with the argument ``HEIF`` (docs/adr/0022); all other formats share one.

A frame, in both directions: the length of the header (4 bytes, big-endian), the header (JSON), then ``size`` bytes. The helper
sends an empty frame first, when it is ready. After that, each request
``{size, format, max_pixels, long_edge_px, part_pixels}`` is answered by one frame: ``{size, outcome: "ok", width_px,
height_px, truncated, tiled, one_of_several, parts: [{size, width_px, height_px}]}`` with the parts one after the other, or
by ``{size: 0, outcome}`` with ``invalid``, ``unsupported``, ``pixels`` or ``memory``.

Invariants: the limits are set before the first byte of a picture is read; Pillow gets only the pieces of a file that make up its
picture; output is always newly encoded, without metadata of the original.
"""

import _thread
import io
import json
import os
import resource
import signal
import struct
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any, BinaryIO

from PIL import (
    AvifImagePlugin,
    GifImagePlugin,  # noqa: F401 - importing a plugin registers it, and only these are needed
    Image,
    JpegImagePlugin,  # noqa: F401 - likewise
    PngImagePlugin,  # noqa: F401 - likewise
    TiffImagePlugin,  # noqa: F401 - reads the EXIF block of an AVIF, which turns it; no TIFF is opened
    WebPImagePlugin,  # noqa: F401 - likewise
)


def _load(name: str) -> Any:
    # With -I, a program cannot import its neighbours by name, and importing the package would load far more.
    spec = spec_from_file_location(name, __file__.removesuffix("decoder.py") + f"{name}.py")
    assert spec is not None and spec.loader is not None  # noqa: PT018, S101 - it has the name of a Python file
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


boxes, containers, hdr = _load("boxes"), _load("containers"), _load("hdr")
layout, sandbox = _load("layout"), _load("sandbox")

ADDRESS_SPACE_BYTES = 1 << 30
CPU_S = 10
"""CPU time for one picture, in seconds: three times the most expensive one measured. The parent limits wall-clock time."""

QUALITIES = (85, 40, 10)
"""JPEG qualities; a lower one is used only above one byte a pixel. Dense text takes half a byte, noise one and a half."""

BLANK_RANGE = 8
"""How far the values of a channel may lie apart in a frame that shows nothing; lossy formats make one colour several."""
OWN_PROCESS = "HEIF"
"""The format whose pictures have a process each, and the argument that it is started with."""

_BOXED = frozenset({"HEIF", "AVIF"})
_COUNTED = frozenset({"WEBP", "AVIF", "HEIF"})
"""Formats whose decoder counts the frames; of the others ``containers`` says whether there is a second one."""

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
    try:
        flat, turn, has_more = _shown(data, image_format, max_pixels=max_pixels)
        header, parts = _encode(flat, turn=turn, long_edge_px=long_edge_px, part_pixels=part_pixels)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise TooManyPixels from error
    except MemoryError as error:
        raise OutOfMemory from error
    return {**header, "one_of_several": has_more}, parts


def _shown(data: bytes, image_format: str, *, max_pixels: int) -> tuple[Image.Image, Image.Transpose | None, bool]:
    """Return what is shown of a file, how it has to be turned, and whether the file has more."""
    found = containers.extract_image(data, image_format)
    with _opened(found.data, image_format, max_pixels=max_pixels) as image:
        flat = flatten(image)
        turn = _UPRIGHT.get(containers.orientation(found.exif or image.info.get("exif") or b""))
        has_more = found.has_more or (image_format in _COUNTED and getattr(image, "is_animated", False))
    if has_more and is_blank(flat):
        with _opened(containers.frames(data, image_format), image_format, max_pixels=max_pixels) as image:
            flat = _first_that_shows_something(image, flat, most_pixels=max_pixels)
    if table := hdr.screen_table(boxes.transfer(data) if image_format in _BOXED else 0):
        flat = flat.point(table * len(flat.getbands()))
    return flat, turn, has_more


@contextmanager
def _opened(data: bytes, image_format: str, *, max_pixels: int) -> Iterator[Image.Image]:
    pixels = _claimed_pixels(data, image_format)
    try:
        if pixels > max_pixels:
            raise TooManyPixels
        if image_format == OWN_PROCESS:
            _expect_threads()
        with Image.open(io.BytesIO(data), formats=[image_format]) as image:
            pixels = max(pixels, image.width * image.height)
            if pixels > max_pixels:
                raise TooManyPixels
            yield image
    except (SyntaxError, RuntimeError) as error:
        raise (_translated(error) if image_format == OWN_PROCESS else error) from error
    except OSError as error:
        if "memory" in str(error) or not _fits(pixels):
            raise OutOfMemory from error
        raise


def _translated(error: SyntaxError | RuntimeError) -> Exception:
    # pi-heif has no classes of its own for what libheif says.
    said = str(error)
    if "Memory allocation" in said:
        return OutOfMemory()
    return containers.Unsupported() if "Unsupported" in said or "not been built in" in said else error


def _claimed_pixels(data: bytes, image_format: str) -> int:
    """Return the pixels that a decoder would make room for before Pillow tells a size, or beyond it."""
    if image_format == "WEBP":
        return int(containers.webp_pixels(data))
    return int(boxes.most_pixels(data)) if image_format in _BOXED else 0


def _expect_threads() -> None:
    # libheif's decoder has one of its own, and ends the process if it cannot: where the kernel has no filter (images.sandbox),
    # the limit of processes forbids it.
    try:
        _thread.start_new_thread(int, ())
    except RuntimeError as error:
        raise containers.Unsupported from error


def _first_that_shows_something(image: Image.Image, first: Image.Image, *, most_pixels: int) -> Image.Image:
    """Return the first frame that is not blank, of as many as have ``most_pixels`` together; else the first one."""
    further = min(getattr(image, "n_frames", 1), containers.MAX_FRAMES, 1 + most_pixels // (image.width * image.height))
    for number in range(1, further):
        image.seek(number)
        flat = flatten(image)
        if not is_blank(flat):
            return flat
    return first


def is_blank(picture: Image.Image) -> bool:
    """Return whether a picture, in RGB, is of one colour."""
    return all(high - low <= BLANK_RANGE for low, high in picture.getextrema())  # type: ignore[misc]  # a pair for each band


def _fits(pixels: int) -> bool:
    # libwebp reports a failed allocation as a broken file. It begins with two canvases of 4 bytes a pixel.
    try:
        bytearray(pixels * 8)
    except MemoryError:
        return False
    return True


def _encode(
    flat: Image.Image, *, turn: Image.Transpose | None, long_edge_px: int, part_pixels: int
) -> tuple[dict[str, Any], list[bytes]]:
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
    image.load()
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


def confine(*, threads: bool = False) -> None:
    """Give up what a decoder does not need: memory, files, processes, privileges, and the signals that stop a service."""
    refuses = sandbox.restrict(threads=threads)
    # If the machine runs out of memory, this process is killed first. A service may not see /proc.
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as sink:  # noqa: PTH123 - pathlib loads urllib
        sink.write("1000")
    _lower(resource.RLIMIT_AS, ADDRESS_SPACE_BYTES)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, 0)
    # This limit counts threads as well. Where the kernel refuses to start a process, a decoder may have them.
    if not (threads and refuses):
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
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    has_heic = OWN_PROCESS in sys.argv
    if has_heic:
        from pi_heif import register_heif_opener  # noqa: PLC0415 - no other picture shares a process with it

        register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=0)
    confine(threads=has_heic)
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
