"""An evaluation, from its cases to its results and its report.

Owns the order of things and what is started for it: an embedded PostgreSQL, a daemon, the stand-in if one is wanted. Invariants:
nothing it started is left behind; a finished case is on the disk before it is reported, and is not drafted again when an
interrupted evaluation is continued.
"""

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from draftd import __version__, db
from draftd.db import schema_version
from draftd.demo import answerer, daemon
from draftd.demo.embedded import EmbeddedPostgres
from draftd.errors import CommandError, ConfigurationError, RequestError, UsageError
from draftd.evals import baseline, labels, prompt_files, report
from draftd.evals.baseline import Comparison
from draftd.evals.cases import COMPLETED, Case, Split
from draftd.evals.drafting import Drafting
from draftd.evals.figures import figures
from draftd.evals.judge import PARAMS, Judge, JudgeFailed
from draftd.evals.pictures import CasePictures
from draftd.evals.results import CaseResult, Drafted, Results, ResultsFile, Setup, texts
from draftd.evals.stand_in import JUDGE, MODEL, StandIn
from draftd.providers.catalog import AgentModels, Catalog
from draftd.providers.llm import Llm, Target
from draftd.providers.permits import Permits
from draftd.reply.agents import Agent
from draftd.settings import DIRECTLY, Settings, environment_value

KEPT = (
    "model_api_bases",
    "model_key_variables",
    "attempt_timeout_s",
    "model_timeout_s",
    "image_max_bytes",
    "image_max_pixels",
    "image_long_edge_px",
)
"""The operator's settings that the evaluation's daemon gets; the others are about a database and a host of their own."""
ABLATIONS: Mapping[str, str] = {"facts": "facts", "voice": "voice_samples"}
"""What an evaluation can go without: word on the command line → option."""
_STAND_IN_TOKENS_PER_S = 4_000.0
_NOT_INHERITED = ("LANGFUSE_", "NOTIFY_SOCKET", "WATCHDOG_")
"""An evaluation leaves no traces among those of requests, and does not speak for a service."""

Say = Callable[[str], None]
OnCase = Callable[[CaseResult, int, int], None]
"""Called with each finished case, how many are finished, and how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be evaluated."""

    cases: Sequence[Case]
    agent: str
    model: str
    judge: str | None
    against: Path | None
    without: tuple[str, ...]
    """Words of ``ABLATIONS``."""
    split: Split | None
    concurrency: int
    output: Path
    baseline: Results | None

    @property
    def options_without(self) -> tuple[str, ...]:
        """The options that the other replies go without."""
        return tuple(ABLATIONS[word] for word in self.without)

    def has_other(self, case: Case) -> bool:
        """Return whether a case is also drafted otherwise."""
        return self.against is not None or any(case.options.get(name) for name in self.options_without)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """What an evaluation came to."""

    results: Results
    comparison: Comparison | None
    report: Path


def check(plan: Plan) -> None:
    """Check that a plan makes sense.

    Raises:
        UsageError: it does not; the message says why.
    """
    if plan.judge is not None and _is_same_model(plan.judge, plan.model):
        raise UsageError(f"the judge must not be the model under test ({plan.model})")
    if plan.against is not None and plan.without:
        raise UsageError("--against and --without compare different things; give one of them")
    if (plan.against is not None or plan.without) and plan.judge is None:
        raise UsageError("a comparison needs a judge: --judge MODEL")
    if unknown := [word for word in plan.without if word not in ABLATIONS]:
        raise UsageError(f"--without: {unknown[0]!r} is not one of {', '.join(ABLATIONS)}")
    if plan.without and not any(map(plan.has_other, plan.cases)):
        raise UsageError(f"no case has {' or '.join(plan.options_without)}")


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
    plan.output.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="draftd-eval-")))
        prompts = folder / "prompts"
        prompts.mkdir()
        agents = prompt_files.collect(prompts, agent=plan.agent, prompts_dir=settings.prompts_dir, against=plan.against)
        file = ResultsFile(plan.output, _setup(plan, agents))
        if resumed := file.resume():
            say(f"continuing an interrupted evaluation: {resumed} of {len(plan.cases)} cases are finished")
        stand_in = stack.enter_context(_stand_in(plan))
        judge = None if plan.judge is None else judge_target(plan.judge, settings, stand_in)
        with _daemon(plan, settings, folder, stand_in, say) as (url, process):
            run = _Run(plan=plan, settings=settings, file=file, judge=judge, say=say, on_case=on_case)
            asyncio.run(run.run(url, process, folder / "draftd.log"))
        return asyncio.run(_finish(plan, settings, file))


def judge_target(name: str, settings: Settings, stand_in: str | None) -> Target:
    """Return the judge as it is called.

    Raises:
        ConfigurationError: it may not be called, or its key is missing.
    """
    if name == JUDGE:
        return Target(name=name, model=f"openai/{name}", params=PARAMS, api_base=stand_in, api_key=MODEL)
    permits = Permits.of(settings.model_copy(update={"model": name}), environment_value)
    resolved = Catalog().resolve(AgentModels(models=(name,), params=PARAMS), permits=permits, getenv=environment_value)
    if resolved.unusable:
        raise ConfigurationError(f"the judge cannot be used: {resolved.unusable[0].message}")
    return resolved.targets[0]


def _is_same_model(one: str, other: str) -> bool:
    """Return whether two names mean the same model; a provider in front, or a gateway, makes no other one of it."""
    return one.rpartition("/")[2].casefold() == other.rpartition("/")[2].casefold()


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


@contextmanager
def _stand_in(plan: Plan) -> Iterator[str | None]:
    """Run the stand-in if the model or the judge is one; yield its address."""
    if plan.model != MODEL and plan.judge != JUDGE:
        yield None
        return
    stand_in = StandIn(plan.cases)
    with answerer.running(stand_in.answer, latency_s=0.0, tokens_per_s=_STAND_IN_TOKENS_PER_S) as url:
        yield url


@contextmanager
def _daemon(plan: Plan, settings: Settings, folder: Path, stand_in: str | None, say: Say) -> Iterator[tuple[str, Any]]:
    """Run a database and a daemon; yield the database's URL and the daemon's process."""
    with EmbeddedPostgres() as postgres:
        schema_version.upgrade(postgres.url)
        say(f"started PostgreSQL (embedded, temporary); drafting {len(plan.cases)} cases with {plan.model}")
        variables = daemon_variables(
            plan, settings, os.environ, prompts=folder / "prompts", url=postgres.url, stand_in=stand_in
        )
        concurrency = ("--concurrency", str(plan.concurrency))
        with daemon.running(variables, folder / "draftd.log", *concurrency) as process:
            yield postgres.url, process


def daemon_variables(
    plan: Plan, settings: Settings, inherited: Mapping[str, str], *, prompts: Path, url: str, stand_in: str | None
) -> dict[str, str]:
    """Return the environment of an evaluation's daemon.

    Args:
        plan: what is evaluated.
        settings: the operator's.
        inherited: this process's environment, with the providers' keys.
        prompts: the folder of the prompts.
        url: the database.
        stand_in: the stand-in's address, if there is one.
    """
    own = {f"DRAFTD_{name.upper()}": _as_variable(getattr(settings, name)) for name in KEPT}
    own |= {
        "DRAFTD_DATABASE_URL": url,
        "DRAFTD_MODEL": plan.model,
        "DRAFTD_PROMPTS_DIR": str(prompts),
        "DRAFTD_LOG_LEVEL": "warning",
    }
    if plan.model == MODEL:
        base = {"OPENAI_BASE_URL": str(stand_in), "OPENAI_API_KEY": MODEL}
        own |= DIRECTLY | base | {"DRAFTD_MODEL": f"openai/{MODEL}"}
    kept = {name: value for name, value in inherited.items() if not name.startswith(_NOT_INHERITED)}
    return daemon.environment(kept, own)


def _as_variable(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """The cases of one evaluation, drafted and judged."""

    plan: Plan
    settings: Settings
    file: ResultsFile
    judge: Target | None
    say: Say
    on_case: OnCase

    async def run(self, url: str, process: Any, log: Path) -> None:
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
    path.write_text(page, encoding="utf-8")
    return Evaluated(results=results, comparison=comparison, report=path)
