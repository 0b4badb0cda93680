"""Characters that are not shown: what they disguise is read without them, and what they hide is dropped.

A model may copy them from a screenshot's injection or be told to write them. A reply is pasted as it is, so text in invisible
characters would be sent by somebody who never saw it.
"""

import re

# Unicode's Default_Ignorable_Code_Point.
CHARACTERS = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff"
    "\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""For a class of a regular expression."""
_ANY = re.compile(f"[{CHARACTERS}]+")
_SHOWN = re.compile(rf"[^\s{CHARACTERS}]")
_TAG = re.compile("[\U000e0000-\U000e007f]")
_MAX_RUN = 3
"""Within emoji, Persian words and Japanese names they stand alone, in twos or in threes; a longer run spells something."""
_FLAG = "\U0001f3f4"
_REGION = re.compile("[\U000e0020-\U000e007e]{1,6}\U000e007f")
"""Tags spell text. Only the flags of England, Scotland and Wales are written with them."""


def without(text: str) -> str:
    """Return a text without its invisible characters."""
    return _ANY.sub("", text)


def without_hidden(text: str) -> str:
    """Return a text without what invisible characters spell; an empty one if nothing of it is shown."""
    return _ANY.sub(_kept, text) if _SHOWN.search(text) else ""


def _kept(run: re.Match[str]) -> str:
    is_flag = run.string[max(0, run.start() - 1) : run.start()] == _FLAG
    if is_flag and _REGION.fullmatch(run[0]):
        return run[0]
    return "" if len(run[0]) > _MAX_RUN or _TAG.search(run[0]) else run[0]
