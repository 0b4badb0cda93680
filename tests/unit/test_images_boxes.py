import struct

from hypothesis import given
from hypothesis import strategies as st

from draftd.images.boxes import MAX_BOXES, most_pixels, transfer
from draftd.images.hdr import PQ
from fix_images import encoded, heic, make_picture
from tables import per_row

SRGB = 13


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def colr(value: int) -> bytes:
    return box(b"colr", b"nclx", struct.pack(">HHHB", 9, value, 9, 0x80))


def ispe(width_px: int, height_px: int) -> bytes:
    return box(b"ispe", bytes(4), struct.pack(">II", width_px, height_px))


def picture(*properties: bytes, associated: bytes = b"\x81\x02", version: int = 0, flags: int = 0) -> bytes:
    """Return the boxes of a file whose picture 7 has properties; those of picture 1 come first."""
    id_form = ">I" if version else ">H"
    count = len(associated) // (2 if flags else 1)
    entries = [(1, b"\0\x03" if flags else b"\x03", 1), (7, associated, count)]
    ipma = b"".join(struct.pack(id_form, item) + bytes([number]) + indexes for item, indexes, number in entries)
    return box(b"ftyp", b"heic", bytes(4)) + box(
        b"meta",
        bytes(4),
        box(b"pitm", bytes(4), struct.pack(">H", 7)),
        box(
            b"iprp",
            box(b"ipco", *properties),
            box(b"ipma", bytes([version, 0, 0, flags]), struct.pack(">I", 2), ipma),
        ),
    )


def test_the_transfer_function_of_the_primary_picture_is_read() -> None:
    assert transfer(heic("hdr")) == PQ
    assert transfer(heic("plain")) == SRGB
    assert transfer(encoded(make_picture(), "AVIF")) == SRGB


@per_row(
    ("version", "flags", "associated"), [(0, 0, b"\x81\x02"), (1, 0, b"\x02"), (0, 1, b"\x80\x02"), (1, 1, b"\0\1\0\2")]
)
def test_the_properties_of_other_pictures_do_not_count(version: int, flags: int, associated: bytes) -> None:
    """A gain map or a thumbnail has a transfer function of its own."""
    data = picture(box(b"ispe", bytes(12)), colr(PQ), colr(SRGB), associated=associated, version=version, flags=flags)

    assert transfer(data) == PQ


def test_a_profile_is_no_transfer_function() -> None:
    assert transfer(picture(box(b"colr", b"prof", bytes(99)), box(b"free"))) == 0


@per_row(
    "data",
    [
        b"",
        b"\0\0\0\1meta",
        box(b"ftyp"),
        box(b"meta", bytes(4)),
        box(b"meta", bytes(4), box(b"pitm", bytes(4))),
        picture(box(b"colr", b"nclx")),
        struct.pack(">I4sQ", 1, b"meta", 2**63),
        box(b"free") * (MAX_BOXES + 1) + picture(colr(PQ)),
    ],
)
def test_a_silent_or_broken_file_is_an_ordinary_picture(data: bytes) -> None:
    assert transfer(data) == 0


@given(data=st.data())
def test_no_damage_stops_a_picture(data: st.DataObject) -> None:
    whole = heic("hdr")
    at = data.draw(st.integers(0, len(whole)))

    assert transfer(whole[:at] + data.draw(st.binary(max_size=20)) + whole[at + 9 :]) >= 0


def test_the_largest_picture_counts() -> None:
    assert most_pixels(heic("tiles")) == 640 * 480
    assert most_pixels(encoded(make_picture(301, 17), "AVIF")) == 301 * 17
    assert most_pixels(picture(ispe(64, 48), ispe(2**32 - 1, 2**32 - 1), box(b"ispe"))) == (2**32 - 1) ** 2


def test_a_file_without_a_size_claims_nothing() -> None:
    assert most_pixels(b"") == most_pixels(picture(box(b"ispe", bytes(11)))) == 0
