"""The prompts of an evaluation: the one under test, and the other one if there is one, in a folder of their own."""

import shutil
from pathlib import Path

import frontmatter
import yaml  # type: ignore[import-untyped]  # python-frontmatter raises its errors; it ships no types

from draftd.errors import ConfigurationError, UsageError
from draftd.reply.agents import SUFFIX, Agent, load_agents, packaged_directory

OTHER = "other_prompt"
"""The agent of the prompt that the one under test is compared with."""


def collect(folder: Path, *, agent: str, prompts_dir: Path | None, against: Path | None) -> dict[str, Agent]:
    """Copy the prompts into a new folder and load them.

    Args:
        folder: does not exist yet.
        agent: the agent under test.
        prompts_dir: where its prompt is; None for draftd's own.
        against: the other prompt: an agent's file, or the text of a prompt alone, which gets the parameters of the one under
            test.

    Returns:
        The agents by name; the other one is ``OTHER``.

    Raises:
        UsageError: a file cannot be read, or is not valid.
    """
    folder.mkdir()
    tested = folder / f"{agent}{SUFFIX}"
    source = (prompts_dir or packaged_directory()) / tested.name
    try:
        shutil.copyfile(source, tested)
    except OSError as error:
        raise UsageError(f"no prompt for the agent {agent!r}: {source}: {error.strerror}") from error
    agents = _load(folder, source)
    if against is not None:
        _copy_other(against, folder / f"{OTHER}{SUFFIX}", params=dict(agents[agent].params))
        agents = _load(folder, against)
    return agents


def _load(folder: Path, source: Path) -> dict[str, Agent]:
    try:
        return load_agents(folder)
    except ConfigurationError as error:
        # The message names the copy.
        raise UsageError(f"{source}: {error.message.partition(': ')[2]}") from error


def _copy_other(source: Path, target: Path, *, params: dict[str, object]) -> None:
    try:
        post = frontmatter.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {source}: {error.strerror}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise UsageError(f"cannot read {source}: {' '.join(str(error).split())}") from error
    standard = {"version": "0", "schema_version": 1, "params": params}
    post.metadata = {**standard, **post.metadata, "agent": OTHER}
    target.write_text(frontmatter.dumps(post), encoding="utf-8")
