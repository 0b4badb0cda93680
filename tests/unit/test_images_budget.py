import asyncio

import pytest

from draftd.images import ByteBudget


class Holder:
    """A task that holds a reservation until it is told to let go."""

    def __init__(self, budget: ByteBudget, wanted_bytes: int) -> None:
        self.has_it = asyncio.Event()
        self.may_go = asyncio.Event()
        self.held_bytes = 0
        self.task = asyncio.create_task(self._hold(budget, wanted_bytes))

    async def _hold(self, budget: ByteBudget, wanted_bytes: int) -> None:
        async with budget.reserve(wanted_bytes, time_s=60) as reservation:
            self.held_bytes = reservation.held_bytes
            self.has_it.set()
            await self.may_go.wait()

    async def let_go(self) -> None:
        self.may_go.set()
        await self.task


async def settled() -> None:
    """Let every task run as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_is_reserved_comes_back_at_the_end_even_after_an_error() -> None:
    budget = ByteBudget(10)

    async def fail() -> None:
        async with budget.reserve(7, time_s=60):
            assert budget._free_bytes == 3
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await fail()

    assert budget._free_bytes == 10


async def test_a_small_reservation_does_not_overtake_a_large_one() -> None:
    budget = ByteBudget(10)
    first, large, small = Holder(budget, 6), Holder(budget, 8), Holder(budget, 1)
    await settled()
    assert (first.has_it.is_set(), large.has_it.is_set(), small.has_it.is_set()) == (True, False, False)

    await first.let_go()
    await settled()

    assert (large.has_it.is_set(), small.has_it.is_set()) == (True, True)
    await large.let_go()
    await small.let_go()
    assert budget._free_bytes == 10


async def test_a_shrunken_reservation_lets_the_next_one_in() -> None:
    budget = ByteBudget(10)
    async with budget.reserve(10, time_s=60) as reservation:
        waiting = Holder(budget, 6)
        await settled()
        assert not waiting.has_it.is_set()

        reservation.shrink(4)
        await waiting.has_it.wait()
        reservation.shrink(9)
        assert budget._free_bytes == 0

    await waiting.let_go()
    assert budget._free_bytes == 10


async def test_more_than_the_limit_is_taken_as_the_limit() -> None:
    budget = ByteBudget(10)
    holder = Holder(budget, 1_000)
    await holder.has_it.wait()

    assert holder.held_bytes == 10
    await holder.let_go()
    assert budget._free_bytes == 10


async def test_a_cancelled_wait_frees_its_place_in_the_queue() -> None:
    budget = ByteBudget(10)
    first, large, small = Holder(budget, 6), Holder(budget, 8), Holder(budget, 4)
    await settled()

    large.task.cancel()
    await small.has_it.wait()

    await first.let_go()
    await small.let_go()
    assert budget._free_bytes == 10


async def test_a_grant_that_meets_a_cancellation_is_given_back() -> None:
    budget = ByteBudget(10)
    async with budget.reserve(10, time_s=60) as reservation:
        second = Holder(budget, 10)
        await settled()
        reservation.shrink(0)
        second.task.cancel()
        await asyncio.gather(second.task, return_exceptions=True)

    assert second.task.cancelled()
    assert budget._free_bytes == 10


async def test_a_release_that_meets_a_cancelled_wait_still_serves_the_next() -> None:
    budget = ByteBudget(10)
    async with budget.reserve(10, time_s=60) as reservation:
        gone, next_one = Holder(budget, 5), Holder(budget, 5)
        await settled()
        gone.task.cancel()
        reservation.shrink(5)
        await next_one.has_it.wait()

    await next_one.let_go()
    assert budget._free_bytes == 10


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one byte"):
        ByteBudget(0)
