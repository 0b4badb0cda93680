"""Deletes traces from Langfuse, for a requester who is to be forgotten.

Owns the requests to Langfuse's API and how long they may take. Langfuse deletes what it was asked to within minutes, not at once.
"""

import importlib
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from draftd.sanitize import redact
from draftd.telemetry.langfuse import EXPORT_S, attribute

FLUSH_INTERVAL_S = 5
"""How often the SDK sends what has ended, unless LANGFUSE_FLUSH_INTERVAL says otherwise."""
SENT_AFTER_S = FLUSH_INTERVAL_S + 2 * EXPORT_S
"""When a daemon has sent or dropped a trace, counted from the end of its attempt."""
TOTAL_S = 60.0
REQUEST_S = 10
CHUNK = 200
"""Traces per request."""
PAGE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """What Langfuse was asked to delete, and what it was not."""

    deleted: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    problem: str | None = None
    """Why something is left, or may be."""


def user_id(requester_id: str) -> str | None:
    """Return the user of Langfuse that a requester's traces have, if no other requester's have the same."""
    return requester_id if requester_id and attribute(requester_id) == requester_id else None


def delete_traces(
    *, public_key: str, secret_key: SecretStr | str, host: str, trace_ids: Collection[str], user: str | None
) -> Deletion:
    """Ask Langfuse to delete traces, for at most ``TOTAL_S`` seconds and one request.

    Args:
        public_key: of the Langfuse project.
        secret_key: likewise.
        host: base URL.
        trace_ids: the traces.
        user: the user whose other traces are deleted, too: those of requests that were deleted earlier. None for nobody.
    """
    secret = secret_key.get_secret_value() if isinstance(secret_key, SecretStr) else secret_key
    api: Any = importlib.import_module("langfuse.api").LangfuseAPI(
        base_url=host, username=public_key, password=secret, timeout=REQUEST_S
    )
    ends_at = time.monotonic() + TOTAL_S
    wanted, deleted, problem = sorted(trace_ids), [], None
    try:
        for chunk in _chunks(wanted):
            _delete(api, chunk, ends_at)
            deleted += chunk
        if user is not None:
            for chunk in _chunks(sorted(_of_user(api, user, ends_at) - set(deleted))):
                wanted += chunk
                _delete(api, chunk, ends_at)
                deleted += chunk
    except Exception as error:  # noqa: BLE001 - the SDK's and httpx's errors are many; each means that something is left
        problem = _told(error)
    return Deletion(deleted=tuple(deleted), left=tuple(sorted(set(wanted) - set(deleted))), problem=problem)


def _chunks(ids: list[str]) -> Iterator[list[str]]:
    return (ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK))


def _delete(api: Any, trace_ids: list[str], ends_at: float) -> None:
    api.trace.delete_multiple(trace_ids=trace_ids, request_options=_options(ends_at))


def _of_user(api: Any, user: str, ends_at: float) -> set[str]:
    found: set[str] = set()
    cursor = None
    while True:
        page = api.observations.get_many(
            user_id=user, fields="core", limit=PAGE, cursor=cursor, request_options=_options(ends_at)
        )
        found |= {one.trace_id for one in page.data if one.trace_id}
        cursor = page.meta.cursor
        if not cursor:
            return found


def _options(ends_at: float) -> dict[str, Any]:
    if time.monotonic() > ends_at:
        raise TimeoutError(f"Langfuse needed more than {TOTAL_S:g} s")
    return {"timeout_in_seconds": REQUEST_S, "max_retries": 1}


def _told(error: Exception) -> str:
    """Return an error in a few words, without what Langfuse answered: that may quote a trace."""
    if status := getattr(error, "status_code", None):
        return f"Langfuse answered {status}"
    return redact(str(error), 200) or type(error).__name__
