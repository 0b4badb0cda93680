"""The types of JSON columns. Written by scripts/generate_docs.py; ``make docs`` writes it again."""

from __future__ import annotations

from typing import Literal, NotRequired, Required, TypedDict

Confidence = str
"""How sure the model is of its reading; the prompt defines the levels. Known: ``low``, ``medium``, ``high``; expect new
ones.
"""
ContentType = str
"""The kind of conversation. Known: ``post``, ``comment``, ``thread``, ``direct_message``, ``group_chat``, ``email``,
``review``, ``article``, ``other``; expect new ones.
"""
Expects = str
"""What the message wants first. Known: ``decision``, ``question``, ``recommendation``, ``help``, ``social``,
``statement``; expect new ones.
"""
FactKind = str
"""What kind of fact a quote states (section 2 of the contract). Known: ``number``, ``amount``, ``date``, ``time``,
``phone``, ``email``, ``handle``, ``link``; expect new ones.
"""
Length = str
"""The three replies, in their order. Known: ``short``, ``medium``, ``detailed``; expect new ones."""
Platform = str
"""The platform of a conversation. Known: ``linkedin``, ``email``, ``x``, ``slack``, ``facebook``, ``instagram``,
``whatsapp``, ``telegram``, ``discord``, ``teams``, ``reddit``, ``sms``, ``github``, ``youtube``, ``other``; expect new
ones.
"""
ReplyNeeded = str
"""Whether the other side expects a reply. Known: ``yes``, ``no``, ``unclear``; expect new ones."""
ResultWarning = str
"""What the requester should know before sending a draft. Known: ``possible_prompt_injection``, ``partially_illegible``,
``image_truncated``, ``no_reply_expected``, ``ambiguous_target``, ``unseen_link_removed``, ``unsupported_fact``,
``early_option_doubtful``; expect new ones.
"""
Stance = str
"""What an option commits the requester to. Known: ``accept``, ``decline``, ``choice``, ``open``, ``none``; expect new
ones.
"""


class Option(TypedDict):
    """One reply that could be sent as it is."""

    length: Length
    angle: str
    """What this reply does, in at most five words."""
    stance: Stance
    """What the reply commits the requester to."""
    text: str
    """What is pasted into the reply box: plain text, line breaks as ``\\n``."""
    unsupported: list[Unsupported]
    translation: NotRequired[str]
    """The text in ``reader_language``; absent if the reader needs none."""


class OtherTarget(TypedDict):
    """Another message that could have been meant."""

    key: str
    """What a refinement names in ``options.answer_to``."""
    author: str
    gist: str


class ReplyingTo(TypedDict):
    """The person that the drafts answer, and the gist of the message."""

    author: str
    """The name as shown."""
    gist: str
    expects: Expects


class Unsupported(TypedDict):
    """A fact in an option that stands in no source."""

    quote: str
    """A verbatim part of the text."""
    kind: FactKind


class Result(TypedDict):
    """A finished draft, as stored in ``draft_requests.result``."""

    schema_version: Literal[1]
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
    options: list[Option]
    """The replies that were wanted, in the order of ``Length``."""
    other_targets: list[OtherTarget]
    """Up to five."""
    unsent_text: str | None
    """The requester's own beginning in the reply box, which the options continue."""
    missing: list[str]
    """Facts that would improve the replies."""
    confidence: Confidence
    warnings: list[ResultWarning]


class PartialResult(TypedDict, total=False):
    """What is ready of a result while its request is processed, and what stays when it fails."""

    schema_version: Required[Literal[1]]
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
    options: Required[list[Option]]
    """The replies that were wanted, in the order of ``Length``."""
    other_targets: list[OtherTarget]
    """Up to five."""
    unsent_text: str | None
    """The requester's own beginning in the reply box, which the options continue."""
    missing: list[str]
    """Facts that would improve the replies."""
    confidence: Confidence
    warnings: list[ResultWarning]


class RequestOptions(TypedDict, total=False):
    """``draft_requests.options``: how the requester wants the drafts. Unknown keys are refused."""

    tone: str | None
    """a few words: `"warm"`, `"brief, formal"`; 200 characters"""
    language: str | None
    """language of the replies, as a tag such as `en` or `pt-BR`; default: the conversation's"""
    reader_language: str | None
    """the requester's language, for summary, gist, angles and `missing`; each option gets a `translation`"""
    me: str | None
    """who the requester is in the screenshot: a name, or `"right-hand bubbles"`; 200 characters"""
    voice_samples: list[str]
    """up to 10 texts by the requester, of up to 4,000 characters each"""
    max_chars: int | None
    """maximum length of a reply, 1 to 20,000; the platform's own limit applies too"""
    facts: list[str]
    """up to 20 statements that are true and may be used: `"my course was CS, 2019 to 2023"`; 500 characters each"""
    stance: Literal["accept", "decline", "open"] | None
    """`accept`, `decline` or `open`: the decision that all drafts take"""
    answer_to: str | None
    """which message to answer when several could be meant: a `key` of the parent's `other_targets`, or words: `"Ana's
    comment about prices"`; 200 characters
    """
    lengths: list[Literal["short", "medium", "detailed"]]
    """which of `short`, `medium`, `detailed` are wanted; default: all three"""
