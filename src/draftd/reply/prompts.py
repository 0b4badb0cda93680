"""Prompts as local files, and the messages made from them.

Owns the files ``*_agent.md``: front matter that is checked when the daemon starts, and a text in which ``{{schema}}`` is
replaced by the schema of the answer and ``{{platforms}}`` by the habits of the platforms. Nothing in a prompt is evaluated.
Invariants: a prompt's version names its content, so that two results with one version came from one text; what a screenshot
or a requester says reaches the model as quoted JSON or as a picture in the user's message, never in the system's.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import frontmatter
import yaml  # type: ignore[import-untyped]  # python-frontmatter lets its errors through; it ships no types
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from draftd.errors import ConfigurationError
from draftd.images import Picture
from draftd.providers.parameters import Params
from draftd.reply import platforms
from draftd.reply.comment_reply import CommentReply
from draftd.reply.reply_format import FormatOf
from draftd.request import Options, Request
from draftd.telemetry.tracing import ShownPicture

SUFFIX = "_agent.md"
_SCHEMA = "{{schema}}"
_PLATFORMS = "{{platforms}}"
_PLACEHOLDER = re.compile(r"\{\{.*?\}\}")
_HASH_CHARS = 8


class _FrontMatter(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    agent: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
    version: Annotated[str, Field(coerce_numbers_to_str=True, pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]{0,31}$")]
    schema_version: Literal[1]
    params: Params = Params()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One agent's system prompt."""

    agent: str
    version: str
    """The author's version and a hash of the file and what was filled in: ``3+1f2e3d4c``."""
    params: Mapping[str, Any]
    """Of the model call; only what the file sets."""
    text: str
    reply_format: FormatOf = CommentReply
    """What an answer has to look like; ``schema_version`` 1 is the comment reply."""


def packaged_directory() -> Path:
    """Return the prompts that came with draftd: those of the wheel, else those of the checkout."""
    here = Path(__file__).resolve().parents[1]
    packaged = here / "_data" / "prompts"
    return packaged if packaged.is_dir() else here.parents[1] / "prompts"


def load_prompts(directory: Path) -> dict[str, Prompt]:
    """Read every prompt of a directory.

    Returns:
        The prompts by the name of their agent.

    Raises:
        ConfigurationError: the directory has none, or one cannot be used; the message names the file.
    """
    prompts = [_load(path) for path in sorted(directory.glob(f"*{SUFFIX}"))]
    if not prompts:
        raise ConfigurationError(f"no prompt (*{SUFFIX}) in {directory}")
    return {prompt.agent: prompt for prompt in prompts}


def _load(path: Path) -> Prompt:
    try:
        content = path.read_text(encoding="utf-8")
        post = frontmatter.loads(content)
        front = _FrontMatter.model_validate(post.metadata)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{path}: front matter: {where}: {first['msg']}") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: front matter: {' '.join(str(error).split())}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    _check(path, front.agent, post.content)
    text = post.content.replace(_PLATFORMS, platforms.habits())
    digest = hashlib.sha256(f"{content}{text}".encode()).hexdigest()[:_HASH_CHARS]
    return Prompt(
        agent=front.agent,
        version=f"{front.version}+{digest}",
        params=front.params.model_dump(exclude_none=True),
        text=text,
    )


def _check(path: Path, agent: str, text: str) -> None:
    if path.name != f"{agent}{SUFFIX}":
        raise ConfigurationError(f"{path}: front matter: agent: {agent} belongs in {agent}{SUFFIX}")
    unknown = sorted(set(_PLACEHOLDER.findall(text)) - {_SCHEMA, _PLATFORMS})
    if unknown:
        raise ConfigurationError(f"{path}: unknown placeholder {unknown[0]}")
    if _SCHEMA not in text:
        raise ConfigurationError(f"{path}: the placeholder {_SCHEMA} is missing")


def render(
    prompt: Prompt, *, request: Request, options: Options, pictures: Sequence[Picture], schema: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the messages of one model call, in OpenAI's form.

    Args:
        prompt: the agent's prompt.
        request: what the client asked for; with ``parent`` the earlier drafts are sent instead of pictures.
        options: the request's options, checked.
        pictures: in reading order; none for a refinement.
        schema: the JSON schema of the answer.
    """
    system = prompt.text.replace(_SCHEMA, json.dumps(schema, ensure_ascii=False, indent=1))
    parts = [] if request.parent else _picture_parts(pictures)
    parts.append(_text_part(_refinement(request, options) if request.parent else _assignment(request, options)))
    return [{"role": "system", "content": system}, {"role": "user", "content": parts}]


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _picture_parts(pictures: Sequence[Picture]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for number, picture in enumerate(pictures, start=1):
        for place, part in enumerate(picture.parts, start=1):
            messages.append(_text_part(_label(number, place, picture)))
            messages.append(ShownPicture(part.data))
    return messages


def _label(number: int, place: int, picture: Picture) -> str:
    count = len(picture.parts)
    label = f"Screenshot {number}"
    if count > 1:
        order = "first the whole, then tiles of it, larger, row by row" if picture.tiled else "top to bottom"
        label += f", part {place} of {count} ({order}, overlapping)"
    # Of a picture with too many parts the first and the last are kept, so the gap follows the first.
    if picture.truncated and place == min(2, count):
        what = (
            "a part of it is" if count == 1 else "some tiles are" if picture.tiled else "what stood above this part is"
        )
        label += f"; {what} left out"
    return label


def _assignment(request: Request, options: Options) -> str:
    return "What the requester gives for this draft:\n" + _quoted(_wishes(request, options))


def _refinement(request: Request, options: Options) -> str:
    parent = request.parent
    given = {
        "earlier_result": dict(parent.result) if parent else {},
        "reading": list(parent.reading) if parent else [],
        **_wishes(request, options),
    }
    return (
        "Refine the earlier drafts. There is no screenshot this time: `reading` holds its messages as they were read, "
        "and what was seen stays as it is in `earlier_result`. `context` says what shall change; keep what it "
        "does not touch.\n" + _quoted(given)
    )


def _wishes(request: Request, options: Options) -> dict[str, Any]:
    wishes = {"context": request.context, **options.model_dump(mode="json", exclude_none=True, exclude_defaults=True)}
    return {key: value for key, value in wishes.items() if value}


def _quoted(given: Mapping[str, Any]) -> str:
    return json.dumps(given, ensure_ascii=False, indent=1)
