from dataclasses import replace

import pytest

from draftd.errors import ImageInvalid, ImageTooLarge
from draftd.images import Part, Picture
from draftd.images.fetch import Fetched, data_url_bytes, read_data_url
from draftd.images.loader import REQUEST_PIXELS, share_parts
from fix_images import data_url, make_png
from tables import per_row


def make_part(number: int = 0, *, width_px: int = 10, height_px: int = 20) -> Part:
    return Part(data=b"jpeg %d" % number, width_px=width_px, height_px=height_px)


def make_loaded(
    parts: int, *, host: str = "files.example", truncated: bool = False, width_px: int = 10, height_px: int = 20
) -> Picture:
    return Picture(
        host=host,
        sha256="0" * 64,
        width_px=100,
        height_px=200,
        parts=tuple(make_part(number, width_px=width_px, height_px=height_px) for number in range(parts)),
        truncated=truncated,
    )


@per_row(
    ("parts", "kept", "truncated"),
    [
        ([], [], []),
        ([1, 1], [1, 1], [False, False]),
        ([6, 6], [6, 6], [False, False]),
        ([6, 6, 6], [4, 4, 4], [True, True, True]),
        ([1, 6, 1, 6], [1, 5, 1, 5], [False, True, False, True]),
        ([6, 2, 6], [5, 2, 5], [True, False, True]),
        ([6] * 5, [2, 2, 2, 3, 3], [True] * 5),
        ([6] * 8, [1, 1, 1, 1, 2, 2, 2, 2], [True] * 8),
    ],
)
def test_twelve_parts_at_most_shared_evenly(parts: list[int], kept: list[int], truncated: list[bool]) -> None:
    pictures = share_parts([make_loaded(count) for count in parts])

    assert [len(picture.parts) for picture in pictures] == kept
    assert [picture.truncated for picture in pictures] == truncated


def test_the_first_part_and_the_last_ones_are_kept() -> None:
    first, _, _ = share_parts([make_loaded(6)] * 3)

    assert first.parts == (make_part(0), make_part(3), make_part(4), make_part(5))


def test_of_a_picture_that_keeps_one_part_it_is_the_last() -> None:
    assert share_parts([make_loaded(6)] * 7)[0].parts == (make_part(5),)


def test_of_a_tiled_picture_that_keeps_one_part_it_is_the_whole() -> None:
    tiled = replace(make_loaded(5), tiled=True)

    assert share_parts([tiled] * 7)[0].parts == (make_part(0),)


def test_a_request_has_no_more_pixels_than_its_budget() -> None:
    large = [make_loaded(3, width_px=1_536, height_px=1_536) for _ in range(3)]

    pictures = share_parts(large)

    assert [len(picture.parts) for picture in pictures] == [2, 2, 2]
    assert sum(part.width_px * part.height_px for picture in pictures for part in picture.parts) <= REQUEST_PIXELS


def test_a_truncated_picture_stays_truncated() -> None:
    assert share_parts([make_loaded(6, truncated=True)])[0].truncated


def test_the_record_is_what_the_row_stores() -> None:
    assert make_loaded(2).record() == {
        "host": "files.example",
        "sha256": "0" * 64,
        "width": 100,
        "height": 200,
        "parts": 2,
    }


def test_no_repr_shows_image_bytes() -> None:
    assert "jpeg" not in repr(make_loaded(1))
    assert "jpeg" not in repr(Fetched(host="files.example", data=memoryview(b"jpeg")))


async def test_a_data_url_is_decoded() -> None:
    assert await read_data_url(data_url(make_png()), max_bytes=10_000) == make_png()
    assert bytes(await read_data_url("DATA:image/svg+xml;charset=utf-8;BASE64,QUJD", max_bytes=3)) == b"ABC"


async def test_a_long_data_url_is_decoded_piece_by_piece() -> None:
    data = bytes(range(256)) * 4_097

    assert await read_data_url(data_url(data), max_bytes=len(data)) == data


@per_row(
    "text",
    [
        "QUJDRPv/",
        "QUJD\nRPv/\n",
        "QUJD\r\nRPv/",
        " Q U J D\tRPv/ ",
        "QUJDRPv_",
        "QUJDRPv/QQ",
        "QUJDRPv_QQ==\n",
        "QUJDRPv/QQ=",
    ],
)
async def test_base64_is_read_as_phones_write_it(text: str) -> None:
    data = b"ABCD\xfb\xff" + (b"A" if "QQ" in text else b"")

    assert bytes(await read_data_url("data:image/png;base64," + text, max_bytes=len(data))) == data


async def test_line_breaks_and_a_missing_padding_are_read_across_pieces() -> None:
    data = bytes(range(256)) * 4_097 + b"x"
    header, _, text = data_url(data).partition(",")
    lines = "\r\n".join(text.rstrip("=")[at : at + 75] for at in range(0, len(text), 75))

    assert await read_data_url(f"{header},{lines}", max_bytes=len(data)) == data


@per_row(
    "url",
    [
        "data:",
        "data:,hello",
        "data:image/png,hello",
        "data:text/html;base64,QUJD",
        "data:;base64,QUJD",
        "data:image/png;base64;QUJD",
        "data:image/png;base64,QUJDR",
        "data:image/png;base64,QUJ=D",
        "data:image/png;base64,QUI%3D",
        "data:image/png;base64,QUJé",
        "data:image/png;base64," + "QUJD" * 131_071 + "QUI=" + "QUJD",
    ],
)
async def test_a_malformed_data_url_is_invalid(url: str) -> None:
    with pytest.raises(ImageInvalid) as caught:
        await read_data_url(url, max_bytes=1_000_000)

    assert "QU" not in caught.value.message


async def test_what_lies_beyond_the_limit_of_a_data_url_is_not_decoded() -> None:
    with pytest.raises(ImageTooLarge):
        await read_data_url(f"data:image/png;base64,{'A' * (1 << 19)}!!!!", max_bytes=100)


@per_row("size_bytes", [98, 99, 100])
async def test_the_limit_of_a_data_url_is_exact(size_bytes: int) -> None:
    url = data_url(b"x" * size_bytes)

    assert len(await read_data_url(url, max_bytes=size_bytes)) == size_bytes
    assert data_url_bytes(url) >= size_bytes
    with pytest.raises(ImageTooLarge):
        await read_data_url(url, max_bytes=size_bytes - 1)
