"""The programs, languages and fonts that the benchmark needs, and what to install where one is missing."""

import shutil
import subprocess
from collections.abc import Sequence

from benchmarks import chromium
from benchmarks.legibility.pages import FONTS
from benchmarks.legibility.reader import PROGRAM
from benchmarks.legibility.scenes import Scene

INSTALL = (
    "apt-get install --no-install-recommends chromium fontconfig fonts-noto-core fonts-noto-cjk "
    "tesseract-ocr tesseract-ocr-jpn tesseract-ocr-ara tesseract-ocr-rus"
)
ASK_S = 30


class ToolMissing(Exception):
    """Nothing can be measured without it; the message says what to install."""


def browser() -> str:
    """Return the browser's program.

    Raises:
        ToolMissing: there is none.
    """
    if path := chromium.find():
        return path
    raise ToolMissing(f"there is no browser ({', '.join(chromium.PROGRAMS)}); on Debian: {INSTALL}")


def require_reader() -> None:
    """Make sure that tesseract and the list of fonts can be asked.

    Raises:
        ToolMissing: one of them is not there.
    """
    for name in (PROGRAM, "fc-list"):
        if shutil.which(name) is None:
            raise ToolMissing(f"{name} is not installed; on Debian: {INSTALL}")


def missing_for(scene: Scene) -> str:
    """Return what a scene lacks on this machine, empty if nothing."""
    lacking = [f"tesseract's language {one}" for one in scene.reader.split("+") if one not in _languages()]
    font = FONTS[scene.page.language].split('"')[1]
    if not _output(["fc-list", font]).strip():
        lacking.append(f"the font {font}")
    return ", ".join(lacking)


def versions(program: str) -> str:
    """Return what draws and what reads, in one line."""
    return f"{_output([program, '--version']).strip()}, {_output([PROGRAM, '--version']).splitlines()[0]}"


def _languages() -> list[str]:
    return _output([PROGRAM, "--list-langs"]).split()


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_S, check=False)  # noqa: S603 - fixed programs
    return done.stdout
