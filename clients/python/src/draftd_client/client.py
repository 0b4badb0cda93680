"""The client for threads and scripts."""

import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, Unpack, cast
from uuid import UUID

import psycopg
from psycopg.rows import DictRow, dict_row

from draftd_client import statements
from draftd_client.errors import DraftFailed, NotFound, refusal_of
from draftd_client.options import CreateOptions, ProfileFields
from draftd_client.reply import Created, OptionFeed, Profile, Reply
from draftd_client.types import Option


class Client:
    """Inserts requests and waits for their replies, on one connection that is made when it is needed.

    A lost connection is made again, and the statement is repeated: inserts have an idempotency key. One thread at a time may
    use a client.

    Args:
        conninfo: a PostgreSQL URL or connection string; empty for psycopg's own variables (``PGHOST``, …).
    """

    def __init__(self, conninfo: str = "") -> None:
        self._conninfo = conninfo
        self._opened: psycopg.Connection[DictRow] | None = None
        self._listens = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._opened is not None:
            self._opened.close()
        self._opened, self._listens = None, False

    def create(self, image_urls: Sequence[str], **given: Unpack[CreateOptions]) -> Created:
        """Insert a request.

        Args:
            image_urls: 1 to 8 screenshots in reading order, as URLs or as ``data:image/…;base64,…``.
            given: the other columns; see ``CreateOptions``.

        Raises:
            Refused: the database does not take it; ``TooManyPending`` if the requester has too many waiting.
        """
        return statements.created(self._one(statements.create(image_urls, **given)))

    def get(self, request_id: UUID) -> Reply:
        """Read a request.

        Raises:
            NotFound: there is none.
        """
        rows = self._run(statements.get([request_id]))
        if not rows:
            raise NotFound(request_id)
        return statements.reply(rows[0])

    def wait(self, request_id: UUID, *, timeout_s: float | None = None) -> Reply:
        """Wait until a request is final, and return it.

        Args:
            request_id: the request.
            timeout_s: how long to wait at most, in seconds; None waits as long as it takes.

        Raises:
            NotFound: there is none.
            TimeoutError: the request is not final yet.
        """
        *_, last = self._follow(request_id, timeout_s)
        return last

    def stream(self, request_id: UUID, *, timeout_s: float | None = None) -> Iterator[Option]:
        """Yield the options of a request as they become ready; the last one when it is completed.

        An option of a length that was yielded before replaces it: the request was tried again.

        Raises:
            DraftFailed: the request failed or was cancelled.
            NotFound: there is none.
            TimeoutError: the request is not final yet.
        """
        feed = OptionFeed()
        for reply in self._follow(request_id, timeout_s):
            yield from feed.new(reply)
            if reply.is_final and reply.result is None:
                raise DraftFailed(reply)

    def cancel(self, request_id: UUID) -> bool:
        """Cancel a request; return whether it was waiting or being drafted."""
        return bool(self._one(statements.cancel(request_id))["cancelled"])

    def refine(self, parent_id: UUID, **given: Unpack[CreateOptions]) -> Created:
        """Ask for changed drafts of an earlier request; without ``context`` and ``options``, for other ones.

        Args:
            parent_id: the earlier request.
            given: ``context`` says what to change ("shorter"); ``options`` may have ``stance`` or ``answer_to``.

        Raises:
            NotFound: there is no such request.
            Refused: the database does not take it.
        """
        rows = self._run(statements.requester_of(parent_id))
        if not rows:
            raise NotFound(parent_id)
        asked: CreateOptions = {"requester_id": rows[0]["requester_id"], **given}
        return statements.created(self._one(statements.create([], parent_id=parent_id, **asked)))

    def feedback(
        self,
        request_id: UUID,
        *,
        option: str | None = None,
        sent_text: str | None = None,
        outcome: str | None = None,
        rating: int | None = None,
    ) -> None:
        """Say what became of a draft.

        Args:
            request_id: the request.
            option: ``short``, ``medium`` or ``detailed``.
            sent_text: what was really sent.
            outcome: ``sent``, ``edited`` or ``rejected``.
            rating: -1 or 1.

        Raises:
            Refused: there is no such request, or a value is out of range.
        """
        self._run(
            statements.feedback(request_id, option=option, sent_text=sent_text, outcome=outcome, rating=rating),
            repeat=False,
        )

    def profile(self, requester_id: str, **changes: Unpack[ProfileFields]) -> Profile:
        """Set what is given of a requester's profile, and return all of it.

        Raises:
            Refused: a value is out of range.
        """
        if changes:
            self._run(statements.set_profile(requester_id, cast("Mapping[str, Any]", changes)))
        rows = self._run(statements.get_profile(requester_id))
        return statements.profile(rows[0] if rows else None)

    def _follow(self, request_id: UUID, timeout_s: float | None) -> Iterator[Reply]:
        """Yield a request now and whenever something may have changed, until it is final."""
        ends_at = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self._listen()
            reply = self.get(request_id)
            yield reply
            if reply.is_final:
                return
            left_s = statements.POLL_S if ends_at is None else min(statements.POLL_S, ends_at - time.monotonic())
            if left_s <= 0:
                raise TimeoutError(f"request {request_id} is still {reply.status}")
            self._hear(request_id, left_s)

    def _hear(self, request_id: UUID, time_s: float) -> None:
        """Return when this request is notified, or after ``time_s`` seconds."""
        ends_at = time.monotonic() + time_s
        try:
            while (left_s := ends_at - time.monotonic()) > 0:
                for heard in self._connection().notifies(timeout=left_s, stop_after=1):
                    if str(request_id) in heard.payload:
                        return
        except psycopg.OperationalError:
            self.close()

    def _listen(self) -> None:
        # Before the request is read, or its end could fall between the two.
        if not self._listens:
            self._run((statements.LISTEN, ()))
            self._listens = True

    def _one(self, statement: statements.Statement) -> DictRow:
        return self._run(statement)[0]

    def _run(self, statement: statements.Statement, *, repeat: bool = True) -> list[DictRow]:
        text, params = statement
        try:
            return self._execute(text, params)
        except psycopg.OperationalError:
            is_lost = self._opened is not None and self._opened.closed
            self.close()
            if not repeat or not is_lost:
                raise
        return self._execute(text, params)

    def _execute(self, text: str, params: Sequence[Any]) -> list[DictRow]:
        try:
            cursor = self._connection().execute(text.encode(), params)
            return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            if (refusal := refusal_of(error)) is None:
                raise
            raise refusal from error

    def _connection(self) -> psycopg.Connection[DictRow]:
        if self._opened is None or self._opened.closed:
            self._listens = False
            self._opened = psycopg.connect(
                self._conninfo,
                autocommit=True,
                # A pooler in transaction mode has no prepared statements.
                prepare_threshold=None,
                row_factory=dict_row,
                application_name="draftd-client",
            )
        return self._opened
