"""The messages of a model call.

Invariants: a requester's text reaches the model as quoted JSON, and a screenshot as a picture, both in the user message and never
in the system message. The system message is the same for all requests of an agent, so that providers can cache it.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from draftd.images import Picture
from draftd.json_values import json_objects
from draftd.reply import refinement, requester, voice
from draftd.reply.agents import Agent, Section
from draftd.request import Options, Request

_EARLIER_KEYS = (
    "platform", "content_type", "language", "me", "unsent_text", "summary", "replying_to", "other_targets", "missing",
)  # fmt: skip
_DRAFT_KEYS = ("length", "stance", "angle", "text")


class PicturePart(dict[str, Any]):
    """The part of a message that contains a picture, with the summary that a trace shows instead.

    Create it in a thread: a request's pictures have up to 19 MB, and hashing and encoding them would block the event loop.

    Args:
        data: a JPEG.
    """

    def __init__(self, data: bytes) -> None:
        url = "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")
        super().__init__(type="image_url", image_url={"url": url})
        self.summary: dict[str, Any] = {
            "type": "image_url",
            "image_url": {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)},
        }

    @property
    def size_bytes(self) -> int:
        """Size of the JPEG."""
        return int(self.summary["image_url"]["bytes"])

    def data(self) -> bytes:
        """Decode the JPEG; call this in a thread, for the same reason."""
        return base64.b64decode(self["image_url"]["url"].partition(",")[2])


def render(agent: Agent, *, request: Request, options: Options, pictures: Sequence[Picture]) -> list[dict[str, Any]]:
    """Return the messages of a model call, in OpenAI's format.

    Args:
        agent: provides the system prompt and the sections.
        request: the request; if it has a ``parent``, the earlier drafts are sent instead of pictures.
        options: the request's options, validated.
        pictures: in reading order; empty for a refinement.
    """
    parts = [_text_part(_before(request, options))] if request.parent else _picture_parts(pictures)
    sections = [agent.sections[section] for section in _applying(request, options) if section in agent.sections]
    given = "What the requester gives:\n" + json.dumps(_given(request, options), ensure_ascii=False, indent=1)
    parts.append(_text_part("\n\n".join([*sections, given])))
    return [{"role": "system", "content": agent.text}, {"role": "user", "content": parts}]


def _applying(request: Request, options: Options) -> list[Section]:
    others = refinement.wants_others(request, options)
    applies = {
        Section.REFINEMENT: request.parent is not None and not others,
        Section.OTHER_DRAFTS: others,
        Section.ANSWER_TO: options.answer_to,
        Section.STANCE: options.stance,
        Section.ABOUT: request.profile.about,
        Section.FACTS: requester.told_facts(request, options),
        Section.SIGNATURE: request.profile.signature,
        Section.VOICE: options.voice_samples,
        Section.TRANSLATION: options.reader_language,
    }
    return [section for section in Section if applies[section]]


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _picture_parts(pictures: Sequence[Picture]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    shown = [picture for picture in pictures if picture.repeats is None]
    for number, picture in enumerate(shown, start=1):
        for place, part in enumerate(picture.parts, start=1):
            messages.append(_text_part(_label(number, place, picture)))
            messages.append(PicturePart(part.data))
    return messages


def _label(number: int, place: int, picture: Picture) -> str:
    count = len(picture.parts)
    label = f"Screenshot {number}"
    if count > 1:
        order = "first the whole, then tiles of it, larger, row by row" if picture.tiled else "top to bottom"
        label += f", part {place} of {count} ({order}, overlapping)"
    # If a picture has too many parts, the first and the last ones are kept, so the gap follows the first.
    if picture.truncated and place == min(2, count):
        what = (
            "a part of it is" if count == 1 else "some tiles are" if picture.tiled else "what stood above this part is"
        )
        label += f"; {what} left out"
    if picture.one_of_several and place == 1:
        label += "; one frame of an animation, or one picture of several: the others are left out"
    return label


def _samples(request: Request, options: Options) -> list[str | dict[str, str]]:
    """Return the voice samples, those that were learnt with the place they went to and the person."""
    sent = {one.text: one for one in request.sent}
    return [
        {"on": sent[text].platform, "to": sent[text].author, "text": text} if text in sent else text
        for text in options.voice_samples
    ]


def _given(request: Request, options: Options) -> dict[str, Any]:
    asked = {
        "context": request.context,
        **options.model_dump(mode="json", exclude_none=True, exclude_defaults=True),
        "answer_to": refinement.target(request, options),
        "about": request.profile.about,
        "facts": requester.told_facts(request, options),
        "signature": request.profile.signature,
        "voice_samples": _samples(request, options),
        "voice_habits": voice.habits(options.voice_samples),
    }
    given = {key: value for key, value in asked.items() if value}
    if request.parent is not None and refinement.wants_others(request, options):
        given["earlier_drafts"] = refinement.earlier_drafts(request.parent)
    return given


def _before(request: Request, options: Options) -> str:
    """Return what came before a refinement, the lasting first, so that providers can cache the beginning along a chain."""
    parent = request.parent
    assert parent is not None  # noqa: S101  # a first request has its pictures here
    kept = [key for key in _EARLIER_KEYS if key in parent.result]
    result: dict[str, Any] = {key: parent.result[key] for key in kept}
    if not refinement.wants_others(request, options):
        result["options"] = [
            {key: one[key] for key in _DRAFT_KEYS if key in one} for one in json_objects(parent.result.get("options"))
        ]
    before = {"reading": list(parent.reading), "asked_before": refinement.wishes(parent), "earlier_result": result}
    return "What was read and drafted before:\n" + json.dumps(before, ensure_ascii=False)
