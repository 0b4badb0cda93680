"""How long a text may be where it is sent.

Owns the platforms' lengths and how X counts. All other lengths are counted in characters (code points). A platform that
is not listed, or whose limit no draft comes near, has none here. Sources, as of 2026:

- X: docs.x.com/fundamentals/counting-characters and the file ``config/v3.json`` of github.com/twitter/twitter-text;
  direct messages 10,000.
- Discord 2,000: the ``content`` of a message without Nitro, discord.com/developers/docs (Create Message).
- Telegram 4,096: core.telegram.org/bots/api#sendmessage.
- Slack 40,000: docs.slack.dev, ``chat.postMessage``, "Truncating content".
- Teams 28,000: about 28 KB with mark-up and mentions, learn.microsoft.com (limits and specifications for Teams).
- SMS 1,600: Twilio's error 21617, "The concatenated message body exceeds the 1600 character limit".
- GitHub 65,536: the 422 of its API, "Body is too long (maximum is 65536 characters)".
- Reddit 10,000: its comment form's message "this is too long (max: 10000)".
- LinkedIn (comment 1,250; message 8,000), Instagram (comment 2,200; message 1,000), Facebook (comment 8,000; message
  20,000), YouTube (comment 10,000), WhatsApp 65,536: the platforms do not publish them; the figures are those of
  linkedinpreview.com/blog/linkedin-post-length and lettercounter.org/blog/social-media-character-limits-comparison
  (2026).
"""

import re
import unicodedata

from draftd import links
from draftd.result import ContentType, Platform

_PUBLIC = {
    Platform.LINKEDIN: 1_250,
    Platform.X: 280,
    Platform.SLACK: 40_000,
    Platform.FACEBOOK: 8_000,
    Platform.INSTAGRAM: 2_200,
    Platform.WHATSAPP: 65_536,
    Platform.TELEGRAM: 4_096,
    Platform.DISCORD: 2_000,
    Platform.TEAMS: 28_000,
    Platform.REDDIT: 10_000,
    Platform.SMS: 1_600,
    Platform.GITHUB: 65_536,
    Platform.YOUTUBE: 10_000,
}
_PRIVATE = {
    Platform.LINKEDIN: 8_000,
    Platform.X: 10_000,
    Platform.FACEBOOK: 20_000,
    Platform.INSTAGRAM: 1_000,
}
_PRIVATE_TYPES = frozenset({ContentType.DIRECT_MESSAGE, ContentType.GROUP_CHAT})

_LINK_ON_X = "x" * 23
_MODIFIER = "(?:\ufe0f|[\U0001f3fb-\U0001f3ff])?"
_SYMBOL = "[\u2190-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
_EMOJI = re.compile(
    "[\U0001f1e6-\U0001f1ff]{2}"
    "|[#*0-9]\ufe0f?\u20e3"
    "|[\u00a9\u00ae\u203c\u2049\u2122\u2139]\ufe0f"
    f"|{_SYMBOL}{_MODIFIER}(?:\u200d{_SYMBOL}{_MODIFIER})*[\U000e0020-\U000e007f]*"
)
_SINGLE_WEIGHT = re.compile("[\u0000-\u10ff\u2000-\u200d\u2010-\u201f\u2032-\u2037]")


def limit_of(platform: Platform, content_type: ContentType) -> int | None:
    """Return the most characters that a reply may have there, or None."""
    if content_type in _PRIVATE_TYPES and platform in _PRIVATE:
        return _PRIVATE[platform]
    return _PUBLIC.get(platform)


def length_of(text: str, platform: Platform) -> int:
    """Return how long the platform takes a text to be, in its own characters."""
    return weighted_length(text) if platform is Platform.X else len(text)


def weighted_length(text: str) -> int:
    """Count as X does: a link 23, an emoji 2 however it is composed, CJK and rare characters 2, all others 1."""
    text = links.shortened(unicodedata.normalize("NFC", text), _LINK_ON_X)
    rest, emoji = _EMOJI.subn("", text)
    single = len(_SINGLE_WEIGHT.findall(rest))
    return 2 * emoji + single + 2 * (len(rest) - single)


def too_long(text: str, platform: Platform, content_type: ContentType, max_chars: int | None) -> str | None:
    """Say by how much a text is too long, or return None.

    ``max_chars`` comes on top of the platform's limit and does not lift it: a post that X refuses cannot be sent as it
    is.
    """
    limit, length = limit_of(platform, content_type), length_of(text, platform)
    if max_chars is not None and len(text) > max_chars:
        return f"has {len(text)} characters, but at most {max_chars} were asked for"
    if limit is not None and length > limit:
        how = " as X counts (a link 23, an emoji or a CJK character 2)" if platform is Platform.X else ""
        return f"has {length} characters{how}, but {platform.value} allows {limit}"
    return None
