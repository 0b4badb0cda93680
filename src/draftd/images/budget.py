"""Limits the image bytes that this process holds at a time.

Owns one counter and its FIFO queue: small reservations do not overtake a large one, which would otherwise starve. A holder
reserves everything at once, so holders never wait for each other.

It bounds the daemon's memory whatever rows contain. Reservations shrink as soon as the real size is known; at their initial size,
six would fill the default budget until their models have answered.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from draftd.errors import ImageBudgetExhausted


class Reservation:
    """Bytes that are reserved until the ``async with`` block ends."""

    def __init__(self, *, budget: "ByteBudget", held_bytes: int) -> None:
        self._budget = budget
        self.held_bytes = held_bytes

    def shrink(self, to: int) -> None:
        """Release bytes that are not needed. A reservation cannot grow: a larger value does nothing.

        Args:
            to: bytes still needed, 0 or more.
        """
        spare = self.held_bytes - max(to, 0)
        if spare > 0:
            self.held_bytes -= spare
            self._budget._give_back(spare)  # noqa: SLF001 - both belong to this module


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiter:
    wanted_bytes: int
    granted: asyncio.Future[None]


class ByteBudget:
    """A bounded number of bytes, shared by everything in the process.

    Args:
        limit_bytes: maximum number of bytes held at a time, 1 or more.
    """

    def __init__(self, limit_bytes: int) -> None:
        if limit_bytes < 1:
            raise ValueError("a budget needs at least one byte")
        self.limit_bytes = limit_bytes
        self._free_bytes = limit_bytes
        self._waiters: deque[_Waiter] = deque()

    @asynccontextmanager
    async def reserve(self, n: int, *, time_s: float) -> AsyncIterator[Reservation]:
        """Wait for bytes to become free, and hold them until the block ends.

        Args:
            n: bytes wanted, 0 or more; capped at the limit, since more could never be granted.
            time_s: time limit for the wait, in seconds.

        Raises:
            ImageBudgetExhausted: no room became free in time.
        """
        wanted_bytes = min(max(n, 0), self.limit_bytes)
        try:
            async with asyncio.timeout(time_s):
                await self._take(wanted_bytes)
        except TimeoutError as error:
            raise ImageBudgetExhausted from error
        reservation = Reservation(budget=self, held_bytes=wanted_bytes)
        try:
            yield reservation
        finally:
            reservation.shrink(0)

    async def _take(self, wanted_bytes: int) -> None:
        if not self._waiters and wanted_bytes <= self._free_bytes:
            self._free_bytes -= wanted_bytes
            return
        waiter = _Waiter(wanted_bytes=wanted_bytes, granted=asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            await waiter.granted
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise

    def _withdraw(self, waiter: _Waiter) -> None:
        # Grant and cancellation can happen in the same turn of the loop; the bytes must then be returned here.
        if waiter.granted.done() and not waiter.granted.cancelled():
            self._give_back(waiter.wanted_bytes)
        else:
            self._waiters.remove(waiter)
            self._grant()

    def _give_back(self, spare_bytes: int) -> None:
        self._free_bytes += spare_bytes
        self._grant()

    def _grant(self) -> None:
        while self._waiters and self._waiters[0].wanted_bytes <= self._free_bytes:
            if self._waiters[0].granted.cancelled():
                return  # its task is about to withdraw it and grant again
            waiter = self._waiters.popleft()
            self._free_bytes -= waiter.wanted_bytes
            waiter.granted.set_result(None)
