"""Links in a draft: find them, and remove those that appear in no known text.

A made-up link is worse than none: it leads nowhere, or to a page of an attacker's choice. The caller decides which texts are
known. A bare name such as ``booking.com`` does not count as a link, because people write it as a word; with a path it does.
Invariant: the work grows linearly with the text. So no two searches begin in one host or one run of spaces, and every search that
fails is bounded.
"""

import re
from collections.abc import Iterable, Iterator

_LETTER = "A-Za-z0-9À-ɏ"
_HOST = rf"(?:[{_LETTER}](?:[{_LETTER}-]*[{_LETTER}])?\.)+[A-Za-z]{{2,24}}"
# Top-level domains that are common in links, but not as file extensions: ``main.py/run`` and ``notes.md/1`` are paths.
_ENDINGS = "com|org|net|io|dev|app|ai|co|me|ly|gl|gd|be|tv|info|biz|eu|uk|us|de|fr|es|it|nl|ch|at|jp|cn|br|ca|au"
_BARE_HOST = rf"(?:[{_LETTER}](?:[{_LETTER}-]*[{_LETTER}])?\.)+(?:{_ENDINGS})"
# The last character must not end a sentence or close a bracket, which belong to the surrounding text.
_GROUP = rf"\([{_LETTER}_,-]*\)"
_PATH = rf"[/?#](?:(?:[{_LETTER}\-._~:/?#@!$&'*+,;=%\[\]]|{_GROUP})*(?:[{_LETTER}\-_~/#@$&+=%]|{_GROUP}))?"
_START = rf"(?<![{_LETTER}@./_-])"

_WITH_SCHEME = rf"(?:https?://(?:{_HOST}|localhost|\d+(?:\.\d+){{3}})|www\.{_HOST})(?::\d+)?(?:{_PATH})?"
_LINK = re.compile(rf"{_START}(?:{_WITH_SCHEME}|{_BARE_HOST}{_PATH})", re.IGNORECASE)
_LINK_OR_HOST = re.compile(rf"{_START}(?:{_WITH_SCHEME}|{_BARE_HOST}(?![A-Za-z0-9-])(?:{_PATH})?)", re.IGNORECASE)
_FILES = "py|js|ts|md|txt|pdf|png|jpg|jpeg|json|yml|yaml|toml|csv|docx?|xlsx?|pptx?|zip|exe|html?"
_ANY_HOST = rf"(?:[{_LETTER}-]{{2,63}}\.){{2,6}}(?!(?:{_FILES})(?![A-Za-z0-9]))[A-Za-z]{{2,24}}(?![A-Za-z0-9-])"
_LINK_OR_ANY_HOST = re.compile(
    rf"{_START}(?:{_WITH_SCHEME}|{_BARE_HOST}(?![A-Za-z0-9-])(?:{_PATH})?|{_ANY_HOST}(?:{_PATH})?)", re.IGNORECASE
)

MAX_LINKS = 20
"""Each distinct link of a reply costs a search of all known texts; no real reply has this many."""

_SCHEME = re.compile(r"https?://(?:www\.)?|(?<![\w.])www\.", re.IGNORECASE)
# Words that refer to a link and make no sense without it.
_POINTERS = "at|via|on|under|unter|auf|über|sur|en|su"
_IMPERATIVES = "see|visit|check|siehe|voir|consultez|ver|vedi"


def find(text: str) -> list[str]:
    """Return the links of a text as written, in order."""
    return _LINK.findall(text)


def replace_all(text: str, placeholder: str) -> str:
    """Replace every link, including bare hosts, with a placeholder."""
    return _LINK_OR_HOST.sub(lambda _: placeholder, text)


def spans(text: str) -> Iterator[re.Match[str]]:
    """Return where links stand in a text, including bare hosts; of those with any ending if they have three parts."""
    return _LINK_OR_ANY_HOST.finditer(text)


def occurs_in(link: str, source: str) -> bool:
    """Return whether a source has a link, or a longer one that begins with it."""
    return _occurs_in(_plain(link).rstrip("/"), _plain(source))


def too_many(text: str) -> bool:
    """Return whether a text has more links than ``unseen`` checks."""
    return len(set(find(text))) > MAX_LINKS


def unseen(text: str, sources: Iterable[str]) -> list[str]:
    """Return the links of a text that occur in none of the sources, each once; none if the text has too many.

    A shorter form of a known link counts as known: ``https://example.com`` if ``www.example.com/prices`` occurs. A longer form
    does not: its path is made up.
    """
    found = dict.fromkeys(find(text))
    if not found or len(found) > MAX_LINKS:
        return []
    shown = "\n".join(_plain(source) for source in sources)
    return [link for link in found if not _occurs_in(_plain(link).rstrip("/"), shown)]


def remove(text: str, links: Iterable[str]) -> str:
    """Remove links from a text, and repair the sentence where that is simple. A text without the links stays unchanged."""
    present = sorted((link for link in links if link in text), key=len, reverse=True)
    for link in present:
        text = _remove_one(text, re.escape(link))
    return re.sub(r"\n{3,}", "\n\n", text).strip() if present else text


def _plain(text: str) -> str:
    return _SCHEME.sub("", text).casefold()


def _occurs_in(link: str, shown: str) -> bool:
    # The lookbehind follows the link so that it is evaluated only for matches, not at every character.
    alone = rf"{re.escape(link)}(?<![\w@.-]{re.escape(link)})(?![\w-]|\.\w)"
    return link in shown and re.search(alone, shown) is not None


def _remove_one(text: str, link: str) -> str:
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
