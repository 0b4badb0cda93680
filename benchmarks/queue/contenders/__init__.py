"""The contenders. A module is imported only where it is needed: a worker's memory must hold no other contender."""

import importlib
from typing import cast

from benchmarks.queue.contender import Contender

NAMES = ("draftd", "everything_set", "floor", "procrastinate", "pgqueuer", "oban")


def load(name: str) -> Contender:
    """Return a contender by its name."""
    return cast("Contender", importlib.import_module(f"{__name__}.{name}").CONTENDER)
