"""A bounded memory of keys, for what must not grow with the number of rows that are refused."""

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

Key = TypeVar("Key")

MAX_REMEMBERED = 1_000


class BoundedCounter(Generic[Key]):
    """How often each of the last ``MAX_REMEMBERED`` keys was noted."""

    def __init__(self) -> None:
        self._counts: dict[Key, int] = {}

    def increment(self, key: Key) -> int:
        """Note a key; return how often it has been noted by now."""
        count = self._counts.pop(key, 0) + 1
        self._counts[key] = count
        if len(self._counts) > MAX_REMEMBERED:
            del self._counts[next(iter(self._counts))]
        return count

    def forget(self, keys: Iterable[Key]) -> None:
        """Forget that these keys were ever noted."""
        if self._counts:
            for key in keys:
                self._counts.pop(key, None)

    def __contains__(self, key: object) -> bool:
        return key in self._counts

    def __iter__(self) -> Iterator[Key]:
        return iter(self._counts)
