"""The program of the helper process: one picture in, its JPEG parts out, until stdin ends.

Owns everything that touches Pillow. The parent never imports this module; it starts the file with ``python -I``, and
only the standard library and Pillow are used. Hostile bytes are expected to crash it.

A frame, in both directions: the length of the header (4 bytes, big-endian), the header (JSON), then as many bytes as
its ``size`` says. The helper speaks first, with an empty frame, when it is ready. After that each request
``{size, format, max_pixels, long_edge_px, part_pixels}`` is answered by one frame: ``{size, outcome: "ok", width_px,
height_px, truncated, tiled, parts: [{size, width_px, height_px}]}`` with the parts one after the other, or by ``{size: 0,
outcome}`` with ``invalid``, ``unsupported``, ``pixels`` or ``memory``.

Invariants: the limits stand before the first byte of a picture is read; Pillow gets only those pieces of a file that
make up its picture; what leaves is always newly encoded, without metadata of the original.
"""

import io
import json
import math
import os
import resource
import signal
import struct
import sys
import warnings
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any, BinaryIO

from PIL import (
    GifImagePlugin,  # noqa: F401 - importing a plugin registers it, and these four are all that is needed
    Image,
    JpegImagePlugin,  # noqa: F401 - likewise
    PngImagePlugin,  # noqa: F401 - likewise
    WebPImagePlugin,  # noqa: F401 - likewise
)


def _load(name: str) -> Any:
    # An isolated program does not find what stands beside it by name, and the package around it loads far more.
    spec = spec_from_file_location(name, __file__.removesuffix("decoder.py") + f"{name}.py")
    assert spec is not None and spec.loader is not None  # noqa: PT018, S101 - it has the name of a Python file
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


containers, kernel = _load("containers"), _load("kernel")

ADDRESS_SPACE_BYTES = 1 << 30
CPU_S = 10
"""Processor time for one picture, in seconds, three times what the dearest that was measured took; the clock is the parent's."""

QUALITIES = (85, 40, 10)
"""Of the JPEG; a lower one only for what takes more than a byte a pixel. Dense text takes a half, noise one and a half."""
JPEG_HEADER_BYTES = 1024

MAX_ASPECT = 2.5
SLICE_WIDTH_PX = 768
MIN_SLICE_WIDTH_PX = 512
WIDE_PAGE_PX = 1320
"""Wider than the screen of any iPhone: the page of a desktop, whose text is smaller for its width."""
WIDE_SLICE_WIDTH_PX = 1088
WIDTH_STEP_PX = 64
SLICE_HEIGHT_PX = 1536
SLICE_PIXELS = 768 * 1536
"""What Claude does not scale down; so a wider slice is less tall. Of tiles, too."""
OVERLAP_PX = 128
MAX_SLICES = 6
SCREEN_ASPECT = 1.5
"""Screens are wider than this, and photographs are not."""
WHOLE_SCALE = 0.5
TILE_SCALE = 0.65
GRIDS = ((2, 1), (3, 1), (2, 2), (4, 1))
"""Columns and rows, the cheapest first."""

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
    """The picture is over the limit of pixels."""


class OutOfMemory(Exception):
    """The picture does not fit into the address space."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a picture is shown to the model."""

    width_px: int
    height_px: int
    """Of the whole picture after scaling."""
    slices: tuple[tuple[int, int], ...]
    """Top and bottom of each row of parts, in scaled pixels, from top to bottom."""
    truncated: bool
    columns: tuple[tuple[int, int], ...] = ()
    """Left and right of each part of a row, likewise; empty for one that is as wide as the picture."""
    overview_px: tuple[int, int] | None = None
    """Width and height of the whole picture as a part of its own, before its tiles."""

    @property
    def boxes(self) -> list[tuple[int, int, int, int]]:
        """Left, top, right and bottom of each part but the overview, row by row from left to right."""
        columns = self.columns or ((0, self.width_px),)
        return [(left, top, right, bottom) for top, bottom in self.slices for left, right in columns]


def plan(width_px: int, height_px: int, *, long_edge_px: int = 1568, part_pixels: int = sys.maxsize) -> Plan:
    """Decide the scale and the parts of a picture.

    Models scale what is larger than about 1,568 px down: a scrolling capture of 1170x8000 sent whole keeps text of
    10 px, sliced it keeps 33 px. What other values would do is measured in ``docs/images.md``.

    Args:
        width_px: 1 or more, after orientation.
        height_px: likewise.
        long_edge_px: for a picture that is sent whole.
        part_pixels: likewise; slices and tiles have 768 x 1536 at most.

    Returns:
        One part for anything up to 2.5 times as tall as wide; of a screen so wide that half its size would be lost also up
        to four overlapping tiles. Else up to 6 overlapping slices, as wide as they may be to show all of it; of a
        picture that is too long even for narrow ones the first slice and the last five.
    """
    if height_px <= MAX_ASPECT * width_px:
        is_wide = width_px >= SCREEN_ASPECT * height_px and long_edge_px < WHOLE_SCALE * width_px
        original = width_px, height_px
        scale = min(1.0, long_edge_px / max(width_px, height_px), math.sqrt(part_pixels / (width_px * height_px)))
        width_px = _scaled(width_px, scale)
        height_px = min(_scaled(height_px, scale), max(1, part_pixels // width_px))  # rounding may have gone beyond
        whole = Plan(width_px=width_px, height_px=height_px, slices=((0, height_px),), truncated=False)
        return _tiled(*original, whole=whole, long_edge_px=long_edge_px) if is_wide else whole
    widest, narrowest = (
        (SLICE_WIDTH_PX, MIN_SLICE_WIDTH_PX) if width_px <= WIDE_PAGE_PX else (WIDE_SLICE_WIDTH_PX, SLICE_WIDTH_PX)
    )
    layout = _sliced(width_px, height_px, widest)
    for slice_width_px in range(widest - WIDTH_STEP_PX, narrowest - 1, -WIDTH_STEP_PX):
        if not layout.truncated:
            break
        layout = _sliced(width_px, height_px, slice_width_px)
    return layout


def _tiled(width_px: int, height_px: int, *, whole: Plan, long_edge_px: int) -> Plan:
    """Lay the cheapest grid that keeps two thirds of the size, or the one that keeps most, beside the whole.

    The whole shows what stands where, and lines that the grid cuts; on a screen of twice the density it can be read.
    """

    def scale_of(grid: tuple[int, int]) -> float:
        across, down = grid
        scale = min(
            1.0,
            (long_edge_px * across - OVERLAP_PX * (across - 1)) / width_px,
            (long_edge_px * down - OVERLAP_PX * (down - 1)) / height_px,
        )
        # Whole pixels are asked for: a tile is longer than its share by up to one and a half of them.
        while (
            pixels := _piece_px(_scaled(width_px, scale), across) * _piece_px(_scaled(height_px, scale), down)
        ) > SLICE_PIXELS:
            scale *= 0.999 * math.sqrt(SLICE_PIXELS / pixels)
        return scale

    grid = next((one for one in GRIDS if scale_of(one) >= TILE_SCALE), None) or max(GRIDS, key=scale_of)
    scale = scale_of(grid)
    width_px, height_px = _scaled(width_px, scale), _scaled(height_px, scale)
    return Plan(
        width_px=width_px,
        height_px=height_px,
        slices=_cut(height_px, grid[1]),
        truncated=False,
        columns=_cut(width_px, grid[0]),
        overview_px=(whole.width_px, whole.height_px),
    )


def _piece_px(length_px: int, count: int) -> int:
    """Return how long each of ``count`` overlapping pieces of a length is; the last may be shorter."""
    return math.ceil((length_px + (count - 1) * OVERLAP_PX) / count)


def _cut(length_px: int, count: int) -> tuple[tuple[int, int], ...]:
    """Cut evenly: a last piece of a few lines would be scaled and billed like a full one and show no context."""
    piece_px = _piece_px(length_px, count)
    starts = [number * (piece_px - OVERLAP_PX) for number in range(count)]
    return tuple((start, min(start + piece_px, length_px)) for start in starts)


def _sliced(width_px: int, height_px: int, slice_width_px: int) -> Plan:
    scale = min(1.0, slice_width_px / width_px)
    width_px, height_px = _scaled(width_px, scale), _scaled(height_px, scale)
    slices, truncated = _slices(height_px, tallest_px=min(SLICE_HEIGHT_PX, SLICE_PIXELS // width_px))
    return Plan(width_px=width_px, height_px=height_px, slices=slices, truncated=truncated)


def _scaled(edge_px: int, scale: float) -> int:
    return max(1, round(edge_px * scale))


def _slices(height_px: int, *, tallest_px: int) -> tuple[tuple[tuple[int, int], ...], bool]:
    step_px = tallest_px - OVERLAP_PX
    count = max(1, -(-(height_px - OVERLAP_PX) // step_px))
    if count > MAX_SLICES:
        first_top_px = height_px - tallest_px - (MAX_SLICES - 2) * step_px
        tops = [0, *range(first_top_px, height_px - OVERLAP_PX, step_px)]
        return tuple((top, top + tallest_px) for top in tops), True
    return _cut(height_px, count), False


def render(
    data: bytes, *, image_format: str, max_pixels: int, long_edge_px: int, part_pixels: int = sys.maxsize
) -> tuple[dict[str, Any], list[bytes]]:
    """Decode a picture and encode its parts.

    Returns:
        The answer's header without ``size``, and the parts as JPEG.

    Raises:
        TooManyPixels: decided from the header.
        OutOfMemory: it did not fit.
        containers.Unsupported: decided from the header.
        Exception: the picture is broken.
    """
    pixels = containers.webp_pixels(data) if image_format == "WEBP" else 0
    try:
        # Pillow allocates the canvas of a WebP when it opens it, so its header is read before that.
        if pixels > max_pixels:
            raise TooManyPixels
        found = containers.essence(data, image_format)
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
    # libwebp reports a failed allocation like a broken file. Its first wish is two canvases of 4 bytes a pixel.
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
    layout = plan(width_px, height_px, long_edge_px=long_edge_px, part_pixels=part_pixels)
    size = (layout.width_px, layout.height_px)
    # Scaled first and turned then: turning the original would hold two of it.
    flat = flat.resize(size[::-1] if sideways else size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    if turn is not None:
        flat = flat.transpose(turn)
    pictures = [flat.crop(box) for box in layout.boxes]
    if layout.overview_px:
        pictures.insert(0, flat.resize(layout.overview_px, Image.Resampling.LANCZOS))
    parts = [_jpeg(picture) for picture in pictures]
    header = {
        "outcome": "ok",
        "width_px": width_px,
        "height_px": height_px,
        "truncated": layout.truncated,
        "tiled": layout.overview_px is not None,
        "parts": [
            {"size": len(part), "width_px": picture.width, "height_px": picture.height}
            for part, picture in zip(parts, pictures, strict=True)
        ],
    }
    return header, parts


def flatten(image: Image.Image) -> Image.Image:
    """Return the picture as 8-bit RGB: transparency on white, 16 bits scaled, CMYK and palettes converted.

    Colour profiles are ignored: text stays as legible, and one parser less sees hostile bytes.
    """
    if image.mode.startswith("I"):
        # Pillow clips 16-bit grey at 255 when it converts, which turns nearly everything white.
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
        if len(coded) <= part.width * part.height + JPEG_HEADER_BYTES:
            break
    return coded


def answer(header: dict[str, Any], data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """Return what is said about one request: the header without ``size``, and the parts."""
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
    except Exception:  # noqa: BLE001 - Pillow raises nearly anything at broken files, and a new process is dear
        return {"outcome": "invalid"}, []


def read_frame(source: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """Return the next request, or None when the parent has gone."""
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
    kernel.promise()
    # If the machine runs out of memory, this process is the one to go. A service may see no /proc.
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as sink:  # noqa: PTH123 - pathlib loads urllib
        sink.write("1000")
    _lower(resource.RLIMIT_AS, ADDRESS_SPACE_BYTES)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, 0)
    _lower(resource.RLIMIT_NPROC, 0)
    # What is open stays open, and nothing else can be from here on: no file, no socket, no module. Not 3, the number of what
    # is open: then whoever closes one of them could open something in its place.
    _lower(resource.RLIMIT_NOFILE, 0)
    # A stop is the parent's decision: it finishes its pictures first, and the end of stdin ends this program.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def allow_cpu() -> None:
    """Let the next picture use its share of processor time; beyond it SIGXCPU ends the program."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft_s = int(used.ru_utime + used.ru_stime) + CPU_S
    _, hard_s = resource.getrlimit(resource.RLIMIT_CPU)
    if hard_s != resource.RLIM_INFINITY:
        soft_s = min(soft_s, hard_s)
    resource.setrlimit(resource.RLIMIT_CPU, (soft_s, hard_s))


def _lower(limit: int, value: int) -> None:
    # The service itself may run under a tighter limit, and raising one is not allowed.
    _, hard = resource.getrlimit(limit)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(limit, (value, value))


def main() -> None:
    """Serve until the parent closes stdin."""
    Image._initialized = 2  # noqa: SLF001 - or Pillow looks for plugins at the first picture
    confine()
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    write_frame(sink, {}, [])
    while (request := read_frame(source)) is not None:
        header, data = request
        Image.MAX_IMAGE_PIXELS = header["max_pixels"]
        allow_cpu()
        write_frame(sink, *answer(header, data))
        del request, data  # the next picture needs the room


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        os._exit(0)
