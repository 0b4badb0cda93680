"""Example outcomes, one for each status that a settlement sets; trials write them to other rows.

Invariant: they contain nothing from any request. What an app's triggers do outside of the transaction survives a trial's
rollback, so one request's draft must never be written under another's id. They are complete, because an app's checks may read any
part.
"""

from draftd.errors import InternalError
from draftd.queue.outcome import Done, Draft, Fail, GiveBack, Outcome

_TEXT = "Example written by draftd to test the database; it is rolled back."
_RESULT = {
    "schema_version": 1,
    "platform": "other",
    "platform_name": "Example",
    "content_type": "other",
    "language": "en",
    "summary": _TEXT,
    "me": "nobody",
    "replying_to": {"author": "nobody", "gist": _TEXT, "expects": "statement"},
    "reply_needed": "unclear",
    "options": [
        {"length": length, "angle": "example", "stance": "none", "text": _TEXT, "unsupported": []}
        for length in ("short", "medium", "detailed")
    ],
    "other_targets": [],
    "unsent_text": None,
    "missing": [],
    "confidence": "low",
    "warnings": [],
}

TRIAL_OUTCOMES: dict[str, Outcome] = {
    "completed": Done(draft=Draft(result=_RESULT, reading=[_TEXT]), model="example", prompt_version="0"),
    "failed": Fail(code=InternalError.code, message=_TEXT),
    "pending": GiveBack(code=InternalError.code, message=_TEXT, model="example"),
}
