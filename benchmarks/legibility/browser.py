"""Chromium draws a page and says where each line of its text stands."""

import html
import json
import re
from dataclasses import dataclass

from benchmarks import chromium
from benchmarks.legibility.pages import page_html
from benchmarks.legibility.scenes import Scene

MIN_CHARACTERS = 4
"""A reader cannot be judged by a single word of two letters."""

_SHEET = re.compile(r'<pre id="lines" hidden="">(.*?)</pre>', re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of text as drawn; the box is in pixels of the screenshot."""

    text: str
    left: float
    top: float
    right: float
    bottom: float
    em_px: float
    """The size of its font."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A screenshot and what stands on it."""

    scene: Scene
    png: bytes
    lines: tuple[Line, ...]


def draw(scene: Scene, program: str) -> Shot:
    """Draw a scene.

    Raises:
        RuntimeError: the browser did not do it.
    """
    drawing = chromium.draw(
        page_html(scene.page),
        width=scene.page.width,
        height=scene.page.height,
        density=scene.density,
        program=program,
    )
    sheet = _SHEET.search(drawing.dom)
    if sheet is None:
        raise RuntimeError(f"{program} did not run the script of {scene.name!r}")
    return Shot(scene=scene, png=drawing.png, lines=_lines(html.unescape(sheet[1]), scene.density))


def _lines(sheet: str, density: int) -> tuple[Line, ...]:
    found = [
        Line(
            text=" ".join(line["text"].split()),
            left=line["left"] * density,
            top=line["top"] * density,
            right=line["right"] * density,
            bottom=line["bottom"] * density,
            em_px=line["size"] * density,
        )
        for line in json.loads(sheet)
    ]
    return tuple(line for line in found if len(line.text) >= MIN_CHARACTERS)
