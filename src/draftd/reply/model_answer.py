"""The flat JSON object that a model returns, and its lenient parsing.

The schema is flat because only that works with every provider: all keys required, no ``$ref``, no ``anyOf``, no bounds. Keys are
in the order in which models write them: first what the replies and their checks need, and no more, since the first reply waits
for it; then the replies; then the rest. The prompt says what each key holds. Parsing never fails: an unknown platform becomes
``other``, and an overlong line is truncated. ``answer`` decides what is acceptable.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum
from itertools import islice
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from draftd.reply import invisible, platforms
from draftd.reply.platforms import Platform
from draftd.reply.result import (
    Confidence,
    ContentType,
    Expects,
    Length,
    OtherTarget,
    ReplyNeeded,
    ResultWarning,
    Stance,
)
from draftd.sanitize import storable_text

MAX_ANGLE_WORDS = 5
MAX_MISSING = 3
MAX_OTHER_TARGETS = 5
MAX_QUOTED = 40
MAX_READING = 30
MAX_READING_CHARS = 4_000
MAX_TAG_CHARS = 35
MODEL_WARNINGS = (
    ResultWarning.POSSIBLE_PROMPT_INJECTION,
    ResultWarning.PARTIALLY_ILLEGIBLE,
    ResultWarning.AMBIGUOUS_TARGET,
)
"""Warnings that only the model can give, because it has seen the picture; the others are determined locally."""

# Inside a JSON string the quotes would be escaped, so this matches the beginning of an object and never a quotation of one.
ANSWER_START = re.compile(r'\{\s*"shown"\s*:')

EXPECTS_NOTHING = "nothing"
"""The value of ``expects`` where no reply is needed: one key says both before the first reply, which waits for it."""
UNKNOWN_LANGUAGE = "und"
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")


class Shown(StrEnum):
    """What the screenshot shows."""

    MESSAGE = "message"
    CLOSED_LIST = "closed_list"
    """Chats or mails, none of them open."""
    NOTHING = "nothing"


class Change(StrEnum):
    """What a requester's words change of earlier drafts."""

    SHORTER = "shorter"
    STANCE = "stance"
    LANGUAGE = "language"
    TARGET = "target"
    OTHER = "other"


def schema(
    *,
    lengths: Sequence[Length],
    translated: bool,
    with_reading: bool,
    with_reply_language: bool,
    with_changes: bool = False,
    without: Collection[str] = (),
) -> dict[str, Any]:
    """Return the JSON schema of the answer.

    Args:
        lengths: the replies that are wanted.
        translated: whether each reply has a translation for the reader (``*_translation``).
        with_reading: whether the messages are to be copied; a refinement has them already.
        with_reply_language: whether the replies may be in another language than the conversation's without an option that says
            which.
        with_changes: whether the answer says what the requester's words change of earlier drafts.
        without: keys that are known already.
    """
    properties = _seen(with_changes=with_changes)
    if with_reply_language:
        properties["reply_language"] = _TEXT
        if not translated:
            # The first reply does not wait for both languages unless both decide about its translation.
            del properties["language"]
    for length in lengths:
        properties |= _reply(length, translated=translated)
    properties |= ({} if "language" in properties else {"language": _TEXT}) | _rest(with_reading=with_reading)
    properties = {name: one for name, one in properties.items() if name not in without}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def deciding_keys(schema: Mapping[str, Any]) -> set[str]:
    """Return the keys before the replies that a reply is checked by.

    ``content_type`` is none of them: until it is known, the platform's stricter limit holds.
    """
    keys = list(schema["properties"])
    first = next(place for place, key in enumerate(keys) if key.endswith("_stance"))
    return set(keys[:first]) - {"me", "author", "gist"}


def _seen(*, with_changes: bool) -> dict[str, Any]:
    return {
        "shown": _enum(Shown),
        **({"changes": _list(_enum(Change))} if with_changes else {}),
        "platform": _enum(Platform),
        "language": _TEXT,
        "me": _TEXT,
        "author": _TEXT,
        "gist": _TEXT,
        "expects": {"type": "string", "enum": [*(expects.value for expects in Expects), EXPECTS_NOTHING]},
        "warnings": _list({"type": "string", "enum": [warning.value for warning in MODEL_WARNINGS]}),
        "unsent_text": _TEXT,
        "quoted": _list(_TEXT),
    }


def _reply(length: Length, *, translated: bool) -> dict[str, Any]:
    properties = {f"{length}_stance": _enum(Stance), f"{length}_angle": _TEXT, length.value: _TEXT}
    return properties | ({f"{length}_translation": _TEXT} if translated else {})


def _rest(*, with_reading: bool) -> dict[str, Any]:
    return {
        "platform_name": _TEXT,
        "content_type": _enum(ContentType),
        "reply_needed": _enum(ReplyNeeded),
        "summary": _TEXT,
        "other_targets": _list(_TEXT),
        **({"reading": _list(_TEXT)} if with_reading else {}),
        "missing": _list(_TEXT),
        "confidence": _enum(Confidence),
    }


def _enum(values: type[StrEnum]) -> dict[str, Any]:
    return {"type": "string", "enum": [value.value for value in values]}


_TEXT: dict[str, Any] = {"type": "string"}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def clean(value: Any) -> str:
    """Return a text without NUL, lone surrogates, hidden text and surrounding space."""
    if value is None or isinstance(value, dict | list | bool):
        return ""
    return invisible.without_hidden(storable_text(str(value)).replace("\r\n", "\n")).strip()


def one_line(max_chars: int) -> Callable[[Any], str]:
    """Return a function that cleans a text and reduces it to one line of at most ``max_chars`` characters."""
    return lambda value: storable_text(" ".join(clean(value).split()), max_chars)


def _angle(value: Any) -> str:
    words = clean(value).split()
    kept = " ".join(words[:MAX_ANGLE_WORDS])
    return one_line(60)(kept.rstrip(",;:\u2013\u2014-") if len(words) > MAX_ANGLE_WORDS else kept)


def _language(value: Any) -> str:
    primary, *rest = clean(value).replace("_", "-").split("-")
    tag = "-".join([primary.lower(), *rest])
    return tag if _LANGUAGE.fullmatch(tag) and len(tag) <= MAX_TAG_CHARS else UNKNOWN_LANGUAGE


def _enum_or(values: type[StrEnum], default: StrEnum) -> Callable[[Any], StrEnum]:
    known = {value.value: value for value in values}
    return lambda value: known.get(_key(value), default)


def _expects(value: Any) -> Expects | None:
    named = _key(value)
    if named == EXPECTS_NOTHING:
        return None
    return Expects(named) if named in set(Expects) else Expects.STATEMENT


def _key(value: Any) -> str:
    return re.sub(r"[\s-]+", "_", clean(value).lower())


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _lines(value: Any, max_items: int, max_chars: int) -> list[str]:
    lines = map(one_line(max_chars), _as_list(value))
    return list(islice(filter(None, lines), max_items))


def _reading(value: Any) -> list[str]:
    texts = (storable_text(clean(item), MAX_READING_CHARS) for item in _as_list(value))
    return list(islice(filter(None, texts), MAX_READING))


def _other_targets(value: Any) -> list[OtherTarget]:
    """Read entries of the form ``author: gist``."""
    entries = _lines(value, MAX_OTHER_TARGETS, 300)
    halves = [entry.partition(": ") for entry in entries]
    return [
        OtherTarget(key=f"t{number}", author=head if tail else "", gist=tail or head)
        for number, (head, _, tail) in enumerate(halves, start=1)
    ]


def _warnings(value: Any) -> list[ResultWarning]:
    named = {_key(item) for item in _as_list(value)}
    return [warning for warning in MODEL_WARNINGS if warning.value in named]


def _changes(value: Any) -> list[Change]:
    named = {_key(item) for item in _as_list(value)}
    return [change for change in Change if change.value in named]


Text = Annotated[str, BeforeValidator(clean)]
Angle = Annotated[str, BeforeValidator(_angle)]
Language = Annotated[str, BeforeValidator(_language)]
StanceOrNone = Annotated[Stance | None, BeforeValidator(lambda value: _STANCES.get(_key(value)))]
_STANCES = {stance.value: stance for stance in Stance}


class ModelAnswer(BaseModel):
    """A model's answer, cleaned. ``model_fields_set`` contains the keys that were present."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    shown: Annotated[Shown, BeforeValidator(_enum_or(Shown, Shown.MESSAGE))] = Shown.MESSAGE
    changes: Annotated[list[Change], BeforeValidator(_changes)] = []
    platform: Annotated[Platform, BeforeValidator(lambda value: platforms.parse(clean(value)))] = Platform.OTHER
    language: Language = UNKNOWN_LANGUAGE
    me: Annotated[str, BeforeValidator(one_line(200))] = ""
    author: Annotated[str, BeforeValidator(one_line(200))] = ""
    gist: Annotated[str, BeforeValidator(one_line(300))] = ""
    expects: Annotated[Expects | None, BeforeValidator(_expects)] = Expects.STATEMENT
    """None if nothing is expected."""
    warnings: Annotated[list[ResultWarning], BeforeValidator(_warnings)] = []
    unsent_text: Annotated[str, BeforeValidator(lambda value: storable_text(clean(value), MAX_READING_CHARS))] = ""
    quoted: Annotated[list[str], BeforeValidator(lambda value: _lines(value, MAX_QUOTED, 500))] = []
    reply_language: Language = UNKNOWN_LANGUAGE
    short_stance: StanceOrNone = None
    short_angle: Angle = ""
    short: Text = ""
    short_translation: Text = ""
    medium_stance: StanceOrNone = None
    medium_angle: Angle = ""
    medium: Text = ""
    medium_translation: Text = ""
    detailed_stance: StanceOrNone = None
    detailed_angle: Angle = ""
    detailed: Text = ""
    detailed_translation: Text = ""
    platform_name: Annotated[str, BeforeValidator(one_line(60))] = ""
    content_type: Annotated[ContentType, BeforeValidator(_enum_or(ContentType, ContentType.OTHER))] = ContentType.OTHER
    reply_needed: Annotated[ReplyNeeded, BeforeValidator(_enum_or(ReplyNeeded, ReplyNeeded.UNCLEAR))] = (
        ReplyNeeded.UNCLEAR
    )
    summary: Annotated[str, BeforeValidator(one_line(300))] = ""
    other_targets: Annotated[list[OtherTarget], BeforeValidator(_other_targets)] = []
    reading: Annotated[list[str], BeforeValidator(_reading)] = []
    missing: Annotated[list[str], BeforeValidator(lambda value: _lines(value, MAX_MISSING, 200))] = []
    confidence: Annotated[Confidence, BeforeValidator(_enum_or(Confidence, Confidence.LOW))] = Confidence.LOW

    def text(self, length: Length) -> str:
        """Return the reply of a length."""
        return str(getattr(self, length.value))

    def angle(self, length: Length) -> str:
        """Return the angle of the reply of a length."""
        return str(getattr(self, f"{length}_angle"))

    def stance(self, length: Length) -> Stance:
        """Return the stance of the reply of a length; without one that is understood, whether there is anything to decide."""
        named: Stance | None = getattr(self, f"{length}_stance")
        return named or (Stance.OPEN if self.expects is Expects.DECISION else Stance.NONE)

    def translation(self, length: Length) -> str:
        """Return the translation of the reply of a length, or an empty text."""
        return str(getattr(self, f"{length}_translation"))

    def has_keys(self, length: Length, *, translated: bool) -> bool:
        """Return whether all keys of a reply were present."""
        keys = {length.value, f"{length}_stance", f"{length}_angle"} | (
            {f"{length}_translation"} if translated else set()
        )
        return keys <= self.model_fields_set
