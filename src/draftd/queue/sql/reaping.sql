-- The reaper's statements. Three of them select rows by the same rules, each spelled out:
--
-- lost      processing, and its lease or its deadline has passed; or both are further in the future than any worker sets them (or
--           null), so that they would never pass.
-- overdue   pending, and past its expires_at.
-- orphaned  pending and due for 5 s, for an agent for which no daemon of the last day had a prompt. Counting only the daemons
--           that run right now would fail an agent's requests while its daemons are upgraded or restarted.
--
-- A lost row is taken only if its worker could have renewed (may_take):
-- * This session has been up for one lease. A session survives no crash, recovery, failover or lost network. The age of the
--   server's first process proves nothing about these, and other sessions may have lost their clients.
-- * The passes have followed each other steadily for one lease: sessions survive a stalled server (see StallDetector).
--
-- Common parameters:
--   lease_s       how long a lease lasts
--   older_than_s  how long ago a lease or a deadline must have passed
--   gap_s, last_at, steady_since   the caller's StallDetector
--   now           overrides the database's time (tests)
--   skip          the ids of rows to skip
--
-- max(attempt_s) is limited to 0 to 86,400 s, the longest attempt that can be set: the column may be NaN. A null counts as the
-- longest. The 5 s are slack: the reaper's now() may be a little behind that of a claim.

-- name: reap
-- One pass: take back lost rows, fail overdue and orphaned ones, at most 500 of each kind, and delete dead workers.
--
-- Invariants: changes a row only in the status in which it was selected and locked; skips locked rows; locks in the order of ids
-- where another statement may lock several of the same rows.
--
-- The first time a row is lost, it goes back without delay: most crashes are not the request's fault. A request that kills every
-- worker waits longer each time, and fails at max_attempts.
--
-- 500 is not a parameter, because the statement is planned once, and a plan for an unknown limit is worse. The recursion hops
-- from agent to agent through the claim's index. A worker is deleted a day after its last beat, or after three missed beats if
-- longer.
--
-- Further parameters: details and told, error_details and error_message by error code.
-- Returns a row for each request, and a last one with only the time.
WITH RECURSIVE pass AS MATERIALIZED (
    SELECT p.now,
           p.now - make_interval(secs => %(older_than_s)s) AS lapsed,
           p.now + make_interval(secs => (SELECT coalesce(max(greatest(0, least(w.attempt_s, 86400))), 86400) + 5.0
                                            FROM draft_workers AS w)) AS furthest,
           (SELECT now() - a.backend_start FROM pg_stat_get_activity(pg_backend_pid()) AS a)
               >= make_interval(secs => %(lease_s)s)
           AND coalesce(now() - %(last_at)s::timestamptz <= make_interval(secs => %(gap_s)s), true)
           AND coalesce(now() - %(steady_since)s::timestamptz >= make_interval(secs => %(lease_s)s), true) AS may_take
      FROM (SELECT coalesce(%(now)s::timestamptz, now()) AS now) AS p
), lost AS MATERIALIZED (
    SELECT r.id, 'processing' AS was, 'worker_lost' AS code,
           CASE WHEN coalesce(least(r.lease_until, r.deadline_at), 'infinity') > now()
                THEN 'neither its lease nor its deadline was one that a worker sets'
                WHEN r.deadline_at <= r.lease_until THEN 'the attempt passed its deadline'
                ELSE 'the worker died or lost its lease' END AS message
      FROM draft_requests AS r, pass
     WHERE r.status = 'processing' AND pass.may_take
       AND (coalesce(least(r.lease_until, r.deadline_at), 'infinity') <= pass.lapsed
            OR coalesce(least(r.lease_until, r.deadline_at), 'infinity') > pass.furthest)
       AND r.id <> ALL (%(skip)s::uuid[])
     ORDER BY r.id LIMIT 500 FOR NO KEY UPDATE OF r SKIP LOCKED
), overdue AS MATERIALIZED (
    SELECT r.id, 'pending' AS was, 'expired' AS code, 'not drafted before it expired' AS message
      FROM draft_requests AS r, pass
     WHERE r.status = 'pending' AND r.expires_at IS NOT NULL AND r.expires_at <= pass.now
       AND r.id <> ALL (%(skip)s::uuid[])
     LIMIT 500 FOR NO KEY UPDATE OF r SKIP LOCKED
), served AS MATERIALIZED (
    SELECT array_agg(DISTINCT agent) AS agents FROM draft_workers AS w, unnest(w.agents) AS agent
     WHERE agent IS NOT NULL
), asked AS (
    (SELECT r.agent FROM draft_requests AS r WHERE r.status = 'pending' AND NOT r.limited ORDER BY r.agent LIMIT 1)
    UNION ALL
    SELECT (SELECT r.agent FROM draft_requests AS r
             WHERE r.status = 'pending' AND NOT r.limited AND r.agent > asked.agent ORDER BY r.agent LIMIT 1)
      FROM asked WHERE asked.agent IS NOT NULL
), unserved AS MATERIALIZED (
    SELECT asked.agent FROM asked, served WHERE asked.agent <> ALL (served.agents)
), orphaned AS MATERIALIZED (
    SELECT x.id, 'pending' AS was, 'invalid_request' AS code, x.message
      FROM unserved CROSS JOIN pass CROSS JOIN LATERAL (
        SELECT r.id, 'no daemon has a prompt for the agent ' || quote_literal(left(r.agent, 100)) AS message
          FROM draft_requests AS r
         WHERE r.status = 'pending' AND NOT r.limited AND r.agent = unserved.agent
           AND r.available_at <= pass.now - interval '5 s'
           AND r.id <> ALL (%(skip)s::uuid[])
         LIMIT 500 FOR NO KEY UPDATE OF r SKIP LOCKED) AS x
), chosen AS MATERIALIZED (
    SELECT * FROM lost
    UNION ALL
    SELECT * FROM overdue
    UNION ALL
    SELECT * FROM orphaned WHERE orphaned.id NOT IN (SELECT id FROM overdue)
), reaped AS (
    UPDATE draft_requests AS r SET
        status = CASE WHEN c.was = 'pending' OR r.attempt >= r.max_attempts THEN 'failed' ELSE 'pending' END,
        available_at = CASE WHEN c.code = 'worker_lost' AND r.errors @> '[{"code": "worker_lost"}]'
                            THEN now() + make_interval(secs => random() * least(300, 2 * 2 ^ greatest(0, least(r.attempt, 10))))
                            ELSE r.available_at END,
        error_code = c.code,
        error_message = %(told)s::jsonb ->> c.code,
        error_details = %(details)s::jsonb -> c.code,
        errors = CASE WHEN jsonb_typeof(r.errors) <> 'array' THEN '[]'
                      WHEN jsonb_array_length(r.errors) >= 20 THEN r.errors - 0
                      ELSE r.errors END
                 || jsonb_build_object(
                    'attempt', r.attempt, 'at', now(), 'code', c.code, 'message', c.message, 'model', r.model),
        updated_at = now()
      FROM chosen AS c
     WHERE r.id = c.id AND r.status = c.was
       -- By key, whatever the planner expects: it may plan this for an empty table.
       AND r.id = ANY (ARRAY (SELECT id FROM chosen))
    RETURNING c.code, r.id, r.status, CASE WHEN c.was = 'processing' THEN r.worker_id END AS worker_id
), forgotten AS (
    DELETE FROM draft_workers AS w
     WHERE w.heartbeat_at NOT BETWEEN now() - interval '1 day' AND now() + interval '1 min'
       AND w.heartbeat_at NOT BETWEEN now() - make_interval(secs => 3 * greatest(0, least(w.beat_s, 28800)) + 50)
                                  AND now() + interval '1 min'
)
SELECT code, id, status, worker_id, now() AS at FROM reaped
UNION ALL
SELECT NULL, NULL, NULL, NULL, now();

-- name: reap_these
-- Take back or fail those of some rows that are still lost, overdue or orphaned: ever smaller parts of a pass that was refused as
-- a whole. A refused statement is planned anew each time, and planning a whole pass takes longer than all the rest.
--
-- Invariants: as for reap.
-- Further parameters: ids, the rows; details and told, error_details and error_message by error code.
WITH pass AS MATERIALIZED (
    SELECT p.now,
           p.now - make_interval(secs => %(older_than_s)s) AS lapsed,
           p.now + make_interval(secs => (SELECT coalesce(max(greatest(0, least(w.attempt_s, 86400))), 86400) + 5.0
                                            FROM draft_workers AS w)) AS furthest,
           (SELECT now() - a.backend_start FROM pg_stat_get_activity(pg_backend_pid()) AS a)
               >= make_interval(secs => %(lease_s)s)
           AND coalesce(now() - %(last_at)s::timestamptz <= make_interval(secs => %(gap_s)s), true)
           AND coalesce(now() - %(steady_since)s::timestamptz >= make_interval(secs => %(lease_s)s), true) AS may_take
      FROM (SELECT coalesce(%(now)s::timestamptz, now()) AS now) AS p
), served AS MATERIALIZED (
    SELECT array_agg(DISTINCT agent) AS agents FROM draft_workers AS w, unnest(w.agents) AS agent
     WHERE agent IS NOT NULL
), chosen AS MATERIALIZED (
    SELECT r.id, r.status AS was,
           CASE WHEN r.status = 'processing' THEN 'worker_lost'
                WHEN r.expires_at <= pass.now THEN 'expired'
                ELSE 'invalid_request' END AS code,
           CASE WHEN r.status = 'pending' AND r.expires_at <= pass.now THEN 'not drafted before it expired'
                WHEN r.status = 'pending' THEN 'no daemon has a prompt for the agent ' || quote_literal(left(r.agent, 100))
                WHEN coalesce(least(r.lease_until, r.deadline_at), 'infinity') > now()
                THEN 'neither its lease nor its deadline was one that a worker sets'
                WHEN r.deadline_at <= r.lease_until THEN 'the attempt passed its deadline'
                ELSE 'the worker died or lost its lease' END AS message
      FROM draft_requests AS r, pass, served
     WHERE r.id = ANY (%(ids)s::uuid[]) AND r.id <> ALL (%(skip)s::uuid[])
       AND (r.status = 'processing' AND pass.may_take
               AND (coalesce(least(r.lease_until, r.deadline_at), 'infinity') <= pass.lapsed
                    OR coalesce(least(r.lease_until, r.deadline_at), 'infinity') > pass.furthest)
            OR r.status = 'pending' AND r.expires_at IS NOT NULL AND r.expires_at <= pass.now
            OR r.status = 'pending' AND NOT r.limited AND r.available_at <= pass.now - interval '5 s'
               AND r.agent <> ALL (served.agents))
     ORDER BY r.id FOR NO KEY UPDATE OF r SKIP LOCKED
)
UPDATE draft_requests AS r SET
    status = CASE WHEN c.was = 'pending' OR r.attempt >= r.max_attempts THEN 'failed' ELSE 'pending' END,
    available_at = CASE WHEN c.code = 'worker_lost' AND r.errors @> '[{"code": "worker_lost"}]'
                        THEN now() + make_interval(secs => random() * least(300, 2 * 2 ^ greatest(0, least(r.attempt, 10))))
                        ELSE r.available_at END,
    error_code = c.code,
    error_message = %(told)s::jsonb ->> c.code,
    error_details = %(details)s::jsonb -> c.code,
    errors = CASE WHEN jsonb_typeof(r.errors) <> 'array' THEN '[]'
                  WHEN jsonb_array_length(r.errors) >= 20 THEN r.errors - 0
                  ELSE r.errors END
             || jsonb_build_object(
                'attempt', r.attempt, 'at', now(), 'code', c.code, 'message', c.message, 'model', r.model),
    updated_at = now()
  FROM chosen AS c
 WHERE r.id = c.id AND r.status = c.was
   -- By key, whatever the planner expects: it may plan this for an empty table.
   AND r.id = ANY (ARRAY (SELECT id FROM chosen))
RETURNING c.code, r.id, r.status, CASE WHEN c.was = 'processing' THEN r.worker_id END AS worker_id;

-- name: find_reapable
-- The rows that a pass would take, and their new statuses: for a dry run, and after a refused pass.
--
-- Invariants: writes nothing and locks nothing, so it works on a read-only server, and sees locked rows.
-- Further parameters: limit, the maximum number of rows of each kind; null for all.
WITH RECURSIVE pass AS MATERIALIZED (
    SELECT p.now,
           p.now - make_interval(secs => %(older_than_s)s) AS lapsed,
           p.now + make_interval(secs => (SELECT coalesce(max(greatest(0, least(w.attempt_s, 86400))), 86400) + 5.0
                                            FROM draft_workers AS w)) AS furthest,
           (SELECT now() - a.backend_start FROM pg_stat_get_activity(pg_backend_pid()) AS a)
               >= make_interval(secs => %(lease_s)s)
           AND coalesce(now() - %(last_at)s::timestamptz <= make_interval(secs => %(gap_s)s), true)
           AND coalesce(now() - %(steady_since)s::timestamptz >= make_interval(secs => %(lease_s)s), true) AS may_take
      FROM (SELECT coalesce(%(now)s::timestamptz, now()) AS now) AS p
), lost AS MATERIALIZED (
    SELECT r.id, r.lease_token, r.status AS was, 'worker_lost' AS code,
           CASE WHEN r.attempt >= r.max_attempts THEN 'failed' ELSE 'pending' END AS status, r.worker_id
      FROM draft_requests AS r, pass
     WHERE r.status = 'processing' AND pass.may_take
       AND (coalesce(least(r.lease_until, r.deadline_at), 'infinity') <= pass.lapsed
            OR coalesce(least(r.lease_until, r.deadline_at), 'infinity') > pass.furthest)
       AND r.id <> ALL (%(skip)s::uuid[])
     LIMIT %(limit)s
), overdue AS MATERIALIZED (
    SELECT r.id, r.lease_token, r.status AS was, 'expired' AS code, 'failed' AS status, NULL::uuid AS worker_id
      FROM draft_requests AS r, pass
     WHERE r.status = 'pending' AND r.expires_at IS NOT NULL AND r.expires_at <= pass.now
       AND r.id <> ALL (%(skip)s::uuid[])
     LIMIT %(limit)s
), served AS MATERIALIZED (
    SELECT array_agg(DISTINCT agent) AS agents FROM draft_workers AS w, unnest(w.agents) AS agent
     WHERE agent IS NOT NULL
), asked AS (
    (SELECT r.agent FROM draft_requests AS r WHERE r.status = 'pending' AND NOT r.limited ORDER BY r.agent LIMIT 1)
    UNION ALL
    SELECT (SELECT r.agent FROM draft_requests AS r
             WHERE r.status = 'pending' AND NOT r.limited AND r.agent > asked.agent ORDER BY r.agent LIMIT 1)
      FROM asked WHERE asked.agent IS NOT NULL
), unserved AS MATERIALIZED (
    SELECT asked.agent FROM asked, served WHERE asked.agent <> ALL (served.agents)
), orphaned AS MATERIALIZED (
    SELECT x.id, x.lease_token, x.was, 'invalid_request' AS code, 'failed' AS status, NULL::uuid AS worker_id
      FROM unserved CROSS JOIN pass CROSS JOIN LATERAL (
        SELECT r.id, r.lease_token, r.status AS was FROM draft_requests AS r
         WHERE r.status = 'pending' AND NOT r.limited AND r.agent = unserved.agent
           AND r.available_at <= pass.now - interval '5 s'
           AND r.id <> ALL (%(skip)s::uuid[])
         LIMIT %(limit)s) AS x
)
SELECT *, now() AS at FROM lost
UNION ALL
SELECT *, now() FROM overdue
UNION ALL
SELECT *, now() FROM orphaned WHERE orphaned.id NOT IN (SELECT id FROM overdue);

-- name: end_reapable
-- Fail a reapable row of which the server refuses the reaper's change; writes as few columns as possible.
--
-- Invariants: waits for no lock; matches id and lease_token; fails no row that has been renewed since.
-- Parameters: id, lease_token, code, message, details, older_than_s.
UPDATE draft_requests AS r SET
    status = 'failed', error_code = %(code)s, error_message = %(message)s, error_details = %(details)s
 WHERE r.id = (SELECT x.id FROM draft_requests AS x
                WHERE x.id = %(id)s AND x.lease_token = %(lease_token)s
                  AND (x.status = 'pending'
                       OR x.status = 'processing'
                          AND (coalesce(least(x.lease_until, x.deadline_at), 'infinity')
                                   <= now() - make_interval(secs => %(older_than_s)s)
                               OR coalesce(least(x.lease_until, x.deadline_at), 'infinity')
                                   > now() + make_interval(secs => (
                                        SELECT coalesce(max(greatest(0, least(w.attempt_s, 86400))), 86400) + 5.0
                                          FROM draft_workers AS w))))
                  FOR NO KEY UPDATE SKIP LOCKED)
   AND r.status IN ('pending', 'processing')
RETURNING r.id;

-- name: may_take_in
-- In how many seconds this session will have been up for one lease, so that a pass may take lost rows; negative if it has been up
-- for longer. No row if none is lost.
--
-- Parameters: lease_s, older_than_s.
SELECT %(lease_s)s - extract(epoch FROM now() - a.backend_start)::float8 AS wait_s
  FROM pg_stat_get_activity(pg_backend_pid()) AS a
 WHERE EXISTS (SELECT FROM draft_requests AS r
                WHERE r.status = 'processing'
                  AND (coalesce(least(r.lease_until, r.deadline_at), 'infinity')
                           <= now() - make_interval(secs => %(older_than_s)s)
                       OR coalesce(least(r.lease_until, r.deadline_at), 'infinity')
                           > now() + make_interval(secs => (
                                SELECT coalesce(max(greatest(0, least(w.attempt_s, 86400))), 86400) + 5.0
                                  FROM draft_workers AS w))));

-- name: fail_unpayable
-- Fail pending requests of some agents that expire before the next day's budget begins, if the fleet's is used up.
--
-- Invariants: changes pending rows only; skips locked rows and those that the server refuses to change.
-- Parameters: agents; message, told, details.
-- Returns: a row for each request.
SELECT id FROM draft_fail_unpayable(%(agents)s, %(message)s, %(told)s, %(details)s) AS f(id);
