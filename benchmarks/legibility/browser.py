"""Chromium draws a page and says where each line of its text stands. It is given a local file and no network."""

import html
import json
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.legibility.pages import page_html
from benchmarks.legibility.scenes import Scene

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
DRAW_S = 90
MIN_CHARACTERS = 4
"""A reader cannot be judged by a single word of two letters."""

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-lcd-text",
    "--disable-sync",
    "--font-render-hinting=none",
    "--no-default-browser-check",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
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
    with tempfile.TemporaryDirectory(prefix="draftd-bench-") as directory:
        folder = Path(directory)
        (folder / "page.html").write_text(page_html(scene.page))
        picture = folder / "page.png"
        command = [
            program,
            *_FLAGS,
            f"--force-device-scale-factor={scene.density}",
            f"--window-size={scene.page.width},{scene.page.height}",
            f"--user-data-dir={folder / 'profile'}",
            f"--screenshot={picture}",
            "--dump-dom",
            (folder / "page.html").as_uri(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DRAW_S, check=False)  # noqa: S603 - a fixed program
        sheet = _SHEET.search(done.stdout)
        if sheet is None or not picture.exists():
            raise RuntimeError(f"{program} did not draw {scene.name!r}: {done.stderr[-500:]}")
        return Shot(scene=scene, png=picture.read_bytes(), lines=_lines(html.unescape(sheet[1]), scene.density))


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
