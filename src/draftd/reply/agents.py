"""Agents: prompt files, read and checked when the daemon starts.

Owns the files ``*_agent.md``: front matter; a text, in which ``{{platforms}}`` stands for the platforms' conventions; and the
sections that are said only when they apply. Nothing in a prompt is evaluated. A new agent is a new file; the sections that it
lacks are those of draftd's own agent. Invariant: an agent's version contains a hash of its text and sections, so that results
with the same version came from the same words.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import frontmatter
import yaml  # type: ignore[import-untyped]  # python-frontmatter raises its errors; it ships no types
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from draftd.errors import ConfigurationError
from draftd.providers.parameters import Params
from draftd.reply import platforms
from draftd.reply.comment_reply import CommentReply
from draftd.reply.reply_format import ReplyFormatFactory

SUFFIX = "_agent.md"
PACKAGED = "comment_generator"
PLATFORMS = "{{platforms}}"
QUOTED = "> "
"""How a line of a prompt begins that replies may repeat: a signature, a standard sentence."""
_PLACEHOLDER = re.compile(r"\{\{.*?\}\}")
_MARKER = re.compile(r"^<!-- when: (.*?) -->\n", re.MULTILINE)
_HASH_CHARS = 8


class Section(StrEnum):
    """A part of a prompt that is said only when it applies, and when that is."""

    REFINEMENT = "refinement"
    """``context``, ``stance`` or ``answer_to`` changes earlier drafts."""
    OTHER_DRAFTS = "other_drafts"
    """Other drafts are wanted than the earlier ones."""
    ANSWER_TO = "answer_to"
    STANCE = "stance"
    ABOUT = "about"
    """The requester's profile says who they are."""
    FACTS = "facts"
    """The request or the profile has facts."""
    SIGNATURE = "signature"
    """The profile has one, which draftd adds to mails."""
    VOICE = "voice"
    """There are ``voice_samples``."""
    TRANSLATION = "translation"
    """There is a ``reader_language``."""


class _FrontMatter(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    agent: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
    version: Annotated[str, Field(coerce_numbers_to_str=True, pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]{0,31}$")]
    schema_version: Literal[1]
    params: Params = Params()


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """A prompt and its model parameters, by the name that requests use."""

    name: str
    version: str
    """The author's version and a hash of the file and its fillings: ``3+1f2e3d4c``."""
    params: Mapping[str, Any]
    """Model parameters; only those that the file sets."""
    text: str
    """The system prompt, the same for every request."""
    sections: Mapping[Section, str] = field(default_factory=dict)
    """What is said beside it when it applies."""
    reply_format: ReplyFormatFactory = CommentReply
    """Format of the answers; ``schema_version`` 1 is the comment reply."""

    @property
    def wording(self) -> str:
        """All that a model may be told and must not repeat: not the lines that the prompt quotes for replies."""
        lines = "\n".join([self.text, *self.sections.values()]).splitlines()
        return "\n".join(line for line in lines if not line.startswith(QUOTED))


def packaged_directory() -> Path:
    """Return the directory of draftd's own prompts: the wheel's, or else the checkout's."""
    here = Path(__file__).resolve().parents[1]
    packaged = here / "_data" / "prompts"
    return packaged if packaged.is_dir() else here.parents[1] / "prompts"


def load_agents(directory: Path) -> dict[str, Agent]:
    """Load every agent in a directory.

    Returns:
        The agents by name.

    Raises:
        ConfigurationError: there is no agent, or one is invalid; the message names the file.
    """
    packaged = _sections(packaged_directory() / f"{PACKAGED}{SUFFIX}")
    agents = [_load(path, packaged) for path in sorted(directory.glob(f"*{SUFFIX}"))]
    if not agents:
        raise ConfigurationError(f"no prompt (*{SUFFIX}) in {directory}")
    return {agent.name: agent for agent in agents}


def _load(path: Path, packaged: Mapping[Section, str]) -> Agent:
    try:
        content, post = _read(path)
        front = _FrontMatter.model_validate(post.metadata)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{path}: front matter: {where}: {first['msg']}") from error
    if path.name != f"{front.agent}{SUFFIX}":
        raise ConfigurationError(f"{path}: front matter: agent: {front.agent} belongs in {front.agent}{SUFFIX}")
    text, own = _split(path, post.content)
    sections = {**packaged, **own}
    digest = hashlib.sha256("\0".join([content, text, *(sections[name] for name in Section)]).encode())
    return Agent(
        name=front.agent,
        version=f"{front.version}+{digest.hexdigest()[:_HASH_CHARS]}",
        params=front.params.model_dump(exclude_none=True),
        text=text,
        sections=sections,
    )


def _read(path: Path) -> tuple[str, frontmatter.Post]:
    try:
        content = path.read_text(encoding="utf-8")
        return content, frontmatter.loads(content)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: front matter: {' '.join(str(error).split())}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _sections(path: Path) -> dict[Section, str]:
    return _split(path, _read(path)[1].content)[1]


def _split(path: Path, content: str) -> tuple[str, dict[Section, str]]:
    """Return a prompt's text and its sections."""
    text, *marked = _MARKER.split(content)
    unknown = [name for name in marked[::2] if name not in set(Section)]
    if unknown:
        raise ConfigurationError(f"{path}: unknown section {unknown[0]!r}; known are {', '.join(Section)}")
    placeholders = sorted(set(_PLACEHOLDER.findall(content)) - {PLATFORMS})
    if placeholders:
        raise ConfigurationError(f"{path}: unknown placeholder {placeholders[0]}")
    sections = {Section(name): said.strip() for name, said in zip(marked[::2], marked[1::2], strict=True)}
    return text.replace(PLATFORMS, platforms.conventions()).strip(), sections
