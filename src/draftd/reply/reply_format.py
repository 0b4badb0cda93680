"""The interface to everything that depends on the result's schema: what a model is asked for, and how its answer is read.

The rest of the attempt (calls, repair, progress) uses only this interface. A format belongs to one request, because the client's
options decide which answers are acceptable.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from draftd.queue.outcome import Draft
from draftd.request import Options, Request


class AnswerRejected(Exception):
    """The answer cannot become a result; each problem is a sentence that tells the model what to correct."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class PartialAnswer(Protocol):
    """Reads one answer while it is being written."""

    @property
    def options_ready(self) -> int:
        """How many options are complete."""

    def feed(self, text_so_far: str) -> dict[str, Any] | None:
        """Read the whole text so far; return a new partial result when another option is complete."""


class ReplyFormat(Protocol):
    """The format of the answer to one request."""

    @property
    def schema(self) -> Mapping[str, Any]:
        """The JSON schema of the answer."""

    def read(self, text: str) -> Draft:
        """Turn a model's complete answer into a draft.

        Raises:
            AnswerRejected: the answer must be repaired.
            NothingToReplyTo: the model saw no message.
        """

    def partial(self) -> PartialAnswer:
        """Return a reader for one answer that is being written."""

    def repair_request(self, problems: Sequence[str]) -> str:
        """Return the message that asks the model to correct its last answer."""


class ReplyFormatFactory(Protocol):
    """Makes the format of a request."""

    def __call__(self, request: Request, options: Options, *, is_truncated: bool) -> ReplyFormat:
        """Return the format.

        Args:
            request: the request as read from its row.
            options: the request's options, validated.
            is_truncated: whether a part of a picture was left out.
        """
