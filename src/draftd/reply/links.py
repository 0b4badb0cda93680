"""Links in a draft: find them, and take out those that nobody showed.

A link that a model made up is worse than none: it leads nowhere, or where somebody else wants the reader to go. Owns
the finding and the removal; which texts count as shown is the caller's matter. A bare name such as ``booking.com`` is
not taken for a link, because people write it as a word; with a path behind it, it is. Invariant: the work grows with
the text, not with its square. So no two searches begin in one host or one run of spaces, and what a search can run
over in vain is bounded.
"""

import re
from collections.abc import Iterable

_LETTER = "A-Za-z0-9À-ɏ"
_HOST = rf"(?:[{_LETTER}](?:[{_LETTER}-]*[{_LETTER}])?\.)+[A-Za-z]{{2,24}}"
# Endings that are common in links and not as a file's: ``main.py/run`` and ``notes.md/1`` are paths.
_ENDINGS = "com|org|net|io|dev|app|ai|co|me|ly|gl|gd|be|tv|info|biz|eu|uk|us|de|fr|es|it|nl|ch|at|jp|cn|br|ca|au"
_BARE_HOST = rf"(?:[{_LETTER}](?:[{_LETTER}-]*[{_LETTER}])?\.)+(?:{_ENDINGS})"
# The last character is none that ends a sentence or closes a bracket: those belong to the text around the link.
_GROUP = rf"\([{_LETTER}_,-]*\)"
_PATH = rf"[/?#](?:(?:[{_LETTER}\-._~:/?#@!$&'*+,;=%\[\]]|{_GROUP})*(?:[{_LETTER}\-_~/#@$&+=%]|{_GROUP}))?"
_START = rf"(?<![{_LETTER}@./_-])"

_WITH_SCHEME = rf"(?:https?://(?:{_HOST}|localhost|\d+(?:\.\d+){{3}})|www\.{_HOST})(?::\d+)?(?:{_PATH})?"
_LINK = re.compile(rf"{_START}(?:{_WITH_SCHEME}|{_BARE_HOST}{_PATH})", re.IGNORECASE)
_LINK_OR_HOST = re.compile(rf"{_START}(?:{_WITH_SCHEME}|{_BARE_HOST}(?![A-Za-z0-9-])(?:{_PATH})?)", re.IGNORECASE)

MAX_LINKS = 20
"""Each different link of a reply costs a search of everything that was shown; no reply that is sent has so many."""

_SCHEME = re.compile(r"https?://(?:www\.)?|(?<![\w.])www\.", re.IGNORECASE)
# Words that point at a link and make no sense without it.
_POINTERS = "at|via|on|under|unter|auf|über|sur|en|su"
_IMPERATIVES = "see|visit|check|siehe|voir|consultez|ver|vedi"


def find(text: str) -> list[str]:
    """Return the links of a text as written, in order."""
    return _LINK.findall(text)


def shortened(text: str, placeholder: str) -> str:
    """Return the text with every link, bare hosts included, replaced by one placeholder."""
    return _LINK_OR_HOST.sub(lambda _: placeholder, text)


def too_many(text: str) -> bool:
    """Return whether a text has more links than ``unseen`` looks for."""
    return len(set(find(text))) > MAX_LINKS


def unseen(text: str, sources: Iterable[str]) -> list[str]:
    """Return the links of a text that stand in none of the sources, each once; of a text with too many, none.

    ``https://example.com`` counts as shown where ``www.example.com/prices`` was: a shorter form of a shown link. The
    reverse does not: a path that nobody showed was made up.
    """
    found = dict.fromkeys(find(text))
    if not found or len(found) > MAX_LINKS:
        return []
    shown = "\n".join(_plain(source) for source in sources)
    return [link for link in found if not _stands_in(_plain(link).rstrip("/"), shown)]


def without(text: str, links: Iterable[str]) -> str:
    """Take links out of a text and mend the sentence as far as that is simple; without any the text stays as it is."""
    there = sorted((link for link in links if link in text), key=len, reverse=True)
    for link in there:
        text = _without_one(text, re.escape(link))
    return re.sub(r"\n{3,}", "\n\n", text).strip() if there else text


def _plain(text: str) -> str:
    return _SCHEME.sub("", text).casefold()


def _stands_in(link: str, shown: str) -> bool:
    # Behind the link, where it is asked only of what was found: in front it would be asked of every character.
    alone = rf"{re.escape(link)}(?<![\w@.-]{re.escape(link)})(?![\w-]|\.\w)"
    return link in shown and re.search(alone, shown) is not None


def _without_one(text: str, link: str) -> str:
    text = re.sub(rf"\[([^\[\]\n]*+)\]\(\s*+{link}[^)\n]{{0,200}}\)", r"\1", text)
    text = re.sub(rf"(?<![ \t])[ \t]*\((?:[^()\n]{{0,20}}[ \t])?{link}\)", "", text)
    text = re.sub(rf"^[ \t]*(?:[-*•][ \t]+)?<?{link}>?[.,;!]?[ \t]*(?:\n|$)", "", text, flags=re.MULTILINE)
    text = re.sub(
        rf"(?:(?<=[.!?])[ \t]+|^)(?:{_IMPERATIVES}):?[ \t]+<?{link}>?(?:[ \t][^.!?\n]*)?[.!?]?",
        "",
        text,
        flags=re.IGNORECASE | re.MULTILINE,
    )
    before = rf"(?:(?:(?<=\s)|^)(?:{_POINTERS})|(?<![ \t]))[ \t]*+(?:[:\u2013\u2014-][ \t]*+)?"
    text = re.sub(rf"{before}<?{link}>?", "", text, flags=re.IGNORECASE | re.MULTILINE)
    return re.sub(r"(?<![ \t])[ \t]+(?=$|[.,;])", "", text, flags=re.MULTILINE)
