-- name: find_cancellable
-- The matching unfinished requests, for a dry run of cancel.
--
-- Invariants: locks nothing.
-- Parameters, null for any: id, code, requester_id, since_s (the maximum age of a request), only; after, the last id of the
-- previous batch; batch, the maximum number of rows.
SELECT r.id, r.status FROM draft_requests AS r
 WHERE r.status IN ('pending', 'processing')
   AND (%(id)s::uuid IS NULL OR r.id = %(id)s)
   AND (%(after)s::uuid IS NULL OR r.id > %(after)s)
   AND (%(only)s::uuid[] IS NULL OR r.id = ANY (%(only)s))
   AND (%(code)s::text IS NULL OR r.error_code = %(code)s)
   AND (%(requester_id)s::text IS NULL OR r.requester_id = %(requester_id)s)
   AND (%(since_s)s::float8 IS NULL OR r.created_at >= now() - make_interval(secs => %(since_s)s))
 ORDER BY r.id LIMIT %(batch)s;

-- name: cancel
-- Cancel a batch of the matching unfinished requests.
--
-- Invariants: locks in the order of ids, and waits for locked rows: an operator's command must not skip any.
-- Parameters: as for find_cancellable.
WITH chosen AS MATERIALIZED (
    SELECT r.id FROM draft_requests AS r
     WHERE r.status IN ('pending', 'processing')
       AND (%(id)s::uuid IS NULL OR r.id = %(id)s)
       AND (%(after)s::uuid IS NULL OR r.id > %(after)s)
       AND (%(only)s::uuid[] IS NULL OR r.id = ANY (%(only)s))
       AND (%(code)s::text IS NULL OR r.error_code = %(code)s)
       AND (%(requester_id)s::text IS NULL OR r.requester_id = %(requester_id)s)
       AND (%(since_s)s::float8 IS NULL OR r.created_at >= now() - make_interval(secs => %(since_s)s))
     ORDER BY r.id LIMIT %(batch)s FOR NO KEY UPDATE
)
UPDATE draft_requests AS r SET status = 'cancelled' FROM chosen WHERE r.id = chosen.id RETURNING r.id, r.status;

-- name: find_retryable
-- The matching failed and cancelled requests, for a dry run of retry.
--
-- Invariants: locks nothing.
-- Parameters: as for find_cancellable, but since_s counts from the end of a request.
SELECT r.id, r.status FROM draft_requests AS r
 WHERE r.status IN ('failed', 'cancelled')
   AND (%(id)s::uuid IS NULL OR r.id = %(id)s)
   AND (%(after)s::uuid IS NULL OR r.id > %(after)s)
   AND (%(only)s::uuid[] IS NULL OR r.id = ANY (%(only)s))
   AND (%(code)s::text IS NULL OR r.error_code = %(code)s)
   AND (%(requester_id)s::text IS NULL OR r.requester_id = %(requester_id)s)
   AND (%(since_s)s::float8 IS NULL OR r.finished_at >= now() - make_interval(secs => %(since_s)s))
 ORDER BY r.id LIMIT %(batch)s;

-- name: retry
-- Return a batch of the matching failed and cancelled requests to pending, at attempt 0. An expired one gets the default expiry
-- anew (from a trigger).
--
-- Invariants: as for cancel.
-- Parameters: as for find_retryable.
WITH chosen AS MATERIALIZED (
    SELECT r.id FROM draft_requests AS r
     WHERE r.status IN ('failed', 'cancelled')
       AND (%(id)s::uuid IS NULL OR r.id = %(id)s)
       AND (%(after)s::uuid IS NULL OR r.id > %(after)s)
       AND (%(only)s::uuid[] IS NULL OR r.id = ANY (%(only)s))
       AND (%(code)s::text IS NULL OR r.error_code = %(code)s)
       AND (%(requester_id)s::text IS NULL OR r.requester_id = %(requester_id)s)
       AND (%(since_s)s::float8 IS NULL OR r.finished_at >= now() - make_interval(secs => %(since_s)s))
     ORDER BY r.id LIMIT %(batch)s FOR NO KEY UPDATE
)
UPDATE draft_requests AS r SET
    status = 'pending',
    attempt = 0,
    given_back = 0,
    available_at = now(),
    expires_at = CASE WHEN r.expires_at <= now() THEN NULL ELSE r.expires_at END,
    error_code = NULL,
    error_message = NULL,
    error_details = NULL
  FROM chosen WHERE r.id = chosen.id RETURNING r.id, r.status;

-- name: count_requests
-- The number of requests by status, of those inserted and ended recently, and the age of the oldest due one.
--
-- Invariants: no value of available_at makes it fail: the age is limited to a hundred years. It is a difference of epochs,
-- because PostgreSQL 16 and older cannot subtract infinite timestamps.
-- Parameters: final, the final statuses; window_s, how long ago counts as recently.
SELECT coalesce(jsonb_object_agg(status, n), '{}') AS requests,
       coalesce(jsonb_object_agg(status, ended_lately) FILTER (WHERE status = ANY (%(final)s)), '{}') AS ended,
       coalesce(sum(inserted_lately), 0)::int AS inserted,
       CASE WHEN min(oldest_pending) IS NOT NULL
            THEN least(3153600000, extract(epoch FROM now()) - extract(epoch FROM min(oldest_pending)))::float8
            END AS oldest_pending_s
  FROM (SELECT status, count(*) AS n,
               count(*) FILTER (WHERE finished_at > now() - make_interval(secs => %(window_s)s)) AS ended_lately,
               count(*) FILTER (WHERE created_at > now() - make_interval(secs => %(window_s)s)) AS inserted_lately,
               min(available_at) FILTER (WHERE status = 'pending' AND NOT limited AND available_at <= now()) AS oldest_pending
          FROM draft_requests GROUP BY status) AS by_status;

-- name: count_pending
-- The claimable rows of each agent, and what can be done for it ('unknown' if no daemon has said anything of it).
--
-- Returns: agent; due and later, the numbers of rows; next_at, when the next one becomes due; state, is_served, model, code and
-- until, as draft_agent_states has them.
SELECT r.agent, r.due, r.later, r.next_at, coalesce(s.state, 'unknown') AS state, coalesce(s.is_served, false) AS is_served,
       s.model, s.code, s.until
  FROM (SELECT x.agent, count(*) FILTER (WHERE x.available_at <= now()) AS due,
               count(*) FILTER (WHERE x.available_at > now()) AS later,
               min(x.available_at) FILTER (WHERE x.available_at > now()) AS next_at
          FROM draft_requests AS x WHERE x.status = 'pending' AND NOT x.limited GROUP BY x.agent) AS r
       LEFT JOIN draft_agent_states() AS s ON s.agent = r.agent
 ORDER BY r.due DESC, r.agent;

-- name: count_limited
-- The requesters with the most rows that wait for their admission: how many rows, and until when the requester is blocked (by a
-- pause, for one; infinity until somebody ends it), null if only its other requests are in the way.
SELECT r.requester_id, r.n, draft_requester_blocked_until(r.requester_id) AS blocked_until
  FROM (SELECT x.requester_id, count(*) AS n FROM draft_requests AS x
         WHERE x.status = 'pending' AND x.limited GROUP BY x.requester_id ORDER BY n DESC LIMIT 20) AS r
 ORDER BY r.n DESC, r.requester_id;

-- name: list_workers
-- The daemons that were not shut down, live ones first.
--
-- A daemon is alive if it beat within three of its own intervals plus 50 s, which allows for a beat in flight, a failover and a
-- reconnecting heartbeat. The state does not tell: a killed process leaves 'running' behind. beat_s is at most 28,800 s, a third
-- of the longest lease that can be set. A heartbeat more than a minute in the future was not written by a daemon.
SELECT id, hostname, pid, version, state, in_flight, concurrency, started_at,
       greatest(0, least(beat_s, 28800)) AS beat_s,
       greatest(-3153600000, least(3153600000,
           extract(epoch FROM now()) - extract(epoch FROM heartbeat_at)))::float8 AS heartbeat_age_s,
       w.heartbeat_at BETWEEN now() - make_interval(secs => 3 * greatest(0, least(w.beat_s, 28800)) + 50)
                          AND now() + interval '1 min' AS alive
  FROM draft_workers AS w WHERE state <> 'stopped' ORDER BY alive DESC, hostname, started_at;

-- name: is_unserved
-- Whether no live daemon has a prompt for an agent. False under row security, which may hide every worker.
--
-- Parameters: agent.
SELECT NOT row_security_active('draft_workers') AND NOT EXISTS (
    SELECT FROM draft_workers AS w
     WHERE w.state = 'running' AND %(agent)s = ANY (w.agents)
       AND w.heartbeat_at BETWEEN now() - make_interval(secs => 3 * greatest(0, least(w.beat_s, 28800)) + 50)
                              AND now() + interval '1 min') AS is_unserved;

-- name: count_without_pictures
-- How many of some requests had data: pictures that were deleted when they ended.
--
-- Parameters: ids.
SELECT count(*) AS n FROM draft_requests
 WHERE id = ANY (%(ids)s) AND EXISTS (SELECT FROM unnest(image_urls) AS u WHERE u LIKE 'sha256:%%');

-- name: chain
-- The requests that a request refines, the first of them first, without the request itself.
--
-- Invariants: bounded as read_request bounds a chain; never another requester's.
-- Parameters: id.
WITH RECURSIVE ancestors AS (
    SELECT p.id, p.parent_id, p.requester_id, p.status, p.context, p.options, p.created_at, 1 AS depth
      FROM draft_requests AS r JOIN draft_requests AS p ON p.id = r.parent_id AND p.requester_id = r.requester_id
     WHERE r.id = %(id)s
    UNION ALL
    SELECT p.id, p.parent_id, p.requester_id, p.status, p.context, p.options, p.created_at, a.depth + 1
      FROM ancestors AS a JOIN draft_requests AS p ON p.id = a.parent_id AND p.requester_id = a.requester_id
     WHERE a.depth < 20)
SELECT id, status, context, options, created_at FROM ancestors ORDER BY depth DESC;
