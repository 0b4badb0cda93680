"""What a model may get to see of a screenshot: as it is, as draftd sends it, the naive way, each also after a vendor's resize."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from PIL import Image

from benchmarks.legibility.browser import Line
from benchmarks.legibility.vendors import Vendor

NAIVE_LONG_EDGE_PX = 1568
SHOWN_SHARE = 0.5
"""How much of a line's height a part must hold to be said to show it, if only in pieces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A stretch of a screenshot over its whole width, at some scale."""

    picture: Image.Image = field(repr=False)
    top: float
    """Where it begins, in pixels of the screenshot."""
    scale: float
    """Its pixels per pixel of the screenshot."""

    @property
    def bottom(self) -> float:
        """Where it ends, in pixels of the screenshot."""
        return self.top + self.picture.height / self.scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """Everything that is shown of a screenshot."""

    views: tuple[View, ...]
    size_bytes: int

    def view_of(self, line: Line) -> View | None:
        """Return where the line is best seen, None if it was left out."""

        def seen(view: View) -> float:
            return min(view.bottom, line.bottom) - max(view.top, line.top)

        best = max(self.views, key=seen)
        return best if seen(best) >= SHOWN_SHARE * (line.bottom - line.top) else None

    def through(self, vendor: Vendor) -> "Variant":
        """Return what a vendor makes of it; itself, if that is nothing."""
        sizes = [vendor.resize(view.picture.size) for view in self.views]
        if all(size == view.picture.size for size, view in zip(sizes, self.views, strict=True)):
            return self
        return replace(self, views=tuple(_resized(view, size) for view, size in zip(self.views, sizes, strict=True)))

    def tokens(self, vendor: Vendor) -> int:
        """Return what a vendor charges."""
        return sum(vendor.tokens(view.picture.size) for view in self.views)


def original(png: bytes) -> Variant:
    """Return the screenshot itself."""
    return Variant(views=(View(picture=opened(png), top=0, scale=1),), size_bytes=len(png))


def naive(png: bytes) -> Variant:
    """Return the whole picture with a long edge of 1,568 px, encoded as draftd encodes."""
    whole = opened(png)
    scale = min(1.0, NAIVE_LONG_EDGE_PX / max(whole.size))
    size = (max(1, round(whole.width * scale)), max(1, round(whole.height * scale)))
    sink = io.BytesIO()
    whole.resize(size, Image.Resampling.LANCZOS).save(sink, format="JPEG", quality=85, subsampling="4:4:4")
    return sliced([sink.getvalue()], tops=[0], scale=size[0] / whole.width)


def sliced(parts: Sequence[bytes], *, tops: Sequence[int], scale: float) -> Variant:
    """Return encoded parts; ``tops`` are in their own pixels."""
    views = [View(picture=opened(part), top=top / scale, scale=scale) for part, top in zip(parts, tops, strict=True)]
    return Variant(views=tuple(views), size_bytes=sum(map(len, parts)))


def opened(data: bytes) -> Image.Image:
    """Decode a picture."""
    with Image.open(io.BytesIO(data)) as picture:
        return picture.convert("RGB")


def _resized(view: View, size: tuple[int, int]) -> View:
    scale = view.scale * size[0] / view.picture.width
    return View(picture=view.picture.resize(size, Image.Resampling.BICUBIC), top=view.top, scale=scale)
