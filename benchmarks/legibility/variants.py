"""What a model may get to see of a screenshot: as it is, as draftd sends it, the naive way, each also after a vendor's resize."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from PIL import Image

from benchmarks.legibility.browser import Line
from benchmarks.legibility.vendors import Vendor

NAIVE_LONG_EDGE_PX = 1568
SHOWN_SHARE = 0.5
"""How much of a line a part must hold to be said to show it, if only in pieces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A part of a screenshot, at some scale."""

    picture: Image.Image = field(repr=False)
    left: float
    top: float
    """Where it begins, in pixels of the screenshot."""
    scale: float
    """Its pixels per pixel of the screenshot."""

    def share_of(self, line: Line) -> float:
        """Return how much of a line it holds, 0 to 1."""
        right, bottom = self.left + self.picture.width / self.scale, self.top + self.picture.height / self.scale
        width = max(0.0, min(right, line.right) - max(self.left, line.left))
        height = max(0.0, min(bottom, line.bottom) - max(self.top, line.top))
        return width * height / ((line.right - line.left) * (line.bottom - line.top))


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """Everything that is shown of a screenshot."""

    views: tuple[View, ...]
    size_bytes: int

    def view_of(self, line: Line) -> View | None:
        """Return where the line is best seen, None if it was left out."""
        # What holds all of it, and of these the largest.
        best = max(self.views, key=lambda view: (round(view.share_of(line), 2), view.scale))
        return best if best.share_of(line) >= SHOWN_SHARE else None

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
    return Variant(views=(View(picture=opened(png), left=0, top=0, scale=1),), size_bytes=len(png))


def naive(png: bytes) -> Variant:
    """Return the whole picture with a long edge of 1,568 px, encoded as draftd encodes."""
    whole = opened(png)
    scale = min(1.0, NAIVE_LONG_EDGE_PX / max(whole.size))
    size = (max(1, round(whole.width * scale)), max(1, round(whole.height * scale)))
    sink = io.BytesIO()
    whole.resize(size, Image.Resampling.LANCZOS).save(sink, format="JPEG", quality=85, subsampling="4:4:4")
    return cut([sink.getvalue()], places=[(0, 0, size[0] / whole.width)])


Place = tuple[int, int, float]
"""Left and top of a part, in its own pixels, and its scale."""


def cut(parts: Sequence[bytes], *, places: Sequence[Place]) -> Variant:
    """Return encoded parts."""
    views = [
        View(picture=opened(part), left=left / scale, top=top / scale, scale=scale)
        for part, (left, top, scale) in zip(parts, places, strict=True)
    ]
    return Variant(views=tuple(views), size_bytes=sum(map(len, parts)))


def opened(data: bytes) -> Image.Image:
    """Decode a picture."""
    with Image.open(io.BytesIO(data)) as picture:
        return picture.convert("RGB")


def _resized(view: View, size: tuple[int, int]) -> View:
    scale = view.scale * size[0] / view.picture.width
    return replace(view, picture=view.picture.resize(size, Image.Resampling.BICUBIC), scale=scale)
