"""The floor: the least that a queue with a fence must do on draftd's own table, on one psycopg connection.

A loop without concurrency, renewals, retries or any care: claim up to 50, start them, store the 50 results, again; when there is
nothing, wait for a notification. The table, its indexes and its triggers are draftd's, and so is the result.
"""

import signal
import sys
from typing import Any
from uuid import uuid4

import psycopg

from benchmarks.queue.contender import Job
from benchmarks.queue.contenders.draftd import DraftTable
from benchmarks.queue.payload import RESULT_JSON

BATCH = 50
POLL_S = 3.0
CLAIM = """
WITH due AS MATERIALIZED (
    SELECT id FROM draft_requests
     WHERE status = 'pending' AND agent = 'comment_generator' AND available_at <= now()
     ORDER BY priority DESC, turn, available_at, id LIMIT %(n)s FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE draft_requests AS r SET
    status = 'processing', attempt = attempt + 1, lease_token = lease_token + 1,
    lease_until = now() + interval '10 s', deadline_at = now() + interval '120 s',
    worker_id = %(worker_id)s, claimed_at = now(), updated_at = now()
  FROM due WHERE r.id = due.id
RETURNING r.id, r.lease_token
"""
FINISH = """
UPDATE draft_requests AS r SET
    status = 'completed', result = v.result, model = 'benchmark', prompt_version = '1', updated_at = now()
  FROM unnest(%(ids)s::uuid[], %(tokens)s::bigint[], %(results)s::text[]::jsonb[]) AS v(id, lease_token, result)
 WHERE r.id = v.id AND r.status = 'processing' AND r.lease_token = v.lease_token
"""


class Floor(DraftTable):
    """One connection, one loop."""

    name = "floor"
    is_queue = False
    terms = f"one connection, {BATCH} at a time, no concurrency"

    def work(self, job: Job) -> None:
        """Claim and finish until SIGTERM."""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with psycopg.connect(job.url, autocommit=True) as connection:
            connection.execute("LISTEN draft_requests")
            params = {"n": BATCH, "worker_id": uuid4()}
            while True:
                if claimed := connection.execute(CLAIM, params).fetchall():
                    _finish(connection, job, claimed)
                else:
                    list(connection.notifies(timeout=POLL_S, stop_after=1))


def _finish(connection: psycopg.Connection[Any], job: Job, claimed: list[Any]) -> None:
    for request_id, _ in claimed:
        job.starts.enter(request_id)
    ids, tokens = zip(*claimed, strict=True)
    results = [RESULT_JSON] * len(claimed)
    connection.execute(FINISH, {"ids": list(ids), "tokens": list(tokens), "results": results})


CONTENDER = Floor()
