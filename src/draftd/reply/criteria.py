"""What an answer is checked against: the request's options, the texts that a fact may come from, and what a refinement keeps.

``comment_reply`` collects it once for each attempt; ``review`` does the checks.
"""

from dataclasses import dataclass, field

from draftd.reply.carried import Carried
from draftd.reply.facts import Witness
from draftd.reply.result import Length
from draftd.request import Options


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """What an answer is checked against."""

    options: Options
    context: str | None
    prompt: str = ""
    """The agent's instructions, of which no text may repeat a passage."""
    is_truncated: bool
    """Whether a part of a picture was left out."""
    known_texts: tuple[str, ...] = ()
    """Further texts that a fact or a link may come from: the parent's options, the requester's facts, profile, voice samples."""
    withheld_facts: tuple[str, ...] = ()
    """Facts of the requester's that the model was not told, because there are many and the conversation was not known yet."""
    signature: str = ""
    """What closes the requester's mails."""
    parent_reading: tuple[str, ...] | None = None
    """The messages of a refinement's parent, which take the place of the answer's reading."""
    carried: Carried = field(default_factory=Carried)
    """What a refinement takes over from the drafts that it changes."""
    avoided_texts: tuple[str, ...] = ()
    """Texts that no reply may resemble."""
    is_injected: bool = False
    """Whether an injection was suspected in what a refinement is based on."""
    is_decided: bool = False
    """Whether the requester has made the decision that the message asks for."""
    witness: Witness = field(default_factory=Witness)

    @property
    def lengths(self) -> tuple[Length, ...]:
        """The replies that are wanted, in order."""
        return tuple(Length(name) for name in self.options.lengths) or tuple(Length)

    @property
    def may_change_language(self) -> bool:
        """Whether words may ask for replies in another language than the conversation's, or have done so for the parent's."""
        is_known = self.carried.reply_language is not None
        in_words = self.context or (not is_known and (self.options.tone or self.parent_reading is not None))
        return bool(in_words) and self.options.language is None
