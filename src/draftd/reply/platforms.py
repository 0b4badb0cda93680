"""Everything draftd knows about platforms, one entry each.

An entry holds the names that a model may use for the platform, its length limits and how it counts, and the conventions that the
prompt states. To add a platform, add an entry; clients treat an unknown platform as ``other``.

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
class PlatformProfile:
    """Everything known about one platform."""

    names: tuple[str, ...] = ()
    """Other names for it, in lower case."""
    public_chars: int | None = None
    """Maximum length of a post or comment; None if no draft comes near it."""
    private_chars: int | None = None
    """Maximum length of a direct message, if different."""
    count: Callable[[str], int] = len
    """Returns the length of a text as the platform counts it."""
    counting_note: str = ""
    """How the platform counts, if not in characters."""
    conventions: tuple[str, ...] = ()
    """What the prompt says about replies there; platforms with the same sentence share a line."""


_COMMENTS = "comments: no greeting, sign-off or signature; a first name only where it is natural."
_MAIL = (
    'a greeting ("Hi all," to several) unless the thread has dropped it; sign-off as the thread does it, with the '
    "requester's name only if it is known. Paragraphs."
)
_WORK_CHAT = 'short lines; "Hi Ana," only to open a conversation at work, never inside one.'
_PHONE = "as one types on a phone; no sign-off."


class Platform(StrEnum):
    """The platform of a conversation."""

    profile: PlatformProfile

    def __new__(cls, value: str, profile: PlatformProfile) -> Self:
        """Make a member with its profile."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.profile = profile
        return member

    LINKEDIN = (
        "linkedin",
        PlatformProfile(
            public_chars=1_250,
            private_chars=8_000,
            conventions=(_COMMENTS, "comments: at most {public_chars:,} characters."),
        ),
    )
    EMAIL = (
        "email",
        PlatformProfile(
            names=("mail", "gmail", "outlook"),
            conventions=(_MAIL,),
        ),
    )
    X = (
        "x",
        PlatformProfile(
            names=("twitter",),
            public_chars=280,
            private_chars=10_000,
            count=weighted_length,
            counting_note="as X counts (a link 23, an emoji or a CJK character 2)",
            conventions=(
                'a public reply has at most {public_chars:,} characters {counting_note}. No "@" chains, no thread numbering.',
            ),
        ),
    )
    SLACK = ("slack", PlatformProfile(public_chars=40_000, conventions=(_WORK_CHAT,)))
    FACEBOOK = ("facebook", PlatformProfile(public_chars=8_000, private_chars=20_000, conventions=(_COMMENTS,)))
    INSTAGRAM = (
        "instagram",
        PlatformProfile(public_chars=2_200, private_chars=1_000, conventions=(_COMMENTS,)),
    )
    WHATSAPP = ("whatsapp", PlatformProfile(public_chars=65_536, conventions=(_PHONE,)))
    TELEGRAM = ("telegram", PlatformProfile(public_chars=4_096, conventions=(_PHONE,)))
    DISCORD = ("discord", PlatformProfile(public_chars=2_000, conventions=(_WORK_CHAT,)))
    TEAMS = ("teams", PlatformProfile(public_chars=28_000, conventions=(_WORK_CHAT,)))
    REDDIT = ("reddit", PlatformProfile(public_chars=10_000, conventions=(_COMMENTS,)))
    SMS = ("sms", PlatformProfile(names=("imessage",), public_chars=1_600, conventions=(_PHONE,)))
    GITHUB = (
        "github",
        PlatformProfile(
            public_chars=65_536,
            conventions=("technical and specific; Markdown, code in backticks.",),
        ),
    )
    YOUTUBE = ("youtube", PlatformProfile(public_chars=10_000, conventions=(_COMMENTS,)))
    OTHER = ("other", PlatformProfile())


_BY_NAME = {name: one for one in Platform if one is not Platform.OTHER for name in (one.value, *one.profile.names)}


def parse(text: str) -> Platform:
    """Return the one platform that a text names, such as "X (formerly Twitter)"; ``OTHER`` for none or several."""
    named = {_BY_NAME[word] for word in re.findall("[a-z]+", text.lower()) if word in _BY_NAME}
    return named.pop() if len(named) == 1 else Platform.OTHER


def too_long(text: str, platform: Platform, *, is_private: bool, max_chars: int | None) -> str | None:
    """Return in what way a text is too long, or None.

    ``max_chars`` does not lift the platform's limit: a text over that limit cannot be sent.
    """
    profile = platform.profile
    if max_chars is not None and len(text) > max_chars:
        return f"has {len(text)} characters, but at most {max_chars} were asked for"
    limit, length = limit_of(platform, is_private=is_private), profile.count(text)
    if limit is None or length <= limit:
        return None
    how = f" {profile.counting_note}" if profile.counting_note else ""
    return f"has {length} characters{how}, but {platform} allows {limit}"


def limit_of(platform: Platform, *, is_private: bool) -> int | None:
    """Return the maximum length of a reply, as the platform counts it, or None."""
    profile = platform.profile
    return (profile.private_chars if is_private else None) or profile.public_chars


def conventions() -> str:
    """Return the prompt's lines about the platforms' conventions."""
    lines: dict[str, list[str]] = {}
    for platform in Platform:
        profile = platform.profile
        for convention in profile.conventions:
            said = convention.format(public_chars=profile.public_chars, counting_note=profile.counting_note)
            lines.setdefault(said, []).append(f"`{platform}`")
    return "\n".join(f"- {', '.join(platforms)}{_separator(said)}{said}" for said, platforms in lines.items())


def _separator(said: str) -> str:
    return " " if said.startswith("comments:") else ": "
