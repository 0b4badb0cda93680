"""Cases and results of evaluations, made up."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from draftd.demo.samples import EMAIL, LINKEDIN_POST, PHONE_CHAT
from draftd.evals.cases import Case, Split
from draftd.evals.criteria import Failure
from draftd.evals.results import CaseResult, Drafted, PairVerdict, Reply, Results, Setup, Verdict

TEXTS = {
    "short": "Thursday works.",
    "medium": "Thursday at 14:00 works.",
    "detailed": "Thursday at 14:00 works for me.",
}
THREE: Sequence[Mapping[str, Any]] = (
    {
        "n": "linkedin",
        "file": f"{LINKEDIN_POST.name}.png",
        "source": "drawn for the demo",
        "platform": "linkedin",
        "content_type": "post",
        "language": "en",
        "outcome": "completed",
        "reply_needed": "yes",
        "good": "names one change",
        "options": {"facts": ["we keep a written log"]},
    },
    {
        "n": "email",
        "file": [f"{EMAIL.name}.png"],
        "platform": "email",
        "content_type": "email",
        "language": "en",
        "outcome": "completed",
        "me": "Ines Okafor",
        "answer_to": "Tomas Brandl",
        "context": "Thursday suits me.",
        "profile": {"signature": "Ines Okafor, Lagos"},
        "must_not_say": ["Monday"],
        "split": "held_out",
    },
    {"n": 3, "file": f"{PHONE_CHAT.name}.png", "platform": "sms", "outcome": "either", "language": "en"},
)
"""Three cases with the demo's screenshots."""


def write_cases(directory: Path, cases: Sequence[Mapping[str, Any]] = THREE) -> Path:
    """Write a folder of cases, with the demo's screenshots; return it."""
    directory.mkdir(exist_ok=True)
    (directory / "cases.json").write_text(json.dumps(list(cases)))
    for sample in (LINKEDIN_POST, EMAIL, PHONE_CHAT):
        shutil.copyfile(sample.path, directory / sample.path.name)
    return directory


def make_case(**over: Any) -> Case:
    """Return a case without a file."""
    return Case.model_validate({"n": "1", "file": "1.png", "sha256": "of 1"} | over)


def make_drafted(texts: Mapping[str, str] = TEXTS, **over: Any) -> Drafted:
    """Return a completed draft."""
    seen = {"platform": "email", "content_type": "email", "language": "en", "reply_needed": "yes", "summary": "A mail."}
    replies = [Reply(length=length, text=text) for length, text in texts.items()]
    fields = {"outcome": "completed", "seen": seen, "replies": replies, "model_calls": 1, "input_tokens": 900}
    return Drafted.model_validate(fields | over)


def make_verdict(failures: Mapping[Failure, Sequence[str]] | None = None) -> Verdict:
    """Return a verdict on three replies, of which the named ones fail."""
    asked: dict[Failure, Sequence[str]] = {Failure.INVENTED: [], Failure.NOT_SEND_READY: []}
    return Verdict.model_validate(
        {"failures": asked | dict(failures or {}), "reasons": dict.fromkeys(TEXTS, "nothing")}
    )


def make_pair(outcome: str) -> PairVerdict:
    """Return a comparison that came out so."""
    winner = {"won": "tested", "lost": "other"}.get(outcome, "tie")
    return PairVerdict.model_validate({"outcome": outcome, "winners": (winner, winner), "reasons": ("", "")})


def make_result(n: str = "1", **over: Any) -> CaseResult:
    """Return the result of a case."""
    fields = {"n": n, "split": Split.DEV, "sha256": f"of {n}", "drafted": make_drafted(), "checks": {"outcome": True}}
    return CaseResult.model_validate(fields | over)


def make_setup(cases: Sequence[CaseResult] = (), **over: Any) -> Setup:
    """Return a setup with these cases."""
    fields = {"draftd": "0", "model": "openai/a", "is_stand_in": False, "prompt_version": "comment_generator 2+0"}
    return Setup.model_validate(fields | {"judge": "openai/b", "cases": {case.n: case.sha256 for case in cases}} | over)


def make_results(cases: Sequence[CaseResult], **over: Any) -> Results:
    """Return a complete evaluation of these cases."""
    return Results(setup=make_setup(cases, **over), complete=True, cases=list(cases))
