"""Leases: which rows this process holds, and how they are renewed.

``Leases`` is the process's own list, shared by the claims (which add), the worker (which removes) and the heartbeat thread
(which reads). ``RENEW`` is the heartbeat's one statement; ``RENEW_ONLY`` and ``BEAT`` are its halves, for when the worker's row
is refused or locked. What becomes of a lease that ran out is ``reaping``'s.
"""

from collections.abc import Collection
from uuid import UUID

from draftd.queue.moments import LATEST, seconds, since_s

BEATS_PER_LEASE = 3
ALIVE_MARGIN_S = 50
"""Beside three of its own beats: for a beat in flight, a failover, and a heartbeat that has to connect again."""
LONGEST_BEAT_S = 28_800
"""A third of the longest lease that can be set."""
_BEATS_S = f"{BEATS_PER_LEASE} * {seconds('w.beat_s', most=LONGEST_BEAT_S)} + {ALIVE_MARGIN_S}"
ALIVE = f"w.heartbeat_at BETWEEN now() - make_interval(secs => {_BEATS_S}) AND {LATEST}"
"""Of a row ``w`` of ``draft_workers``: whether it still beats, by its own interval. Its state does not tell: a killed process
leaves ``running`` behind."""
FORGOTTEN = f"w.heartbeat_at NOT BETWEEN now() - interval '1 day' AND {LATEST} AND NOT {ALIVE}"
"""Of such a row: whether it is deleted."""

Held = tuple[UUID, int]
"""A claim of a row: its id and its lease token. The same row can be held twice by one process, by an attempt that does not know
yet that it was taken back and by the one that came after it."""


class Leases:
    """The claims that this process holds.

    Written by the event loop alone; ``snapshot`` may be called from the heartbeat thread (copying a dict is one step under
    the interpreter's lock).
    """

    def __init__(self) -> None:
        self._held: dict[Held, str] = {}

    def add(self, request_id: UUID, lease_token: int, *, agent: str) -> None:
        """Hold a row from now on."""
        self._held[request_id, lease_token] = agent

    def drop(self, request_id: UUID, lease_token: int) -> None:
        """Hold a row no longer; a newer claim of the same row stays."""
        self._held.pop((request_id, lease_token), None)

    def snapshot(self) -> set[Held]:
        """Return a copy of what is held right now."""
        return set(self._held.copy())

    def count(self, agents: Collection[str]) -> int:
        """Return how many rows of these agents are held."""
        return sum(agent in agents for agent in self._held.values())

    def __len__(self) -> int:
        return len(self._held)


# Parameters as text, and not all of a long one: a value that cannot be read must not take the other rows with it.
_PARAMS = "jsonb_build_object('params', left(x.params::text, 10000))"
AGENTS = f"(SELECT coalesce(jsonb_agg(to_jsonb(x) || {_PARAMS}), '[]') FROM draft_agents AS x)"
MODELS = f"(SELECT coalesce(jsonb_agg(to_jsonb(x) || {_PARAMS}), '[]') FROM draft_models AS x)"

LEAST_SHARE = 1 / 64
SHARE = f"greatest({LEAST_SHARE}, least(1, t.share))"
"""Of a row ``t`` of ``draft_throttles``: its share as of ``changed_at``."""
LONGEST_PAUSE_S = 86_400
LAPSED = f"(h.until <= now() OR h.until > now() + make_interval(secs => {LONGEST_PAUSE_S}))"
"""Of a row ``h`` of ``draft_holds``: whether its pause is over. One that is longer than daemons set it does not count."""
UNTIL_S = f"CASE WHEN {LAPSED} THEN 0 ELSE -{since_s('h.until')} END"


# Locks first and in the order of id, like every write of several rows here: unordered renewals beside settlements made ten
# deadlocks in ten seconds. A row that somebody else has locked is passed over, and renewed at the next beat: a client that
# holds one row in a long transaction must not stop the renewals of all the others; the reaper passes over it too. Lost is
# only what is no longer processing with this token. updated_at stays, and no index holds lease_until: a renewal is a
# heap-only update.
def _renewal(beat: str = "") -> str:
    return f"""
WITH held AS MATERIALIZED (
    SELECT * FROM unnest(%(ids)s::uuid[], %(tokens)s::bigint[]) AS h(id, lease_token) ORDER BY id
), locked AS MATERIALIZED (
    SELECT x.id FROM held AS h CROSS JOIN LATERAL (
        SELECT r.id FROM draft_requests AS r
         WHERE r.id = h.id AND r.status = 'processing' AND r.lease_token = h.lease_token
           FOR NO KEY UPDATE SKIP LOCKED) AS x
), renewed AS (
    UPDATE draft_requests AS r SET lease_until = now() + make_interval(secs => %(lease_s)s)
      FROM locked JOIN held AS h ON h.id = locked.id
     WHERE r.id = locked.id AND r.status = 'processing' AND r.lease_token = h.lease_token
    RETURNING r.id
){beat}
SELECT (SELECT coalesce(array_agg(id), '{{}}') FROM renewed) AS renewed,
       (SELECT coalesce(jsonb_agg(jsonb_build_array(h.id, h.lease_token)), '[]') FROM held AS h WHERE NOT EXISTS (
            SELECT FROM draft_requests AS r
             WHERE r.id = h.id AND r.status = 'processing' AND r.lease_token = h.lease_token)) AS lost,
       {AGENTS} AS agents,
       {MODELS} AS models,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('model', h.model, 'code', h.code, 'until_s', {UNTIL_S})), '[]')
          FROM draft_holds AS h) AS holds,
       (SELECT coalesce(jsonb_agg(jsonb_build_object(
                    'model', t.model, 'share', {SHARE}, 'age_s', {since_s("t.changed_at")})), '[]')
          FROM draft_throttles AS t) AS throttles
"""


BEAT = f"""
INSERT INTO draft_workers AS w (id, hostname, pid, version, state, agents, concurrency, in_flight, beat_s,
                                attempt_s)
VALUES (%(worker_id)s, %(hostname)s, %(pid)s, %(version)s, %(state)s, %(agents)s, %(concurrency)s, %(in_flight)s,
        %(lease_s)s::float8 / {BEATS_PER_LEASE}, %(attempt_s)s)
ON CONFLICT (id) DO UPDATE SET state = excluded.state, in_flight = excluded.in_flight, heartbeat_at = now()
"""
RENEW_ONLY = _renewal()
RENEW = _renewal(f", beat AS ({BEAT})")
