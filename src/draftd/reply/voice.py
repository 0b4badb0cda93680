"""How a person writes: what to learn it from, and the habits that can be counted in texts of theirs.

A model sees what samples are about sooner than how they are written, and least of all what they lack: capitals, full stops,
emoji. So what can be counted is said beside the samples. Nothing here knows a language; words and their meaning are the model's
part. Invariant: a habit quotes at most a word or a line of a sample, so that it stands in the prompt as data, like the samples.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Final

from draftd.request import SentText

MIN_SAMPLES: Final = 2
"""A single text shows no habit."""
LONG_CHARS: Final = 280
"""A text from this length on, or one in paragraphs, is a mail or an essay; people write these otherwise than messages."""
MIN_COMMA_CHARS: Final = 200
"""In so much text a comma is due, in any language that has them; without one, the person uses none."""
MAX_QUOTE_CHARS: Final = 40
MIN_LINES: Final = 2
MAX_CLOSING_WORDS: Final = 4
_PERSON, _PLACE, _ELSEWHERE = range(3)
MAX_LEARNT: Final = 10
MAX_LEARNT_CHARS: Final = 4_000
"""Of learnt samples together: some 1,000 tokens."""
MAX_SHOWN: Final = 3
"""How many openings, closings and emoji are named."""

_EMOJI: Final = re.compile(
    r"[\U0001F1E6-\U0001F1FF]{2}"
    r"|[\U0001F300-\U0001FAFF\u2600-\u27BF\u2B50\u2B55\u231A-\u231B\u23E9-\u23FA]\uFE0F?[\U0001F3FB-\U0001F3FF]?"
    r"(?:\u200D[\U0001F300-\U0001FAFF\u2600-\u27BF]\uFE0F?[\U0001F3FB-\U0001F3FF]?)*"
    r"|(?<!\w)(?:[:;=]['-]?[()DPp3*/|]|<3|\^\^|xD|XD)(?!\w)"
)
"""A picture character, with skin colours and joined ones as one, or an emoticon."""
_WORD: Final = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_SENTENCE_END: Final = re.compile(r"[.!?\u2026\u3002\uff01\uff1f\n]+")
_MARKS: Final = {
    ".": "full stop",
    "\u3002": "full stop",
    "!": "!",
    "\uff01": "!",
    "?": "?",
    "\uff1f": "?",
    "\u2026": "dots",
    ")": "bracket",
}

_USES: Final[tuple[tuple[str, re.Pattern[str]], ...]] = (
    ("an exclamation mark", re.compile("[!\uff01]")),
    ("marks in a row (!!, ?!)", re.compile("[!?\uff01\uff1f]{2}")),
    ("dots (\u2026)", re.compile(r"\u2026|\.{2,}")),
    ("a dash", re.compile(r"[\u2013\u2014]| -+ ")),
    ("a stretched word (sooo)", re.compile(r"([^\W\d_])\1{2,}", re.IGNORECASE)),
    ("a word in capitals", re.compile(r"(?<!\w)[^\W\d_]{3,}(?!\w)")),
    ("a line break", re.compile(r"\S\n+\S")),
)
_CAPITALS: Final = "a word in capitals"


def habits(texts: Sequence[str]) -> dict[str, list[str]]:
    """Return what texts of one person have in common, as short lines by kind of text.

    Args:
        texts: what the person wrote.

    Returns:
        ``all``, or ``messages`` and ``long texts`` if there are enough of both; empty if there are too few texts.
    """
    texts = [text.strip() for text in texts if text.strip()]
    long = [text for text in texts if _is_long(text)]
    messages = [text for text in texts if not _is_long(text)]
    if min(len(long), len(messages)) >= MIN_SAMPLES:
        return {"messages": _lines(messages), "long texts": _lines(long)}
    return {"all": _lines(texts)} if len(texts) >= MIN_SAMPLES else {}


def chosen(
    sent: Sequence[SentText], *, platform: str | None = None, author: str | None = None, named_in: str = ""
) -> list[SentText]:
    """Choose what to learn from: what went to the same person on the same platform, then to the same platform; without any, all.

    A model knows the platform and the person only once it has seen the screenshot. Until then one text of each person and place
    comes before the second of any, so that those which fit are among them.

    Args:
        sent: what the requester sent, the latest first.
        platform: where the reply goes, if that is known.
        author: to whom, if that is known.
        named_in: the requester's words, which may name the person.

    Returns:
        Up to ``MAX_LEARNT`` texts of up to ``MAX_LEARNT_CHARS`` characters together, the most telling first.
    """
    counted = Counter[tuple[str, str]]()
    ranked: list[tuple[int, int, SentText]] = []
    for one in dict.fromkeys(sent):
        is_person = bool(one.author.strip()) and (one.author == author or _names(named_in, one.author))
        is_place = platform in {None, one.platform}
        rank = _PERSON if is_person and is_place else _PLACE if is_place else _ELSEWHERE
        ranked.append((rank, counted[one.platform, one.author] if platform is None and rank != _PERSON else 0, one))
        counted[one.platform, one.author] += 1
    if any(rank != _ELSEWHERE for rank, *_ in ranked):
        ranked = [entry for entry in ranked if entry[0] != _ELSEWHERE]
    left, kept = MAX_LEARNT_CHARS, list[SentText]()
    # The sort keeps the order of what is equal: the latest first.
    for *_, one in sorted(ranked, key=lambda entry: entry[:2]):
        if len(kept) < MAX_LEARNT and len(one.text) <= left:
            kept.append(one)
            left -= len(one.text)
    return kept


def _names(words: str, author: str) -> bool:
    """Return whether words name a person, by the full name or the first."""
    first = author.split(maxsplit=1)[0]
    return re.search(rf"(?<!\w){re.escape(first)}(?!\w)", words, re.IGNORECASE) is not None


def _is_long(text: str) -> bool:
    return len(text) >= LONG_CHARS or "\n\n" in text


def _lines(texts: Sequence[str]) -> list[str]:
    found = (_length(texts), _case(texts), _ends(texts), _emoji(texts), *_uses(texts), *_openings(texts))
    return [line for line in found if line]


def _body(text: str) -> str:
    """Return a text without the greeting and the signature that stand in lines of their own: they are no sentences."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    while len(lines) > MIN_LINES and len(_WORD.findall(lines[-1])) <= MAX_CLOSING_WORDS:
        lines.pop()
    if len(lines) > 1 and lines[0].endswith(","):
        lines.pop(0)
    return "\n".join(lines)


def _length(texts: Sequence[str]) -> str:
    chars = sorted(map(len, texts))
    sentences = [one for text in texts for one in _SENTENCE_END.split(_body(text))]
    words = [count for one in sentences if (count := len(_WORD.findall(one)))]
    sentence = f"; {median(words):.0f} words in a sentence" if words else ""
    return f"length: typically {median(chars):.0f} characters, from {chars[0]} to {chars[-1]}{sentence}"


def _case(texts: Sequence[str]) -> str:
    """Say how texts begin, and whether they have capitals at all; empty for a script without case."""
    first = [match[0] for text in texts if (match := re.search(r"[^\W\d_]", text))]
    cased = [letter for letter in first if letter.lower() != letter.upper()]
    if not cased:
        return ""
    small = sum(letter.islower() for letter in cased)
    without = sum(text == text.lower() for text in texts)
    return f"first letter small: {_of(small, len(cased))}; no capital anywhere: {_of(without, len(texts))}"


def _ends(texts: Sequence[str]) -> str:
    ends = Counter(_end(_body(text)) for text in texts)
    return "last character: " + ", ".join(f"{end} {count}" for end, count in ends.most_common())


def _end(text: str) -> str:
    if any(match.end() == len(text) for match in _EMOJI.finditer(text)):
        return "emoji"
    if text.endswith(".."):
        return "dots"
    return _MARKS.get(text[-1], "no mark")


def _emoji(texts: Sequence[str]) -> str:
    using = sum(_EMOJI.search(text) is not None for text in texts)
    if not using:
        return "emoji: none"
    most = Counter(emoji for text in texts for emoji in _EMOJI.findall(text)).most_common(MAX_SHOWN)
    return f"emoji: in {_of(using, len(texts))}, most {' '.join(emoji for emoji, _ in most)}"


def _uses(texts: Sequence[str]) -> Iterable[str]:
    """Say what is used by how many texts, or by none; commas only if they are missing altogether."""
    for name, pattern in _USES:
        using = sum(any(_counts(name, match[0]) for match in pattern.finditer(text)) for text in texts)
        # Fewer capitals are abbreviations.
        is_telling = 2 * using >= len(texts) if name == _CAPITALS else using or name.startswith("an exclamation")
        if is_telling:
            yield f"{name}: {_of(using, len(texts))}"
    if sum(map(len, texts)) >= MIN_COMMA_CHARS and not any("," in text or "\u3001" in text for text in texts):
        yield "commas: none"


def _counts(name: str, found: str) -> bool:
    return name != _CAPITALS or found.isupper()


def _openings(texts: Sequence[str]) -> Iterable[str]:
    yield _repeated("begins with", texts, _opening)
    yield _repeated("closes with", texts, _closing)


def _repeated(name: str, texts: Sequence[str], part: Callable[[str], str]) -> str:
    """Say which parts recur, as they are written most often."""
    parts = list(filter(None, map(part, texts)))
    written: dict[str, Counter[str]] = {}
    for one in parts:
        written.setdefault(one.casefold(), Counter())[one] += 1
    most = sorted(written.values(), key=Counter[str].total, reverse=True)[:MAX_SHOWN]
    shown = [f'"{ways.most_common(1)[0][0]}" {ways.total()}' for ways in most if ways.total() > 1]
    return f"{name}: {', '.join(shown)}" if shown else ""


def _opening(text: str) -> str:
    """Return the first word with what belongs to it: "hey", "Hallo Frau" is the model's to see."""
    match = _WORD.search(text)
    return match[0][:MAX_QUOTE_CHARS] if match and match.start() <= 1 else ""


def _closing(text: str) -> str:
    """Return the last line of a text in lines, or the last word of a message, unless the text is that alone."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > 1:
        return lines[-1][:MAX_QUOTE_CHARS]
    words = _WORD.findall(text)
    return words[-1][:MAX_QUOTE_CHARS] if len(words) > 1 else ""


def _of(count: int, total: int) -> str:
    return "all" if count == total else "none" if count == 0 else f"{count} of {total}"
