"""The load: as many requests per second as a large fleet drafts, each through every statement that writes its row.

Claims, usage, progress and settlements are merged by ``BATCH`` like those of a busy daemon; a request is held for ``CALL_S``,
as if a model were asked, and the heartbeat renews it meanwhile. Instant is only the draft.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Self
from uuid import uuid4

from benchmarks.queue.payload import RESULT
from draftd import db
from draftd.daemon.heartbeat import Heartbeat, Identity
from draftd.queue.attempts import AttemptWriter, Usage
from draftd.queue.claiming import ClaimTerms, claim
from draftd.queue.leases import Leases
from draftd.queue.outcome import Done, Draft
from draftd.queue.refused_rows import Quarantine
from draftd.queue.retention import prune
from draftd.queue.settlements import Settler
from draftd.request import Claim

AGENT = "comment_generator"
BATCH = 50
CALL_S = 4.0
LEASE_S = 10.0
PRUNE_INTERVAL_S = 5.0
INSERT = """
INSERT INTO draft_requests (requester_id, image_urls)
SELECT 'requester ' || n %% 20, ARRAY['https://images.example/shot.png'] FROM generate_series(1, %s) AS n
"""
DONE = Done(draft=Draft(result=RESULT, reading=[]), model="benchmark", prompt_version="1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How much, how fast, and how long what is finished is kept."""

    requests: int
    per_s: float
    keep_s: float


@dataclass(slots=True, kw_only=True)
class Course:
    """How far the load has come."""

    settled: int = 0
    claims: list[float] = field(default_factory=list)
    """What each claim took, in seconds, in their order."""


class Load:
    """The connections and the parts of a daemon that the load needs.

    Args:
        url: a migrated database.
        pace: how much, and how fast.
        course: where the progress is noted.
    """

    def __init__(self, *, url: str, pace: Pace, course: Course) -> None:
        self._pace = pace
        self._course = course
        self._claim = db.Link(url=url, name="bloat claim")
        self._settle = db.Link(url=url, name="bloat settle")
        self._client = db.Link(url=url, name="bloat client")
        self._prune = db.Link(url=url, name="bloat prune")
        self._writer = AttemptWriter(link=self._settle, quarantine=Quarantine())
        self._settler = Settler(link=self._settle, quarantine=Quarantine())
        self._leases = Leases()
        self._terms = ClaimTerms(worker_id=uuid4(), lease_s=LEASE_S, attempt_s=120)
        self.heartbeat = Heartbeat(
            quarantine=Quarantine(),
            url=url,
            session=True,
            identity=Identity(
                worker_id=self._terms.worker_id,
                hostname="bench",
                pid=1,
                version="0",
                agents=(AGENT,),
                concurrency=1000,
                attempt_s=120,
            ),
            leases=self._leases,
            lease_s=LEASE_S,
            on_beat=lambda _: None,
            on_death=lambda _: None,
        )

    @classmethod
    @asynccontextmanager
    async def opened(cls, *, url: str, pace: Pace, course: Course) -> AsyncIterator[Self]:
        """Beat for as long as the context lasts, and close everything after it."""
        load = cls(url=url, pace=pace, course=course)
        load.heartbeat.start(asyncio.get_running_loop())
        try:
            yield load
        finally:
            load.heartbeat.set_state("stopped")
            await asyncio.to_thread(load.heartbeat.join, 5)
            for link in (load._claim, load._settle, load._client, load._prune):
                await link.close()

    async def run(self) -> None:
        """Bring every request to its end, at the pace."""
        interval_s = BATCH / self._pace.per_s
        held: deque[tuple[float, list[Claim]]] = deque()
        due = time.monotonic()
        inserted = 0
        while inserted < self._pace.requests or held:
            if inserted < self._pace.requests:
                await self._client.run(INSERT, [BATCH])
                inserted += BATCH
                held.append((time.monotonic() + CALL_S, await self._claimed()))
            while held and held[0][0] <= time.monotonic():
                await self._finish(held.popleft()[1])
            self.heartbeat.tick()
            due += interval_s
            await asyncio.sleep(due - time.monotonic())

    async def _claimed(self) -> list[Claim]:
        began = time.monotonic()
        claims = await claim(self._claim, terms=self._terms, agents=[AGENT], limit=BATCH)
        self._course.claims.append(time.monotonic() - began)
        for one in claims:
            self._leases.add(one.id, one.lease_token, agent=one.agent)
        return claims

    async def _finish(self, claims: list[Claim]) -> None:
        partial = RESULT | {"options": []}
        await asyncio.gather(*(self._writer.publish(one, partial) for one in claims))
        for one in claims:
            self._writer.record(_usage(one))
        await asyncio.gather(*map(self._writer.wait_until_recorded, claims))
        await asyncio.gather(*(self._settler.settle(one, DONE) for one in claims))
        for one in claims:
            self._leases.drop(one.id, one.lease_token)
        self._course.settled += len(claims)

    async def prune(self) -> None:
        """Delete what is old enough, again and again."""
        while True:
            async with aclosing(prune(self._prune, older_than_s=self._pace.keep_s, quarantine=Quarantine())) as batches:
                async for _ in batches:
                    pass
            await asyncio.sleep(PRUNE_INTERVAL_S)


def _usage(claim: Claim) -> Usage:
    return Usage(
        request_id=claim.id,
        requester_id=claim.requester_id,
        attempt=claim.attempt,
        lease_token=claim.lease_token,
        call=1,
        model="benchmark",
        code=None,
        input_tokens=1500,
        cached_tokens=None,
        output_tokens=300,
        cost_usd=None,
        elapsed_s=CALL_S,
        trace_id=None,
    )
