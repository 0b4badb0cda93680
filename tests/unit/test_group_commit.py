"""Many callers, one statement in flight."""

import asyncio
from collections.abc import Sequence

import pytest

from draftd.queue.group_commit import MAX_BYTES, GroupCommit


class Statement:
    """A flush that waits until it is let go, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = asyncio.Event()
        self.begun = asyncio.Event()

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.begun.set()
        await self.go.wait()
        return [item * 10 for item in items]


async def test_callers_during_a_flush_share_the_next_one() -> None:
    statement = Statement()
    group = GroupCommit(flush=statement)
    first = asyncio.create_task(group.submit(1))
    await statement.begun.wait()
    rest = [asyncio.create_task(group.submit(n)) for n in (2, 3, 4)]
    await asyncio.sleep(0)
    statement.go.set()
    assert await asyncio.gather(first, *rest) == [10, 20, 30, 40]
    assert statement.batches == [[1], [2, 3, 4]]


async def test_a_cancelled_caller_cancels_neither_the_flush_nor_its_neighbours() -> None:
    statement = Statement()
    group = GroupCommit(flush=statement)
    first, second = (asyncio.create_task(group.submit(n)) for n in (1, 2))
    await statement.begun.wait()
    first.cancel()
    await asyncio.sleep(0)
    statement.go.set()
    assert await second == 20
    assert statement.batches == [[1, 2]]


async def test_a_failure_reaches_every_caller_and_the_next_flush_works() -> None:
    fail = True

    async def flush(items: Sequence[int]) -> list[int]:
        if fail:
            raise ValueError("refused")
        return list(items)

    group = GroupCommit(flush=flush)
    failures = await asyncio.gather(group.submit(1), group.submit(2), return_exceptions=True)
    assert [type(one) for one in failures] == [ValueError, ValueError]
    fail = False
    assert await group.submit(3) == 3


async def test_a_batch_is_bounded_by_items_and_by_bytes() -> None:
    statement = Statement()
    statement.go.set()
    group = GroupCommit(flush=statement, max_items=3)
    await asyncio.gather(*(group.submit(n) for n in range(7)))
    assert [len(batch) for batch in statement.batches] == [3, 3, 1]
    heavy = Statement()
    heavy.go.set()
    weighed = GroupCommit(flush=heavy, size_bytes=lambda _item: MAX_BYTES // 2)
    await asyncio.gather(*(weighed.submit(n) for n in range(5)))
    assert [len(batch) for batch in heavy.batches] == [2, 2, 1]


async def test_settling_down_waits_for_what_was_handed_in() -> None:
    statement = Statement()
    group = GroupCommit(flush=statement)
    caller = asyncio.create_task(group.submit(1))
    await statement.begun.wait()
    waiting = asyncio.create_task(group.flush())
    await asyncio.sleep(0)
    assert not waiting.done()
    statement.go.set()
    await waiting
    assert caller.done() or await caller == 10


async def test_a_flush_that_is_cancelled_leaves_no_caller_waiting() -> None:
    statement = Statement()
    group = GroupCommit(flush=statement)
    caller = asyncio.create_task(group.submit(1))
    await statement.begun.wait()
    (flushing,) = [task for task in asyncio.all_tasks() if task.get_name() == "group-commit"]
    flushing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
