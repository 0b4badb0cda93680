-- name: find_cancellable
-- The unfinished requests that match, for a dry run of cancel.
--
-- Invariants: locks nothing.
-- Parameters, null for any: id, code, requester_id, since_s (how long ago a request was made at most), only; after, the last id of
-- the batch before; batch.
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
-- Cancel a batch of the unfinished requests that match.
--
-- Invariants: locks in the order of ids, and waits for rows that others have locked: an operator's word counts.
-- Parameters: as those of find_cancellable.
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
-- The failed and cancelled requests that match, for a dry run of retry.
--
-- Invariants: locks nothing.
-- Parameters: as those of find_cancellable, but since_s counts from the end of a request.
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
-- Make a batch of the failed and cancelled requests that match pending again, from attempt 0. One that has expired gets the default
-- expiry anew (a trigger fills it in).
--
-- Invariants: as those of cancel.
-- Parameters: as those of find_retryable.
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
-- How many requests there are by status, how many were inserted and ended lately, and the age of the oldest due one.
--
-- Invariants: no value of available_at fails it: the age stays within a hundred years. It is a difference of epochs, because
-- PostgreSQL 16 and older cannot subtract an infinite timestamp.
-- Parameters: final, the final statuses; window_s, what lately means.
SELECT coalesce(jsonb_object_agg(status, n), '{}') AS requests,
       coalesce(jsonb_object_agg(status, ended_lately) FILTER (WHERE status = ANY (%(final)s)), '{}') AS ended,
       coalesce(sum(inserted_lately), 0)::int AS inserted,
       CASE WHEN min(oldest_pending) IS NOT NULL
            THEN least(3153600000, extract(epoch FROM now()) - extract(epoch FROM min(oldest_pending)))::float8
            END AS oldest_pending_s
  FROM (SELECT status, count(*) AS n,
               count(*) FILTER (WHERE finished_at > now() - make_interval(secs => %(window_s)s)) AS ended_lately,
               count(*) FILTER (WHERE created_at > now() - make_interval(secs => %(window_s)s)) AS inserted_lately,
               min(available_at) FILTER (WHERE status = 'pending' AND available_at <= now()) AS oldest_pending
          FROM draft_requests GROUP BY status) AS by_status;

-- name: list_workers
-- The daemons that did not stop on purpose, the living first.
--
-- Alive is who beat within three of its own intervals and 50 s: for a beat in flight, a failover, and a heartbeat that has to
-- connect again. The state does not tell: a killed process leaves running behind. A beat_s is at most 28,800 s, a third of the
-- longest lease that can be set; a heartbeat further ahead than a minute was written by no daemon.
SELECT id, hostname, pid, version, state, in_flight, concurrency, started_at,
       greatest(0, least(beat_s, 28800)) AS beat_s,
       greatest(-3153600000, least(3153600000,
           extract(epoch FROM now()) - extract(epoch FROM heartbeat_at)))::float8 AS heartbeat_age_s,
       w.heartbeat_at BETWEEN now() - make_interval(secs => 3 * greatest(0, least(w.beat_s, 28800)) + 50)
                          AND now() + interval '1 min' AS alive
  FROM draft_workers AS w WHERE state <> 'stopped' ORDER BY alive DESC, hostname, started_at;

-- name: is_unserved
-- Whether no living daemon has a prompt for an agent. Row security shows a stranger no worker at all, which says nothing about
-- them.
--
-- Parameters: agent.
SELECT NOT row_security_active('draft_workers') AND NOT EXISTS (
    SELECT FROM draft_workers AS w
     WHERE w.state = 'running' AND %(agent)s = ANY (w.agents)
       AND w.heartbeat_at BETWEEN now() - make_interval(secs => 3 * greatest(0, least(w.beat_s, 28800)) + 50)
                              AND now() + interval '1 min') AS is_unserved;

-- name: count_without_pictures
-- How many of some requests have lost pictures that came inside the row.
--
-- Parameters: ids.
SELECT count(*) AS n FROM draft_requests
 WHERE id = ANY (%(ids)s) AND EXISTS (SELECT FROM unnest(image_urls) AS u WHERE u LIKE 'sha256:%%');
