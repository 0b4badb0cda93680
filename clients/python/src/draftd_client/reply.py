"""A request as its client reads it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from draftd_client.types import Option, PartialResult, Result

FINAL = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """What became of an insert."""

    id: UUID
    status: str
    created: bool
    """False: the requester had a request with this idempotency key already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A request and what has been drafted for it so far."""

    id: UUID
    status: str
    """``pending``, ``processing``, ``completed``, ``failed`` or ``cancelled``; take an unknown one for ``failed``."""
    result: Result | None
    """Set exactly when the request is completed."""
    partial_result: PartialResult | None
    """The options that are ready so far; it stays on a failed request."""
    error_code: str | None
    error_message: str | None
    """For the app's user."""
    error_details: Mapping[str, Any] | None
    """``action`` is what the app's user can do."""
    attempt: int

    @property
    def is_final(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in FINAL

    @property
    def options(self) -> list[Option]:
        """The options of the result, or those that are ready."""
        if self.result is not None:
            return self.result["options"]
        return self.partial_result["options"] if self.partial_result is not None else []


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What is known of a requester, for all of their requests."""

    me: str | None = None
    """Who the requester is in screenshots: a name, or "right-hand bubbles"."""
    about: str | None = None
    facts: tuple[str, ...] = ()
    """Statements that are true and may be used."""
    signature: str | None = None
    voice_samples: tuple[str, ...] = ()
    """Texts that the requester wrote."""
    reader_language: str | None = None
    """As a BCP 47 tag."""


class OptionFeed:
    """Tells which options of a request are new; an attempt that begins anew may replace earlier ones."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def new(self, reply: Reply) -> list[Option]:
        """Return the options that are new or have changed since the last call."""
        fresh = [option for option in reply.options if self._seen.get(option["length"]) != option["text"]]
        self._seen |= {option["length"]: option["text"] for option in fresh}
        return fresh
