"""Progress: publishes the options of an attempt as they become complete.

Invariants: published options never become fewer, even if a second model or a repeated call starts over; a slow database does not
hold up the model's answer; options are checked in a thread, so long sources do not hold up the event loop.
"""

import asyncio
import time
from contextlib import suppress
from typing import Any

from draftd.providers.llm import OnText
from draftd.queue.attempts import AttemptWriter
from draftd.reply.attempt import Attempt
from draftd.reply.reply_format import PartialAnswer
from draftd.telemetry.metrics import Metrics

PUBLISH_S = 1.0
"""How long an attempt waits for its progress to be written; after that, the write continues in the background."""


async def _feed(answer: PartialAnswer, text: str) -> dict[str, Any] | None:
    """Feed an answer in a thread."""
    feeding = asyncio.create_task(asyncio.to_thread(answer.feed, text))
    try:
        return await asyncio.shield(feeding)
    except asyncio.CancelledError:
        # A call that timed out: the next one's reader must not find the options changing under it.
        await asyncio.wait([feeding])
        raise


class Progress:
    """What has been published of one attempt.

    Args:
        attempt: the attempt.
        writer: writes partial results.
        metrics: records the time to the first option.
    """

    def __init__(self, *, attempt: Attempt, writer: AttemptWriter, metrics: Metrics) -> None:
        self._attempt = attempt
        self._writer = writer
        self._metrics = metrics
        self._published = 0

    def on_text(self, answer: PartialAnswer) -> OnText:
        """Return a callback that publishes the options of one answer while it is being written."""

        async def publish(text: str) -> None:
            if not answer.may_have_more(text):
                return
            partial = await _feed(answer, text)
            if partial is None or answer.options_ready <= self._published:
                return
            if self._published == 0:
                self._metrics.first_option(time.monotonic() - self._attempt.began)
            self._published = answer.options_ready
            with suppress(TimeoutError):
                async with asyncio.timeout(PUBLISH_S):
                    await self._writer.publish(self._attempt.claim, partial)

        return publish
