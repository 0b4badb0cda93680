"""A counter in bounded memory, for keys as many as rows that a server may refuse."""

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

Key = TypeVar("Key")

MAX_KEYS = 1_000


class BoundedCounter(Generic[Key]):
    """Counts each of the ``MAX_KEYS`` keys that were incremented last."""

    def __init__(self) -> None:
        self._counts: dict[Key, int] = {}

    def increment(self, key: Key) -> int:
        """Count a key; return its count."""
        count = self._counts.pop(key, 0) + 1
        self._counts[key] = count
        if len(self._counts) > MAX_KEYS:
            del self._counts[next(iter(self._counts))]
        return count

    def forget(self, keys: Iterable[Key]) -> None:
        """Drop these keys."""
        if self._counts:
            for key in keys:
                self._counts.pop(key, None)

    def __contains__(self, key: object) -> bool:
        return key in self._counts

    def __iter__(self) -> Iterator[Key]:
        return iter(self._counts)
