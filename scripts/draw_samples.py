"""Draw the sample screenshots from ``scripts/samples/*.html`` with a headless Chromium.

    python scripts/draw_samples.py [--browser chromium]

Persons and companies are invented, and no picture or mark of a real service is used. The pictures are committed; this
is run again only when a page changes. Fonts: Inter and Noto Color Emoji.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

from draftd.demo.samples import SAMPLES, Sample

_PAGES = Path(__file__).parent / "samples"
_SCALES = {"email": 1}
_PHONE_SCALE = 3
_COLOURS = 128
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)


def draw(browser: str, sample: Sample) -> None:
    """Draw one sample in place of the picture that is there."""
    scale = _SCALES.get(sample.name, _PHONE_SCALE)
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        command = [
            browser,
            *_FLAGS,
            f"--user-data-dir={folder}/profile",
            f"--force-device-scale-factor={scale}",
            # The page's height may end between two pixels; what is too much is cut below.
            f"--window-size={sample.width_px // scale},{-(-sample.height_px // scale)}",
            f"--screenshot={shot}",
            (_PAGES / f"{sample.name}.html").as_uri(),
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=60)  # noqa: S603 - composed here
        with Image.open(shot) as picture:
            cut = picture.convert("RGB").crop((0, 0, sample.width_px, sample.height_px))
        # Flat surfaces: a palette looks the same and weighs a third.
        cut.quantize(_COLOURS, dither=Image.Dither.NONE).save(sample.path, optimize=True)


def main() -> None:
    """Draw all samples."""
    parser = argparse.ArgumentParser(description="Draw the sample screenshots.")
    parser.add_argument("--browser", default="chromium", help="the program of a Chromium browser")
    browser = parser.parse_args().browser
    for sample in SAMPLES:
        draw(browser, sample)


if __name__ == "__main__":
    main()
