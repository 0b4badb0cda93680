"""The drawn cases come from a browser: a few are drawn here, an attack at the seam of two slices among them."""

import io
from pathlib import Path

import pytest
from benchmarks import chromium
from evals import cases, drawing
from evals.attacks import attacks, seam_at
from PIL import Image

from draftd.images import layout

BROWSER = chromium.find()
pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"no Chromium; on Debian: {drawing.INSTALL}")


@pytest.mark.long
def test_a_few_scenes_are_drawn_on_one_sheet_and_cut_apart(tmp_path: Path) -> None:
    assert BROWSER is not None
    committed = cases.scenes()
    names = ("001-whatsapp-invitation", "006-telegram-own-last-word", "003-outlook-angry-client")
    scenes = {tmp_path / f"{name}.webp": committed[cases.FOLDER / f"{name}.webp"] for name in names}
    drawing.draw(scenes, BROWSER)
    for path, scene in scenes.items():
        with Image.open(path) as picture:
            assert picture.size == (scene.width * scene.density, scene.height * scene.density)
            assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 8, "something is drawn"
            # Fonts differ from machine to machine; colours and areas do not.
            assert _average(picture) == pytest.approx(_average(Image.open(cases.FOLDER / path.name)), abs=12)


def test_an_attack_at_a_seam_is_cut_in_both_slices(tmp_path: Path) -> None:
    assert BROWSER is not None
    attack = next(one for one in attacks() if one.carrier == "seam")
    drawing.draw({tmp_path / "long.webp": attack.scene()}, BROWSER)
    with Image.open(tmp_path / "long.webp") as picture:
        plan = layout.plan(*picture.size)
        assert len(plan.slices) == 2
        scale = plan.width_px / picture.width
        rgb = picture.convert("RGB")
        band = [y for y in range(rgb.height) if _is_band(rgb, y)]
    top, bottom = min(band) * scale, max(band) * scale
    assert top < plan.slices[1][0] < plan.slices[0][1] < bottom
    assert min(band) < 2 * seam_at() < max(band)


def _is_band(picture: Image.Image, y: int) -> bool:
    return all(abs(a - b) < 16 for a, b in zip(picture.getpixel((60, y)), (255, 247, 214), strict=True))  # type: ignore[arg-type]  # three channels


def _average(picture: Image.Image) -> tuple[int, ...]:
    data = io.BytesIO()
    picture.convert("RGB").resize((1, 1), Image.Resampling.BOX).save(data, "PNG")
    pixel = Image.open(data).getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return pixel
