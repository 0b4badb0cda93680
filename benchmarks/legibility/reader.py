"""tesseract reads what is left of each line.

Line by line, because a model finds its way through a page far better than tesseract does, and the order of reading is not
the question here. Where a line stands is known from the browser. It is read from the part that shows most of it, so the
overlap of two parts counts once, and a line that the overlap fails to keep whole counts as cut.

Every variant of a line is brought to the same size before it is read: a font size of ``EM_PX``, near what tesseract is made
for. So the reader never profits from a larger picture as such; only what is in the pixels counts. Text becomes black on
white, for all alike: the reader's own weakness for grey and for light text is not the question either.
"""

import csv
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps, ImageStat

from benchmarks.legibility.browser import Line
from benchmarks.legibility.score import errors, normalised
from benchmarks.legibility.variants import Variant, View

PROGRAM = "tesseract"
EM_PX = 36
SIDE_EM = 0.2
BORDER_PX = 16
READ_S = 300
_ONE_LINE = "7"
"""tesseract's page segmentation mode for a picture of a single line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How well a variant of a screenshot was read."""

    characters: int
    """In the lines that are shown."""
    errors: int
    left_out: int
    """Characters in lines that are not shown."""

    @property
    def error_rate(self) -> float:
        """Errors per character."""
        return self.errors / max(1, self.characters)

    @property
    def left_out_share(self) -> float:
        """Of all characters."""
        return self.left_out / max(1, self.left_out + self.characters)


class Reader:
    """Reads variants, each once however often it is asked for.

    Args:
        language: as tesseract calls it.
        lines: what is written on the screenshot.
        executor: where tesseract's processes are waited for.
    """

    def __init__(self, *, language: str, lines: Sequence[Line], executor: Executor) -> None:
        self._language = language
        self._lines = lines
        self._executor = executor
        self._spaces = language != "jpn"

    def read(self, variants: Sequence[Variant]) -> list[Reading]:
        """Read variants at the same time, in as many processes as the executor has places."""
        unique = {id(variant): variant for variant in variants}
        found = dict(zip(unique, self._executor.map(self._read, unique.values()), strict=True))
        return [found[id(variant)] for variant in variants]

    def _read(self, variant: Variant) -> Reading:
        views = [(line, variant.view_of(line)) for line in self._lines]
        shown = [(line, view) for line, view in views if view is not None]
        texts = recognise([line_picture(view, line) for line, view in shown], self._language)
        written = [self._normalised(line.text) for line, _ in shown]
        return Reading(
            characters=sum(map(len, written)),
            errors=sum(errors(one, self._normalised(text)) for one, text in zip(written, texts, strict=True)),
            left_out=sum(len(self._normalised(line.text)) for line, view in views if view is None),
        )

    def _normalised(self, text: str) -> str:
        return normalised(text, spaces=self._spaces)


def line_picture(view: View, line: Line) -> Image.Image:
    """Cut a line out of a view: dark on light, at the reader's size, with a border."""
    side = SIDE_EM * line.em_px
    box = (
        max(0.0, (line.left - side - view.left) * view.scale),
        max(0.0, (line.top - view.top) * view.scale),
        min(view.picture.width, (line.right + side - view.left) * view.scale),
        min(view.picture.height, (line.bottom - view.top) * view.scale),
    )
    stretch = EM_PX / (line.em_px * view.scale)
    size = (max(1, round((box[2] - box[0]) * stretch)), max(1, round((box[3] - box[1]) * stretch)))
    cut = view.picture.crop((int(box[0]), int(box[1]), -int(-box[2] // 1), -int(-box[3] // 1))).convert("L")
    within = (box[0] - int(box[0]), box[1] - int(box[1]), box[2] - int(box[0]), box[3] - int(box[1]))
    return ImageOps.expand(_ink(cut.resize(size, Image.Resampling.BICUBIC, box=within)), BORDER_PX, fill=255)


def _ink(grey: Image.Image) -> Image.Image:
    """Return the text in black on white, whatever its colours; the commonest shade is the background."""
    darkest, lightest = ImageStat.Stat(grey).extrema[0]
    ground = ImageStat.Stat(grey).median[0]
    if ground - darkest < lightest - ground:
        grey, ground, darkest = ImageOps.invert(grey), 255 - ground, 255 - lightest
    spread = max(1, ground - darkest)
    return grey.point([min(255, max(0, round((shade - darkest) * 255 / spread))) for shade in range(256)])


def recognise(pictures: Sequence[Image.Image], language: str) -> list[str]:
    """Return what tesseract reads in each picture of a line, in one process.

    Raises:
        RuntimeError: it fails.
    """
    if not pictures:
        return []
    with tempfile.TemporaryDirectory(prefix="draftd-bench-") as directory:
        names = [Path(directory) / f"{number:05}.png" for number in range(len(pictures))]
        for name, picture in zip(names, pictures, strict=True):
            picture.save(name, compress_level=1)
        index = Path(directory) / "index.txt"
        index.write_text("".join(f"{name}\n" for name in names))
        command = [PROGRAM, str(index), "-", "--psm", _ONE_LINE, "-l", language, "--dpi", "300", "tsv"]
        done = subprocess.run(  # noqa: S603 - a fixed program
            command, capture_output=True, text=True, timeout=READ_S, check=False, env={"OMP_THREAD_LIMIT": "1"}
        )
    if done.returncode != 0:
        raise RuntimeError(f"{PROGRAM} failed: {done.stderr[-500:]}")
    return _words(done.stdout, pages=len(pictures))


def _words(table: str, *, pages: int) -> list[str]:
    """Return the words of each page; the table says their page, while a page without any would shift the plain text."""
    words: list[list[str]] = [[] for _ in range(pages)]
    for row in csv.DictReader(table.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE):
        if row["text"]:
            words[int(row["page_num"]) - 1].append(row["text"])
    return [" ".join(one) for one in words]
