"""How the stand-in fills the schema that it is given.

Owns choosing the scene, filling any flat schema of strings, enumerations, booleans, numbers and arrays, and spoiling
the answer as a behaviour asks. Invariant: without a behaviour the answer matches the schema.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from draftd.demo.samples import SAMPLES, Sample
from draftd.demo.scenes import SAMPLE_SCENES, Scene
from draftd.stand_in.behaviour import Behaviour
from draftd.stand_in.call import Call
from draftd.stand_in.scenes import ANY_PICTURE, NO_MESSAGE

_LENGTHS = ("short", "medium", "detailed")
REQUESTER_INPUT = "What the requester gives:\n"
_WORDS = (
    "kettle", "umbrella", "chair", "ferry", "harbour", "walnut", "lantern", "orchard", "pencil", "gravel",
    "violin", "kitchen", "tunnel", "blanket", "copper", "meadow", "ticket", "island", "bakery", "ladder",
    "winter", "compass", "garden", "marble", "station", "pepper", "bridge", "cotton", "window", "rabbit",
    "engine", "cellar", "summit", "button", "forest", "candle", "pocket", "river", "basket", "thunder", "saddle",
    "mirror", "anchor", "pillow", "circus", "quarry", "velvet", "magnet",
)  # fmt: skip
_WORDS_IN_OTHERS = {"short": 8, "medium": 15, "detailed": 28}
_UNSTORABLE = "\x00\ud800"
"""What PostgreSQL stores neither as text nor as jsonb: a NUL and half of a surrogate pair."""
_TOLERANCE = 0.004
"""Rounding to whole pixels at a long edge of 800 px moves the ratio by up to 0.2 %."""


def answer(call: Call, behaviour: Behaviour, content: Mapping[str, Any] | None = None) -> str:
    """Return the text of the model's answer to this call.

    Args:
        call: what is asked.
        behaviour: how the answer is spoilt.
        content: the answer's values; None takes those of the scene that is played.
    """
    if behaviour.says is not None:
        return behaviour.says
    if behaviour.garbage:
        return "Stand-in prose: I looked at the picture, and I would rather talk about it than fill in a form."
    if content is None:
        content = {**scene_for(call, behaviour), **_asked_for(requester_input(call.prompt))}
    text = json.dumps(_spoiled(fill(call.schema, content), behaviour))
    if behaviour.truncated:
        return text[: len(text) // 2]
    if behaviour.fenced:
        return f"Here is the answer:\n\n```json\n{text}\n```\n"
    return text


def scene_for(call: Call, behaviour: Behaviour) -> Scene:
    """Return what is played: a sample among the pictures, or one that the text is about, or the neutral scene."""
    if behaviour.nothing:
        return NO_MESSAGE
    for picture in call.pictures:
        sample = recognise(picture.width_px, picture.height_px)
        if sample is not None:
            return SAMPLE_SCENES[sample.name]
    words = [picture.code_word for picture in call.pictures if picture.code_word]
    if words:
        return {**ANY_PICTURE, "reading": words}
    if call.pictures:
        return ANY_PICTURE
    # A refinement carries no picture, but what was read from it.
    return next((scene for scene in SAMPLE_SCENES.values() if scene["reading"][0] in call.prompt), ANY_PICTURE)


def requester_input(prompt: str) -> dict[str, Any]:
    """Return what the requester gave, or an empty object for a prompt of another kind."""
    _, found, given = prompt.rpartition(REQUESTER_INPUT)
    try:
        value, _ = json.JSONDecoder().raw_decode(given)
    except ValueError:
        return {}
    return value if found and isinstance(value, dict) else {}


def _asked_for(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the stand-in says otherwise because it was asked to: a stance, other drafts."""
    asked = {f"{length}_stance": given["stance"] for length in _LENGTHS if "stance" in given}
    if earlier := given.get("earlier_drafts"):
        asked |= {length: _other_reply(length, count, len(earlier)) for length, count in _WORDS_IN_OTHERS.items()}
    return asked


def _other_reply(length: str, words: int, number: int) -> str:
    """Return a reply that resembles none of another number."""
    chosen = hashlib.sha256(f"{length} {number}".encode()).digest()[:words]
    return f"Stand-in reply, another one: {', '.join(_WORDS[byte % len(_WORDS)] for byte in chosen)}."


def _spoiled(content: dict[str, Any], behaviour: Behaviour) -> dict[str, Any]:
    if behaviour.placeholder:
        content = {name: f"Dear [Name], {value}" if name in _LENGTHS else value for name, value in content.items()}
    if behaviour.nul:
        content = {name: value + _UNSTORABLE if _is_prose(name, value) else value for name, value in content.items()}
    return {**content, **behaviour.fields}


def _is_prose(name: str, value: object) -> bool:
    return isinstance(value, str) and name in {*_LENGTHS, "summary", "gist", "author"}


def fill(schema: Mapping[str, Any] | None, scene: Scene) -> dict[str, Any]:
    """Return an object that matches a schema.

    Args:
        schema: of an object; None stands for every property that the scene knows.
        scene: values for the properties that it names, as far as the schema admits them.
    """
    if schema is None:
        return dict(scene)
    return {name: _value(name, one, scene) for name, one in schema.get("properties", {}).items()}


def _value(name: str, schema: Mapping[str, Any], scene: Scene) -> Any:
    if "enum" in schema:
        return _chosen(schema["enum"], scene.get(name))
    match schema.get("type", "string"):
        case "array":
            return _items(schema, scene.get(name, []))
        case "object":
            return fill(schema, scene)
        case "boolean":
            return bool(scene.get(name, False))
        case "integer" | "number":
            return scene.get(name, schema.get("minimum", 0))
        case _:
            return str(scene.get(name, f"Stand-in text for {name.replace('_', ' ')}."))


def _chosen(allowed: list[Any], wanted: Any) -> Any:
    if wanted in allowed:
        return wanted
    return "other" if "other" in allowed else allowed[0]


def _items(schema: Mapping[str, Any], wanted: list[Any]) -> list[Any]:
    items = schema.get("items", {})
    allowed = items.get("enum")
    found = [one for one in wanted if allowed is None or one in allowed]
    missing = schema.get("minItems", 0) - len(found)
    return found + [_value("item", items, {}) for _ in range(missing)]


def recognise(width_px: int, height_px: int) -> Sample | None:
    """Return the sample of this shape, or None: a picture arrives resized and re-encoded, its ratio survives."""
    if width_px <= 0 or height_px <= 0:
        return None
    ratio = width_px / height_px
    for sample in SAMPLES:
        own = sample.width_px / sample.height_px
        if abs(ratio - own) <= own * _TOLERANCE:
            return sample
    return None
