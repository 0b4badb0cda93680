"""Progress: the options of an attempt, shown as they become ready.

Invariants: what a reader has seen does not become less, although a second model, or a repeated call, begins at its first option
again; the model's time is not for a database that stands still.
"""

import asyncio
import time
from contextlib import suppress

from draftd.providers.llm import OnText
from draftd.queue.attempts import AttemptWriter
from draftd.reply.attempt import Attempt
from draftd.reply.reply_format import PartialAnswer
from draftd.telemetry.metrics import Metrics

PUBLISH_S = 1.0
"""How long an attempt waits for its progress to be written."""


class Progress:
    """What has been shown of one attempt.

    Args:
        attempt: whose.
        writer: writes it.
        metrics: where the time to the first option is counted.
    """

    def __init__(self, *, attempt: Attempt, writer: AttemptWriter, metrics: Metrics) -> None:
        self._attempt = attempt
        self._writer = writer
        self._metrics = metrics
        self._shown = 0

    def of(self, answer: PartialAnswer) -> OnText:
        """Return what shows the options of one answer while it is being written."""

        async def show(text: str) -> None:
            partial = answer.feed(text)
            if partial is None or answer.options_ready <= self._shown:
                return
            if self._shown == 0:
                self._metrics.first_option(time.monotonic() - self._attempt.began)
            self._shown = answer.options_ready
            # It is carried out all the same.
            with suppress(TimeoutError):
                async with asyncio.timeout(PUBLISH_S):
                    await self._writer.publish(self._attempt.claim, partial)

        return show
