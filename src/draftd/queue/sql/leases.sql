-- The heartbeat's statements. renew_and_beat combines renew and beat.

-- name: renew_and_beat
-- Renew a worker's leases, write its row in draft_workers, and return the daemons' configuration: agents, models, holds,
-- throttles, pauses, budgets, and whether there are limits of requesters.
--
-- Invariants: locks first and in the order of ids, like every write of several rows (unordered renewals and settlements had ten
-- deadlocks in ten seconds). Skips locked rows, which are renewed at the next beat: a client that holds one row in a long
-- transaction must not stop all other renewals (the reaper skips that row, too). A lease is lost only if its row is no longer
-- processing with its token; it is returned with the row's status, null if the row is gone. updated_at is not changed and no
-- index contains lease_until, so that a renewal is a heap-only update.
--
-- No column value makes the statement fail. params are returned as text, and cut: a value that cannot be parsed must not affect
-- other rows. Times are returned in seconds, within a hundred years, because JSON has no infinity; they are differences of
-- epochs, because PostgreSQL 16 and older cannot subtract infinite timestamps. A hold of more than a day was not set by a daemon,
-- and is ignored.
--
-- Parameters: ids and tokens, the leases held; lease_s; the worker's columns.
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
), beat AS (
    INSERT INTO draft_workers AS w (id, hostname, pid, version, state, agents, concurrency, in_flight, beat_s, attempt_s, models)
    VALUES (%(worker_id)s, %(hostname)s, %(pid)s, %(version)s, %(state)s, %(agents)s, %(concurrency)s, %(in_flight)s,
            %(beat_s)s, %(attempt_s)s, %(models)s)
    ON CONFLICT (id) DO UPDATE SET state = excluded.state, in_flight = excluded.in_flight, models = excluded.models,
        heartbeat_at = now()
)
SELECT (SELECT coalesce(array_agg(id), '{}') FROM renewed) AS renewed,
       (SELECT coalesce(jsonb_agg(jsonb_build_array(
            h.id, h.lease_token, (SELECT r.status FROM draft_requests AS r WHERE r.id = h.id))), '[]')
          FROM held AS h WHERE NOT EXISTS (
            SELECT FROM draft_requests AS r
             WHERE r.id = h.id AND r.status = 'processing' AND r.lease_token = h.lease_token)) AS lost,
       (SELECT coalesce(jsonb_agg(to_jsonb(a) || jsonb_build_object('params', left(a.params::text, 10000))), '[]')
          FROM draft_agents AS a) AS agents,
       (SELECT coalesce(jsonb_agg(to_jsonb(m) || jsonb_build_object('params', left(m.params::text, 10000))), '[]')
          FROM draft_models AS m) AS models,
       (SELECT coalesce(jsonb_agg(jsonb_build_object(
                    'model', h.model, 'code', h.code,
                    'until_s', CASE WHEN h.until > now() AND h.until <= now() + interval '86400 s'
                                    THEN (extract(epoch FROM h.until) - extract(epoch FROM now()))::float8
                                    ELSE 0 END)), '[]')
          FROM draft_holds AS h) AS holds,
       (SELECT coalesce(jsonb_agg(jsonb_build_object(
                    'model', t.model,
                    'share', greatest(0.015625, least(1, t.share)),
                    'age_s', greatest(-3153600000, least(3153600000,
                                extract(epoch FROM now()) - extract(epoch FROM t.changed_at)))::float8)), '[]')
          FROM draft_throttles AS t) AS throttles,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('what', p.what, 'name', p.name)), '[]')
          FROM draft_pauses AS p WHERE p.what IN ('all', 'model')) AS pauses,
       EXISTS (SELECT FROM draft_limits AS l WHERE l.max_in_flight IS NOT NULL OR l.usd_per_day IS NOT NULL)
       OR EXISTS (SELECT FROM draft_pauses AS p WHERE p.what = 'requester')
       OR EXISTS (SELECT FROM draft_requests AS r WHERE r.status = 'pending' AND r.limited) AS has_limits,
       draft_budgets() AS budgets;

-- name: renew
-- Renew a worker's leases and return the daemons' configuration, while the worker's own row is refused or locked.
--
-- Invariants and parameters: as for renew_and_beat; does not touch draft_workers.
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
)
SELECT (SELECT coalesce(array_agg(id), '{}') FROM renewed) AS renewed,
       (SELECT coalesce(jsonb_agg(jsonb_build_array(
            h.id, h.lease_token, (SELECT r.status FROM draft_requests AS r WHERE r.id = h.id))), '[]')
          FROM held AS h WHERE NOT EXISTS (
            SELECT FROM draft_requests AS r
             WHERE r.id = h.id AND r.status = 'processing' AND r.lease_token = h.lease_token)) AS lost,
       (SELECT coalesce(jsonb_agg(to_jsonb(a) || jsonb_build_object('params', left(a.params::text, 10000))), '[]')
          FROM draft_agents AS a) AS agents,
       (SELECT coalesce(jsonb_agg(to_jsonb(m) || jsonb_build_object('params', left(m.params::text, 10000))), '[]')
          FROM draft_models AS m) AS models,
       (SELECT coalesce(jsonb_agg(jsonb_build_object(
                    'model', h.model, 'code', h.code,
                    'until_s', CASE WHEN h.until > now() AND h.until <= now() + interval '86400 s'
                                    THEN (extract(epoch FROM h.until) - extract(epoch FROM now()))::float8
                                    ELSE 0 END)), '[]')
          FROM draft_holds AS h) AS holds,
       (SELECT coalesce(jsonb_agg(jsonb_build_object(
                    'model', t.model,
                    'share', greatest(0.015625, least(1, t.share)),
                    'age_s', greatest(-3153600000, least(3153600000,
                                extract(epoch FROM now()) - extract(epoch FROM t.changed_at)))::float8)), '[]')
          FROM draft_throttles AS t) AS throttles,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('what', p.what, 'name', p.name)), '[]')
          FROM draft_pauses AS p WHERE p.what IN ('all', 'model')) AS pauses,
       EXISTS (SELECT FROM draft_limits AS l WHERE l.max_in_flight IS NOT NULL OR l.usd_per_day IS NOT NULL)
       OR EXISTS (SELECT FROM draft_pauses AS p WHERE p.what = 'requester')
       OR EXISTS (SELECT FROM draft_requests AS r WHERE r.status = 'pending' AND r.limited) AS has_limits,
       draft_budgets() AS budgets;

-- name: beat
-- Write a worker's row only.
--
-- Parameters: the worker's columns.
INSERT INTO draft_workers AS w (id, hostname, pid, version, state, agents, concurrency, in_flight, beat_s, attempt_s, models)
VALUES (%(worker_id)s, %(hostname)s, %(pid)s, %(version)s, %(state)s, %(agents)s, %(concurrency)s, %(in_flight)s,
        %(beat_s)s, %(attempt_s)s, %(models)s)
ON CONFLICT (id) DO UPDATE SET state = excluded.state, in_flight = excluded.in_flight, models = excluded.models,
    heartbeat_at = now();
