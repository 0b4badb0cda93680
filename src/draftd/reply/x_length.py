"""How X counts the length of a post.

Sources: docs.x.com/fundamentals/counting-characters, and ``config/v3.json`` of github.com/twitter/twitter-text.
"""

import re
import unicodedata

from draftd.reply import links

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


def weighted_length(text: str) -> int:
    """Count as X does: a link 23, an emoji 2 however it is composed, CJK and rare characters 2, all others 1."""
    text = links.replace_all(unicodedata.normalize("NFC", text), _LINK_ON_X)
    rest, emoji = _EMOJI.subn("", text)
    single = len(_SINGLE_WEIGHT.findall(rest))
    return 2 * emoji + single + 2 * (len(rest) - single)
