"""``draftd run`` as a child process, for the demo and for evaluations.

Invariant: a developer's own settings of draftd never reach it; a provider's key does.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from draftd.settings import PREFIX

STOP_TIME_S = 20.0


def environment(inherited: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Return a daemon's environment: the inherited one without settings of draftd, plus its own variables."""
    kept = {name: value for name, value in inherited.items() if not name.upper().startswith(PREFIX)}
    return {**kept, **own}


@contextmanager
def running(variables: Mapping[str, str], log: Path, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run ``draftd run`` until the context ends, in the log's directory, which has no ``.env``.

    Args:
        variables: its whole environment.
        log: the file that it logs to.
        arguments: of the command.
    """
    with log.open("w") as sink:
        process = subprocess.Popen(  # noqa: S603 - the command is composed here
            [sys.executable, "-m", "draftd", "run", *arguments],
            env=variables,
            cwd=log.parent,
            stdout=sink,
            stderr=sink,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIME_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
