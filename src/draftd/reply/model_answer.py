"""The flat JSON object that a model returns, and its lenient parsing.

The schema is flat because only that works with every provider: all keys required, no ``$ref``, no ``anyOf``, no bounds. Keys are
in the order in which models write them: first a brief description of the screenshot, which improves the replies; then the
replies, so that the first can be shown long before the last; then the rest. Parsing never fails: an unknown platform becomes
``other``, and an overlong line is truncated. ``answer`` decides what is acceptable.
"""

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from draftd.reply import platforms
from draftd.reply.platforms import Platform
from draftd.reply.result import Confidence, ContentType, Length, ReplyNeeded, ResultWarning
from draftd.sanitize import storable_text

MAX_ANGLE_WORDS = 5
MAX_MISSING = 3
MAX_READING = 30
MAX_READING_CHARS = 4_000
MAX_TAG_CHARS = 35
MODEL_WARNINGS = (
    ResultWarning.POSSIBLE_PROMPT_INJECTION,
    ResultWarning.PARTIALLY_ILLEGIBLE,
    ResultWarning.NO_REPLY_EXPECTED,
    ResultWarning.AMBIGUOUS_TARGET,
)
"""Warnings that only the model can give, because it has seen the picture; the others are determined locally."""

# Inside a JSON string the quotes would be escaped, so this matches the beginning of an object and never a quotation of one.
ANSWER_START = re.compile(r'\{\s*"has_message"\s*:')

UNKNOWN_LANGUAGE = "und"
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")


def schema(*, translated: bool) -> dict[str, Any]:
    """Return the JSON schema of the answer.

    Args:
        translated: whether each reply has a translation for the reader (``*_translation``).
    """
    properties = _seen() | _replies(translated=translated) | _rest()
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _seen() -> dict[str, Any]:
    return {
        "has_message": {"type": "boolean"},
        "platform": _enum(Platform),
        "platform_name": _text("as shown"),
        "content_type": _enum(ContentType),
        "language": _text("BCP 47 tag of the conversation"),
        "summary": _text("one sentence: what the screenshot shows"),
        "me": _text("who the requester is in the screenshot, and by what sign"),
        "author": _text("whom the replies answer"),
        "gist": _text("what that person wants, at most twelve words"),
        "reply_needed": _enum(ReplyNeeded),
    }


def _replies(*, translated: bool) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for length in Length:
        properties[f"{length}_angle"] = _text(f"at most {MAX_ANGLE_WORDS} words")
        properties[length.value] = _text("the reply, as it would be sent")
        if translated:
            properties[f"{length}_translation"] = _text("the reply in reader_language")
    return properties


def _rest() -> dict[str, Any]:
    return {
        "reading": _list(_text("a message that matters, verbatim, with its author")),
        "missing": _list(_text("a fact that a better answer needs")),
        "confidence": _enum(Confidence),
        "warnings": _list({"type": "string", "enum": [warning.value for warning in MODEL_WARNINGS]}),
    }


def _enum(values: type[StrEnum]) -> dict[str, Any]:
    return {"type": "string", "enum": [value.value for value in values]}


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def clean(value: Any) -> str:
    """Return a text without NUL, lone surrogates and surrounding space."""
    if value is None or isinstance(value, dict | list | bool):
        return ""
    return storable_text(str(value)).replace("\r\n", "\n").strip()


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


def _key(value: Any) -> str:
    return re.sub(r"[\s-]+", "_", clean(value).lower())


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _lines(value: Any, max_items: int, max_chars: int) -> list[str]:
    lines = [one_line(max_chars)(item) for item in _as_list(value)]
    return [item for item in lines if item][:max_items]


def _reading(value: Any) -> list[str]:
    texts = [storable_text(clean(item), MAX_READING_CHARS) for item in _as_list(value)]
    return [text for text in texts if text][:MAX_READING]


def _warnings(value: Any) -> list[ResultWarning]:
    named = {_key(item) for item in _as_list(value)}
    return [warning for warning in MODEL_WARNINGS if warning.value in named]


def _boolean(value: Any) -> bool:
    return value is not False and _key(value) not in {"false", "no", "0"}


Text = Annotated[str, BeforeValidator(clean)]
Angle = Annotated[str, BeforeValidator(_angle)]


class ModelAnswer(BaseModel):
    """A model's answer, cleaned. ``model_fields_set`` contains the keys that were present."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    has_message: Annotated[bool, BeforeValidator(_boolean)] = True
    platform: Annotated[Platform, BeforeValidator(lambda value: platforms.parse(clean(value)))] = Platform.OTHER
    platform_name: Annotated[str, BeforeValidator(one_line(60))] = ""
    content_type: Annotated[ContentType, BeforeValidator(_enum_or(ContentType, ContentType.OTHER))] = ContentType.OTHER
    language: Annotated[str, BeforeValidator(_language)] = UNKNOWN_LANGUAGE
    summary: Annotated[str, BeforeValidator(one_line(300))] = ""
    me: Annotated[str, BeforeValidator(one_line(200))] = ""
    author: Annotated[str, BeforeValidator(one_line(200))] = ""
    gist: Annotated[str, BeforeValidator(one_line(300))] = ""
    reply_needed: Annotated[ReplyNeeded, BeforeValidator(_enum_or(ReplyNeeded, ReplyNeeded.UNCLEAR))] = (
        ReplyNeeded.UNCLEAR
    )
    short_angle: Angle = ""
    short: Text = ""
    short_translation: Text = ""
    medium_angle: Angle = ""
    medium: Text = ""
    medium_translation: Text = ""
    detailed_angle: Angle = ""
    detailed: Text = ""
    detailed_translation: Text = ""
    reading: Annotated[list[str], BeforeValidator(_reading)] = []
    missing: Annotated[list[str], BeforeValidator(lambda value: _lines(value, MAX_MISSING, 200))] = []
    confidence: Annotated[Confidence, BeforeValidator(_enum_or(Confidence, Confidence.LOW))] = Confidence.LOW
    warnings: Annotated[list[ResultWarning], BeforeValidator(_warnings)] = []

    def text(self, length: Length) -> str:
        """Return the reply of a length."""
        return str(getattr(self, length.value))

    def angle(self, length: Length) -> str:
        """Return the angle of the reply of a length."""
        return str(getattr(self, f"{length}_angle"))

    def translation(self, length: Length) -> str:
        """Return the translation of the reply of a length, or an empty text."""
        return str(getattr(self, f"{length}_translation"))

    def has_keys(self, length: Length, *, translated: bool) -> bool:
        """Return whether all keys of a reply were present."""
        keys = {length.value, f"{length}_angle"} | ({f"{length}_translation"} if translated else set())
        return keys <= self.model_fields_set
