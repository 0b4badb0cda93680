"""The comment reply: three options to choose from (section 2 of the contract).

Combines the modules that know the schema: ``model_answer`` (the JSON object), ``answer`` and ``review`` (its checks), ``partial``
(early options). Invariant: an option that was published is not changed by the same attempt, whichever call or model follows.
"""

from collections.abc import Sequence

from draftd.json_values import json_list
from draftd.queue.outcome import Draft
from draftd.reply import answer, refinement, requester
from draftd.reply.carried import carried
from draftd.reply.criteria import Criteria
from draftd.reply.facts import Witness
from draftd.reply.partial import PartialReader
from draftd.reply.result import Length, Option, ResultWarning
from draftd.request import Options, Request


class CommentReply:
    """The format of the answers to one attempt at a request.

    Args:
        request: the request as read from its row.
        options: the request's options, validated.
        is_truncated: whether a part of a picture was left out.
        prompt: what the model is told, of which no text may repeat a passage.

    Raises:
        InvalidRequest: the message to answer is not in the parent's reading.
    """

    def __init__(self, request: Request, options: Options, *, is_truncated: bool, prompt: str) -> None:
        self._criteria = _criteria(request, options, is_truncated=is_truncated, prompt=prompt)
        self._published: dict[Length, Option] = {}
        self.schema = answer.answer_schema(self._criteria)
        refinement.target(request, options)

    def read(self, text: str, *, is_repaired: bool = False) -> Draft:
        """Turn a model's complete answer into a draft; see ``answer.read``."""
        return answer.read(text, self._criteria, published=self._published, is_repaired=is_repaired)

    def partial(self) -> PartialReader:
        """Return a reader for one answer that is being written."""
        return PartialReader(self._criteria, self._published)

    def repair_request(self, problems: Sequence[str]) -> str:
        """Return the message that asks the model to correct its last answer."""
        return answer.repair_request(problems, self._published)

    def published_note(self) -> str:
        """Return the message that names the published options; empty if there are none."""
        return answer.published_note(self._published)


def _criteria(request: Request, options: Options, *, is_truncated: bool, prompt: str) -> Criteria:
    parent = request.parent
    known_texts = (*options.facts, *requester.known_texts(request), *options.voice_samples)
    is_decided = bool(request.context or options.stance)
    warned = json_list(parent.result.get("warnings")) if parent else []
    if parent is not None:
        known_texts += tuple(wish.context for wish in parent.wishes if wish.context)
        known_texts += tuple(map(parent.without_unsupported, parent.chain_texts))
        # The refined drafts may have been made from a truncated picture.
        is_truncated |= ResultWarning.IMAGE_TRUNCATED in warned
        is_decided |= not options.answer_to and refinement.is_decided(parent)
    return Criteria(
        options=options,
        context=request.context,
        prompt=prompt,
        is_truncated=is_truncated,
        known_texts=known_texts,
        carried=carried(request, options),
        parent_reading=None if parent is None else tuple(parent.reading),
        avoided_texts=parent.chain_texts if parent and refinement.wants_others(request, options) else (),
        is_injected=ResultWarning.POSSIBLE_PROMPT_INJECTION in warned,
        is_decided=is_decided,
        witness=Witness(request.asked_at),
        withheld_facts=tuple(requester.withheld_facts(request, options)),
        signature=request.profile.signature,
    )
