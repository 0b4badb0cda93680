"""What the clients' methods take by name."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict

from draftd_client.types import RequestOptions


class CreateOptions(TypedDict, total=False):
    """The columns of a new request, beside its pictures."""

    requester_id: str
    """Whose request it is; empty: everybody's. An end user's own role has it set by the database."""
    context: str | None
    """What the requester wants to say, up to 8,000 characters."""
    options: RequestOptions | None
    agent: str | None
    idempotency_key: str | None
    """Unique per requester; random if it is not given."""
    available_at: datetime | None
    """Not before, with a time zone."""
    expires_at: datetime | None
    """A draft later than this is worth nothing. With a time zone."""
    metadata: Mapping[str, Any] | None
    """The app's own; draftd never reads it."""
    traceparent: str | None
    """The app's trace, in W3C's form."""


class ProfileFields(TypedDict, total=False):
    """The fields of a requester's profile."""

    me: str | None
    about: str | None
    facts: Sequence[str]
    signature: str | None
    voice_samples: Sequence[str]
    reader_language: str | None
