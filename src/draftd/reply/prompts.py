"""The messages of a model call.

Invariant: a requester's text reaches the model as quoted JSON, and a screenshot as a picture, both in the user message and never
in the system message.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from draftd.images import Picture
from draftd.reply.agents import SCHEMA, Agent
from draftd.request import Options, Request


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


def render(
    agent: Agent, *, request: Request, options: Options, pictures: Sequence[Picture], schema: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the messages of a model call, in OpenAI's format.

    Args:
        agent: provides the system prompt.
        request: the request; if it has a ``parent``, the earlier drafts are sent instead of pictures.
        options: the request's options, validated.
        pictures: in reading order; empty for a refinement.
        schema: the JSON schema of the answer.
    """
    system = agent.text.replace(SCHEMA, json.dumps(schema, ensure_ascii=False, indent=1))
    parts = [] if request.parent else _picture_parts(pictures)
    parts.append(_text_part(_refinement(request, options) if request.parent else _new_request(request, options)))
    return [{"role": "system", "content": system}, {"role": "user", "content": parts}]


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


def _new_request(request: Request, options: Options) -> str:
    return "What the requester gives for this draft:\n" + _quoted(_requester_input(request, options))


def _refinement(request: Request, options: Options) -> str:
    parent = request.parent
    given = {
        "earlier_result": dict(parent.result) if parent else {},
        "reading": list(parent.reading) if parent else [],
        **_requester_input(request, options),
    }
    return (
        "Refine the earlier drafts. There is no screenshot this time: `reading` holds its messages as they were read, "
        "and what was seen stays as it is in `earlier_result`. `context` says what shall change; keep what it "
        "does not touch.\n" + _quoted(given)
    )


def _requester_input(request: Request, options: Options) -> dict[str, Any]:
    given = {"context": request.context, **options.model_dump(mode="json", exclude_none=True, exclude_defaults=True)}
    return {key: value for key, value in given.items() if value}


def _quoted(given: Mapping[str, Any]) -> str:
    return json.dumps(given, ensure_ascii=False, indent=1)
