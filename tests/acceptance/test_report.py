"""The report: the command that writes it, and the page as a browser shows it."""

import asyncio
import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from draftd import db
from draftd.report import page
from draftd.report.figures import figures_of
from draftd.report.reading import read_period
from fix_browser import DESKTOP, PHONE, SCHEMES, Page
from fix_daemon import Call, environment
from fix_report import add_hostile, fill_period

USAGE, TRY_AGAIN = 2, 75

# Texts that stand out of their own box, and texts whose contrast is below WCAG's 4.5:1.
CUT = """
[...document.querySelectorAll("td, th, .label, .figure, .tile b, .tile span, summary > *, h4, p, small")]
  .filter((one) => one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).display !== "inline")
  .map((one) => one.tagName + "." + one.className + ": " + one.textContent.trim().slice(0, 40))
"""
FAINT = """
(() => {
  const channels = (text) => text.match(/[0-9.]+/g).map(Number);
  const linear = (c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
  const light = (c) => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
  const ground = (one) => {
    for (; one; one = one.parentElement) {
      const found = channels(getComputedStyle(one).backgroundColor);
      if (found.length === 3 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const found = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || one.closest("svg") || !one.getClientRects().length) continue;
    const pair = [light(channels(getComputedStyle(one).color)), light(ground(one))].sort((x, y) => y - x);
    if ((pair[0] + 0.05) / (pair[1] + 0.05) < 4.5) found.add(one.tagName + "." + one.className);
  }
  return [...found];
})()
"""


async def write_page(connection: db.Connection, path: Path, *, with_content: bool = True) -> None:
    period = await read_period(connection, since_s=86_400, drafts=20, with_content=with_content)
    html = page.render(figures_of(period), period.drafts, with_content=with_content)
    await asyncio.to_thread(path.write_text, html, encoding="utf-8")


async def look(tab: Page, path: Path, name: str) -> None:
    """Look at a page on every device in every scheme; the screenshots bear its name."""
    for size, device in ((PHONE, "phone"), (DESKTOP, "desktop")):
        for scheme in SCHEMES:
            await tab.look_like(size, scheme)
            await tab.goto(path.as_uri())
            await tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
            await tab.screenshot(f"report-{name}-{device}-{scheme}")
            assert await tab.overflowing() == [], (device, scheme)
            assert await tab.evaluate(CUT) == [], (device, scheme)
            assert await tab.evaluate(FAINT) == [], (device, scheme)
            assert await tab.evaluate("getComputedStyle(document.body).backgroundColor") == (
                "rgb(246, 247, 249)" if scheme == "light" else "rgb(18, 21, 26)"
            )
    assert tab.errors == []


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_a_days_report_fits_every_screen(connection: db.Connection, browser_page: Page, tmp_path: Path) -> None:
    await fill_period(connection)
    await write_page(connection, tmp_path / "report.html")
    await look(browser_page, tmp_path / "report.html", "day")
    assert await browser_page.evaluate("document.querySelectorAll('.plot svg').length") == 4
    # Each bar has its height.
    assert await browser_page.evaluate(
        "[...document.querySelectorAll('.fill.completed')].every((one) => one.getBoundingClientRect().height > 0)"
    )
    shown = await browser_page.evaluate("document.body.innerText")
    for text in ("Drafts of the last 24 hours", "comment_generator", "b71e04", "Bo Lindqvist", "€4,250", "unknown"):
        assert text in shown
    assert await browser_page.evaluate("document.querySelectorAll('details').length") == 20


@pytest.mark.timeout(240)
async def test_hostile_and_endless_texts_run_nothing_and_fit(
    connection: db.Connection, browser_page: Page, tmp_path: Path
) -> None:
    await add_hostile(connection)
    await write_page(connection, tmp_path / "report.html")
    await look(browser_page, tmp_path / "report.html", "hostile")
    assert await browser_page.evaluate("document.title") == "Drafts of the last 24 hours"
    assert await browser_page.evaluate("document.querySelectorAll('script, img, a').length") == 0
    # The policy itself forbids what the template does not write.
    await browser_page.evaluate("document.body.append(Object.assign(new Image(), {src: 'https://evil.example/x.png'}))")
    await browser_page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'document.title = 1'}))"
    )
    assert await browser_page.evaluate("document.title") == "Drafts of the last 24 hours"
    # Both are refused.
    assert len([error for error in browser_page.errors if "Content Security Policy" in error]) == 2


@pytest.mark.long
async def test_an_empty_period_is_a_page_too(connection: db.Connection, browser_page: Page, tmp_path: Path) -> None:
    await write_page(connection, tmp_path / "report.html", with_content=False)
    await look(browser_page, tmp_path / "report.html", "empty")
    assert await browser_page.evaluate("document.title") == "Drafts of the last 24 hours"


async def run(call: Call, *arguments: str, env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run a command, which has an event loop of its own."""
    return await asyncio.to_thread(call, *arguments, env=env)


async def test_a_report_is_written_for_its_owner_alone(
    call: Call, connection: db.Connection, database: str, tmp_path: Path
) -> None:
    await fill_period(connection, n=60)
    env = environment(database)
    folder = tmp_path / "reports"
    folder.mkdir()
    file = folder / "of the day.html"
    done = await run(call, "report", "--since", "2d", "-o", str(file), env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"report written: {file}\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "Drafts of the last 2 days" in file.read_text()
    assert [one.name for one in folder.iterdir()] == [file.name]
    printed = await run(call, "report", "-o", "-", "--drafts", "3", env=env)
    assert printed.stdout.startswith("<!doctype html>")
    assert printed.stdout.count("<details") == 3


async def test_the_figures_are_printed_as_json(call: Call, connection: db.Connection, database: str) -> None:
    await fill_period(connection, n=300)
    done = await run(call, "report", "--json", env=environment(database))
    data = json.loads(done.stdout)
    row = await (
        await connection.execute("SELECT count(*) AS n FROM draft_requests WHERE status = 'completed'")
    ).fetchone()
    assert row == {"n": data["requests"]["completed"]}
    assert data["latency"]["first_option_s"]["p50"] > 0
    assert {one["prompt_version"] for one in data["prompts"]} == {"3f9c2a", "b71e04", "s1"}
    assert data["drafts"][0]["options"][0]["text"].startswith("Thursday")


async def test_texts_are_left_out_where_traces_have_none(call: Call, connection: db.Connection, database: str) -> None:
    await fill_period(connection, n=60)
    on, off = environment(database), environment(database, DRAFTD_TRACE_CONTENT="off")
    text = "Thursday at 14:00 works"
    assert text not in (await run(call, "report", "-o", "-", env=off)).stdout
    assert text in (await run(call, "report", "-o", "-", "--content", env=off)).stdout
    assert text in (await run(call, "report", "-o", "-", env=on)).stdout
    assert text not in (await run(call, "report", "-o", "-", "--without-content", env=on)).stdout
    assert "Thursday" not in (await run(call, "report", "--json", env=off)).stdout


def test_mistakes_are_one_line_each(call: Call, database: str, tmp_path: Path) -> None:
    env = environment(database)
    nowhere = tmp_path / "missing" / "report.html"
    (file := tmp_path / "file").touch()
    os.mkfifo(pipe := tmp_path / "pipe")
    for arguments, code, why in (
        (["--since", "soon"], USAGE, "not a valid duration"),
        (["--since", "0"], USAGE, "--since is at least 1s"),
        (["--json", "-o", "-"], USAGE, "choose one"),
        (["-o", str(nowhere)], USAGE, f"cannot write {nowhere}: No such file or directory"),
        (["-o", str(tmp_path)], USAGE, f"cannot write {tmp_path}: Is a directory"),
        (["-o", ""], USAGE, "cannot write .: Is a directory"),
        (["-o", f"{file}/x"], USAGE, f"cannot write {file}/x: Not a directory"),
        (["-o", str(pipe)], USAGE, f"cannot write {pipe}: not a regular file"),
        (["-o", "/proc/report.html"], USAGE, "cannot write /proc/report.html: "),
        (["--json", "-o", str(tmp_path)], USAGE, "Is a directory"),
    ):
        done = call("report", *arguments, env=env)
        assert (done.returncode, done.stdout, why in done.stderr) == (code, "", True), done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert {*tmp_path.iterdir()} == {file, pipe}, "nothing is left behind"


async def test_a_period_that_takes_too_long_says_what_to_do(
    call: Call, connection: db.Connection, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = db.connection.SESSION_SETUP
    monkeypatch.setattr(db.connection, "SESSION_SETUP", setup.replace("'15s'", "'2s'"))
    async with connection.transaction():
        # As slow as can be.
        await connection.execute("LOCK draft_usage IN ACCESS EXCLUSIVE MODE")
        done = await run(call, "report", "--since", "30d", env=environment(database))
    assert (done.returncode, "choose a shorter --since" in done.stderr) == (TRY_AGAIN, True), done.stderr
