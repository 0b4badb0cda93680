"""Which kind of file bytes are, by their first bytes: never by a name or a Content-Type.

Owns the accepted formats, and the names of other kinds so that a refusal can name them. Decodes nothing.
"""

import codecs
import re

from draftd.errors import ImageInvalid, ImageUnsupported

SNIFFED_BYTES = 1024
ACCEPTED = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "HEIF": "image/heic",
    "AVIF": "image/avif",
}
"""By the name that the decoder knows each format by, what a server calls it."""
_SPOKEN = {"WEBP": "WebP", "HEIF": "HEIC"}
*_FIRST, _LAST = (_SPOKEN.get(name, name) for name in ACCEPTED)
ACCEPTED_NAMES = f"{', '.join(_FIRST)} and {_LAST}"
"""As a person reads them."""

_MAGIC = ((b"\x89PNG\r\n\x1a\n", "PNG"), (b"\xff\xd8\xff", "JPEG"), (b"GIF87a", "GIF"), (b"GIF89a", "GIF"))
_OTHER_IMAGES = (
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
_NO_IMAGES = (
    (b"%PDF-", "a PDF"),
    (b"PK\3\4", "a ZIP file or an office document"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an office document"),
    (b"{\\rtf", "an office document"),
    (b"\x1aE\xdf\xa3", "a video (WebM)"),
    (b"ID3", "a sound file"),
    (b"OggS", "a sound file"),
    (b"fLaC", "a sound file"),
    (b"\x1f\x8b", "a compressed file"),
    (b"BZh", "a compressed file"),
    (b"7z\xbc\xaf\x27\x1c", "a compressed file"),
    (b"Rar!\x1a\x07", "a compressed file"),
    (b"\xfd7zXZ\0", "a compressed file"),
    (b"\x28\xb5\x2f\xfd", "a compressed file"),
    (b"%!PS", "a PostScript file"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
)
_RIFF = {b"WAVE": "a sound file", b"AVI ": "a video (AVI)"}
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
_MOVIES = {b"qt  ": "a video (QuickTime)", b"M4A ": "a sound file"}
_OTHER_BRANDS = {
    b"mif3": "low-overhead HEIF",
    b"avci": "HEIF with AVC",
    b"vvic": "HEIF with VVC",
    b"jpeg": "HEIF with JPEG",
    b"j2ki": "HEIF with JPEG 2000",
}
_BRAND_BYTES = 4
_WEB_PAGE = re.compile(rb"<(?:!doctype html|html|head|body)\b", re.IGNORECASE)
_ARTICLE = re.compile("^an? ")
_SVG = re.compile(rb"<svg|<\?xml|<!--|<!doctype svg", re.IGNORECASE)
_NO_TEXT = re.compile(rb"[\0-\x08\x0e-\x1f]")


def sniff(data: bytes) -> str:
    """Return the name of an accepted format, by the first bytes alone; ``SNIFFED_BYTES`` of a file are enough.

    Raises:
        ImageUnsupported: a known format that is not accepted.
        ImageInvalid: anything else.
    """
    name = _image(data)
    if name in ACCEPTED:
        return name
    if name:
        raise ImageUnsupported(f"{name} is not accepted; {ACCEPTED_NAMES} are", details={"found": name})
    found = _other(data)
    if found:
        raise ImageInvalid(f"it is {found}, not an image", details={"found": _ARTICLE.sub("", found)})
    raise ImageInvalid("it is not an image")


def is_image(data: bytes) -> bool:
    """Return whether the bytes are an image, accepted or not."""
    return bool(_image(data))


def _image(data: bytes) -> str:
    """Return the name of a kind of image; empty for anything else."""
    for magic, name in (*_MAGIC, *_OTHER_IMAGES):
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    brands = _brands(data)
    if brands and brands[0] in _OTHER_BRANDS:
        return _OTHER_BRANDS[brands[0]]
    if not _AVIF_BRANDS.isdisjoint(brands):
        return "AVIF"
    if not _HEIF_BRANDS.isdisjoint(brands):
        return "HEIF"
    return "SVG" if _looks_like_svg(data) else ""


def _brands(data: bytes) -> list[bytes]:
    """Return the brands of an ISO base media file (ISO 14496-12, section 4.3), the major one first."""
    if data[4:8] != b"ftyp":
        return []
    end = min(int.from_bytes(data[:4], "big"), len(data))
    return [data[at : at + _BRAND_BYTES] for at in (8, *range(16, end - _BRAND_BYTES + 1, _BRAND_BYTES))]


def _other(data: bytes) -> str:
    """Return what the bytes are that are no image, with its article; empty if nothing is known of them."""
    for magic, name in _NO_IMAGES:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF":
        return _RIFF.get(data[8:12], "")
    if brands := _brands(data):
        return _MOVIES.get(brands[0], "a video (MP4)")
    return _text(data)


def _text(data: bytes) -> str:
    head = data.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not head or _NO_TEXT.search(head):
        return "" if data else "an empty file"
    if head.startswith(b"<") and _WEB_PAGE.search(head):
        return "a web page"
    try:
        # Not to its end: what is sniffed may end within a character.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return ""
    return "an XML file" if text.startswith("<?xml") else "JSON" if text.startswith(("{", "[")) else "text"


def _looks_like_svg(data: bytes) -> bool:
    head = data.removeprefix(b"\xef\xbb\xbf").lstrip()
    return _SVG.match(head) is not None and b"<svg" in head.lower() and not _WEB_PAGE.search(head)
