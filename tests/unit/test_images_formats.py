import pytest

from draftd.errors import ImageInvalid, ImageUnsupported
from draftd.images.formats import sniff
from fix_images import encoded, make_picture


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
