"""An evaluation, from its cases to its results and its report.

Owns the order of things. Invariant: a finished case is on the disk before it is reported, and is not drafted again when an
interrupted evaluation is continued.
"""

import asyncio
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from draftd import __version__, db
from draftd.errors import CommandError, RequestError
from draftd.evals import baseline, labels, prompt_files, report, surroundings
from draftd.evals.baseline import Comparison
from draftd.evals.cases import COMPLETED, Case
from draftd.evals.drafting import Drafting
from draftd.evals.figures import figures
from draftd.evals.judge import Judge, JudgeFailed, target_of
from draftd.evals.pictures import CasePictures
from draftd.evals.plan import Plan
from draftd.evals.results import CaseResult, Drafted, Results, ResultsFile, Setup, texts, write_whole
from draftd.evals.stand_in import JUDGE, MODEL
from draftd.evals.surroundings import LOG, PROMPTS
from draftd.providers.llm import Llm
from draftd.providers.target import Target
from draftd.reply.agents import Agent
from draftd.settings import Settings, call_directly

Say = Callable[[str], None]
OnCase = Callable[[CaseResult, int, int], None]
"""Called with each finished case, how many are finished, and how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """What an evaluation came to."""

    results: Results
    comparison: Comparison | None
    report: Path


def evaluate(plan: Plan, settings: Settings, *, say: Say, on_case: OnCase) -> Evaluated:
    """Run an evaluation and write its results and report.

    Args:
        plan: a checked one.
        settings: the operator's.
        say: takes messages about the progress.
        on_case: takes each finished case.

    Raises:
        CommandError: it cannot be run. What was finished is kept.
    """
    with tempfile.TemporaryDirectory(prefix="draftd-eval-") as made, surroundings.stand_in(plan) as stand_in_url:
        folder = Path(made)
        agents = prompt_files.collect(
            folder / PROMPTS, agent=plan.agent, prompts_dir=settings.prompts_dir, against=plan.against
        )
        file = ResultsFile(plan.output, _setup(plan, agents))
        if resumed := file.resume():
            say(f"continuing an interrupted evaluation: {resumed} of {len(plan.cases)} cases are finished")
        judge = None if plan.judge is None else target_of(plan.judge, settings, stand_in_url)
        run = _Run(plan=plan, settings=settings, file=file, judge=judge, say=say, on_case=on_case)
        with surroundings.drafting_daemon(plan, settings, folder, stand_in_url) as (url, process):
            if plan.judge == JUDGE:
                # Only now: the daemon's calls to a real model may need a proxy.
                call_directly()
            say(f"drafting {len(plan.cases) - resumed} cases with {plan.model}, on a temporary PostgreSQL")
            asyncio.run(run.run(url, process, folder / LOG))
    return asyncio.run(_finish(plan, settings, file))


def _setup(plan: Plan, agents: Mapping[str, Agent]) -> Setup:
    other = agents.get(prompt_files.OTHER)
    return Setup(
        draftd=__version__,
        model=plan.model,
        is_stand_in=plan.model == MODEL,
        prompt_version=f"{plan.agent} {agents[plan.agent].version}",
        judge=plan.judge,
        is_judge_stand_in=plan.judge == JUDGE,
        against=None if other is None else f"{plan.against} {other.version}",
        without=list(plan.options_without),
        split=plan.split,
        cases={case.n: case.sha256 for case in plan.cases},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """The cases of one evaluation, drafted and judged."""

    plan: Plan
    settings: Settings
    file: ResultsFile
    judge: Target | None
    say: Say
    on_case: OnCase

    async def run(self, url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
        """Draft and judge every case that is not finished.

        Raises:
            CommandError: the evaluation cannot go on.
        """
        remaining = iter([case for case in self.plan.cases if not self.file.is_finished(case.n)])
        llm = await asyncio.to_thread(Llm.load) if self.judge else None
        pictures = CasePictures(self.settings)
        try:
            async with db.connected(url) as connection, asyncio.TaskGroup() as group:
                drafting = Drafting(connection=connection, process=process, log=log, say=self.say)
                for _ in range(self.plan.concurrency):
                    group.create_task(self._work(remaining, drafting, llm, pictures))
        except ExceptionGroup as failed:
            errors, others = failed.split(CommandError)
            raise (others or errors or failed).exceptions[0] from None
        finally:
            await pictures.aclose()
            if llm is not None:
                await llm.aclose()

    async def _work(
        self, remaining: Iterator[Case], drafting: Drafting, llm: Llm | None, pictures: CasePictures
    ) -> None:
        for case in remaining:
            result = await self._case(case, drafting, llm, pictures)
            self.file.add(result)
            self.on_case(result, len(self.file.results().cases), len(self.plan.cases))

    async def _case(self, case: Case, drafting: Drafting, llm: Llm | None, pictures: CasePictures) -> CaseResult:
        drafted = await drafting.draft(case, agent=self.plan.agent)
        other = await self._other(case, drafting)
        result = CaseResult(
            n=case.n,
            split=case.split,
            sha256=case.sha256,
            drafted=drafted,
            other=other,
            checks=labels.checks(case, drafted),
            labels=labels.wanted(case),
        )
        if llm is None or self.judge is None or drafted.outcome != COMPLETED:
            return result
        judge = Judge(llm=llm, target=self.judge, time_s=self.settings.model_timeout_s)
        return await _judged(result, case, judge, pictures)

    async def _other(self, case: Case, drafting: Drafting) -> Drafted | None:
        if not self.plan.has_other(case):
            return None
        agent = prompt_files.OTHER if self.plan.against else self.plan.agent
        return await drafting.draft(case, agent=agent, without=self.plan.options_without)


async def _judged(result: CaseResult, case: Case, judge: Judge, pictures: CasePictures) -> CaseResult:
    """Return a case with the judge's verdicts, or with why there are none."""
    replies = texts(result.drafted.replies)
    other = result.other if result.other and result.other.outcome == COMPLETED else None
    found: dict[str, Any] = {}
    try:
        parts = await pictures.for_judge(case)
        found["verdict"] = await judge.verdict(case, replies, parts)
        if other is not None:
            found["pair"] = await judge.compare(case, replies, texts(other.replies), parts)
    except JudgeFailed as error:
        found["judge_error"] = str(error)
    except RequestError as error:
        found["judge_error"] = error.code
    return result.model_copy(update={**found, "judge_tokens": judge.tokens, "judge_cost_usd": judge.cost_usd})


async def _finish(plan: Plan, settings: Settings, file: ResultsFile) -> Evaluated:
    """Write the figures and the report."""
    results = file.results()
    file.write(figures(results).as_json())
    comparison = None if plan.baseline is None else baseline.compare(results, plan.baseline)
    pictures = CasePictures(settings)
    try:
        shown = {case.n: await pictures.for_report(case) for case in plan.cases}
    finally:
        await pictures.aclose()
    page = report.render(results, {case.n: case for case in plan.cases}, shown, comparison=comparison)
    path = plan.output / report.FILE
    write_whole(path, page)
    return Evaluated(results=results, comparison=comparison, report=path)
