import re
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftd.errors import ImageInvalid, ImageUnsupported
from draftd.images.formats import ACCEPTED, sniff
from fix_images import encoded, heic, make_picture
from tables import per_row


@per_row("image_format", ["PNG", "JPEG", "WEBP", "GIF", "AVIF"])
def test_accepted_formats_are_known_by_their_magic_bytes(image_format: str) -> None:
    assert sniff(encoded(make_picture(), image_format)) == image_format


@per_row(
    ("data", "name"),
    [
        (b"BM\x36\0\0\0", "BMP"),
        (b"II*\0\x08\0\0\0", "TIFF"),
        (b"MM\0*\0\0\0\x08", "TIFF"),
        (b"\0\0\1\0\1\0", "ICO"),
        (b"8BPS\0\1", "PSD"),
        (b"\xff\x0a\0", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\0\0\0\x10ftypmif3avif", "low-overhead HEIF"),
        (b"\0\0\0\x1cftypavci\0\0\0\0mif1avcimiaf", "HEIF with AVC"),
        (b"\0\0\0\x18ftypj2ki\0\0\0\0mif1j2ki", "HEIF with JPEG 2000"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\xef\xbb\xbf <?xml version='1.0'?><!-- x --><SVG/>", "SVG"),
    ],
)
def test_another_kind_of_image_is_named(data: bytes, name: str) -> None:
    with pytest.raises(
        ImageUnsupported, match=rf"^{name} is not accepted; PNG, JPEG, WebP, GIF, HEIC and AVIF are$"
    ) as caught:
        sniff(data)

    assert caught.value.details == {"found": name}


@per_row("name", ["plain", "tiles", "several", "hdr"])
def test_a_heic_is_known_by_its_brands(name: str) -> None:
    assert sniff(heic(name)) == "HEIF"


@per_row(
    ("brands", "name"),
    [
        (b"avif....mif1", "AVIF"),
        (b"avis....msf1", "AVIF"),
        (b"mif1....avifmiaf", "AVIF"),
        (b"mif1....heicmiaf", "HEIF"),
        (b"mif1....", "HEIF"),
        (b"hevc....msf1", "HEIF"),
        (b"heix....mif1", "HEIF"),
    ],
)
def test_a_kind_that_stands_in_any_brand_is_known(brands: bytes, name: str) -> None:
    assert sniff(struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands + b"\0\0\0\x08meta") == name


@per_row(
    ("data", "found"),
    [
        (b"<!DOCTYPE html><html><svg/></html>", "web page"),
        (b"\xef\xbb\xbf\n<html lang=en>", "web page"),
        (b"<?xml version='1.0'?><!DOCTYPE html><html>", "web page"),
        (b"<?xml version='1.0'?><rss/>", "XML file"),
        (b'{"error": "not found"}', "JSON"),
        (b"Sorry, no access", "text"),
        (("\xe4" * 2_000).encode()[:1_023], "text"),
        (b"%PDF-1.7", "PDF"),
        (b"\0\0\0\x20ftypisom", "video (MP4)"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "video (QuickTime)"),
        (b"\x1aE\xdf\xa3\x01", "video (WebM)"),
        (b"RIFF\0\0\0\0WAVE", "sound file"),
        (b"PK\3\4", "ZIP file or an office document"),
        (b"\x1f\x8b\x08", "compressed file"),
        (b"", "empty file"),
    ],
)
def test_what_is_no_image_is_named(data: bytes, found: str) -> None:
    with pytest.raises(ImageInvalid, match=rf"^it is (an? )?{re.escape(found)}, not an image$") as caught:
        sniff(data)

    assert caught.value.details == {"found": found}


@given(data=st.binary(max_size=60), start=st.sampled_from([b"", b"<", b"<!--", b"\0\0\0\x20ftyp", b"RIFF"]))
def test_whatever_comes_is_named_or_refused(data: bytes, start: bytes) -> None:
    with suppress(ImageInvalid, ImageUnsupported):
        assert sniff(start + data) in ACCEPTED


@per_row("data", [b"\x89PNG", b"\x93\x12\xfe", b"\0\0\0\0", b"\0\0\0\x10"])
def test_anything_else_is_no_image(data: bytes) -> None:
    with pytest.raises(ImageInvalid, match=r"^it is not an image$"):
        sniff(data)
