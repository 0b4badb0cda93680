"""Rows as the demo's page gets them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from draftd.demo import page
from draftd.demo.samples import EMAIL, Sample

HOSTILE = "</p><img src=x onerror=alert(1)><script>alert(2)</script>&amp;\"'"
MARKED: list[tuple[str, list[str], list[str]]] = [
    ("nothing to mark", [], []),
    ("not there", ["4"], []),
    ("4 at 14:00 or 4,250 or 44 or 4.", ["4"], ["4", "4"]),
    ("at 14:00:30 and 14:00", ["14:00"], ["14:00"]),
    ("@ana, @anabel and @anaさん", ["@ana"], ["@ana", "@ana"]),
    ("3月17日に", ["3月17日"], ["3月17日"]),
    ("Friday, 13 March, or 13 March", ["13 March", "Friday, 13 March"], ["Friday, 13 March", "13 March"]),
    ("a.b+c (a.b+c)", ["a.b+c"], ["a.b+c", "a.b+c"]),
    ("v14x", ["14"], ["14"]),
    ("naïveté", ["ï"], ["ï"]),
    ("", [""], []),
]
"""A text, quotes that stand in no source, and what is marked."""
CREATED = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


def make_result(**over: Any) -> dict[str, Any]:
    option = {"length": "short", "angle": "agrees", "stance": "none", "text": "Fine.", "unsupported": []}
    return {
        "platform_name": "Email",
        "replying_to": {"author": "Tomas", "gist": "asks for a day", "expects": "decision"},
        "options": [option],
        "other_targets": [],
        "missing": [],
        "warnings": [],
    } | over


def make_option(**over: Any) -> dict[str, Any]:
    (option,) = make_result()["options"]
    return {**option, **over}


def make_drafted(result: dict[str, Any] | None, sample: Sample = EMAIL, **over: Any) -> page.Drafted:
    row = {
        "status": "completed" if result else "failed",
        "result": result,
        "error_message": None,
        "model": "openai/stand-in",
        "created_at": CREATED,
        "finished_at": CREATED + timedelta(seconds=2.5),
    }
    return page.Drafted(sample=sample, row=row | over)
