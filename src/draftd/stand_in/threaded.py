"""The stand-in for callers without an event loop: synchronous tests, and programs that only start others.

Owns the thread and its loop. Every method hands its work to that loop and waits, so any thread may call it.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar

from draftd.stand_in.behaviour import Step
from draftd.stand_in.server import StandIn

_T = TypeVar("_T")


class ThreadedStandIn:
    """A ``StandIn`` that runs in a thread of its own, for callers without an event loop; ``run_in_thread`` makes it."""

    def __init__(self, stand_in: StandIn, loop: asyncio.AbstractEventLoop) -> None:
        self._stand_in = stand_in
        self._loop = loop
        self.url = stand_in.url
        self.root_url = stand_in.root_url

    @property
    def log(self) -> list[dict[str, Any]]:
        """What was asked since the last reset, oldest first."""
        return self.wait_for_calls(0)

    def script(
        self, once: Step | Iterable[Step] | None = None, *, default: Step | Iterable[Step] | None = None
    ) -> None:
        """Set the behaviour of the calls to come; see ``StandIn.script``."""
        self._do(lambda: self._stand_in.script(once, default=default))

    def reset(self) -> None:
        """Forget script and log."""
        self._do(self._stand_in.reset)

    def release(self) -> None:
        """Let the calls that hang or stall now go on."""
        self._do(self._stand_in.release)

    def wait_for_calls(
        self, count: int, *, outcome: str | None = None, timeout_s: float = 100.0
    ) -> list[dict[str, Any]]:
        """Wait for calls and return the log; see ``StandIn.wait_for_calls``.

        Raises:
            TimeoutError: they did not come in time.
        """
        waiting = asyncio.wait_for(self._stand_in.wait_for_calls(count, outcome=outcome), timeout_s)
        return self._run(waiting)

    def _do(self, act: Callable[[], None]) -> None:
        async def acting() -> None:
            act()

        self._run(acting())

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


@contextlib.contextmanager
def run_in_thread(*, port: int = 0, **how: Any) -> Iterator[ThreadedStandIn]:
    """Run a stand-in in a thread while the context lasts; see ``StandIn`` for its arguments."""
    stand_in = StandIn(**how)
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        runner.run(stand_in.start(port))
        thread = threading.Thread(target=loop.run_forever, name="stand-in", daemon=True)
        thread.start()
        try:
            yield ThreadedStandIn(stand_in, loop)
        finally:
            asyncio.run_coroutine_threadsafe(stand_in.stop(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
