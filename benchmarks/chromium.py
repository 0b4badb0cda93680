"""Chromium draws a page that is given as text. It has no network."""

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
DRAW_S = 90

FLAGS = (
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A page as drawn."""

    png: bytes
    dom: str
    """Its HTML after its scripts have run."""


def find() -> str | None:
    """Return the path of a browser, or None."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


def draw(page: str, *, width: int, height: int, density: int, program: str) -> Drawing:
    """Draw a page.

    Args:
        page: the HTML.
        width: of the window, in CSS pixels.
        height: likewise.
        density: pixels of the picture per CSS pixel.
        program: the browser.

    Raises:
        RuntimeError: the browser drew nothing.
    """
    with tempfile.TemporaryDirectory(prefix="draftd-draw-") as directory:
        folder = Path(directory)
        (folder / "page.html").write_text(page)
        picture = folder / "page.png"
        command = [
            program,
            *FLAGS,
            f"--force-device-scale-factor={density}",
            f"--window-size={width},{height}",
            f"--user-data-dir={folder / 'profile'}",
            f"--screenshot={picture}",
            "--dump-dom",
            (folder / "page.html").as_uri(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DRAW_S, check=False)  # noqa: S603 - a fixed program
        if not picture.exists():
            raise RuntimeError(f"{program} drew nothing: {done.stderr[-500:]}")
        return Drawing(png=picture.read_bytes(), dom=done.stdout)
