"""What the stand-in was asked, and how each call ended.

Owns the entries of ``GET /log`` and waiting for them. An entry's ``outcome`` is None while its call is being answered,
then ``answered``, ``disconnected`` (the stand-in cut it) or ``client_gone``.
"""

import asyncio
import time
from collections import deque
from typing import Any

from draftd.stand_in.behaviour import Behaviour
from draftd.stand_in.call import Call

_MAX_ENTRIES = 20_000


class CallLog:
    """The calls since the last reset, oldest first, the latest 20,000 of them.

    Args:
        record_prompts: keep the text of each prompt.
    """

    def __init__(self, *, record_prompts: bool) -> None:
        self._record_prompts = record_prompts
        self._entries: deque[dict[str, Any]] = deque(maxlen=_MAX_ENTRIES)
        self._changed = asyncio.Condition()
        self._arrived = 0
        self._in_flight = 0

    def entries(self) -> list[dict[str, Any]]:
        """Return a copy of the entries."""
        return [dict(entry) for entry in self._entries]

    def clear(self) -> None:
        """Forget the entries; numbers start again at 1."""
        self._entries.clear()
        self._arrived = 0

    async def open(self, call: Call, behaviour: Behaviour) -> dict[str, Any]:
        """Note a call that has just arrived."""
        self._arrived += 1
        self._in_flight += 1
        entry = {
            "number": self._arrived,
            "at": time.time(),
            **call.logged(),
            "behaviour": behaviour.said(),
            "in_flight": self._in_flight,
            "outcome": None,
            "seconds": None,
        }
        if self._record_prompts:
            entry["prompt"] = call.prompt
        self._entries.append(entry)
        await self._tell()
        return entry

    async def close(self, entry: dict[str, Any], outcome: str) -> None:
        """Note how a call ended."""
        self._in_flight -= 1
        entry.update(outcome=outcome, seconds=round(time.time() - entry["at"], 4))
        await self._tell()

    async def wait_for(self, count: int, outcome: str | None) -> None:
        """Wait until that many calls have arrived, or have ended so."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._count(outcome) >= count)

    def _count(self, outcome: str | None) -> int:
        return self._arrived if outcome is None else sum(one["outcome"] == outcome for one in self._entries)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
