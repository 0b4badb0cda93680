"""The demo's page: the sample screenshots beside their drafts, in one HTML file without scripts.

Invariant: every text of a row stays text, since the template escapes all values, and the file loads nothing, which its
Content-Security-Policy enforces.
"""

import base64
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from draftd.demo import marks
from draftd.demo.samples import Sample

STANCES = {"accept": "Accepts", "decline": "Declines", "choice": "Chooses", "open": "Leaves it open"}
"""Labels of the stances; an unknown one is taken for ``open``, and ``none`` has no label."""
WARNINGS = {
    "possible_prompt_injection": "The screenshot contains instructions to the model. Read the drafts with care.",
    "partially_illegible": "Parts of the screenshot are illegible.",
    "image_truncated": "Not all of the picture was read.",
    "no_reply_expected": "No reply is expected; these lines could still be sent.",
    "ambiguous_target": "It is not clear which message to answer.",
    "unseen_link_removed": "A link that was not in the screenshot was removed.",
    "unsupported_fact": "The marked facts stand in no source. Check them before you send.",
    "early_option_doubtful": "A draft that was shown early fails a later check.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafted:
    """A sample and its row of ``draft_requests``, finished."""

    sample: Sample
    row: Mapping[str, Any]

    @property
    def result(self) -> Mapping[str, Any]:
        """The result; empty if the request failed."""
        return self.row["result"] or {}

    @property
    def picture(self) -> str:
        """The screenshot as a ``data:`` URL."""
        return f"data:image/png;base64,{base64.b64encode(self.sample.path.read_bytes()).decode()}"

    @property
    def seconds(self) -> float:
        """How long the drafts took, from the insert to the end."""
        taken: float = (self.row["finished_at"] - self.row["created_at"]).total_seconds()
        return taken

    @property
    def warnings(self) -> list[str]:
        """The known warnings, as sentences."""
        return [WARNINGS[name] for name in self.result.get("warnings", ()) if name in WARNINGS]


def render(drafted: Sequence[Drafted], *, is_stand_in: bool) -> str:
    """Return the page.

    Args:
        drafted: the samples with their rows, in the order of the page.
        is_stand_in: whether the drafts were scripted.
    """
    return _template().render(drafted=drafted, is_stand_in=is_stand_in)


@functools.cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["split_at_marks"] = lambda option: marks.split(option["text"], quotes_of(option))
    environment.filters["stance"] = stance_label
    return environment.from_string(files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8"))


def stance_label(option: Mapping[str, Any]) -> str:
    """Return what an option's stance is called; empty where there is nothing to decide."""
    stance = option.get("stance", "none")
    return "" if stance == "none" else STANCES.get(stance, STANCES["open"])


def quotes_of(option: Mapping[str, Any]) -> list[str]:
    """Return the parts of an option's text that stand in no source."""
    return [unsupported["quote"] for unsupported in option.get("unsupported", ())]
