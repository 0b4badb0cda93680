"""What can go wrong for a client. A connection that cannot be made stays psycopg's ``OperationalError``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    import psycopg

    from draftd_client.reply import Reply


class DraftdError(Exception):
    """Any error of this client."""


class Refused(DraftdError):
    """The database refused a row; the message says why."""


class TooManyPending(Refused):
    """The requester has as many waiting requests as ``draft_limits.max_pending`` allows; try again when one is done."""


class NotFound(DraftdError):
    """There is no such request, or it belongs to somebody else."""

    def __init__(self, request_id: UUID) -> None:
        super().__init__(f"no request {request_id}")


class DraftFailed(DraftdError):
    """The request failed or was cancelled."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.error_message or f"the request was {reply.status}")
        self.reply = reply
        """Its ``partial_result`` may hold options that can still be offered."""


TOO_MANY_PENDING = "PT429"
REFUSALS = ("22", "23")
"""The SQLSTATE classes of data that the tables do not take."""


def refusal_of(error: psycopg.Error) -> Refused | None:
    """Return the client's error if the server refused a row; None for any other error."""
    state, message = error.sqlstate or "", error.diag.message_primary or str(error)
    if state == TOO_MANY_PENDING:
        return TooManyPending(message)
    return Refused(message) if state[:2] in REFUSALS else None
