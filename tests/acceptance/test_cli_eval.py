"""``draftd eval``: a real daemon, a judge over HTTP, results, a report that a browser opens."""

import json
import signal
import subprocess
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from draftd.evals import lock
from draftd.evals.cases import load
from draftd.evals.criteria import Failure
from draftd.stand_in.threaded import ThreadedStandIn
from fix_browser import DESKTOP, PHONE, SCHEMES, Page
from fix_daemon import draftd, environment
from fix_evals import THREE, make_result, make_results, write_cases
from nursery import nursery

NOWHERE = "postgresql://127.0.0.1:9/app"
"""Evaluations have a database of their own; this one would answer nobody."""
LENGTHS = ("short", "medium", "detailed")
VERDICT: dict[str, Any] = {failure.value: [] for failure in Failure} | {
    f"{length}_reason": "nothing" for length in LENGTHS
}


STAND_INS = ("--model", "stand-in", "--judge", "stand-in-judge")


def locked_cases(directory: Path) -> Path:
    """Write three cases with their lock; return their folder."""
    write_cases(directory)
    lock.write(directory, load(directory))
    return directory


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """Three cases."""
    return locked_cases(tmp_path / "cases")


@dataclass(frozen=True)
class Evaluated:
    """An evaluation with the stand-ins."""

    cases: Path
    output: Path
    done: "subprocess.CompletedProcess[str]"


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """An evaluation with the stand-ins, in an environment whose proxies would stop a call to them."""
    folder = tmp_path_factory.mktemp("evaluated")
    directory, output = locked_cases(folder / "cases"), folder / "out"
    variables = environment(NOWHERE) | {"HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "socks5://127.0.0.1:9"}
    arguments = [*STAND_INS, "-o", str(output), "--without", "facts"]
    return Evaluated(directory, output, draftd("eval", str(directory), *arguments, env=variables, time_s=200))


def script_judge(stand_in: ThreadedStandIn) -> None:
    """Let the stand-in of the tests answer as a judge: one invention, and always the first of a pair."""
    verdict = VERDICT | {"invented": ["medium"]}
    stand_in.script(
        default=[
            {"when_model": "judge", "when": '"first": {', "says": json.dumps({"reason": "first", "winner": "first"})},
            {"when_model": "judge", "says": json.dumps(verdict)},
        ]
    )


@pytest.mark.long
@pytest.mark.timeout(240)
def test_cases_are_drafted_compared_judged_and_reported(cases: Path, stand_in: ThreadedStandIn, tmp_path: Path) -> None:
    script_judge(stand_in)
    other = tmp_path / "naive.txt"
    other.write_text("Write three replies to the message in the screenshot.")
    output = tmp_path / "out"
    arguments = ["--judge", "openai/judge", "--against", str(other), "-o", str(output), "--json"]
    done = draftd("eval", str(cases), *arguments, env=environment(NOWHERE, stand_in), time_s=200)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["figures"]
    assert told["labels"]["platform"] == {"ok": 3, "of": 3}
    assert told["failures"]["invented"] == {"ok": 3, "of": 9}
    # Always the first is a preference for a side, not for a prompt.
    assert told["pairs"] == {"won": 0, "lost": 0, "tied": 3, "share_of_decided": 0.0, "p": 1.0}
    results = json.loads((output / "results.json").read_text())
    assert results["complete"] is True
    assert [case["n"] for case in results["cases"]] == ["linkedin", "email", "3"]
    assert results["setup"]["prompt_version"] != results["setup"]["against"]
    assert (output / "report.html").read_text().count("data:image/jpeg;base64,") == 3
    asked = [call for call in stand_in.log if call["model"] == "judge"]
    assert len(asked) == 9
    assert all(call["images"] for call in asked)


@pytest.mark.long
@pytest.mark.timeout(240)
def test_with_the_stand_ins_it_says_that_no_model_was_asked(evaluated: Evaluated) -> None:
    done = evaluated.done
    assert done.returncode == 0, done.stderr
    assert "came from a stand-in, not from a model" in done.stderr
    assert "outcome as labelled\t3\t3\t100" in done.stdout
    assert "blind pairs: 0 won, 0 lost, 1 tied" in done.stderr


@pytest.mark.long
@pytest.mark.timeout(240)
def test_a_case_is_drafted_with_its_profile(evaluated: Evaluated) -> None:
    kept = json.loads((evaluated.output / "results.json").read_text())
    (drafted,) = (case["drafted"] for case in kept["cases"] if case["n"] == "email")
    assert [reply["text"].endswith("\n\nInes Okafor, Lagos") for reply in drafted["replies"]] == [True] * 3


@pytest.mark.long
@pytest.mark.timeout(240)
def test_it_is_compared_with_a_baseline(evaluated: Evaluated, tmp_path: Path) -> None:
    arguments = [
        *STAND_INS,
        "--split",
        "dev",
        "--baseline",
        str(evaluated.output / "results.json"),
        "-o",
        str(tmp_path),
    ]
    done = draftd("eval", str(evaluated.cases), *arguments, env=environment(NOWHERE), time_s=200)
    assert done.returncode == 0, done.stderr
    assert "not worse than the baseline, over 2 cases" in done.stderr


@pytest.mark.long
@pytest.mark.timeout(240)
def test_worse_than_the_baseline_is_a_negative_answer(stand_in: ThreadedStandIn, tmp_path: Path) -> None:
    # The stand-in drafts for every picture.
    directory = write_cases(tmp_path / "cases", [{**THREE[2], "n": n, "outcome": "nothing_open"} for n in range(5)])
    before = [make_result(case.n, sha256=case.sha256, checks={"outcome": True}) for case in load(directory)]
    baseline = tmp_path / "before.json"
    baseline.write_text(make_results(before, judge=None).model_dump_json())
    arguments = ["--baseline", str(baseline), "-o", str(tmp_path / "out")]
    done = draftd("eval", str(directory), *arguments, env=environment(NOWHERE, stand_in), time_s=200)
    assert done.returncode == 1, done.stderr
    assert "worse than the baseline: outcome: 5 cases worse, 0 better (p = 0.031)" in done.stderr


@pytest.mark.long
@pytest.mark.timeout(240)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_evaluation_keeps_what_is_finished_and_is_continued(
    cases: Path, stand_in: ThreadedStandIn, tmp_path: Path, number: signal.Signals
) -> None:
    stand_in.script(default={"when": "Thursday suits me.", "hang": True})
    output, log = tmp_path / "out", tmp_path / "log"
    command = ["eval", str(cases), "--concurrency", "1", "-o", str(output)]
    process = nursery().fork(command, env=environment(NOWHERE, stand_in), stdout=log, stderr=log)
    try:
        stand_in.wait_for_calls(2, timeout_s=150)
        process.send_signal(number)
        assert process.wait(60) == 130, log.read_text()
    finally:
        process.kill()
        process.wait()
    assert "the same command continues" in log.read_text()
    assert "Traceback" not in log.read_text()
    kept = json.loads((output / "results.json").read_text())
    assert ([case["n"] for case in kept["cases"]], kept["complete"]) == (["linkedin"], False)
    stand_in.reset()
    done = draftd(*command, env=environment(NOWHERE, stand_in), time_s=200)
    assert done.returncode == 0, done.stderr
    assert "1 of 3 cases are finished" in done.stderr
    assert len(stand_in.log) == 2
    assert json.loads((output / "results.json").read_text())["complete"] is True


@pytest.mark.long
@pytest.mark.timeout(240)
def test_a_model_that_cannot_be_used_ends_it_with_one_line(cases: Path) -> None:
    done = draftd("eval", str(cases), "--model", "nonsense/model", env=environment(NOWHERE), cwd=cases, time_s=200)
    assert done.returncode == 78, done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("draftd: ")] == [done.stderr.splitlines()[-1]]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--model", "openai/a", "--judge", "openai/a"], 2, "must not be the model under test"),
        (["--model", "openai/a", "--judge", "openrouter/openai/A"], 2, "must not be the model under test"),
        (["--model", "openai/a", "--against", "p.md"], 2, "needs a judge"),
        (["--model", "openai/a", "--without", "facts"], 2, "needs a judge"),
        (["--model", "openai/a", "--judge", "b", "--without", "mood"], 2, "'mood' is not one of facts, voice, profile"),
        (["--model", "openai/a", "--judge", "b", "--without", "voice"], 2, "no case has voice_samples"),
        (["--model", "openai/a", "--judge", "b", "--without", "facts", "--against", "p.md"], 2, "one of them"),
        (["--model", "openai/a", "--split", "test"], 2, "'test' is not one of dev, held_out"),
        (["--model", "openai/a", "--agent", "nobody"], 2, "no prompt for the agent 'nobody'"),
        (["--model", "openai/a", "--baseline", "none.json"], 2, "cannot read none.json"),
        (["--model", "openai/a", "--judge", "openai/b", "--against", "none.md"], 2, "cannot read none.md"),
        (["--model", "stand-in", "-o", "cases.json"], 2, "cannot write to cases.json: File exists"),
        ([], 78, "no model: give --model, or set DRAFTD_MODEL"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_drafted(
    cases: Path, arguments: list[str], code: int, message: str
) -> None:
    done = draftd("eval", str(cases), *arguments, env=environment(NOWHERE), cwd=cases)
    assert done.returncode == code, done.stderr
    assert message in done.stderr


def test_an_edited_held_out_case_fails_the_evaluation_until_it_is_accepted(cases: Path) -> None:
    write_cases(cases, [THREE[0], {**THREE[1], "context": "Friday suits me."}, THREE[2]])
    done = draftd("eval", str(cases), "--model", "stand-in", env=environment(NOWHERE), cwd=cases)
    assert done.returncode == 1
    assert "edited: email" in done.stderr
    assert draftd("eval", str(cases), "--relock", env=environment(NOWHERE)).returncode == 0
    lock.check(cases, load(cases))


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_a_browser_shows_the_report_on_a_phone_and_on_a_desktop_light_and_dark(
    evaluated: Evaluated, tmp_path: Path, browser_page: Page
) -> None:
    # A word as long as a hostile text may have it.
    page = (evaluated.output / "report.html").read_text().replace("No model looked", "W" * 400 + " no model looked")
    report = tmp_path / "report.html"
    report.write_text(page)
    for size, scheme in product((PHONE, DESKTOP), SCHEMES):
        await browser_page.look_like(size, scheme)
        await browser_page.goto(report.as_uri())
        await browser_page.screenshot(f"evaluation-{size[0]}-{scheme}")
        assert await browser_page.overflowing() == [], (size, scheme)
        found: dict[str, Any] = await browser_page.evaluate(
            "({scripts: document.scripts.length,"
            " broken: [...document.images].filter(one => one.complete && !one.naturalWidth).length,"
            " paper: getComputedStyle(document.body).backgroundColor})"
        )
        assert (found["scripts"], found["broken"]) == (0, 0), (size, scheme)
        red = int(found["paper"].removeprefix("rgb(").split(",")[0])
        assert (red < 60) is (scheme == "dark")
    # The index leads to a case that is closed, and opens it.
    opened = "document.querySelectorAll('details[open]').length"
    await browser_page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = false })")
    assert await browser_page.evaluate(opened) == 0
    await browser_page.evaluate("document.querySelector('.index a:last-child').click()")
    assert await browser_page.evaluate(opened) == 1
    assert browser_page.errors == []
