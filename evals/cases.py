"""The committed cases: one file each in ``cases/``, from which the pictures and ``cases.json`` are made."""

import json
from pathlib import Path
from typing import Any

from evals import scene
from evals.scene import Scene

FOLDER = Path(__file__).parent / "cases"
KEYS = (
    "n", "file", "platform", "content_type", "language", "outcome", "reply_needed", "me", "answer_to", "context",
    "options", "good", "must_not_say", "traps", "split",
)  # fmt: skip
"""What is known of a case, in the order of ``cases.json``; ``context`` and ``options`` are given to the daemon."""


def scenes() -> dict[Path, Scene]:
    """Return the picture file of each case, with its scene."""
    return {path.with_suffix(".webp"): scene.read(path)[0] for path in _files()}


def labels() -> list[dict[str, Any]]:
    """Return what is known of each case."""
    return [_labels(path) for path in _files()]


def as_json(cases: list[dict[str, Any]]) -> str:
    """Return the text of a ``cases.json``."""
    return json.dumps(cases, ensure_ascii=False, indent=1) + "\n"


def write() -> None:
    """Write ``cases.json``."""
    (FOLDER / "cases.json").write_text(as_json(labels()))


def _files() -> list[Path]:
    return sorted(FOLDER.glob("*.toml"))


def _labels(path: Path) -> dict[str, Any]:
    known = scene.read(path)[1] | {"n": path.name[:3], "file": path.with_suffix(".webp").name}
    return {key: known.pop(key) for key in KEYS if key in known} | known
