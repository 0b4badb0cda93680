from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from draftd.images.layout import plan
from tables import per_row

EDGE_PX = st.integers(1, 60_000)


@per_row(
    ("original", "scaled"),
    [
        ((800, 600), (800, 600)),
        ((1568, 1568), (1568, 1568)),
        ((3136, 1764), (1568, 882)),
        ((4000, 3000), (1568, 1176)),
        ((1170, 2532), (725, 1568)),
        ((1000, 2500), (627, 1568)),
    ],
)
def test_up_to_two_and_a_half_to_one_is_one_picture(original: tuple[int, int], scaled: tuple[int, int]) -> None:
    shown = plan(*original)

    assert (shown.width_px, shown.height_px) == scaled
    assert shown.slices == ((0, scaled[1]),)
    assert not shown.truncated


@per_row(
    ("original", "columns", "rows", "scale"),
    [
        ((3840, 1080), 2, 1, 0.74),
        ((3440, 1440), 2, 1, 0.67),
        ((5120, 1440), 3, 1, 0.67),
        ((3840, 2160), 2, 2, 0.71),
        ((5120, 2880), 2, 2, 0.53),
        ((60_000, 1), 4, 1, 0.10),
    ],
)
def test_a_screen_too_wide_to_be_read_whole_is_tiled(
    original: tuple[int, int], columns: int, rows: int, scale: float
) -> None:
    shown = plan(*original)

    assert (len(shown.columns), len(shown.slices)) == (columns, rows)
    assert shown.overview_px == (1568, max(1, round(original[1] * 1568 / original[0])))
    assert shown.width_px / original[0] == pytest.approx(scale, abs=0.01)
    assert len(shown.boxes) == columns * rows
    assert shown.boxes[0][:2] == (0, 0)
    assert shown.boxes[-1][2:] == (shown.width_px, shown.height_px)


def test_tiles_come_row_by_row_and_overlap() -> None:
    boxes = plan(3840, 2160).boxes

    assert [(left > 0, top > 0) for left, top, _, _ in boxes] == [
        (False, False),
        (True, False),
        (False, True),
        (True, True),
    ]
    assert boxes[0][2] - boxes[1][0] == 128
    assert boxes[0][3] - boxes[2][1] == 128


def test_with_a_longer_edge_a_wide_screen_is_sent_whole() -> None:
    assert len(plan(3840, 2160, long_edge_px=2576).boxes) == 1


@per_row(
    ("original", "width_px", "count", "truncated"),
    [
        ((1000, 2501), 768, 2, False),
        ((400, 1500), 400, 1, False),
        ((600, 1536), 600, 1, False),
        ((600, 1537), 600, 2, False),
        ((1170, 8000), 768, 4, False),
        ((768, 8576), 768, 6, False),
        ((1, 60_000), 1, 6, True),
    ],
)
def test_a_taller_picture_is_sliced(original: tuple[int, int], width_px: int, count: int, *, truncated: bool) -> None:
    shown = plan(*original)

    assert (shown.width_px, len(shown.slices), shown.truncated) == (width_px, count, truncated)


def test_a_very_long_picture_keeps_its_first_slice_and_its_last_five() -> None:
    shown = plan(512, 20_000)

    assert shown.slices[0] == (0, 1536)
    assert shown.slices[1:] == tuple((20_000 - 1536 - n * 1408, 20_000 - n * 1408) for n in range(4, -1, -1))


@per_row(
    ("original", "width_px", "truncated"),
    [
        ((768, 8577), 704, False),
        ((1170, 15_999), 576, False),
        ((1170, 19_597), 512, False),
        ((1170, 19_605), 512, True),
        ((500, 8577), 500, True),
    ],
)
def test_a_long_capture_becomes_narrower_before_anything_is_left_out(
    original: tuple[int, int], width_px: int, *, truncated: bool
) -> None:
    shown = plan(*original)

    assert (shown.width_px, shown.truncated) == (width_px, truncated)


@per_row(
    ("original", "width_px", "count", "truncated"),
    [
        ((1320, 4500), 768, 2, False),
        ((1321, 4500), 1088, 4, False),
        ((2880, 9000), 1088, 4, False),
        ((1440, 8000), 1024, 6, False),
        ((1440, 16_000), 768, 6, False),
        ((1440, 17_000), 768, 6, True),
    ],
)
def test_a_tall_page_of_a_desktop_keeps_wider_slices_while_all_of_it_fits(
    original: tuple[int, int], width_px: int, count: int, *, truncated: bool
) -> None:
    shown = plan(*original)

    assert (shown.width_px, len(shown.slices), shown.truncated) == (width_px, count, truncated)


@given(width_px=st.integers(600, 20_000), height_px=EDGE_PX)
def test_no_slice_is_larger_than_what_claude_leaves_as_it_is(width_px: int, height_px: int) -> None:
    shown = plan(width_px, max(height_px, 3 * width_px))

    assert all(-(-shown.width_px // 28) * -(-(bottom - top) // 28) <= 1568 for top, bottom in shown.slices)


def test_the_long_edge_is_a_setting() -> None:
    assert plan(2000, 1000, long_edge_px=1000).width_px == 1000


@example(width_px=5946, height_px=1945, part_pixels=768 * 1536 + 5)  # its tiles had a line of pixels too many
@given(width_px=EDGE_PX, height_px=st.integers(1, 150_000), part_pixels=st.integers(768 * 1536, 3_000_000))
def test_no_part_has_more_pixels_than_it_may(width_px: int, height_px: int, part_pixels: int) -> None:
    shown = plan(width_px, height_px, part_pixels=part_pixels)

    assert all((right - left) * (bottom - top) <= part_pixels for left, top, right, bottom in shown.boxes)


@example(width_px=8_000, height_px=5_000, long_edge_px=8_192)
@example(width_px=9_000, height_px=4_500, long_edge_px=4_000)
@given(width_px=EDGE_PX, height_px=st.integers(1, 150_000), long_edge_px=st.integers(256, 8_192))
def test_the_parts_of_a_picture_are_six_slices_at_most(width_px: int, height_px: int, long_edge_px: int) -> None:
    """Which is what a request has room for."""
    shown = plan(width_px, height_px, long_edge_px=long_edge_px, part_pixels=12 * 768 * 1536)
    sizes = [(right - left, bottom - top) for left, top, right, bottom in shown.boxes]
    if shown.overview_px:
        sizes.append(shown.overview_px)

    assert len(sizes) <= 6
    assert sum(width * height for width, height in sizes) <= 6 * 768 * 1536


@given(width_px=st.integers(600, 40_000), height_px=st.integers(1, 10_000), long_edge_px=st.integers(256, 8_192))
def test_a_tile_shows_more_than_the_whole(width_px: int, height_px: int, long_edge_px: int) -> None:
    shown = plan(width_px, height_px, long_edge_px=long_edge_px)

    assert shown.overview_px is None or shown.width_px >= 1.2 * shown.overview_px[0]


def test_a_picture_that_may_have_fewer_pixels_keeps_its_shape() -> None:
    shown = plan(3_000, 2_000, part_pixels=1_500_000)

    assert (shown.width_px, shown.height_px) == (1_500, 1_000)


@given(width_px=EDGE_PX, height_px=EDGE_PX)
def test_slices_cover_what_is_not_truncated_and_overlap(width_px: int, height_px: int) -> None:
    shown = plan(width_px, height_px)
    tops, bottoms = zip(*shown.slices, strict=True)

    assert shown.width_px <= max(width_px, 1)
    assert shown.height_px <= max(height_px, 1)
    assert 1 <= len(shown.slices) <= 6
    assert (tops[0], bottoms[-1]) == (0, shown.height_px)
    assert all(0 < bottom - top <= 1568 for top, bottom in shown.slices)
    if not shown.truncated:
        assert all(after[0] == before[1] - 128 for before, after in pairwise(shown.slices))
