"""Agents: prompt files, read and checked when the daemon starts.

Owns the files ``*_agent.md``: front matter, and a text in which ``{{schema}}`` stands for the answer's JSON schema and
``{{platforms}}`` for the platforms' conventions. Nothing in a prompt is evaluated. A new agent is a new file. Invariant: an
agent's version contains a hash of its text, so that results with the same version came from the same text.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
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
SCHEMA = "{{schema}}"
PLATFORMS = "{{platforms}}"
_PLACEHOLDER = re.compile(r"\{\{.*?\}\}")
_HASH_CHARS = 8


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
    """The system prompt; ``{{schema}}`` is filled in for each request."""
    reply_format: ReplyFormatFactory = CommentReply
    """Format of the answers; ``schema_version`` 1 is the comment reply."""


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
    agents = [_load(path) for path in sorted(directory.glob(f"*{SUFFIX}"))]
    if not agents:
        raise ConfigurationError(f"no prompt (*{SUFFIX}) in {directory}")
    return {agent.name: agent for agent in agents}


def _load(path: Path) -> Agent:
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
    text = post.content.replace(PLATFORMS, platforms.conventions())
    digest = hashlib.sha256(f"{content}{text}".encode()).hexdigest()[:_HASH_CHARS]
    return Agent(
        name=front.agent,
        version=f"{front.version}+{digest}",
        params=front.params.model_dump(exclude_none=True),
        text=text,
    )


def _check(path: Path, agent: str, text: str) -> None:
    if path.name != f"{agent}{SUFFIX}":
        raise ConfigurationError(f"{path}: front matter: agent: {agent} belongs in {agent}{SUFFIX}")
    unknown = sorted(set(_PLACEHOLDER.findall(text)) - {SCHEMA, PLATFORMS})
    if unknown:
        raise ConfigurationError(f"{path}: unknown placeholder {unknown[0]}")
    if SCHEMA not in text:
        raise ConfigurationError(f"{path}: the placeholder {SCHEMA} is missing")
