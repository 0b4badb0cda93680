"""Everything draftd knows of the platforms, one entry each.

An entry holds the names a model may use for the platform, how long a reply may be and how its length is counted, and
the habits that the prompt tells the model. A new platform is one entry here; clients read it as ``other`` until they
know it.

Lengths are in characters (code points) unless the entry counts otherwise. Sources, as of 2026:

- X: see ``x_length``; direct messages 10,000.
- Discord 2,000: the ``content`` of a message without Nitro, discord.com/developers/docs (Create Message).
- Telegram 4,096: core.telegram.org/bots/api#sendmessage.
- Slack 40,000: docs.slack.dev, ``chat.postMessage``, "Truncating content".
- Teams 28,000: about 28 KB with mark-up and mentions, learn.microsoft.com (limits and specifications for Teams).
- SMS 1,600: Twilio's error 21617, "The concatenated message body exceeds the 1600 character limit".
- GitHub 65,536: the 422 of its API, "Body is too long (maximum is 65536 characters)".
- Reddit 10,000: its comment form's message "this is too long (max: 10000)".
- LinkedIn, Instagram, Facebook, YouTube, WhatsApp: the platforms do not publish them; the figures are those of
  linkedinpreview.com/blog/linkedin-post-length and lettercounter.org/blog/social-media-character-limits-comparison.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from draftd.reply.x_length import weighted_length


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What is known of one platform."""

    names: tuple[str, ...] = ()
    """Words that name it beside its own value, in lower case."""
    public_chars: int | None = None
    """The longest post or comment; None where no draft comes near the limit."""
    private_chars: int | None = None
    """The longest direct message, where that differs."""
    count: Callable[[str], int] = len
    """Returns the length of a text as the platform counts it."""
    counting: str = ""
    """How it counts, where that is not in characters."""
    habits: tuple[str, ...] = ()
    """What the prompt says of replies there; platforms with the same sentence share a line."""


_COMMENTS = (
    "comments: no greeting, no sign-off, no signature; speak to the point made. A first name only where it is natural."
)
_MAIL = (
    "greeting and sign-off as the thread does it; the sign-off uses the requester's name only if it is known. "
    "No subject line. Paragraphs."
)
_WORK_CHAT = 'short lines, threads have context already; no "Hi team" inside a running conversation.'
_PHONE = "as one types on a phone; no sign-off."


class Platform(StrEnum):
    """Where the conversation takes place."""

    place: Place

    def __new__(cls, value: str, place: Place) -> Self:
        """Make a member that carries what is known of its platform."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.place = place
        return member

    LINKEDIN = (
        "linkedin",
        Place(
            public_chars=1_250,
            private_chars=8_000,
            habits=(_COMMENTS, "comments: at most {public_chars:,} characters."),
        ),
    )
    EMAIL = (
        "email",
        Place(
            names=("mail", "gmail", "outlook"),
            habits=(_MAIL,),
        ),
    )
    X = (
        "x",
        Place(
            names=("twitter",),
            public_chars=280,
            private_chars=10_000,
            count=weighted_length,
            counting="as X counts (a link 23, an emoji or a CJK character 2)",
            habits=(
                'a public reply has at most {public_chars:,} characters {counting}. No "@" chains, no thread numbering.',
            ),
        ),
    )
    SLACK = ("slack", Place(public_chars=40_000, habits=(_WORK_CHAT,)))
    FACEBOOK = ("facebook", Place(public_chars=8_000, private_chars=20_000, habits=(_COMMENTS,)))
    INSTAGRAM = (
        "instagram",
        Place(public_chars=2_200, private_chars=1_000, habits=(_COMMENTS, f"messages: {_PHONE}")),
    )
    WHATSAPP = ("whatsapp", Place(public_chars=65_536, habits=(_PHONE,)))
    TELEGRAM = ("telegram", Place(public_chars=4_096, habits=(_PHONE,)))
    DISCORD = ("discord", Place(public_chars=2_000, habits=(_WORK_CHAT,)))
    TEAMS = ("teams", Place(public_chars=28_000, habits=(_WORK_CHAT,)))
    REDDIT = ("reddit", Place(public_chars=10_000, habits=(_COMMENTS,)))
    SMS = ("sms", Place(names=("imessage",), public_chars=1_600, habits=(_PHONE,)))
    GITHUB = (
        "github",
        Place(
            public_chars=65_536,
            habits=(
                "technical and specific; Markdown; code in backticks. Do not claim to have run, tested or changed anything.",
            ),
        ),
    )
    YOUTUBE = ("youtube", Place(public_chars=10_000, habits=(_COMMENTS,)))
    OTHER = ("other", Place())


_BY_NAME = {name: one for one in Platform if one is not Platform.OTHER for name in (one.value, *one.place.names)}


def named_in(text: str) -> Platform:
    """Return the one platform that a text names, "X (formerly Twitter)" too; ``OTHER`` for none or several."""
    named = {_BY_NAME[word] for word in re.findall("[a-z]+", text.lower()) if word in _BY_NAME}
    return named.pop() if len(named) == 1 else Platform.OTHER


def too_long(text: str, platform: Platform, *, is_private: bool, max_chars: int | None) -> str | None:
    """Say by how much a text is too long, or return None.

    ``max_chars`` comes on top of the platform's limit and does not lift it: a post that X refuses cannot be sent as it
    is.
    """
    place = platform.place
    if max_chars is not None and len(text) > max_chars:
        return f"has {len(text)} characters, but at most {max_chars} were asked for"
    limit, length = limit_of(platform, is_private=is_private), place.count(text)
    if limit is None or length <= limit:
        return None
    how = f" {place.counting}" if place.counting else ""
    return f"has {length} characters{how}, but {platform} allows {limit}"


def limit_of(platform: Platform, *, is_private: bool) -> int | None:
    """Return the most characters that a reply may have there, or None."""
    place = platform.place
    return (place.private_chars if is_private else None) or place.public_chars


def habits() -> str:
    """Return the prompt's lines on the habits of the platforms."""
    lines: dict[str, list[str]] = {}
    for platform in Platform:
        place = platform.place
        for habit in place.habits:
            said = habit.format(public_chars=place.public_chars, counting=place.counting)
            lines.setdefault(said, []).append(f"`{platform}`")
    return "\n".join(f"- {', '.join(platforms)}{_joint(said)}{said}" for said, platforms in lines.items())


def _joint(said: str) -> str:
    return " " if said.startswith(("comments:", "messages:")) else ": "
