"""Placeholders in a draft, such as ``[Name]``, which people would have to fill in before sending.

Square and curly brackets around words count as a placeholder in any language, because a missed one would be sent; exceptions are
links, footnotes, check boxes, ticket numbers and tags. Angle brackets are usually mark-up, the wide brackets of Japanese and
Chinese usually a heading, two pairs of brackets without a space a reference link, and on a platform for code all kinds usually
mean something else; these count only if they name what is missing. Code in backticks is ignored.
"""

import re
from collections.abc import Sequence

CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)
"""Code in a text, in a line or in a block."""
_MARKED_ELSEWHERE = r"[A-Za-z0-9_/\\#=&\])}]"
_BRACKETED = re.compile(
    rf"""(?<!{_MARKED_ELSEWHERE})(?:
        \[(?P<square>[^\[\]{{}}\n]{{1,60}})\](?![A-Za-z0-9_(\[=])
      | \{{{{?(?P<curly>[^{{}}\[\]"':;=\n]{{1,60}})\}}}}?(?![A-Za-z0-9_/])
      | \[(?P<pair>[^\[\]{{}}\n]{{1,60}}\]\[[^\[\]{{}}\n]{{1,60}})\](?![A-Za-z0-9_(=])
      | <(?P<angle>[^<>"'=/@:\n]{{1,60}})>(?![A-Za-z0-9_(])
    )
    | [\u3010\uff3b](?P<wide>[^\u3010\u3011\uff3b\uff3d\n]{{1,60}})[\u3011\uff3d]""",
    re.VERBOSE,
)
# Japanese form letters use circles for a name; the black circle is also a bullet, unless a title follows.
_CIRCLES = r"[\u3007\u25cb\u25ef]{2,}|(?<!\u25cf)\u25cf{2,}(?=[ \u3000]?(?:様|さん|氏))"
_BLANKS = re.compile(rf"(?<![A-Za-z0-9])X{{3,}}(?![A-Za-z0-9])|{_CIRCLES}|(?<![_\w])_{{3,}}(?![_\w])")
_RULE = re.compile(r"^[ \t]*_{3,}[ \t]*$", re.MULTILINE)

_TAGS = frozenset({
    "sic", "x", "deleted", "removed", "edit", "edited", "update", "wip", "solved", "resolved", "external", "internal",
    "ot", "oc", "op", "nsfw", "spoiler", "spoilers", "rant", "draft", "translated", "translation", "pdf", "video",
    "image", "photo", "gif", "audio",
})  # fmt: skip
_ELEMENTS = frozenset({"title", "link", "time", "address"})
"""HTML elements whose names are also placeholder words."""
_MUST_NAME = frozenset({"pair", "angle", "wide"})
"""Kinds of brackets that count only if they name what is missing."""
_TICKET = re.compile(r"#?[A-Z][A-Z0-9]*[-#]\d+|#\d+")
_NOUNS = frozenset({
    "name", "firstname", "lastname", "surname", "company", "employer", "recipient", "sender", "email", "mail", "phone",
    "number", "date", "time", "day", "link", "url", "address", "title", "role", "position", "topic", "product",
    "project", "city", "amount", "price", "reason", "signature", "firma", "firmenname", "unternehmen", "vorname",
    "nachname", "datum", "uhrzeit", "betrag", "anrede", "betreff", "nombre", "apellido", "empresa", "fecha", "hora",
    "enlace", "nom", "prénom", "entreprise", "société", "lien", "heure", "nome", "cognome", "azienda", "sobrenome",
    "naam", "bedrijf", "имя", "компания", "дата", "名前", "氏名", "会社名", "日付", "姓名", "公司", "日期",
})  # fmt: skip
_FIRST_WORDS = frozenset({
    "your", "insert", "enter", "add", "fill", "put", "tbd", "todo", "ihr", "ihre", "ihren", "dein", "deine", "deinen",
    "einfügen", "votre", "insérer", "su", "tu", "inserire", "seu", "sua", "uw",
})  # fmt: skip


def find(text: str, *, code: bool, samples: Sequence[str] = ()) -> list[str]:
    """Return the placeholders of a text as written, bracketed ones first.

    Args:
        text: the draft.
        code: whether brackets usually mean code on the platform (GitHub).
        samples: texts by the sender. For somebody who closes with ``XXX``, these are kisses.
    """
    prose = CODE.sub(" ", text)
    bracketed = [match[0] for match in _BRACKETED.finditer(prose) if _is_placeholder(match, code=code)]
    blanks = _BLANKS.findall(_RULE.sub("", prose))
    return bracketed + [one for one in blanks if one.strip("X") or not any(text.endswith(one) for text in samples)]


def _is_placeholder(match: re.Match[str], *, code: bool) -> bool:
    inside = match[match.lastgroup or 0].strip()
    named = all(_names_what_is_missing(half) for half in inside.split("]["))
    if code and match["angle"] is not None and inside in _ELEMENTS:
        return False
    if code or match.lastgroup in _MUST_NAME:
        return named
    if match["square"] is not None and (inside.casefold() in _TAGS or _TICKET.fullmatch(inside)):
        return False
    return named or any(character.isalpha() for character in inside)


def _names_what_is_missing(inside: str) -> bool:
    words = re.findall(r"\w+", inside.replace("_", " ").casefold())
    return bool(words) and (words[0] in _FIRST_WORDS or words[-1] in _NOUNS or (len(words) > 1 and words[0] in _NOUNS))
