"""Chooses how a picture is presented to the model, its scale and its parts, from its size alone.

Owns the size policy and its constants, which come from the measurements in ``docs/images.md``. Runs in the helper process, and so
uses only the standard library; the daemon imports the limits to reserve memory.

Invariants: a slice or tile has at most ``SLICE_PIXELS``, counted in whole pixels; a picture has at most ``MAX_SLICES`` parts with
at most ``PICTURE_PIXELS`` in total, whatever the long edge.
"""

import math
from dataclasses import dataclass

MAX_ASPECT = 2.5
SLICE_WIDTH_PX = 768
MIN_SLICE_WIDTH_PX = 512
WIDE_PAGE_PX = 1320
"""Wider than any iPhone's screen: a desktop page, whose text is smaller relative to its width."""
WIDE_SLICE_WIDTH_PX = 1088
WIDTH_STEP_PX = 64
SLICE_HEIGHT_PX = 1536
SLICE_PIXELS = 768 * 1536
"""The largest picture that Claude does not scale down, so a wider slice is less tall. Also the limit for tiles."""
OVERLAP_PX = 128
MAX_SLICES = 6
PICTURE_PIXELS = MAX_SLICES * SLICE_PIXELS
JPEG_HEADER_BYTES = 1024
"""How much a part may exceed one byte a pixel."""
SCREEN_ASPECT = 1.5
"""Screens are wider than this; photographs are not."""
WHOLE_SCALE = 0.5
TILE_SCALE = 0.65
GRIDS = ((2, 1), (3, 1), (2, 2), (4, 1))
"""Columns and rows, cheapest first."""
OVERVIEW_PIXELS = PICTURE_PIXELS - max(across * down for across, down in GRIDS) * SLICE_PIXELS


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The scale and the parts of a picture."""

    width_px: int
    height_px: int
    """Of the whole picture after scaling."""
    slices: tuple[tuple[int, int], ...]
    """Top and bottom of each row of parts, in scaled pixels, from top to bottom."""
    truncated: bool
    columns: tuple[tuple[int, int], ...] = ()
    """Left and right of each part of a row, in scaled pixels; empty for a single part as wide as the picture."""
    overview_px: tuple[int, int] | None = None
    """Width and height of the whole picture as an additional first part."""

    @property
    def boxes(self) -> list[tuple[int, int, int, int]]:
        """Left, top, right and bottom of each part but the overview, row by row from left to right."""
        columns = self.columns or ((0, self.width_px),)
        return [(left, top, right, bottom) for top, bottom in self.slices for left, right in columns]


def plan(width_px: int, height_px: int, *, long_edge_px: int = 1568, part_pixels: int = PICTURE_PIXELS) -> Layout:
    """Choose the scale and the parts of a picture.

    Models scale pictures above about 1,568 px down: in a scrolling capture of 1170x8000, text shrinks to 10 px if it is sent
    whole, but only to 33 px if sliced. ``docs/images.md`` compares other values.

    Args:
        width_px: 1 or more, after orientation.
        height_px: likewise.
        long_edge_px: maximum long edge of a picture that is sent whole.
        part_pixels: maximum size of such a picture, up to ``PICTURE_PIXELS``; slices and tiles have at most 768 x 1536.

    Returns:
        One part for anything up to 2.5 times as tall as wide, plus up to four overlapping tiles for a screen that would be scaled
        below half its size. Otherwise up to 6 overlapping slices, as wide as possible while showing the whole picture; if it is
        too long even for narrow slices, the first slice and the last five.
    """
    if height_px <= MAX_ASPECT * width_px:
        is_wide = width_px >= SCREEN_ASPECT * height_px and long_edge_px < WHOLE_SCALE * width_px
        most_pixels = min(part_pixels, OVERVIEW_PIXELS if is_wide else PICTURE_PIXELS)
        whole = _whole(width_px, height_px, long_edge_px=long_edge_px, most_pixels=most_pixels)
        return _tiled(width_px, height_px, whole=whole, long_edge_px=long_edge_px) if is_wide else whole
    widest, narrowest = (
        (SLICE_WIDTH_PX, MIN_SLICE_WIDTH_PX) if width_px <= WIDE_PAGE_PX else (WIDE_SLICE_WIDTH_PX, SLICE_WIDTH_PX)
    )
    sliced = _sliced(width_px, height_px, widest)
    for slice_width_px in range(widest - WIDTH_STEP_PX, narrowest - 1, -WIDTH_STEP_PX):
        if not sliced.truncated:
            break
        sliced = _sliced(width_px, height_px, slice_width_px)
    return sliced


def _whole(width_px: int, height_px: int, *, long_edge_px: int, most_pixels: int) -> Layout:
    scale = min(1.0, long_edge_px / max(width_px, height_px), math.sqrt(most_pixels / (width_px * height_px)))
    width_px = _scaled(width_px, scale)
    height_px = min(_scaled(height_px, scale), max(1, most_pixels // width_px))  # rounding may exceed it
    return Layout(width_px=width_px, height_px=height_px, slices=((0, height_px),), truncated=False)


def _tiled(width_px: int, height_px: int, *, whole: Layout, long_edge_px: int) -> Layout:
    """Add tiles to the whole: the cheapest grid that keeps two thirds of the size, or the one that keeps most.

    The whole shows the arrangement, and lines that the grid cuts; at double pixel density it is legible by itself.
    """

    def scale_of(grid: tuple[int, int]) -> float:
        across, down = grid
        scale = min(
            1.0,
            (long_edge_px * across - OVERLAP_PX * (across - 1)) / width_px,
            (long_edge_px * down - OVERLAP_PX * (down - 1)) / height_px,
        )
        # Rounding to whole pixels makes a tile up to one and a half pixels longer than its share.
        while (
            pixels := _piece_px(_scaled(width_px, scale), across) * _piece_px(_scaled(height_px, scale), down)
        ) > SLICE_PIXELS:
            scale *= 0.999 * math.sqrt(SLICE_PIXELS / pixels)
        return scale

    grid = next((one for one in GRIDS if scale_of(one) >= TILE_SCALE), None) or max(GRIDS, key=scale_of)
    scale = scale_of(grid)
    width_px, height_px = _scaled(width_px, scale), _scaled(height_px, scale)
    return Layout(
        width_px=width_px,
        height_px=height_px,
        slices=_cut(height_px, grid[1]),
        truncated=False,
        columns=_cut(width_px, grid[0]),
        overview_px=(whole.width_px, whole.height_px),
    )


def _piece_px(length_px: int, count: int) -> int:
    """Return the length of each of ``count`` overlapping pieces; the last may be shorter."""
    return math.ceil((length_px + (count - 1) * OVERLAP_PX) / count)


def _cut(length_px: int, count: int) -> tuple[tuple[int, int], ...]:
    """Divide evenly: a last piece of a few lines would cost as much as a full one and show no context."""
    piece_px = _piece_px(length_px, count)
    starts = [number * (piece_px - OVERLAP_PX) for number in range(count)]
    return tuple((start, min(start + piece_px, length_px)) for start in starts)


def _sliced(width_px: int, height_px: int, slice_width_px: int) -> Layout:
    scale = min(1.0, slice_width_px / width_px)
    width_px, height_px = _scaled(width_px, scale), _scaled(height_px, scale)
    slices, truncated = _slices(height_px, tallest_px=min(SLICE_HEIGHT_PX, SLICE_PIXELS // width_px))
    return Layout(width_px=width_px, height_px=height_px, slices=slices, truncated=truncated)


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
