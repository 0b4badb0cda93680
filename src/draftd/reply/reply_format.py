"""What depends on the schema of the result, as one interface: what is asked of a model, and what its answer becomes.

Whoever asks, repairs and shows progress knows this interface only. Each request has a format of its own, as what counts as an
answer depends on what the client asked for.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from draftd.queue.outcome import Draft
from draftd.request import Options, Request


class Unacceptable(Exception):
    """The answer cannot become a result; each problem is a sentence that a model can act on."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class PartialAnswer(Protocol):
    """Reads one answer while it is being written."""

    @property
    def options_ready(self) -> int:
        """How many options have been shown."""

    def feed(self, text_so_far: str) -> dict[str, Any] | None:
        """Take the whole text so far; return a new partial result when one more option is ready."""


class ReplyFormat(Protocol):
    """What the answer to one request has to look like."""

    @property
    def schema(self) -> Mapping[str, Any]:
        """The JSON schema that the model has to meet."""

    def read(self, text: str) -> Draft:
        """Make a result of a model's whole answer.

        Raises:
            Unacceptable: the answer must be repaired.
            NothingToReplyTo: the model saw no message.
        """

    def partial(self) -> PartialAnswer:
        """Return a reader of one answer that is being written."""

    def repair_request(self, problems: Sequence[str]) -> str:
        """Return the message that asks the model to correct its last answer."""


class FormatOf(Protocol):
    """Makes the format of a request."""

    def __call__(self, request: Request, options: Options, *, is_truncated: bool) -> ReplyFormat:
        """Return the format.

        Args:
            request: what the client asked for.
            options: the request's options, checked.
            is_truncated: whether a part of a picture was left out.
        """
