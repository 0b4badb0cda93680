"""The outcome of an attempt, as values: the drafter returns one, the settler writes it.

Done       completed, with a result
Retry      back to pending after a delay, or failed once ``max_attempts`` is reached
Fail       failed
GiveBack   back to pending, without counting the attempt: the model cannot take the request now, or the daemon shuts down
"""

from dataclasses import dataclass, field
from typing import Any

from draftd.errors import Details


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What an acceptable answer of a model became."""

    result: dict[str, Any]
    """As it is stored."""
    reading: list[str]
    """The messages that matter, verbatim; kept for a refinement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The draft is finished."""

    draft: Draft
    model: str
    prompt_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Another attempt may do better, after ``delay_s`` seconds."""

    code: str
    message: str
    """For whoever runs draftd."""
    delay_s: float
    model: str | None = None
    told: str = ""
    """What the app's user may read; empty for the sentence of the code."""
    details: Details = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail:
    """No attempt can do better."""

    code: str
    message: str
    """For whoever runs draftd."""
    model: str | None = None
    told: str = ""
    """What the app's user may read; empty for the sentence of the code."""
    details: Details = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveBack:
    """The attempt does not count: it ended through no fault of the request."""

    code: str | None = None
    """The error; None for a shutdown or a ceiling, which record nothing on the row."""
    message: str = ""
    model: str | None = None
    delay_s: float = 0.0
    """How long the row itself waits; a hold on its model may keep it back for longer."""
    told: str = ""
    """What the app's user may read; empty for the sentence of the code."""
    details: Details = field(default_factory=dict)


Outcome = Done | Retry | Fail | GiveBack
