"""A process's view of a fleet-wide table with one row per model.

Every heartbeat reads the whole table. Invariant: a read that began before a local change does not undo that change.
"""

import time
from collections.abc import Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")


class FleetView(Mapping[str, T]):
    """Model → value."""

    def __init__(self) -> None:
        self._values: dict[str, T] = {}
        self._changed_at: dict[str, float] = {}

    def __getitem__(self, model: str) -> T:
        return self._values[model]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def update(self, read: Mapping[str, T], *, as_of: float) -> None:
        """Replace the values with what was read, except for models that changed locally after the read began.

        Args:
            read: model → value, for every row of the table.
            as_of: the ``time.monotonic()`` at which the read began.
        """
        newer = {model for model, changed_at in self._changed_at.items() if changed_at > as_of}
        local = {model: value for model, value in self._values.items() if model in newer}
        self._values = {model: value for model, value in read.items() if model not in newer} | local

    def set(self, model: str, value: T) -> None:
        """Record a change that this process has written to the table."""
        self._values[model] = value
        self._changed_at[model] = time.monotonic()

    def remove(self, model: str) -> None:
        """Record that this process has deleted the model's row."""
        self._values.pop(model, None)
        self._changed_at[model] = time.monotonic()
