import functools
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from draftd.images.containers import MAX_FRAMES, MAX_SCANS, Unsupported, extract_image, frames, orientation, webp_pixels
from fix_hostile import animation, exif_of, jpeg_of_scans, jpeg_segment, jpeg_with, mpo, png_chunk, png_with
from fix_images import encoded, make_noise, make_picture, make_png
from tables import per_row

ORIENTATION = 0x0112
SHORT, LONG = 3, 4


def exif_bytes(value: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = value
    return exif.tobytes()


@per_row(
    ("image_format", "options"),
    [("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("JPEG", {"restart_marker_blocks": 2}), ("GIF", {})],
)
def test_a_file_without_extras_is_unchanged(image_format: str, options: dict[str, int]) -> None:
    data = encoded(
        make_noise(70, 50).quantize(16) if image_format == "GIF" else make_noise(70, 50), image_format, **options
    )

    assert extract_image(data, image_format).data == data


@per_row("image_format", ["PNG", "JPEG"])
def test_what_is_appended_is_left_out(image_format: str) -> None:
    data = encoded(make_picture(), image_format)

    assert extract_image(data + b"PK\3\4<script>", image_format).data == data


def test_texts_profiles_and_unknown_chunks_of_a_png_are_left_out() -> None:
    extras = [png_chunk(kind, b"private") for kind in (b"tEXt", b"iCCP", b"pHYs", b"prIv", b"acTL", b"eXIf")]

    assert extract_image(png_with(*extras), "PNG").data == make_png()


def test_the_frames_of_an_animated_png_are_left_out() -> None:
    data = extract_image(animation("PNG", 3), "PNG").data

    assert b"acTL" not in data
    assert b"fdAT" not in data
    assert data.count(b"IDAT") == 1


@per_row("image_format", ["PNG", "GIF"])
@per_row("count", [1, 2, 3])
def test_a_file_says_whether_it_has_further_frames(image_format: str, count: int) -> None:
    assert extract_image(animation(image_format, count), image_format).has_more is (count > 1)


def test_the_frames_of_a_gif_come_without_comments_and_are_a_hundred_at_most() -> None:
    data = animation("GIF", MAX_FRAMES + 50)
    end = data.rindex(b"!\xf9")

    some = frames(data[:end] + b"!\xfe\x07private\0" + data[end:], "GIF")

    assert b"private" not in some
    assert b"NETSCAPE" not in some
    assert some.count(b"!\xf9\4") == MAX_FRAMES
    with Image.open(io.BytesIO(some)) as image:
        assert getattr(image, "n_frames", 0) == MAX_FRAMES


def test_of_a_gif_that_is_cut_off_the_whole_frames_are_left() -> None:
    data = animation("GIF", 5)

    with Image.open(io.BytesIO(frames(data[:-9], "GIF"))) as image:
        assert getattr(image, "n_frames", 0) == 4


def test_the_frames_of_an_animated_png_come_without_texts() -> None:
    data = animation("PNG", 3)
    text = png_chunk(b"tEXt", b"private")

    assert frames(data[:33] + text + data[33:], "PNG") == data


def test_notes_profiles_and_comments_of_a_jpeg_are_left_out() -> None:
    plain = encoded(make_picture(), "JPEG")
    extras = [jpeg_segment(kind, b"private") for kind in (0xE1, 0xE2, 0xED, 0xFE, 0xEF)]

    assert extract_image(jpeg_with(b"".join(extras)), "JPEG").data == plain
    assert extract_image(jpeg_with(b"\xff" * 9), "JPEG").data == plain


def test_further_pictures_in_a_jpeg_are_left_out() -> None:
    data = extract_image(mpo(3), "JPEG").data

    assert data.count(b"\xff\xd8") == data.count(b"\xff\xd9") == 1
    assert b"MPF" not in data


def test_what_says_how_the_channels_of_a_jpeg_are_meant_stays() -> None:
    assert b"Adobe" in extract_image(encoded(make_picture(mode="CMYK"), "JPEG"), "JPEG").data


def test_comments_and_applications_before_the_first_frame_of_a_gif_are_left_out() -> None:
    data = extract_image(
        encoded(make_picture(mode="P"), "GIF", comment=b"private" * 100, loop=3, save_all=True), "GIF"
    ).data

    assert b"private" not in data
    assert b"NETSCAPE" not in data


@per_row("kind", [0xC3, 0xC5, 0xC9, 0xCA, 0xCB, 0xCF])
def test_a_jpeg_of_a_kind_that_nobody_writes_is_not_accepted(kind: int) -> None:
    with pytest.raises(Unsupported):
        extract_image(encoded(make_picture(), "JPEG").replace(b"\xff\xc0", b"\xff" + bytes([kind])), "JPEG")


@per_row("kind", [0x01, 0x02, 0xBF, 0xD8])
def test_a_marker_behind_which_scans_could_hide_is_refused(kind: int) -> None:
    with pytest.raises(ValueError, match="marker"):
        extract_image(jpeg_with(jpeg_segment(kind, b"scans")), "JPEG")


def test_scans_are_counted() -> None:
    assert extract_image(jpeg_of_scans(MAX_SCANS - 1, width_px=16, height_px=16), "JPEG")
    with pytest.raises(ValueError, match="scans"):
        extract_image(jpeg_of_scans(MAX_SCANS, width_px=16, height_px=16), "JPEG")


@functools.cache
def small(image_format: str) -> bytes:
    return encoded(make_picture(20, 10), image_format)


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "GIF", "WEBP"])
@given(data=st.data())
def test_no_cut_and_no_noise_makes_more_of_a_file_than_it_was(image_format: str, data: st.DataObject) -> None:
    whole = small(image_format)
    at = data.draw(st.integers(14, len(whole)))
    mangled = whole[:at] + data.draw(st.binary(max_size=40)) + whole[at + 20 :]

    try:
        found = extract_image(mangled, image_format)
    except (Unsupported, ValueError, IndexError):
        return
    assert len(found.data) <= len(mangled)


@per_row("order", ["little", "big"])
@per_row("value", range(1, 9))
def test_the_orientation_is_read(order: str, value: int) -> None:
    exif = exif_bytes(value)
    if order == "little":
        exif = exif_of([(0x010E, 2, 4, 0), (ORIENTATION, SHORT, 1, value)])

    assert orientation(exif) == value


@per_row(
    "exif",
    [
        b"",
        b"Exif\0\0",
        b"II*\0",
        b"XX*\0\x08\0\0\0\1\0",
        b"II*\0\xff\xff\xff\xff",
        exif_of([]),
        exif_of([], count=65_535),
        exif_of([(ORIENTATION, LONG, 1, 6)]),
        exif_of([(0x010E, SHORT, 1, 6)], count=2),
    ],
)
def test_a_silent_or_broken_note_means_upright(exif: bytes) -> None:
    assert orientation(exif) == 1


@given(exif=st.binary(max_size=60))
def test_no_note_stops_a_picture(exif: bytes) -> None:
    assert orientation(b"II*\0" + exif) >= 0


@per_row("options", [{"quality": 50}, {"lossless": True}])
@per_row("mode", ["RGB", "RGBA"])
def test_the_size_of_a_webp_is_read_without_a_decoder(mode: str, options: dict[str, int]) -> None:
    assert webp_pixels(encoded(make_picture(301, 17, mode), "WEBP", **options)) == 301 * 17


def test_the_size_of_a_webp_with_metadata_is_read_without_a_decoder() -> None:
    assert webp_pixels(encoded(make_picture(301, 17), "WEBP", xmp=b"<x/>")) == 301 * 17


def test_the_size_of_a_mangled_webp_is_unknown() -> None:
    assert webp_pixels(b"RIFF\0\0\0\0WEBPJUNK") == 0
