"""Links in a draft: find them, and remove those that appear in no known text.

A made-up link is worse than none: it leads nowhere, or to a page of an attacker's choice. The caller decides which texts are
known. A bare host counts as well, since apps make a link of it, and so does one that is disguised (``hxxp``, ``example[.]com``,
``example dot com``, invisible characters, full-width letters); the names of well-known sites and products that are written like
hosts do not. Invariant: the work grows linearly with the text. So no two searches begin in one host or one run of spaces, and
every search that fails is bounded.
"""

import re
from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from unicodedata import normalize

from draftd.reply import invisible

# Latin, Greek and Cyrillic: scripts that set spaces between words, so that a host is not taken for a part of the sentence.
_LETTER = "A-Za-z0-9À-ɏͰ-ϿЀ-ԯ"
_ENDINGS_OF_OTHERS = "рф|укр|бел|срб|ελ"  # noqa: RUF001 - Cyrillic and Greek ones are meant
_HOST = rf"(?:[{_LETTER}](?:[{_LETTER}-]*[{_LETTER}])?\.)+(?:xn--[A-Za-z0-9-]{{2,50}}|[A-Za-z]{{2,24}}|{_ENDINGS_OF_OTHERS})"
# Top-level domains that are common in links, but not as file extensions: ``main.py/run`` and ``notes.md/1`` are paths.
_ENDINGS = (
    "com|org|net|io|dev|app|ai|co|me|ly|gl|gd|be|tv|info|biz|eu|uk|us|de|fr|es|it|nl|ch|at|jp|cn|br|ca|au|ru|pl|tr|se|dk|fi|"
    "cz|mx|cl|pt|gr|ro|hu|ie|kr|xyz|top|shop|click|link|online|site|store|live|club|vip|icu|page|tech|win|bid|mobi|gg|"
    rf"xn--[A-Za-z0-9-]{{2,50}}|{_ENDINGS_OF_OTHERS}"
)
_BARE_HOST = rf"(?:[{_LETTER}](?:[{_LETTER}-]*[{_LETTER}])?\.)+(?:{_ENDINGS})"
# The last character must not end a sentence or close a bracket, which belong to the surrounding text.
_GROUP = rf"\([{_LETTER}_,-]*\)"
_PATH = rf"[/?#](?:(?:[{_LETTER}\-._~:/?#@!$&'*+,;=%\[\]]|{_GROUP})*(?:[{_LETTER}\-_~/#@$&+=%]|{_GROUP}))?"
_START = rf"(?<![{_LETTER}@./_-])"
_END = rf"(?![{_LETTER}-]|\.[{_LETTER}])"

_SCHEMES = r"(?:h(?:tt|xx|\*\*)ps?|s?ftp|wss?)://"
# `https://good.com@evil.com/` leads to evil.com, and an address may be one number.
_USER = r"(?:[^\s/?#@]{1,64}@)?"
_ADDRESS = r"\[[0-9A-Fa-f:.]{2,45}\]|(?:0x[0-9A-Fa-f]{1,8}|\d{1,12})(?:\.(?:0x[0-9A-Fa-f]{1,8}|\d{1,12})){0,3}"
_WITH_SCHEME = (
    rf"(?:{_SCHEMES}{_USER}(?:{_HOST}|localhost|{_ADDRESS})|//{_USER}(?:{_BARE_HOST}|\d{{1,3}}(?:\.\d{{1,3}}){{3}})|www\.{_HOST})"
    rf"(?::\d+)?(?:{_PATH})?"
)
_NUMBERS = r"\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?/"
_LINK_OR_HOST = re.compile(rf"{_START}(?:{_WITH_SCHEME}|{_BARE_HOST}(?![A-Za-z0-9-])(?:{_PATH})?)", re.IGNORECASE)
_LINK = re.compile(
    rf"{_START}(?:{_WITH_SCHEME}|{_BARE_HOST}(?::\d+)?{_PATH}|(?P<host>{_BARE_HOST}){_END}|{_NUMBERS}\S*)",
    re.IGNORECASE,
)
_FILES = "py|js|ts|md|txt|pdf|png|jpg|jpeg|json|yml|yaml|toml|csv|docx?|xlsx?|pptx?|zip|exe|html?"
_ANY_HOST = rf"(?:[{_LETTER}-]{{2,63}}\.){{2,6}}(?!(?:{_FILES})(?![A-Za-z0-9]))[A-Za-z]{{2,24}}(?![A-Za-z0-9-])"
_LINK_OR_ANY_HOST = re.compile(
    rf"{_START}(?:{_WITH_SCHEME}|{_BARE_HOST}(?![A-Za-z0-9-])(?:{_PATH})?|{_ANY_HOST}(?:{_PATH})?)", re.IGNORECASE
)
_BARE = re.compile(_BARE_HOST, re.IGNORECASE)
_NAMES = frozenset({
    "ado.net", "airbnb.com", "amazon.com", "amazon.de", "archive.org", "asp.net", "bahn.de", "bandcamp.com", "booking.com",
    "cal.com", "check24.de", "crates.io", "docs.python.org", "draw.io", "ebay.com", "ebay.de", "fast.com", "fly.io", "github.com",
    "gitlab.com", "gov.uk", "hotels.com", "huggingface.co", "immoscout24.de", "kayak.com", "ml.net", "monday.com", "npmjs.com",
    "openstreetmap.org", "pypi.org", "python.org", "rome2rio.com", "salesforce.com", "socket.io", "stackoverflow.com", "vb.net",
    "wikipedia.org", "zoom.us",
})  # fmt: skip
"""What people write as a name; without a path none of them leads to a page of an attacker's choice."""
# Attributes in code, such as `logger.info`: the endings of hosts that also name attributes.
_IN_CODE = re.compile(r"`[^`\n]{1,200}`")
_CODE_ENDINGS = frozenset({
    "ai", "app", "at", "be", "co", "dev", "info", "io", "it", "link", "live", "me", "page", "site", "store", "us",
})  # fmt: skip

# What people write for the dot of a host, to be read by people only.
_DOT_WORDS = "dot|punkt|point|punto|ponto|nokta"
_PLAIN_ENDINGS = "com|org|net|info|biz|xyz|shop|online|site|store|click|link|io|dev|app|ru|de|eu|top|live"
_WORDED_DOT = rf"(?:[ ](?:{_DOT_WORDS})[ ]|[ ]\.[ ]|\.)"
_WORDED = (
    rf"{_START}(?:[{_LETTER}-]{{1,63}}{_WORDED_DOT}){{0,5}}[{_LETTER}-]{{4,63}}"
    # "com" is also a word: in other languages than English the host must end the sentence or go on with a path.
    rf"(?:[ ](?:dot|\.)[ ](?:{_PLAIN_ENDINGS})(?![{_LETTER}-])"
    rf"|[ ](?:{_DOT_WORDS})[ ](?:{_PLAIN_ENDINGS})(?=[ ]?(?:[/.,;:!?)\n]|\Z)))"
)
_BRACKETED_DOT = rf"(?<=[{_LETTER}])[ ]?[\[({{][ ]?(?:\.|{_DOT_WORDS})[ ]?[\])}}][ ]?(?=[{_LETTER}])"
# Full-width and mathematical letters, digits and signs: each stands for one plain character, so that none moves.
_OTHER_FORMS = re.compile("[\uff01-\uff5e\U0001d400-\U0001d7ff]")
_WIDE_DOT = rf"(?<=[{_LETTER}])[\u3002\uff61\u2024](?=[{_LETTER}])"
_DISGUISES = re.compile(
    rf"(?P<worded>{_WORDED})|(?P<dot>{_BRACKETED_DOT}|{_WIDE_DOT})|[{invisible.CHARACTERS}]+", re.IGNORECASE
)
_DOTS = re.compile(_WORDED_DOT, re.IGNORECASE)
# Every disguise has one of these, and most texts have none: looking for them costs a tenth of looking for disguises.
_HINT = re.compile(rf"[ \[({{](?:\.|{_DOT_WORDS})|[\u3002\uff61\u2024{invisible.CHARACTERS}]", re.IGNORECASE)

MAX_LINKS = 20
"""Each distinct link of a reply costs a search of all known texts; no real reply has this many."""

_SCHEME = re.compile(rf"(?:{_SCHEMES}|(?<![:/])//)(?:www\.)?|(?<![\w.])www\.", re.IGNORECASE)
# Words that refer to a link and make no sense without it.
_POINTERS = "at|via|on|under|unter|auf|über|sur|en|su"
_IMPERATIVES = "see|visit|check|siehe|voir|consultez|ver|vedi"


def find(text: str) -> list[str]:
    """Return the links of a text as written, in order."""
    plain, origins = _undisguised(text)
    code = [match.span() for match in _IN_CODE.finditer(plain)]
    found = [match for match in _LINK.finditer(plain) if not _is_name(match, code)]
    return [text[origins[match.start()] : origins[match.end()]] for match in found]


def is_bare(link: str) -> bool:
    """Return whether a link is a host alone, which a sentence may need as a name."""
    return _BARE.fullmatch(_undisguised(link)[0]) is not None


def replace_all(text: str, placeholder: str) -> str:
    """Replace every link, including bare hosts, with a placeholder."""
    return _LINK_OR_HOST.sub(lambda _: placeholder, text)


def spans(text: str) -> Iterator[re.Match[str]]:
    """Return where links stand in a text, including bare hosts; of those with any ending if they have three parts."""
    return _LINK_OR_ANY_HOST.finditer(text)


def plain(text: str) -> str:
    """Return a text as ``occurs_in`` searches it."""
    return _SCHEME.sub("", _undisguised(text)[0]).casefold()


def occurs_in(link: str, shown: str) -> bool:
    """Return whether a plain text has a link, or a longer one that begins with it."""
    link = plain(link).rstrip("/")
    # The lookbehind follows the link so that it is evaluated only for matches, not at every character.
    alone = rf"{re.escape(link)}(?<![\w@.-]{re.escape(link)})(?![\w-]|\.\w)"
    return link in shown and re.search(alone, shown) is not None


def too_many(text: str) -> bool:
    """Return whether a text has more links than ``unseen`` checks."""
    return len(set(find(text))) > MAX_LINKS


class Sources:
    """Texts that a link may come from; they are read once, and only when there is a link to look for."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = texts

    @cached_property
    def plain(self) -> str:
        """The texts as ``occurs_in`` searches them."""
        return "\n".join(map(plain, self._texts))


def unseen(text: str, sources: Sources) -> list[str]:
    """Return the links of a text that occur in none of the sources, each once; none if the text has too many.

    A shorter form of a known link counts as known: ``https://example.com`` if ``www.example.com/prices`` occurs. A longer form
    does not: its path is made up.
    """
    found = dict.fromkeys(find(text))
    if not found or len(found) > MAX_LINKS:
        return []
    return [link for link in found if not occurs_in(link, sources.plain)]


def remove(text: str, links: Iterable[str]) -> str:
    """Remove links from a text, and repair the sentence where that is simple. A text without the links stays unchanged."""
    present = sorted((link for link in links if link in text), key=len, reverse=True)
    for link in present:
        text = _remove_one(text, re.escape(link))
    return re.sub(r"\n{3,}", "\n\n", text).strip() if present else text


def _is_name(match: re.Match[str], code: list[tuple[int, int]]) -> bool:
    """Return whether a host is no link: a well-known name, or an attribute in code."""
    host = match["host"]
    if host is None:
        return False
    is_call = match.string[match.end() : match.end() + 1] == "("
    before = bisect(code, match.span()) - 1
    in_code = is_call or (before >= 0 and match.end() < code[before][1])
    return host.casefold() in _NAMES or (in_code and host.casefold().rpartition(".")[2] in _CODE_ENDINGS)


def _undisguised(text: str) -> tuple[str, Sequence[int]]:
    """Return a text with its hosts spelled as usual, and where each of its characters, and its end, stood before."""
    text = _OTHER_FORMS.sub(lambda form: normalize("NFKC", form[0]), text)
    if _HINT.search(text) is None:
        return text, range(len(text) + 1)
    parts: list[str] = []
    origins: list[int] = []
    read_to = 0
    for match in _DISGUISES.finditer(text):
        shown = _DOTS.sub(".", match[0]) if match["worded"] else "." if match["dot"] else ""
        parts += [text[read_to : match.start()], shown]
        origins += [*range(read_to, match.start()), *[match.start()] * len(shown)]
        read_to = match.end()
    if not parts:
        return text, range(len(text) + 1)
    return "".join([*parts, text[read_to:]]), [*origins, *range(read_to, len(text) + 1)]


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
