"""How far what was read is from what was written."""

import unicodedata

_PLAIN = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "-"})


def normalised(text: str, *, spaces: bool = True) -> str:
    """Return the text as it is compared: one form of each character, plain quotes and dashes, no marks of direction.

    Args:
        text: as written or as read.
        spaces: whether a space counts; in Japanese a reader puts them where it likes.
    """
    plain = unicodedata.normalize("NFKC", text).translate(_PLAIN)
    visible = "".join(one for one in plain if unicodedata.category(one) != "Cf")
    return (" " if spaces else "").join(visible.split())


def errors(written: str, read: str) -> int:
    """Return the Levenshtein distance, at most the length of what was written: a line cannot be worse than not read."""
    most = len(written)
    written, read = _without_common_ends(written, read)
    row = list(range(len(read) + 1))
    for place, one in enumerate(written, start=1):
        diagonal, row[0] = row[0], place
        for at, other in enumerate(read, start=1):
            diagonal, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, diagonal + (one != other))
    return min(row[-1], most)


def _without_common_ends(one: str, other: str) -> tuple[str, str]:
    start = 0
    while start < min(len(one), len(other)) and one[start] == other[start]:
        start += 1
    one, other = one[start:], other[start:]
    end = 0
    while end < min(len(one), len(other)) and one[-1 - end] == other[-1 - end]:
        end += 1
    return one[: len(one) - end], other[: len(other) - end]
