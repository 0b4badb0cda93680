-- The claim's statements. Three of them end in the same UPDATE, which each spells out. It counts the attempt and takes a new token;
-- it returns no image_urls (16 rows of 7 MB cost 650 ms and 200 MB).
--
-- available_at comes back as a number, which is read in a tenth of the time. expires_in_s subtracts numbers: an operator may have
-- written infinity, from which no timestamp can be subtracted before PostgreSQL 17.
--
-- Parameters of the three: lease_s, attempt_s, worker_id; now, the time if not the database's (tests).

-- name: claim
-- Claim up to n due rows of some agents, highest priority first, then by turn.
--
-- Invariants: each agent's line is read in exactly the order of draft_requests_claim_idx, so that its LIMIT is an index scan; no
-- status but 'pending'; locked rows are passed over. MATERIALIZED, because the planner may run a plain subquery again and claim
-- more than n. Each agent's line counts its own turns, so agents are compared by the distance from the front of their lines; as
-- floats, because the difference of two turns may not fit into a bigint. The agents are in a subquery, because the planner would
-- count those of a bare parameter, find that a plan for so few is cheaper, and make a new plan for each claim (0.4 of 0.9 ms).
--
-- Parameters, too: agents; n; skip, rows to pass over.
WITH due AS MATERIALIZED (
    SELECT x.id FROM unnest((SELECT %(agents)s::text[])) AS a(agent) CROSS JOIN LATERAL (
        SELECT r.id, r.priority, r.turn, r.available_at FROM draft_requests AS r
         WHERE r.status = 'pending' AND r.agent = a.agent AND r.available_at <= coalesce(%(now)s::timestamptz, now())
           AND r.id <> ALL (%(skip)s::uuid[])
         ORDER BY r.priority DESC, r.turn, r.available_at, r.id LIMIT %(n)s FOR NO KEY UPDATE SKIP LOCKED) AS x
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

-- name: claim_probe
-- Claim n rows to probe a held model: of the first 100 in each agent's line, those that were given back least often. A row that is
-- itself the reason must not be every probe.
--
-- Invariants: as those of claim.
-- Parameters, too: agents; n; skip, rows to pass over.
WITH candidate AS MATERIALIZED (
    SELECT x.* FROM unnest(%(agents)s::text[]) AS a(agent) CROSS JOIN LATERAL (
        SELECT r.id, r.priority, r.turn, r.given_back FROM draft_requests AS r
         WHERE r.status = 'pending' AND r.agent = a.agent AND r.available_at <= coalesce(%(now)s::timestamptz, now())
           AND r.id <> ALL (%(skip)s::uuid[])
         ORDER BY r.priority DESC, r.turn, r.available_at, r.id LIMIT 100) AS x
), due AS MATERIALIZED (
    SELECT x.id FROM (SELECT * FROM candidate ORDER BY given_back, priority DESC, turn, id) AS c CROSS JOIN LATERAL (
        SELECT r.id FROM draft_requests AS r
         WHERE r.id = c.id AND r.status = 'pending' FOR NO KEY UPDATE SKIP LOCKED) AS x
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
-- Claim some rows, as far as they are still due: the candidates of a claim that was refused as a whole.
--
-- Invariants: as those of claim.
-- Parameters, too: ids.
WITH due AS MATERIALIZED (
    SELECT x.id FROM unnest(%(ids)s::uuid[]) AS i(id) CROSS JOIN LATERAL (
        SELECT r.id FROM draft_requests AS r
         WHERE r.id = i.id AND r.status = 'pending' AND r.available_at <= coalesce(%(now)s::timestamptz, now())
           FOR NO KEY UPDATE SKIP LOCKED) AS x
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
-- The rows that a claim would take, after one that was refused.
--
-- Invariants: writes nothing and locks nothing.
-- Parameters: agents; n; skip, rows to pass over; now, the time if not the database's.
SELECT x.id, x.lease_token FROM unnest(%(agents)s::text[]) AS a(agent) CROSS JOIN LATERAL (
        SELECT r.id, r.lease_token, r.priority, r.turn, r.available_at FROM draft_requests AS r
         WHERE r.status = 'pending' AND r.agent = a.agent AND r.available_at <= coalesce(%(now)s::timestamptz, now())
           AND r.id <> ALL (%(skip)s::uuid[])
         ORDER BY r.priority DESC, r.turn, r.available_at, r.id LIMIT %(n)s) AS x
 ORDER BY x.priority DESC, x.turn::float8 - min(x.turn) OVER (PARTITION BY a.agent, x.priority), x.available_at, x.id
 LIMIT %(n)s;

-- name: release_strays
-- Give back, attempt included, what is claimed in a worker's name but not held there: a claim whose connection was lost may have
-- taken it.
--
-- Invariants: only rows of this worker, with a token that it does not hold; locked rows are passed over; locks in the order of ids.
-- Parameters: worker_id; ids and tokens, what it holds; only, the rows to look at, null for all.
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
-- The rows that release_strays would give back, after it was refused.
--
-- Invariants: writes nothing and locks nothing.
-- Parameters: worker_id; ids and tokens, what it holds.
SELECT r.id, r.lease_token FROM draft_requests AS r
 WHERE r.status = 'processing' AND r.worker_id = %(worker_id)s
   AND NOT EXISTS (SELECT FROM unnest(%(ids)s::uuid[], %(tokens)s::bigint[]) AS h(id, lease_token)
                    WHERE h.id = r.id AND h.lease_token = r.lease_token);
