"""The demo's page: the sample screenshots beside their drafts, in one HTML file without scripts.

Owns the template and how a draft is split at the facts that stand in no source. Invariant: every text of a row stays text, since
the template escapes all values, and the file loads nothing, which its Content-Security-Policy enforces.
"""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

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
_LETTER_OR_DIGIT = "0-9A-Za-z\u00c0-\u024f"
"""Not those of scripts that write words without spaces: there, a neighbour may belong to another word."""


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
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["split_at_marks"] = lambda option: split_at_marks(option["text"], quotes_of(option))
    environment.filters["stance"] = stance_label
    template = environment.from_string(files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8"))
    return template.render(drafted=drafted, is_stand_in=is_stand_in)


def stance_label(option: Mapping[str, Any]) -> str:
    """Return what an option's stance is called; empty where there is nothing to decide."""
    stance = option.get("stance", "none")
    return "" if stance == "none" else STANCES.get(stance, STANCES["open"])


def quotes_of(option: Mapping[str, Any]) -> list[str]:
    """Return the parts of an option's text that stand in no source."""
    return [unsupported["quote"] for unsupported in option.get("unsupported", ())]


def split_at_marks(text: str, quotes: Iterable[str]) -> list[tuple[str, bool]]:
    """Split a text into parts, each with whether it is one of the quotes.

    A quote counts only as a whole: ``4`` is not marked within ``14:00`` or ``4,250``.
    """
    present = sorted({quote for quote in quotes if quote and quote in text}, key=len, reverse=True)
    if not present:
        return [(text, False)]
    parts = re.split(f"({'|'.join(_whole(quote, text) for quote in present)})", text)
    return [(part, number % 2 == 1) for number, part in enumerate(parts) if part]


def _whole(quote: str, text: str) -> str:
    """Return an expression for a quote as a whole, or for any occurrence if none stands by itself."""
    literal = re.escape(quote)
    before = f"(?<![{_LETTER_OR_DIGIT}])" if re.match(f"[{_LETTER_OR_DIGIT}]", quote) else ""
    before += r"(?<!\d[.,:])" if quote[0].isdigit() else ""
    after = f"(?![{_LETTER_OR_DIGIT}])" if re.match(f"[{_LETTER_OR_DIGIT}]", quote[-1]) else ""
    after += r"(?![.,:]\d)" if quote[-1].isdigit() else ""
    return before + literal + after if re.search(before + literal + after, text) else literal
