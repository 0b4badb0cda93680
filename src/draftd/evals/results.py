"""What an evaluation found, as ``results.json`` holds it.

Owns the form of the file, and that it is written whole: whenever a case is finished, so that an interrupted evaluation can be
continued. Invariant: a file that another evaluation wrote is never continued.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from draftd.errors import CommandError, UsageError
from draftd.evals.cases import Split
from draftd.evals.criteria import Failure
from draftd.request import LengthName

FILE = "results.json"
PREVIOUS = "results.previous.json"
FORM: Final = 1
LENGTHS: Final = get_args(LengthName)
PairOutcome = Literal["won", "lost", "tied"]


class _Kept(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Reply(_Kept):
    """One option of a result."""

    length: str
    text: str
    stance: str = "none"
    angle: str = ""
    unsupported: list[str] = []
    translation: str | None = None


class Drafted(_Kept):
    """How a request ended."""

    outcome: str
    """``completed``, or the error code."""
    message: str = ""
    """What the app's user would read of an error."""
    seen: dict[str, Any] = {}
    """What the result says about the screenshot: ``platform``, ``language``, ``summary``, ``me``, …"""
    replies: list[Reply] = []
    prompt_version: str | None = None
    model_calls: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    elapsed_s: float = 0.0


class Verdict(_Kept):
    """What the judge says of the replies to a case."""

    failures: dict[Failure, list[str]]
    """Failure → the lengths of the replies that fail so; what was not asked about is absent."""
    reasons: dict[str, str]
    """Length → the judge's sentence."""


class PairVerdict(_Kept):
    """A blind comparison, judged twice with the sides swapped."""

    outcome: PairOutcome
    """For the replies under test; a disagreement of the two judgements is a tie."""
    winners: tuple[str, str]
    """What each judgement preferred: ``tested``, ``other`` or ``tie``."""
    reasons: tuple[str, str]


class CaseResult(_Kept):
    """Everything found about one case."""

    n: str
    split: Split
    sha256: str
    """The case's fingerprint; another one is another case."""
    drafted: Drafted
    checks: dict[str, bool] = {}
    """Label → whether the result agrees with it."""
    labels: dict[str, list[str]] = {}
    """The labels that were checked."""
    verdict: Verdict | None = None
    other: Drafted | None = None
    """What was drafted otherwise: with another prompt, or without some options."""
    pair: PairVerdict | None = None
    judge_error: str | None = None
    """Why the judge's answer is missing."""
    judge_tokens: int = 0
    judge_cost_usd: float | None = None


class Setup(_Kept):
    """What was evaluated, and by whom it was judged."""

    draftd: str
    model: str
    is_stand_in: bool
    """The model is a stand-in: its replies are canned."""
    prompt_version: str
    judge: str | None = None
    is_judge_stand_in: bool = False
    against: str | None = None
    """The prompt version of the other replies, or None."""
    without: list[str] = []
    """The options that the other replies go without."""
    split: Split | None = None
    """The only split that was evaluated; None for all cases."""
    cases: dict[str, str] = {}
    """Name → fingerprint."""


class Results(_Kept):
    """A whole evaluation."""

    form: Literal[1] = FORM
    setup: Setup
    complete: bool = False
    """Whether every case is finished."""
    cases: list[CaseResult] = []


def read(path: Path) -> Results:
    """Read the results of an earlier evaluation.

    Raises:
        UsageError: they cannot be read.
    """
    try:
        return Results.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise UsageError(f"{path} is not the results of an evaluation: {first['msg']}") from error


class ResultsFile:
    """The ``results.json`` of one evaluation, and what it holds so far.

    Args:
        directory: where it is.
        setup: of this evaluation.
    """

    def __init__(self, directory: Path, setup: Setup) -> None:
        self._path = directory / FILE
        self._setup = setup
        self._cases: dict[str, CaseResult] = {}

    def resume(self) -> int:
        """Take over the finished cases of the same evaluation if it was interrupted; return how many.

        Another evaluation's file is kept as ``results.previous.json``.

        Raises:
            UsageError: the folder cannot be written to.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.exists():
                self._take_over()
            self.write({})
        except OSError as error:
            raise UsageError(f"cannot write to {self._path.parent}: {error.strerror}") from error
        return len(self._cases)

    def _take_over(self) -> None:
        try:
            found = read(self._path)
        except UsageError:
            found = None
        if found is None or found.setup != self._setup or found.complete:
            os.replace(self._path, self._path.with_name(PREVIOUS))  # noqa: PTH105 - as below
        else:
            self._cases = {case.n: case for case in found.cases if case.judge_error is None}

    def is_finished(self, n: str) -> bool:
        """Return whether a case is finished."""
        return n in self._cases

    def add(self, case: CaseResult) -> None:
        """Add a finished case and write the file."""
        self._cases[case.n] = case
        self.write({})

    def results(self) -> Results:
        """Return what was found so far, in the order of the cases."""
        found = [self._cases[n] for n in self._setup.cases if n in self._cases]
        return Results(setup=self._setup, complete=len(found) == len(self._setup.cases), cases=found)

    def write(self, figures: Mapping[str, Any]) -> None:
        """Write the file, whole or not at all.

        Args:
            figures: the counts, for readers of the file.

        Raises:
            CommandError: it cannot be written.
        """
        kept = self.results().model_dump(mode="json") | ({"figures": figures} if figures else {})
        write_whole(self._path, json.dumps(kept, ensure_ascii=False, indent=1) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a file, whole or not at all.

    Raises:
        CommandError: it cannot be written.
    """
    written = path.with_name(f"{path.name}.new")
    try:
        written.write_text(text, encoding="utf-8")
        os.replace(written, path)  # noqa: PTH105 - the same, by the name that says that it is atomic
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}") from error


def drafted_of(row: Mapping[str, Any], *, model_calls: int, elapsed_s: float) -> Drafted:
    """Return how a finished row of ``draft_requests`` ended."""
    result = row["result"] or {}
    return Drafted(
        outcome=row["error_code"] or row["status"],
        message=row["error_message"] or "",
        seen={key: value for key, value in result.items() if key not in {"options", "schema_version"}},
        replies=[_reply(option) for option in result.get("options", ())],
        prompt_version=row["prompt_version"],
        model_calls=model_calls,
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        cost_usd=None if row["cost_usd"] is None else float(row["cost_usd"]),
        elapsed_s=round(elapsed_s, 2),
    )


def _reply(option: Mapping[str, Any]) -> Reply:
    quotes = [one["quote"] for one in option.get("unsupported", ())]
    return Reply.model_validate({**option, "unsupported": quotes})


def texts(replies: Iterable[Reply]) -> dict[str, str]:
    """Return the replies' texts by their lengths."""
    return {reply.length: reply.text for reply in replies}
