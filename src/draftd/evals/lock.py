"""The lock of the held-out cases: an evaluation fails when one was edited.

A held-out half is worth something only if nobody has adapted it. ``cases.lock.json`` holds the fingerprint of each of its cases.
Whoever changes one on purpose has to rewrite the lock, and the diff shows it.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from draftd.errors import CommandError, UsageError
from draftd.evals.cases import Case, Split

FILE = "cases.lock.json"
RELOCK = "--relock"


def check(directory: Path, cases: Sequence[Case]) -> None:
    """Check that the held-out cases are those of the lock.

    Args:
        directory: the folder of the cases.
        cases: all of them.

    Raises:
        CommandError: one was edited, added or removed, or there is no lock.
        UsageError: the lock cannot be read.
    """
    held_out, locked = _held_out(cases), _read(directory / FILE)
    if locked is None:
        if held_out:
            raise CommandError(f"{directory} has held-out cases and no {FILE}: write it with {RELOCK}")
        return
    changed = {
        "edited": [n for n in held_out if n in locked and locked[n] != held_out[n]],
        "added": [n for n in held_out if n not in locked],
        "removed": [n for n in locked if n not in held_out],
    }
    told = [f"{what}: {', '.join(names)}" for what, names in changed.items() if names]
    if told:
        raise CommandError(
            f"held-out cases have changed ({'; '.join(told)}). Restore them, or accept the change with {RELOCK}"
        )


def write(directory: Path, cases: Sequence[Case]) -> int:
    """Rewrite the lock; return how many cases it holds."""
    held_out = _held_out(cases)
    (directory / FILE).write_text(json.dumps({"held_out": held_out}, indent=1, sort_keys=True) + "\n")
    return len(held_out)


def _held_out(cases: Sequence[Case]) -> dict[str, str]:
    return {case.n: case.sha256 for case in cases if case.split is Split.HELD_OUT}


def _read(path: Path) -> dict[str, str] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    locked = found.get("held_out") if isinstance(found, dict) else None
    if not isinstance(locked, dict) or not all(isinstance(value, str) for value in locked.values()):
        raise UsageError(f"{path} is not a lock; rewrite it with {RELOCK}")
    return locked
