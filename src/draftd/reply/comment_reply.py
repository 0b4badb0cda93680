"""The one format of replies: three options to choose from (section 2 of the contract).

Brings together what knows the schema: ``model_answer`` (what is asked for), ``answer`` (what counts), ``partial`` (what can be
shown early).
"""

from collections.abc import Sequence

from draftd.queue.outcome import Draft
from draftd.reply import answer
from draftd.reply.partial import PartialReader
from draftd.reply.result import ResultWarning
from draftd.request import Options, Request


class CommentReply:
    """What the answer to one request has to look like.

    Args:
        request: what the client asked for.
        options: the request's options, checked.
        is_truncated: whether a part of a picture was left out.
    """

    def __init__(self, request: Request, options: Options, *, is_truncated: bool) -> None:
        parent, seen = request.parent, options.voice_samples
        if parent is not None:
            seen += (*parent.reading, *(option["text"] for option in parent.result.get("options", ())))
            # Or what the drafts to be refined were made from had been cut.
            is_truncated |= ResultWarning.IMAGE_TRUNCATED in parent.result.get("warnings", ())
        self._terms = answer.Terms(options=options, context=request.context, truncated=is_truncated, seen=seen)
        self.schema = answer.wire_schema(self._terms)

    def read(self, text: str) -> Draft:
        """Make a result of a model's whole answer; see ``answer.read``."""
        return answer.read(text, self._terms)

    def partial(self) -> PartialReader:
        """Return a reader of one answer that is being written."""
        return PartialReader(self._terms)

    def repair_request(self, problems: Sequence[str]) -> str:
        """Return the message that asks the model to correct its last answer."""
        return answer.repair_request(problems)
