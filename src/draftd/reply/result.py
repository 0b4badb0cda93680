"""The result that a client reads (section 2 of the contract), as types.

Owns the shape and its enumerations. ``answer`` decides how a model's answer becomes a result, and which drafts are acceptable.
"""

from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from draftd.reply.facts import FactKind
from draftd.reply.platforms import Platform

SCHEMA_VERSION: Final = 1


class ContentType(StrEnum):
    """The kind of conversation."""

    POST = "post"
    COMMENT = "comment"
    THREAD = "thread"
    DIRECT_MESSAGE = "direct_message"
    GROUP_CHAT = "group_chat"
    EMAIL = "email"
    REVIEW = "review"
    ARTICLE = "article"
    OTHER = "other"

    @property
    def is_private(self) -> bool:
        """Whether only its participants can read it."""
        return self in {ContentType.DIRECT_MESSAGE, ContentType.GROUP_CHAT}


class Length(StrEnum):
    """The three replies, in their order."""

    SHORT = "short"
    MEDIUM = "medium"
    DETAILED = "detailed"


class ReplyNeeded(StrEnum):
    """Whether the other side expects a reply."""

    YES = "yes"
    NO = "no"
    UNCLEAR = "unclear"


class Expects(StrEnum):
    """What the message wants first."""

    DECISION = "decision"
    QUESTION = "question"
    RECOMMENDATION = "recommendation"
    HELP = "help"
    SOCIAL = "social"
    """Thanks, congratulations, an apology or comfort are due."""
    STATEMENT = "statement"

    @property
    def asks_for_knowledge(self) -> bool:
        """Whether a good reply may hold facts of public knowledge, which no source of the requester's has."""
        return self in {Expects.QUESTION, Expects.RECOMMENDATION, Expects.HELP}


class Stance(StrEnum):
    """What an option commits the requester to."""

    ACCEPT = "accept"
    DECLINE = "decline"
    CHOICE = "choice"
    """Between alternatives; the angle names it."""
    OPEN = "open"
    NONE = "none"
    """There is nothing to decide."""


class Confidence(StrEnum):
    """How sure the model is of its reading; the prompt defines the levels."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class ResultWarning(StrEnum):
    """What the requester should know before sending a draft."""

    POSSIBLE_PROMPT_INJECTION = "possible_prompt_injection"
    PARTIALLY_ILLEGIBLE = "partially_illegible"
    IMAGE_TRUNCATED = "image_truncated"
    NO_REPLY_EXPECTED = "no_reply_expected"
    AMBIGUOUS_TARGET = "ambiguous_target"
    UNSEEN_LINK_REMOVED = "unseen_link_removed"
    UNSUPPORTED_FACT = "unsupported_fact"
    """An option has a fact that stands in no source; its ``unsupported`` names it."""
    EARLY_OPTION_DOUBTFUL = "early_option_doubtful"
    """An option that was published early fails a check that only the complete answer allows; it was not changed."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ReplyingTo(_Strict):
    """The person that the drafts answer, and the gist of the message."""

    author: str
    """The name as shown."""
    gist: str
    expects: Expects


class OtherTarget(_Strict):
    """Another message that could have been meant."""

    key: str
    """What a refinement names in ``options.answer_to``."""
    author: str
    gist: str


class Unsupported(_Strict):
    """A fact in an option that stands in no source."""

    quote: str
    """A verbatim part of the text."""
    kind: FactKind


class Option(_Strict):
    """One reply that could be sent as it is."""

    length: Length
    angle: str
    """What this reply does, in at most five words."""
    stance: Stance
    """What the reply commits the requester to."""
    text: Annotated[str, Field(min_length=1)]
    """What is pasted into the reply box: plain text, line breaks as ``\\n``."""
    unsupported: list[Unsupported] = []
    translation: str | None = None
    """The text in ``reader_language``; absent if the reader needs none."""


class Result(_Strict):
    """A finished draft, as stored in ``draft_requests.result``."""

    schema_version: Literal[1] = SCHEMA_VERSION
    platform: Platform
    platform_name: str
    """The name as shown, such as "Mastodon"."""
    content_type: ContentType
    language: str
    """The conversation's language, as a BCP 47 tag."""
    summary: str
    """One sentence: what the screenshot shows."""
    me: str
    """Who the requester is in the screenshot."""
    replying_to: ReplyingTo
    reply_needed: ReplyNeeded
    options: Annotated[list[Option], Field(min_length=1, max_length=len(Length))]
    """The replies that were wanted, in the order of ``Length``."""
    other_targets: list[OtherTarget] = []
    """Up to five."""
    unsent_text: str | None = None
    """The requester's own beginning in the reply box, which the options continue."""
    missing: Annotated[list[str], Field(max_length=3)]
    """Facts that would improve the replies."""
    confidence: Confidence
    warnings: list[ResultWarning]

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object to store; an option without a translation has no key for it."""
        return self.model_dump(mode="json", exclude_none=True) | {"unsent_text": self.unsent_text}
