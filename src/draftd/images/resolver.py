"""Resolves names to addresses with the system's resolver.

Owns the threads of the look-ups; ``gate`` decides which addresses are allowed.
"""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress
from threading import Thread


class SystemResolver:
    """``getaddrinfo``, each call in its own thread.

    A look-up cannot be cancelled, and takes half a minute if no server answers. In the event loop's thread pool, a few such names
    would block all other look-ups of the process, including the model provider's; and Python waits for a pool's threads on exit.

    Args:
        lookups: maximum number of concurrent look-ups; further ones wait.
    """

    def __init__(self, *, lookups: int = 32) -> None:
        self._slots = asyncio.Semaphore(lookups)
        self._awaited: set[asyncio.Future[Sequence[str]]] = set()

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a host, as the system writes them."""
        await self._slots.acquire()
        answer: asyncio.Future[Sequence[str]] = asyncio.get_running_loop().create_future()
        try:
            Thread(target=self._look_up, args=(host, port, answer), name="image-dns", daemon=True).start()
        except RuntimeError as error:
            self._slots.release()
            raise OSError("no thread for a look-up") from error
        self._awaited.add(answer)
        try:
            return await answer
        finally:
            self._awaited.discard(answer)

    def close(self) -> None:
        """Abandon pending look-ups; their threads end with the look-up or with the process."""
        for answer in list(self._awaited):
            _fail(answer, OSError("the look-up was abandoned"))

    def _look_up(self, host: str, port: int, answer: "asyncio.Future[Sequence[str]]") -> None:
        try:
            outcome: Sequence[str] | OSError = _getaddrinfo(host, port)
        except OSError as error:
            outcome = error
        except ValueError as error:
            outcome = OSError(str(error))
        # The loop may be closed by now.
        with suppress(RuntimeError):
            answer.get_loop().call_soon_threadsafe(self._settle, answer, outcome)

    def _settle(self, answer: "asyncio.Future[Sequence[str]]", outcome: Sequence[str] | OSError) -> None:
        # Released when the thread ends, not when the caller is cancelled: slots limit threads.
        self._slots.release()
        if isinstance(outcome, OSError):
            _fail(answer, outcome)
        elif not answer.done():
            answer.set_result(outcome)


def _fail(answer: "asyncio.Future[Sequence[str]]", error: OSError) -> None:
    if not answer.done():
        answer.set_exception(error)


def _getaddrinfo(host: str, port: int) -> list[str]:
    return [str(answer[4][0]) for answer in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
