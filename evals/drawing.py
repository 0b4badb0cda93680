"""Draws scenes: many on one sheet, because a browser takes a second to start, then cut apart and made small."""

import hashlib
import html
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks import chromium
from PIL import Image

from evals.pages import html_of
from evals.scene import Scene

SHEET_PX = 6_400
"""Largest edge of a sheet; Chromium draws none above 16,384."""
MAX_BYTES = 40_000
"""Size of a picture, so that a repository can hold many."""
INSTALL = (
    "apt-get install --no-install-recommends chromium fontconfig fonts-inter fonts-noto-core fonts-noto-cjk "
    "fonts-noto-color-emoji"
)

_COLOURS = (96, 48, 32, 24, 16)
"""Sizes of the palette, best first: flat surfaces look the same in few colours."""


def draw(scenes: Mapping[Path, Scene], program: str) -> None:
    """Draw scenes into WebP files.

    Raises:
        RuntimeError: the browser drew nothing.
    """
    by_size: dict[tuple[int, int, int], list[Path]] = {}
    for path, scene in scenes.items():
        by_size.setdefault((scene.width, scene.height, scene.density), []).append(path)
    for (width, height, density), paths in by_size.items():
        columns, rows = (max(1, SHEET_PX // density // edge) for edge in (width, height))
        for start in range(0, len(paths), columns * rows):
            some = paths[start : start + columns * rows]
            pictures = _sheet([scenes[path] for path in some], columns=columns, program=program)
            for path, picture in zip(some, pictures, strict=True):
                path.write_bytes(_small(picture, mark_of(scenes[path])))


def mark_of(scene: Scene) -> bytes:
    """Return what a picture carries to tell which page it was drawn from."""
    return hashlib.sha256(html_of(scene).encode()).hexdigest()[:16].encode()


def _sheet(scenes: list[Scene], *, columns: int, program: str) -> Iterator[Image.Image]:
    """Draw scenes of one size in a grid, and return them cut apart."""
    width, height, density = scenes[0].width, scenes[0].height, scenes[0].density
    columns = min(columns, len(scenes))
    rows = -(-len(scenes) // columns)
    places = [(number % columns * width, number // columns * height) for number in range(len(scenes))]
    frames = "".join(
        f'<iframe srcdoc="{html.escape(html_of(scene))}" style="position:absolute;border:0;'
        f'left:{left}px;top:{top}px;width:{width}px;height:{height}px"></iframe>'
        for scene, (left, top) in zip(scenes, places, strict=True)
    )
    page = f'<!doctype html><meta charset="utf-8"><body style="margin:0">{frames}</body>'
    size = {"width": columns * width, "height": rows * height, "density": density}
    sheet = Image.open(io.BytesIO(chromium.draw(page, **size, program=program).png)).convert("RGB")
    for left, top in places:
        yield sheet.crop(tuple(edge * density for edge in (left, top, left + width, top + height)))  # type: ignore[arg-type]  # four edges


def _small(picture: Image.Image, mark: bytes) -> bytes:
    """Return a picture as a WebP file with as many colours as its size allows."""
    for colours in _COLOURS:
        data = io.BytesIO()
        flat = picture.quantize(colours, dither=Image.Dither.NONE).convert("RGB")
        flat.save(data, "WEBP", lossless=True, method=6, xmp=mark)
        if data.tell() <= MAX_BYTES:
            break
    return data.getvalue()
