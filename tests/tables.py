"""A table of cases as one test.

pytest's own work for a test takes longer than most of these cases do. Use ``pytest.mark.parametrize`` where a case needs fixtures
of its own or takes long.
"""

import functools
import inspect
import reprlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

Ids = Iterable[str] | Callable[[Any], str] | None
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 120


class _Trial:
    """What failed of one table."""

    def __init__(self, table: Sequence[dict[str, Any]], ids: Ids) -> None:
        self._table, self._ids = table, ids
        self._failures: list[BaseException] = []

    def rows(self) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Yield each row and the context to try it in; raise what failed at the end."""
        for number, row in enumerate(self._table):
            yield self._noted(number), row
        if len(self._failures) == 1:
            raise self._failures[0]
        if self._failures:
            raise BaseExceptionGroup(f"{len(self._failures)} of {len(self._table)} rows failed", self._failures)

    @contextmanager
    def _noted(self, number: int) -> Iterator[None]:
        try:
            yield
        except (Exception, pytest.fail.Exception) as failure:  # noqa: BLE001 # raised when all rows were tried
            failure.add_note(f"in the row {self._label(number)}")
            self._failures.append(failure)

    def _label(self, number: int) -> str:
        row = self._table[number]
        if callable(self._ids):
            return "-".join(str(self._ids(value)) for value in row.values())
        if self._ids is not None:
            return list(self._ids)[number]
        return ", ".join(f"{name}={_shown(value)}" for name, value in row.items())


def per_row(
    names: str | Sequence[str], rows: Iterable[Any], *, ids: Ids = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Call a test with each row of a table, whichever fail; a failure names its row.

    Takes what ``pytest.mark.parametrize`` takes. The rows share the test's fixtures, and its event loop if it is asynchronous.

    Args:
        names: the argument that a row is the value of, or the arguments that it has the values of.
        rows: the table.
        ids: names of the rows, or what makes one of a value.

    Raises:
        ValueError: the table is empty.
    """
    table = [{names: row} if isinstance(names, str) else dict(zip(names, row, strict=True)) for row in rows]
    if not table:
        raise ValueError("A table without rows tests nothing.")

    def decorate(test: Callable[..., Any]) -> Callable[..., Any]:
        def run(**fixtures: Any) -> None:
            for noted, row in _Trial(table, ids).rows():
                with noted:
                    test(**fixtures, **row)

        async def run_async(**fixtures: Any) -> None:
            for noted, row in _Trial(table, ids).rows():
                with noted:
                    await test(**fixtures, **row)

        made = functools.wraps(test)(run_async if inspect.iscoroutinefunction(test) else run)
        own = inspect.signature(test)
        rest = [one for name, one in own.parameters.items() if name not in table[0]]
        made.__signature__ = own.replace(parameters=rest)  # type: ignore[attr-defined] # read by pytest, as by `inspect`
        return made

    return decorate


def _shown(value: Any) -> str:
    try:
        return _short.repr(value)
    except ValueError:  # of a number with more digits than Python writes
        return type(value).__name__
