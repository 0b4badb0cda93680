"""Detects the format of an image by its magic bytes, never by a name or a Content-Type.

Owns the accepted formats, and the names of others for error messages. Decodes nothing.
"""

from draftd.errors import ImageInvalid, ImageUnsupported

SNIFFED_BYTES = 1024
_ACCEPTED = ((b"\x89PNG\r\n\x1a\n", "PNG"), (b"\xff\xd8\xff", "JPEG"), (b"GIF87a", "GIF"), (b"GIF89a", "GIF"))
_KNOWN = (
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\1\0", "ICO"),
    (b"8BPS", "PSD"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"qoif", "QOI"),
)
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF"} | dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"
)


def sniff(data: bytes) -> str:
    """Return Pillow's name of an accepted format; the first ``SNIFFED_BYTES`` of a file are enough.

    Raises:
        ImageUnsupported: a known format that is not accepted.
        ImageInvalid: anything else.
    """
    for magic, name in _ACCEPTED:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    other = next((name for magic, name in _KNOWN if data.startswith(magic)), None)
    if data[4:8] == b"ftyp":
        other = _BRANDS.get(data[8:12])
    if _looks_like_svg(data):
        other = "SVG"
    if other:
        raise ImageUnsupported(f"{other} is not accepted; PNG, JPEG, WebP and GIF are", details={"found": other})
    raise ImageInvalid("the bytes are not an image")


def is_image(data: bytes) -> bool:
    """Return whether ``sniff`` knows the format, accepted or not."""
    try:
        sniff(data)
    except ImageUnsupported:
        return True
    except ImageInvalid:
        return False
    return True


def _looks_like_svg(data: bytes) -> bool:
    head = data.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return head.startswith((b"<svg", b"<?xml", b"<!--", b"<!doctype svg")) and b"<svg" in head
