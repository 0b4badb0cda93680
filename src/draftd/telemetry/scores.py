"""Scores: what became of a draft, sent to Langfuse with its trace.

Owns the request and its limits. Uses ``requests``, as the exporter of traces does, so that certificates and proxies are those
that traces meet. Invariants: a server that hangs or drips costs one thread and never delays anything; no text of a draft or of a
requester is in a score.
"""

import asyncio
import importlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from threading import Thread
from typing import Any

from draftd.sanitize import redact

PATH = "/api/public/scores"
CONNECT_S = 5.0
READ_S = 10.0
TIME_S = 20.0
"""For the whole request: the time limits of ``requests`` count for each read."""
MAX_ANSWER_BYTES = 64 * 1024
OK, REDIRECT = 200, 300
PARTLY_ACCEPTED = 207


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One score of a trace. Sending another one with the same ``id`` replaces it."""

    id: str
    trace_id: str
    name: str
    value: float | str
    """A text is a category."""
    at: datetime


class ScoresNotSentError(Exception):
    """Langfuse did not take the scores; the message says why, without secrets."""


class ScoreSender:
    """Sends scores, one batch at a time.

    Args:
        host: base URL of Langfuse.
        public_key: of the project.
        secret_key: likewise.
        environment: under which Langfuse files the traces; None for its default.
    """

    def __init__(self, *, host: str, public_key: str, secret_key: str, environment: str | None) -> None:
        self._url = host.rstrip("/") + PATH
        self._auth = (public_key, secret_key)
        self._environment = environment
        self._thread: Thread | None = None

    async def send(self, scores: Sequence[Score]) -> str | None:
        """Send a batch; return what Langfuse said against some of its scores, if anything.

        Raises:
            ScoresNotSentError: it was not accepted within ``TIME_S`` seconds.
        """
        if self._thread is not None and self._thread.is_alive():
            raise ScoresNotSentError("the request before this one still hangs")
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        body = json.dumps([self._body(score) for score in scores])
        self._thread = Thread(
            target=_answer_to, args=(lambda: self._post(body), answer), name="langfuse-scores", daemon=True
        )
        self._thread.start()
        try:
            async with asyncio.timeout(TIME_S):
                return await answer
        except TimeoutError as error:
            raise ScoresNotSentError(f"no answer within {TIME_S:g} s") from error

    def _body(self, score: Score) -> dict[str, Any]:
        body = {
            "id": score.id,
            "traceId": score.trace_id,
            "name": score.name,
            "value": score.value,
            "dataType": "CATEGORICAL" if isinstance(score.value, str) else "NUMERIC",
            "timestamp": score.at.isoformat(),
        }
        return body if self._environment is None else body | {"environment": self._environment}

    def _post(self, body: str) -> str | None:
        requests: Any = importlib.import_module("requests")
        try:
            with requests.post(
                self._url,
                data=body,
                auth=self._auth,
                headers={"Content-Type": "application/json"},
                timeout=(CONNECT_S, READ_S),
                allow_redirects=False,
                stream=True,
            ) as response:
                told = response.raw.read(MAX_ANSWER_BYTES, decode_content=True).decode(errors="replace")
                status: int = response.status_code
        except (OSError, ValueError) as error:
            # An address that is none is a ValueError, whose message quotes it.
            why = "the address is invalid" if isinstance(error, ValueError) else redact(str(error), 300)
            raise ScoresNotSentError(f"{type(error).__name__}: {why}") from error
        if not OK <= status < REDIRECT:
            raise ScoresNotSentError(f"answered {status}: {redact(told, 300)}")
        return redact(told, 300) if status == PARTLY_ACCEPTED else None


def _answer_to(act: Callable[[], str | None], answer: "asyncio.Future[str | None]") -> None:
    """Settle a future of the event loop with what a blocking call returns or raises."""

    def settle(said: str | None, error: Exception | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(said)
        else:
            answer.set_exception(error)

    try:
        outcome: tuple[str | None, Exception | None] = (act(), None)
    except ScoresNotSentError as error:
        outcome = (None, error)
    except Exception as error:  # noqa: BLE001 - whatever the library raises, the thread's end is the answer
        outcome = (None, ScoresNotSentError(f"{type(error).__name__}: {redact(str(error), 300)}"))
    # The loop may be closed by now.
    with suppress(RuntimeError):
        answer.get_loop().call_soon_threadsafe(settle, *outcome)
