"""The interface to everything that depends on the result's schema: what a model is asked for, and how its answer is read.

The rest of the attempt (calls, repair, progress) uses only this interface. A format belongs to one attempt at one request: the
client's options decide which answers are acceptable, and what the attempt has published is not changed by it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from draftd.queue.outcome import Draft
from draftd.request import Options, Request


class AnswerRejected(Exception):
    """The answer must be repaired.

    Args:
        problems: sentences that tell the model what to correct.
        draft: what the answer became, if it is acceptable all the same should the repair fail.
    """

    def __init__(self, problems: Iterable[str], *, draft: Draft | None = None) -> None:
        self.problems = tuple(problems)
        self.draft = draft
        super().__init__("; ".join(self.problems))


class PartialAnswer(Protocol):
    """Reads one answer while it is being written."""

    @property
    def options_ready(self) -> int:
        """How many options are complete."""

    def may_have_more(self, text_so_far: str) -> bool:
        """Return at once whether the whole text so far may hold another complete option."""

    def feed(self, text_so_far: str) -> dict[str, Any] | None:
        """Read the whole text so far; return a new partial result when another option is complete."""


class ReplyFormat(Protocol):
    """The format of the answers to one attempt at a request.

    An answer's sources may be long, so its checks take up to a second: call ``read`` and ``feed`` in a thread, one at a time.
    """

    @property
    def schema(self) -> Mapping[str, Any]:
        """The JSON schema of the answer."""

    def read(self, text: str, *, is_repaired: bool = False) -> Draft:
        """Turn a model's complete answer into a draft, with the options that were published as they were.

        Args:
            text: the answer.
            is_repaired: whether it is a repaired one, which is rejected only if it is not acceptable at all.

        Raises:
            AnswerRejected: the answer must be repaired.
            RequestError: the model saw nothing that can be answered.
        """

    def partial(self) -> PartialAnswer:
        """Return a reader for one answer that is being written."""

    def repair_request(self, problems: Sequence[str]) -> str:
        """Return the message that asks the model to correct its last answer."""

    def published_note(self) -> str:
        """Return the message that tells a model which options were published; empty if there are none."""


class ReplyFormatFactory(Protocol):
    """Makes the format of a request."""

    def __call__(self, request: Request, options: Options, *, is_truncated: bool, prompt: str) -> ReplyFormat:
        """Return the format.

        Args:
            request: the request as read from its row.
            options: the request's options, validated.
            is_truncated: whether a part of a picture was left out.
            prompt: what the model is told, of which no text may repeat a passage.
        """
