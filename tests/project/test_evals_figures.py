"""The counts of an evaluation, and whether it is worse than an earlier one."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from draftd.errors import CommandError, UsageError
from draftd.evals import baseline, labels
from draftd.evals.criteria import Failure
from draftd.evals.figures import Pairs, Share, figures
from draftd.evals.results import CaseResult, ResultsFile, read
from fix_evals import make_case, make_drafted, make_pair, make_result, make_results, make_setup, make_verdict

NOT_READY = {Failure.INVENTED: ["short"], Failure.NOT_SEND_READY: ["short"]}


def judged(count: int, *, failing: int = 0) -> list[CaseResult]:
    """Return cases with verdicts, the first of which have a failing reply."""
    return [
        make_result(str(number), verdict=make_verdict(NOT_READY if number < failing else None))
        for number in range(count)
    ]


def test_a_result_is_compared_with_its_labels() -> None:
    case = make_case(
        outcome="completed", platform=["x", "email"], content_type="post", language="en-GB", must_not_say="Monday"
    )
    assert labels.checks(case, make_drafted()) == {
        "outcome": True,
        "platform": True,
        "content_type": False,
        "language": True,
        "forbidden_words": True,
    }
    assert labels.checks(case, make_drafted({"short": "On MONDAY."}))["forbidden_words"] is False


def test_of_a_request_without_a_result_only_the_outcome_is_compared() -> None:
    failed = make_drafted({}, outcome="nothing_open", seen={})
    assert labels.checks(make_case(outcome="nothing_open", platform="x"), failed) == {"outcome": True}
    assert labels.checks(make_case(outcome="either"), failed) == {"outcome": True}
    assert labels.checks(make_case(outcome="completed"), failed) == {"outcome": False}
    assert labels.checks(make_case(), make_drafted({}, outcome="output_invalid", seen={})) == {"outcome": False}


def test_replies_and_failures_are_counted() -> None:
    found = figures(make_results(judged(4, failing=1)))
    assert (found.cases, found.drafted, found.judged) == (4, 4, 12)
    assert found.failures[Failure.INVENTED] == Share(1, 12)
    assert found.send_ready == {
        "short": Share(3, 4),
        "medium": Share(4, 4),
        "detailed": Share(4, 4),
        "all": Share(11, 12),
    }
    assert found.pairs is None


def test_pairs_are_counted_with_the_share_of_the_decided_ones() -> None:
    pairs = [make_result(str(n), pair=make_pair(outcome)) for n, outcome in enumerate(["won"] * 6 + ["lost", "tied"])]
    found = figures(make_results(pairs))
    assert found.pairs == Pairs(won=6, lost=1, tied=1)
    assert found.as_json()["pairs"] == {"won": 6, "lost": 1, "tied": 1, "share_of_decided": 0.8571, "p": 0.125}


def test_a_case_with_replies_on_one_side_only_is_counted_and_is_no_pair() -> None:
    refused = make_drafted({}, outcome="output_invalid", seen={})
    cases = [
        make_result("1", drafted=refused, other=make_drafted()),
        make_result("2", other=refused),
        make_result("3", drafted=refused, other=refused),
        make_result("4", other=make_drafted(), pair=make_pair("won")),
    ]
    found = figures(make_results(cases))
    assert (found.one_sided, found.pairs) == (2, Pairs(won=1, lost=0, tied=0))


def test_drafts_that_took_more_than_one_call_are_counted() -> None:
    calls = [make_result(str(n), drafted=make_drafted(model_calls=n)) for n in range(3)]
    assert figures(make_results(calls)).repaired == Share(1, 2)


def test_the_figures_are_json() -> None:
    assert json.loads(json.dumps(figures(make_results(judged(2))).as_json()))["failures"]["invented"] == {
        "ok": 0,
        "of": 6,
    }


def test_a_cost_that_is_not_known_is_not_summed_up() -> None:
    known, unknown = make_drafted(cost_usd=0.25), make_drafted()
    assert figures(make_results([make_result("1", drafted=known), make_result("2", drafted=known)])).cost_usd == 0.5
    assert figures(make_results([make_result("1", drafted=known), make_result("2", drafted=unknown)])).cost_usd is None


def test_nine_cases_worse_and_none_better_are_worse() -> None:
    comparison = baseline.compare(make_results(judged(40, failing=9)), make_results(judged(40)))
    assert [change.measure for change in comparison.changes if change.is_worse] == ["invented", "not_send_ready"]
    assert comparison.is_worse


def test_a_few_cases_worse_are_chance() -> None:
    assert not baseline.compare(make_results(judged(40, failing=4)), make_results(judged(40))).is_worse


def test_what_became_better_is_not_worse() -> None:
    assert not baseline.compare(make_results(judged(40)), make_results(judged(40, failing=20))).is_worse


@pytest.mark.parametrize("comparisons", [20, pytest.param(200, marks=pytest.mark.long)])
def test_chance_alone_hardly_ever_trips_the_rule(comparisons: int) -> None:
    draw = random.Random(4)  # noqa: S311 - the same draws each time

    def drawn() -> Sequence[CaseResult]:
        # Every reply fails every way with the same probability, before and after.
        return [
            make_result(
                str(n),
                verdict=make_verdict({f: [x for x in ("short", "medium") if draw.random() < 0.3] for f in Failure}),
            )
            for n in range(20)
        ]

    tripped = sum(baseline.compare(make_results(drawn()), make_results(drawn())).is_worse for _ in range(comparisons))
    assert tripped <= 0.05 * comparisons


def test_a_case_that_was_edited_is_not_compared() -> None:
    edited = [make_result("1", sha256="another"), make_result("2")]
    assert baseline.compare(make_results(edited), make_results([make_result("1"), make_result("2")])).cases == 1
    with pytest.raises(UsageError, match="no case in common"):
        baseline.compare(make_results([make_result("1")]), make_results([make_result("2")]))


def test_another_judges_verdicts_are_not_compared() -> None:
    now, before = make_results(judged(40, failing=40)), make_results(judged(40), judge="openai/c")
    comparison = baseline.compare(now, before)
    assert not comparison.is_worse
    assert [change.measure for change in comparison.changes] == ["outcome"]
    assert "another judge" in comparison.note


def test_an_interrupted_evaluation_is_continued(tmp_path: Path) -> None:
    cases = judged(3)
    setup = make_setup(cases)
    file = ResultsFile(tmp_path, setup)
    assert file.resume() == 0
    file.add(cases[1])
    again = ResultsFile(tmp_path, setup)
    assert again.resume() == 1
    assert again.is_finished("1")
    assert again.results().complete is False
    again.add(cases[0])
    again.add(cases[2])
    assert [case.n for case in again.results().cases] == ["0", "1", "2"]


def test_a_case_without_a_verdict_is_drafted_again_by_the_continuation(tmp_path: Path) -> None:
    cases = [make_result("1"), make_result("2", judge_error="unreadable"), make_result("3")]
    file = ResultsFile(tmp_path, make_setup(cases))
    file.add(cases[0])
    file.add(cases[1])
    again = ResultsFile(tmp_path, make_setup(cases))
    assert (again.resume(), again.is_finished("2")) == (1, False)


@pytest.mark.parametrize("over", [{"model": "openai/c"}, {"judge": None}, {"prompt_version": "comment_generator 2+1"}])
def test_another_evaluation_is_kept_and_not_continued(tmp_path: Path, over: dict[str, str | None]) -> None:
    cases = judged(2)
    ResultsFile(tmp_path, make_setup(cases)).add(cases[0])
    assert ResultsFile(tmp_path, make_setup(cases, **over)).resume() == 0
    assert read(tmp_path / "results.previous.json").cases == cases[:1]


def test_a_complete_evaluation_is_made_anew(tmp_path: Path) -> None:
    cases = judged(1)
    ResultsFile(tmp_path, make_setup(cases)).add(cases[0])
    assert ResultsFile(tmp_path, make_setup(cases)).resume() == 0


def test_results_are_written_whole_and_read_again(tmp_path: Path) -> None:
    cases = judged(2, failing=1)
    file = ResultsFile(tmp_path, make_setup(cases))
    for case in cases:
        file.add(case)
    file.write(figures(file.results()).as_json())
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    assert read(tmp_path / "results.json") == file.results()
    assert json.loads((tmp_path / "results.json").read_text())["figures"]["cases"] == 2


@pytest.mark.parametrize("content", ["", "[]", '{"form": 2}'])
def test_a_file_that_holds_no_results_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(UsageError, match="is not the results of an evaluation"):
        read(tmp_path / "results.json")


def test_what_cannot_be_written_ends_the_evaluation_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "results.json").mkdir()
    with pytest.raises(CommandError, match=r"cannot write .*results\.json: "):
        ResultsFile(tmp_path, make_setup([])).write({})
