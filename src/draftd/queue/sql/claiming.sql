-- The claim statements. Four of them have the same UPDATE, each spelled out. It counts the attempt and takes a new token; it
-- does not return image_urls (16 rows of 7 MB took 650 ms and 200 MB).
--
-- available_at is returned as a number, which takes a tenth of the time to read. expires_in_s subtracts numbers: expires_at may
-- be infinite, and PostgreSQL before 17 cannot subtract a timestamp from infinity.
--
-- A pause holds from the moment it is committed, whatever the daemons know of it: nothing is claimed if everything is paused, for an
-- agent whose model is, or of a requester who is. Rows of such a requester that are limited already cost nothing; the limit keeper
-- sees to that (draft_apply_limits).
--
-- Common parameters: lease_s, attempt_s, worker_id; now, which overrides the database's time (tests).

-- name: claim
-- Claim up to n due rows of some agents, highest priority first, then by turn.
--
-- Invariants: each agent's queue is read in exactly the order of draft_requests_claim_idx, so that its LIMIT is an index scan;
-- only status 'pending'; skips locked rows. MATERIALIZED, because the planner may run a plain subquery again and claim more than
-- n. Turns are counted per agent, so agents are compared by the distance from the front of their queues; in floats, because the
-- difference of two turns may not fit into a bigint. The agents are in a subquery, because the planner would count the elements
-- of a bare parameter, find a plan for that few cheaper, and plan every claim anew (0.4 of 0.9 ms).
--
-- Further parameters: agents, and models, the one that each would use; n; skip, the ids of rows to skip.
WITH due AS MATERIALIZED (
    SELECT x.id FROM unnest((SELECT %(agents)s::text[]), (SELECT %(models)s::text[])) AS a(agent, model) CROSS JOIN LATERAL (
        SELECT r.id, r.priority, r.turn, r.available_at FROM draft_requests AS r
         WHERE r.status = 'pending' AND NOT r.limited AND r.agent = a.agent
           AND r.available_at <= coalesce(%(now)s::timestamptz, now()) AND r.id <> ALL (%(skip)s::uuid[])
           AND r.requester_id NOT IN (SELECT p.name FROM draft_pauses AS p WHERE p.what = 'requester')
         ORDER BY r.priority DESC, r.turn, r.available_at, r.id LIMIT %(n)s FOR NO KEY UPDATE SKIP LOCKED) AS x
     WHERE NOT EXISTS (SELECT FROM draft_pauses AS p WHERE p.what = 'all')
       AND coalesce(a.model, '') NOT IN (SELECT p.name FROM draft_pauses AS p WHERE p.what = 'model')
     ORDER BY x.priority DESC, x.turn::float8 - min(x.turn) OVER (PARTITION BY a.agent, x.priority), x.available_at, x.id
     LIMIT %(n)s
)
UPDATE draft_requests AS r SET
    status = 'processing',
    attempt = r.attempt + 1,
    lease_token = r.lease_token + 1,
    lease_until = now() + make_interval(secs => %(lease_s)s),
    deadline_at = now() + make_interval(secs => %(attempt_s)s),
    worker_id = %(worker_id)s,
    claimed_at = now(),
    updated_at = now()
  FROM due WHERE r.id = due.id
RETURNING r.id, r.agent, r.requester_id, r.attempt, r.lease_token, r.given_back, r.priority, r.turn, r.traceparent,
    extract(epoch FROM r.available_at)::float8 AS available_at,
    pg_column_size(r.image_urls) AS image_bytes,
    extract(epoch FROM r.expires_at)::float8 - extract(epoch FROM coalesce(%(now)s::timestamptz, now()))::float8 AS expires_in_s;

-- name: claim_within
-- Claim up to n due rows where limits or ceilings apply: as many as the ceilings of the model have room for.
--
-- Invariants: as for claim. The room is counted under a lock that lasts until the claim is committed.
-- Further parameters: those of claim; model, the one with the ceilings, null without; are_limits, whether any row may wait for
-- its admission.
-- Returns: a row for each, or one without an id if none is claimed; wait_s, in how many seconds to ask again, null if nothing that
-- is due has to wait; is_ample, whether the fleet cannot use the room up within a second; anyone_waits, whether an admission may
-- find something to admit.
WITH ceiling AS MATERIALIZED (
    SELECT coalesce(c.room, %(n)s::integer) AS room, c.wait_s, c.is_ample, %(are_limits)s AND draft_anyone_waits() AS anyone_waits
      FROM (SELECT) AS one
      LEFT JOIN LATERAL draft_claim_room(%(model)s, %(agents)s, %(n)s::integer) AS c ON %(model)s::text IS NOT NULL
), due AS MATERIALIZED (
    SELECT x.id FROM unnest((SELECT %(agents)s::text[]), (SELECT %(models)s::text[])) AS a(agent, model) CROSS JOIN LATERAL (
        SELECT r.id, r.priority, r.turn, r.available_at FROM draft_requests AS r
         WHERE r.status = 'pending' AND NOT r.limited AND r.agent = a.agent
           AND r.available_at <= coalesce(%(now)s::timestamptz, now()) AND r.id <> ALL (%(skip)s::uuid[])
           AND r.requester_id NOT IN (SELECT p.name FROM draft_pauses AS p WHERE p.what = 'requester')
         ORDER BY r.priority DESC, r.turn, r.available_at, r.id LIMIT (SELECT c.room FROM ceiling AS c)
         FOR NO KEY UPDATE SKIP LOCKED) AS x
     WHERE NOT EXISTS (SELECT FROM draft_pauses AS p WHERE p.what = 'all')
       AND coalesce(a.model, '') NOT IN (SELECT p.name FROM draft_pauses AS p WHERE p.what = 'model')
     ORDER BY x.priority DESC, x.turn::float8 - min(x.turn) OVER (PARTITION BY a.agent, x.priority), x.available_at, x.id
     LIMIT (SELECT c.room FROM ceiling AS c)
), claimed AS (
    UPDATE draft_requests AS r SET
        status = 'processing',
        attempt = r.attempt + 1,
        lease_token = r.lease_token + 1,
        lease_until = now() + make_interval(secs => %(lease_s)s),
        deadline_at = now() + make_interval(secs => %(attempt_s)s),
        worker_id = %(worker_id)s,
        claimed_at = now(),
        updated_at = now()
      FROM due WHERE r.id = due.id
    RETURNING r.id, r.agent, r.requester_id, r.attempt, r.lease_token, r.given_back, r.priority, r.turn, r.traceparent,
        extract(epoch FROM r.available_at)::float8 AS available_at,
        pg_column_size(r.image_urls) AS image_bytes,
        extract(epoch FROM r.expires_at)::float8 - extract(epoch FROM coalesce(%(now)s::timestamptz, now()))::float8 AS expires_in_s
)
SELECT c.wait_s, c.is_ample, c.anyone_waits, claimed.* FROM ceiling AS c LEFT JOIN claimed ON true;

-- name: claim_probe
-- Claim n rows to probe a model on hold: of the first 100 in each agent's queue, those given back least often. A row that causes
-- the hold must not be used for every probe.
--
-- Invariants: as for claim.
-- Further parameters: agents, and models, the one that each would use; n; skip, the ids of rows to skip.
WITH candidate AS MATERIALIZED (
    SELECT x.* FROM unnest(%(agents)s::text[], %(models)s::text[]) AS a(agent, model) CROSS JOIN LATERAL (
        SELECT r.id, r.priority, r.turn, r.given_back FROM draft_requests AS r
         WHERE r.status = 'pending' AND NOT r.limited AND r.agent = a.agent
           AND r.available_at <= coalesce(%(now)s::timestamptz, now()) AND r.id <> ALL (%(skip)s::uuid[])
           AND r.requester_id NOT IN (SELECT p.name FROM draft_pauses AS p WHERE p.what = 'requester')
         ORDER BY r.priority DESC, r.turn, r.available_at, r.id LIMIT 100) AS x
     WHERE NOT EXISTS (SELECT FROM draft_pauses AS p WHERE p.what = 'all')
       AND coalesce(a.model, '') NOT IN (SELECT p.name FROM draft_pauses AS p WHERE p.what = 'model')
), due AS MATERIALIZED (
    SELECT x.id FROM (SELECT * FROM candidate ORDER BY given_back, priority DESC, turn, id) AS c CROSS JOIN LATERAL (
        SELECT r.id FROM draft_requests AS r
         WHERE r.id = c.id AND r.status = 'pending' AND NOT r.limited FOR NO KEY UPDATE SKIP LOCKED) AS x
     LIMIT %(n)s
)
UPDATE draft_requests AS r SET
    status = 'processing',
    attempt = r.attempt + 1,
    lease_token = r.lease_token + 1,
    lease_until = now() + make_interval(secs => %(lease_s)s),
    deadline_at = now() + make_interval(secs => %(attempt_s)s),
    worker_id = %(worker_id)s,
    claimed_at = now(),
    updated_at = now()
  FROM due WHERE r.id = due.id
RETURNING r.id, r.agent, r.requester_id, r.attempt, r.lease_token, r.given_back, r.priority, r.turn, r.traceparent,
    extract(epoch FROM r.available_at)::float8 AS available_at,
    pg_column_size(r.image_urls) AS image_bytes,
    extract(epoch FROM r.expires_at)::float8 - extract(epoch FROM coalesce(%(now)s::timestamptz, now()))::float8 AS expires_in_s;

-- name: claim_these
-- Claim those of some rows that are still due: the candidates of a claim that was refused as a whole.
--
-- Invariants: as for claim.
-- Further parameters: ids; agents and models, as for claim.
WITH due AS MATERIALIZED (
    SELECT x.id FROM unnest(%(ids)s::uuid[]) AS i(id) CROSS JOIN LATERAL (
        SELECT r.id FROM draft_requests AS r
         WHERE r.id = i.id AND r.status = 'pending' AND NOT r.limited
           AND r.available_at <= coalesce(%(now)s::timestamptz, now())
           AND r.requester_id NOT IN (SELECT p.name FROM draft_pauses AS p WHERE p.what = 'requester')
           AND r.agent NOT IN (
                SELECT a.agent FROM unnest(%(agents)s::text[], %(models)s::text[]) AS a(agent, model)
                  JOIN draft_pauses AS p ON p.what = 'model' AND p.name = a.model)
           FOR NO KEY UPDATE SKIP LOCKED) AS x
     WHERE NOT EXISTS (SELECT FROM draft_pauses AS p WHERE p.what = 'all')
)
UPDATE draft_requests AS r SET
    status = 'processing',
    attempt = r.attempt + 1,
    lease_token = r.lease_token + 1,
    lease_until = now() + make_interval(secs => %(lease_s)s),
    deadline_at = now() + make_interval(secs => %(attempt_s)s),
    worker_id = %(worker_id)s,
    claimed_at = now(),
    updated_at = now()
  FROM due WHERE r.id = due.id
RETURNING r.id, r.agent, r.requester_id, r.attempt, r.lease_token, r.given_back, r.priority, r.turn, r.traceparent,
    extract(epoch FROM r.available_at)::float8 AS available_at,
    pg_column_size(r.image_urls) AS image_bytes,
    extract(epoch FROM r.expires_at)::float8 - extract(epoch FROM coalesce(%(now)s::timestamptz, now()))::float8 AS expires_in_s;

-- name: find_claimable
-- The rows that a claim would take; used after a refusal.
--
-- Invariants: writes nothing and locks nothing.
-- Parameters: agents and models, as for claim; n; skip, the ids of rows to skip; now, which overrides the database's time (tests).
SELECT x.id, x.lease_token FROM unnest(%(agents)s::text[], %(models)s::text[]) AS a(agent, model) CROSS JOIN LATERAL (
        SELECT r.id, r.lease_token, r.priority, r.turn, r.available_at FROM draft_requests AS r
         WHERE r.status = 'pending' AND NOT r.limited AND r.agent = a.agent
           AND r.available_at <= coalesce(%(now)s::timestamptz, now()) AND r.id <> ALL (%(skip)s::uuid[])
           AND r.requester_id NOT IN (SELECT p.name FROM draft_pauses AS p WHERE p.what = 'requester')
         ORDER BY r.priority DESC, r.turn, r.available_at, r.id LIMIT %(n)s) AS x
 WHERE NOT EXISTS (SELECT FROM draft_pauses AS p WHERE p.what = 'all')
   AND coalesce(a.model, '') NOT IN (SELECT p.name FROM draft_pauses AS p WHERE p.what = 'model')
 ORDER BY x.priority DESC, x.turn::float8 - min(x.turn) OVER (PARTITION BY a.agent, x.priority), x.available_at, x.id
 LIMIT %(n)s;

-- name: give_places_up
-- Let rows that cannot be claimed wait for a later admission, if their requester has a max_in_flight: until then others of the
-- requester have their places.
--
-- Invariants: waits for no lock; matches id and lease_token.
-- Parameters: ids and tokens; delays_s, how long each of them is left alone.
UPDATE draft_requests AS r SET
    limited = true, available_at = greatest(r.available_at, now() + make_interval(secs => given_up.delay_s))
  FROM (SELECT x.id, g.delay_s FROM unnest(%(ids)s::uuid[], %(tokens)s::bigint[], %(delays_s)s::float8[]) AS g(id, token, delay_s)
          JOIN draft_requests AS x ON x.id = g.id
         WHERE x.lease_token = g.token AND x.status = 'pending' AND NOT x.limited
           AND EXISTS (SELECT FROM draft_limits AS l
                        WHERE l.requester_id IN (x.requester_id, '*') AND l.max_in_flight IS NOT NULL)
         ORDER BY x.id FOR NO KEY UPDATE OF x SKIP LOCKED) AS given_up
 WHERE r.id = given_up.id AND r.status = 'pending'
RETURNING r.id;

-- name: release_strays
-- Give back, without counting the attempt, the rows claimed by a worker that it does not hold: a claim whose connection was lost
-- may have taken them.
--
-- Invariants: only rows of this worker, with a token that it does not hold; skips locked rows; locks in the order of ids.
-- Parameters: worker_id; ids and tokens, the leases that it holds; only, which restricts the rows to these ids, or null.
WITH stray AS MATERIALIZED (
    SELECT r.id FROM draft_requests AS r
     WHERE r.status = 'processing' AND r.worker_id = %(worker_id)s
       AND NOT EXISTS (SELECT FROM unnest(%(ids)s::uuid[], %(tokens)s::bigint[]) AS h(id, lease_token)
                        WHERE h.id = r.id AND h.lease_token = r.lease_token)
       AND (%(only)s::uuid[] IS NULL OR r.id = ANY (%(only)s))
     ORDER BY r.id FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE draft_requests AS r SET status = 'pending', attempt = r.attempt - 1
  FROM stray WHERE r.id = stray.id AND r.status = 'processing' AND r.worker_id = %(worker_id)s
RETURNING r.id;

-- name: find_strays
-- The rows that release_strays would give back; used after a refusal.
--
-- Invariants: writes nothing and locks nothing.
-- Parameters: worker_id; ids and tokens, the leases that it holds.
SELECT r.id, r.lease_token FROM draft_requests AS r
 WHERE r.status = 'processing' AND r.worker_id = %(worker_id)s
   AND NOT EXISTS (SELECT FROM unnest(%(ids)s::uuid[], %(tokens)s::bigint[]) AS h(id, lease_token)
                    WHERE h.id = r.id AND h.lease_token = r.lease_token);
