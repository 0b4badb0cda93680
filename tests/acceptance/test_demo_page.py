"""The demo's page as a browser shows it."""

from pathlib import Path

import pytest

from draftd.demo import page
from draftd.demo.samples import SAMPLES
from draftd.demo.scenes import SAMPLE_SCENES
from fix_browser import DESKTOP, PHONE, Page
from fix_demo_page import HOSTILE, make_drafted, make_option, make_result


def drafted_samples() -> list[page.Drafted]:
    """Return the samples with the demo's own replies, and every kind of remark."""
    return [
        make_drafted(
            make_result(
                platform_name=scene["platform_name"],
                replying_to={"author": scene["author"], "gist": scene["gist"]},
                options=[
                    make_option(
                        length=length,
                        angle=scene[f"{length}_angle"],
                        stance=stance,
                        text=scene[length],
                        unsupported=[{"quote": "Thursday", "kind": "date"}],
                    )
                    for length, stance in zip(
                        ("short", "medium", "detailed"), ("accept", "decline", "open"), strict=True
                    )
                ],
                other_targets=[{"key": "t1", "author": "Ana", "gist": "asks about prices"}],
                missing=["the release date", HOSTILE],
                warnings=["unsupported_fact", "ambiguous_target"],
            ),
            sample=sample,
        )
        for sample, scene in ((one, SAMPLE_SCENES[one.name]) for one in SAMPLES)
    ]


@pytest.mark.parametrize("size", [PHONE, pytest.param(DESKTOP, marks=pytest.mark.long)], ids=["phone", "desktop"])
@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.long)])
async def test_it_fits_the_screen_and_runs_nothing(
    browser_page: Page, tmp_path: Path, size: tuple[int, int], scheme: str
) -> None:
    written = tmp_path / "demo.html"
    written.write_text(page.render(drafted_samples(), is_stand_in=True), encoding="utf-8")
    await browser_page.look_like(size, scheme)
    await browser_page.goto(written.as_uri())
    await browser_page.screenshot(f"demo-{size[0]}-{scheme}")
    assert await browser_page.overflowing() == []
    assert await browser_page.evaluate("document.querySelectorAll('article').length") == 9
    assert await browser_page.evaluate(
        "[...new Set([...document.querySelectorAll('mark')].map((m) => m.textContent))]"
    ) == ["Thursday"]
    assert await browser_page.evaluate("[...document.images].every((one) => one.complete && one.naturalWidth > 0)")
    assert await browser_page.evaluate("document.body.innerText.includes('<img src=x onerror=alert(1)>')")
    assert browser_page.errors == []
