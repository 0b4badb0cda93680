"""The report: one HTML file that shows each screenshot beside its drafts and verdicts, and counts the failures.

It extends the document that all of draftd's reports share (``draftd.report.document``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from draftd.demo import marks
from draftd.evals.baseline import Comparison
from draftd.evals.cases import Case
from draftd.evals.criteria import TITLES, Failure
from draftd.evals.figures import Figures, Share, failing, figures
from draftd.evals.labels import FORBIDDEN_WORDS
from draftd.evals.results import CaseResult, Drafted, Reply, Results
from draftd.report.document import environment

FILE = "report.html"
_TEMPLATE = "report.html.j2"
_LABEL_TITLES = {
    "content_type": "content type",
    "reply_needed": "reply needed",
    FORBIDDEN_WORDS: "forbidden words absent",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One line of a plot."""

    label: str
    share: Share
    tone: str
    """``good``: the longer the better; ``bad``: the longer the worse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyView:
    """A reply as it is shown."""

    reply: Reply
    pieces: tuple[tuple[str, bool], ...]
    """The text in pieces, and whether each is a fact without a source."""
    failures: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseView:
    """A case as it is shown."""

    anchor: str
    case: Case
    result: CaseResult
    pictures: Sequence[str]
    replies: tuple[ReplyView, ...]
    others: tuple[ReplyView, ...]
    checks: tuple[tuple[str, str, str, bool], ...]
    """Label, what is right, what was found, whether they agree."""

    @property
    def faults(self) -> int:
        """How many checks and replies failed."""
        failed = {length for _, length in failing(self.result)}
        return sum(not ok for *_, ok in self.checks) + len(failed)

    @property
    def tone(self) -> str:
        """``bad`` if a label or every reply fails, ``fair`` if some replies do, ``good``, or ``unknown`` without a verdict."""
        failed = {length for _, length in failing(self.result)}
        if not all(self.result.checks.values()) or (self.replies and len(failed) == len(self.replies)):
            return "bad"
        if failed:
            return "fair"
        return "unknown" if self.result.judge_error else "good"


def render(
    results: Results,
    cases: Mapping[str, Case],
    pictures: Mapping[str, Sequence[str]],
    *,
    comparison: Comparison | None = None,
    now: datetime | None = None,
) -> str:
    """Return the report.

    Args:
        results: of the evaluation.
        cases: by name; those that were evaluated.
        pictures: name of a case → its screenshots as ``data:`` URLs.
        comparison: with a baseline.
        now: when it was made; this moment if None.
    """
    views = [
        _view(number, cases[result.n], result, pictures.get(result.n, ()))
        for number, result in enumerate(results.cases, 1)
    ]
    counted = figures(results)
    return (
        environment("draftd.evals")
        .get_template(_TEMPLATE)
        .render(
            setup=results.setup,
            complete=results.complete,
            figures=counted,
            labels=_good_bars(counted.labels),
            send_ready=_good_bars(counted.send_ready),
            failures=_failure_bars(counted),
            views=sorted(views, key=lambda view: -view.faults),
            index=views,
            comparison=comparison,
            measure=_title,
            made_at=f"{now or datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        )
    )


def _title(name: str) -> str:
    """Return what a label or a failure is called."""
    return TITLES[Failure(name)] if name in set(Failure) else _LABEL_TITLES.get(name, name)


def _good_bars(shares: Mapping[str, Share]) -> list[Bar]:
    return [Bar(label=_title(name), share=share, tone="good") for name, share in shares.items()]


def _failure_bars(counted: Figures) -> list[Bar]:
    """Return the plot of the failures; replies that are not send-ready have one of their own."""
    named = {failure: share for failure, share in counted.failures.items() if failure is not Failure.NOT_SEND_READY}
    return [Bar(label=TITLES[failure], share=share, tone="bad") for failure, share in named.items()]


def _view(number: int, case: Case, result: CaseResult, pictures: Sequence[str]) -> CaseView:
    drafted = result.drafted
    forbidden = "none" if result.checks.get(FORBIDDEN_WORDS) else "some"
    found = {**drafted.seen, "outcome": drafted.outcome, FORBIDDEN_WORDS: forbidden}
    return CaseView(
        anchor=f"case-{number}",
        case=case,
        result=result,
        pictures=pictures,
        replies=_replies(drafted, result),
        others=_replies(result.other, None) if result.other else (),
        checks=tuple(
            (
                _title(name),
                " or ".join(result.labels.get(name, ["none"])),
                str(found.get(name, "")),
                ok,
            )
            for name, ok in result.checks.items()
        ),
    )


def _replies(drafted: Drafted, result: CaseResult | None) -> tuple[ReplyView, ...]:
    verdict = result.verdict if result else None
    failed = list(failing(result)) if result else []
    return tuple(
        ReplyView(
            reply=reply,
            pieces=tuple(marks.split(reply.text, reply.unsupported)),
            failures=_titles([failure for failure, length in failed if length == reply.length]),
            reason=verdict.reasons.get(reply.length, "") if verdict else "",
        )
        for reply in drafted.replies
    )


def _titles(failures: Sequence[Failure]) -> tuple[str, ...]:
    """Return the names of a reply's failures; that it is not send-ready goes without saying if there is another."""
    named = [failure for failure in failures if failure is not Failure.NOT_SEND_READY]
    return tuple(TITLES[failure] for failure in named or failures)
