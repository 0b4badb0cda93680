from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from draftd.errors import ImageInvalid, ImageUnsupported
from draftd.images.decoder import TooManyPixels, render
from draftd.images.layout import plan
from draftd.images.prepare import sniff
from fix_images import encoded, make_picture

EDGE_PX = st.integers(1, 60_000)


@pytest.mark.parametrize(
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
    layout = plan(*original)

    assert (layout.width_px, layout.height_px) == scaled
    assert layout.slices == ((0, scaled[1]),)
    assert not layout.truncated


@pytest.mark.parametrize(
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
    layout = plan(*original)

    assert (len(layout.columns), len(layout.slices)) == (columns, rows)
    assert layout.overview_px == (1568, max(1, round(original[1] * 1568 / original[0])))
    assert layout.width_px / original[0] == pytest.approx(scale, abs=0.01)
    assert len(layout.boxes) == columns * rows
    assert layout.boxes[0][:2] == (0, 0)
    assert layout.boxes[-1][2:] == (layout.width_px, layout.height_px)


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


@pytest.mark.parametrize(
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
    layout = plan(*original)

    assert (layout.width_px, len(layout.slices), layout.truncated) == (width_px, count, truncated)


def test_a_very_long_picture_keeps_its_first_slice_and_its_last_five() -> None:
    layout = plan(512, 20_000)

    assert layout.slices[0] == (0, 1536)
    assert layout.slices[1:] == tuple((20_000 - 1536 - n * 1408, 20_000 - n * 1408) for n in range(4, -1, -1))


@pytest.mark.parametrize(
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
    layout = plan(*original)

    assert (layout.width_px, layout.truncated) == (width_px, truncated)


@pytest.mark.parametrize(
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
    layout = plan(*original)

    assert (layout.width_px, len(layout.slices), layout.truncated) == (width_px, count, truncated)


@given(width_px=st.integers(600, 20_000), height_px=EDGE_PX)
def test_no_slice_is_larger_than_what_claude_leaves_as_it_is(width_px: int, height_px: int) -> None:
    layout = plan(width_px, max(height_px, 3 * width_px))

    assert all(-(-layout.width_px // 28) * -(-(bottom - top) // 28) <= 1568 for top, bottom in layout.slices)


def test_the_long_edge_is_a_setting() -> None:
    assert plan(2000, 1000, long_edge_px=1000).width_px == 1000


@example(width_px=5946, height_px=1945, part_pixels=768 * 1536 + 5)  # its tiles had a line of pixels too many
@given(width_px=EDGE_PX, height_px=st.integers(1, 150_000), part_pixels=st.integers(768 * 1536, 3_000_000))
def test_no_part_has_more_pixels_than_it_may(width_px: int, height_px: int, part_pixels: int) -> None:
    layout = plan(width_px, height_px, part_pixels=part_pixels)

    assert all((right - left) * (bottom - top) <= part_pixels for left, top, right, bottom in layout.boxes)
    assert len(layout.boxes) + (layout.overview_px is not None) <= 6


def test_a_picture_that_may_have_fewer_pixels_keeps_its_shape() -> None:
    layout = plan(3_000, 2_000, part_pixels=1_500_000)

    assert (layout.width_px, layout.height_px) == (1_500, 1_000)


@given(width_px=EDGE_PX, height_px=EDGE_PX)
def test_slices_cover_what_is_not_truncated_and_overlap(width_px: int, height_px: int) -> None:
    layout = plan(width_px, height_px)
    tops, bottoms = zip(*layout.slices, strict=True)

    assert layout.width_px <= max(width_px, 1)
    assert layout.height_px <= max(height_px, 1)
    assert 1 <= len(layout.slices) <= 6
    assert (tops[0], bottoms[-1]) == (0, layout.height_px)
    assert all(0 < bottom - top <= 1568 for top, bottom in layout.slices)
    if not layout.truncated:
        assert all(after[0] == before[1] - 128 for before, after in pairwise(layout.slices))


def test_a_webp_with_too_many_pixels_is_refused_before_a_decoder_sees_it() -> None:
    header_only = encoded(make_picture(301, 17), "WEBP")[:30]

    with pytest.raises(TooManyPixels):
        render(header_only, image_format="WEBP", max_pixels=301 * 17 - 1, long_edge_px=1568)


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "GIF"])
def test_accepted_formats_are_known_by_their_magic_bytes(image_format: str) -> None:
    assert sniff(encoded(make_picture(), image_format)) == image_format


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x20ftypavif\0\0\0\0", "AVIF"),
        (b"\0\0\0\x20ftypheic\0\0\0\0", "HEIC"),
        (b"BM\x36\0\0\0", "BMP"),
        (b"II*\0\x08\0\0\0", "TIFF"),
        (b"MM\0*\0\0\0\x08", "TIFF"),
        (b"\0\0\1\0\1\0", "ICO"),
        (b"8BPS\0\1", "PSD"),
        (b"\xff\x0a\0", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\xef\xbb\xbf <?xml version='1.0'?><!-- x --><SVG/>", "SVG"),
    ],
)
def test_another_kind_of_image_is_named(data: bytes, name: str) -> None:
    with pytest.raises(ImageUnsupported, match=rf"^{name} is not accepted"):
        sniff(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG",
        b"RIFF\0\0\0\0WAVE",
        b"<!DOCTYPE html><html><svg/></html>",
        b"%PDF-1.7",
        b"\0\0\0\x20ftypisom",
        b"<?xml version='1.0'?><rss/>",
        b'{"error": "not found"}',
    ],
)
def test_anything_else_is_no_image(data: bytes) -> None:
    with pytest.raises(ImageInvalid, match="not an image"):
        sniff(data)
