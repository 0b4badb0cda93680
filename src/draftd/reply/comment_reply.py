"""The comment reply: three options to choose from (section 2 of the contract).

Combines the modules that know the schema: ``model_answer`` (the JSON object), ``answer`` (its checks), ``partial`` (early
options).
"""

from collections.abc import Sequence

from draftd.queue.outcome import Draft
from draftd.reply import answer
from draftd.reply.partial import PartialReader
from draftd.reply.result import ResultWarning
from draftd.request import Options, Request


class CommentReply:
    """The format of the answer to one request.

    Args:
        request: the request as read from its row.
        options: the request's options, validated.
        is_truncated: whether a part of a picture was left out.
    """

    def __init__(self, request: Request, options: Options, *, is_truncated: bool) -> None:
        parent, known_texts = request.parent, options.voice_samples
        if parent is not None:
            known_texts += (*parent.reading, *(option["text"] for option in parent.result.get("options", ())))
            # The refined drafts may have been made from a truncated picture.
            is_truncated |= ResultWarning.IMAGE_TRUNCATED in parent.result.get("warnings", ())
        self._criteria = answer.Criteria(
            options=options, context=request.context, is_truncated=is_truncated, known_texts=known_texts
        )
        self.schema = answer.answer_schema(self._criteria)

    def read(self, text: str) -> Draft:
        """Turn a model's complete answer into a draft; see ``answer.read``."""
        return answer.read(text, self._criteria)

    def partial(self) -> PartialReader:
        """Return a reader for one answer that is being written."""
        return PartialReader(self._criteria)

    def repair_request(self, problems: Sequence[str]) -> str:
        """Return the message that asks the model to correct its last answer."""
        return answer.repair_request(problems)
