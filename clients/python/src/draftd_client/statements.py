"""The statements of both clients, and how their rows are read. Nothing here talks to a server."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from psycopg.types.json import Jsonb

from draftd_client.reply import Created, Profile, Reply

Statement = tuple[str, Sequence[Any]]
Row = Mapping[str, Any]

LISTEN = "LISTEN draft_results"
POLL_S = 1.0
"""How often a request is read while nothing is heard: behind a pooler in transaction mode no notification arrives."""

_COLUMNS = "id, status, result, partial_result, error_code, error_message, error_details, attempt"
_PROFILE = ("me", "about", "facts", "signature", "voice_samples", "reader_language")


def create(
    image_urls: Sequence[str],
    *,
    requester_id: str = "",
    context: str | None = None,
    options: Mapping[str, Any] | None = None,
    agent: str | None = None,
    idempotency_key: str | None = None,
    available_at: datetime | None = None,
    expires_at: datetime | None = None,
    metadata: Mapping[str, Any] | None = None,
    traceparent: str | None = None,
    parent_id: UUID | None = None,
) -> Statement:
    """Insert a request. Without an idempotency key it gets a random one, so that the statement can be repeated."""
    given = {
        "image_urls": list(image_urls),
        "requester_id": requester_id,
        "context": context,
        "options": options,
        "agent": agent,
        "idempotency_key": idempotency_key or str(uuid.uuid4()),
        "available_at": available_at and _moment(available_at),
        "expires_at": expires_at and _moment(expires_at),
        "metadata": metadata,
        "traceparent": traceparent,
        "parent_id": parent_id and str(parent_id),
    }
    request = {name: value for name, value in given.items() if value not in (None, "")}
    return "SELECT create_draft_request(%s) AS made", [Jsonb(request)]


def _moment(value: datetime) -> str:
    """Return a time as the database reads it, whatever the session's time zone is.

    Raises:
        ValueError: it has no time zone.
    """
    if value.tzinfo is None:
        raise ValueError(f"{value} has no time zone; use datetime.now(UTC), for example")
    return value.isoformat()


def created(row: Row) -> Created:
    """Return what ``create`` answered."""
    made = row["made"]
    return Created(id=UUID(made["id"]), status=made["status"], created=made["created"])


def get(request_ids: Sequence[UUID]) -> Statement:
    """Read requests."""
    return f"SELECT {_COLUMNS} FROM draft_requests WHERE id = ANY (%s)", [list(request_ids)]


def reply(row: Row) -> Reply:
    """Return a request as ``get`` read it."""
    return Reply(**cast("dict[str, Any]", row))


def cancel(request_id: UUID) -> Statement:
    """Cancel a request."""
    return "SELECT cancel_draft_request(%s) AS cancelled", [request_id]


def requester_of(request_id: UUID) -> Statement:
    """Read whose a request is: a refinement must belong to the same requester."""
    return "SELECT requester_id FROM draft_requests WHERE id = %s", [request_id]


def feedback(
    request_id: UUID, *, option: str | None, sent_text: str | None, outcome: str | None, rating: int | None
) -> Statement:
    """Say what became of a draft."""
    return (
        "INSERT INTO draft_feedback (request_id, option, sent_text, outcome, rating) VALUES (%s, %s, %s, %s, %s)",
        [request_id, option, sent_text, outcome, rating],
    )


def get_profile(requester_id: str) -> Statement:
    """Read a requester's profile."""
    return f"SELECT {', '.join(_PROFILE)} FROM draft_profiles WHERE requester_id = %s", [requester_id]


def profile(row: Row | None) -> Profile:
    """Return a profile as ``get_profile`` read it; an empty one if there is none."""
    if row is None:
        return Profile()
    return Profile(**{**row, "facts": tuple(row["facts"]), "voice_samples": tuple(row["voice_samples"])})


def set_profile(requester_id: str, changes: Mapping[str, Any]) -> Statement:
    """Set some fields of a requester's profile and keep the others.

    Raises:
        TypeError: a profile has no such field.
    """
    if unknown := changes.keys() - set(_PROFILE):
        raise TypeError(f"a profile has no {', '.join(sorted(unknown))}; it has {', '.join(_PROFILE)}")
    names = [name for name in _PROFILE if name in changes]
    values = [list(changes[name]) if isinstance(changes[name], tuple) else changes[name] for name in names]
    columns = ", ".join(("requester_id", *names))
    places = ", ".join(["%s"] * (len(names) + 1))
    update = ", ".join(f"{name} = excluded.{name}" for name in names)
    action = f"DO UPDATE SET {update}" if names else "DO NOTHING"
    return (
        f"INSERT INTO draft_profiles ({columns}) VALUES ({places}) ON CONFLICT (requester_id) {action}",
        [requester_id, *values],
    )
