-- Holds in draft_holds. A pause of more than a day counts as over, and a time more than a minute ahead is ignored: no daemon writes
-- such values. No value in a column makes a statement fail: times are subtracted as epochs, because PostgreSQL 16 and older cannot
-- subtract an infinite timestamp.

-- name: hold
-- Put a model on hold, or extend its pause. Returns how long the model is held. Returns no row if the model has answered another
-- request since the failing call began: then the request is at fault, not the model.
--
-- Invariants: idempotent. Many requests fail in one outage; only a failed probe, which follows the pause, counts as a further
-- failure, and it counts once.
--
-- The pause doubles with each failed probe. Its cap is max_pause_s or, if that is more, a sixtieth of the hold's age up to
-- max_old_pause_s.
--
-- Parameters: model, code, reason; request_id, and elapsed_s since its call began; is_probe; retry_after_s; first_pause_s,
-- max_pause_s, max_old_pause_s.
INSERT INTO draft_holds AS h (model, code, until, reason)
SELECT %(model)s, %(code)s, now() + make_interval(secs => greatest(%(first_pause_s)s, %(retry_after_s)s)), %(reason)s
 WHERE NOT EXISTS (SELECT FROM draft_usage AS u
                    WHERE u.model = %(model)s AND u.code IS NULL AND u.request_id <> %(request_id)s
                      AND u.created_at BETWEEN now() - make_interval(secs => %(elapsed_s)s) AND now() + interval '1 min')
ON CONFLICT (model) DO UPDATE SET
    failures = least(h.failures, 1000000) + (h.probing AND %(is_probe)s)::int,
    until = CASE WHEN h.probing AND %(is_probe)s
                 THEN now() + make_interval(secs => greatest(
                      %(retry_after_s)s,
                      least(%(first_pause_s)s * 2 ^ greatest(0, least(h.failures, 10)),
                            greatest(%(max_pause_s)s,
                                     least(%(max_old_pause_s)s,
                                           (extract(epoch FROM now()) - extract(epoch FROM h.since))::float8 / 60)))))
                 ELSE greatest(h.until, now() + make_interval(secs => %(retry_after_s)s)) END,
    probing = h.probing AND NOT %(is_probe)s,
    code = excluded.code,
    reason = excluded.reason
RETURNING CASE WHEN h.until > now() AND h.until <= now() + interval '86400 s'
               THEN (extract(epoch FROM h.until) - extract(epoch FROM now()))::float8
               ELSE 0 END AS until_s;

-- name: take_probe
-- Win the right to probe a model whose pause is over and whose agents have a due request. Returns a row to the one caller that
-- wins.
--
-- Parameters: model, agents; probe_s, how long other daemons stay away.
UPDATE draft_holds AS h SET probing = true, until = now() + make_interval(secs => %(probe_s)s)
 WHERE h.model = %(model)s AND (h.until <= now() OR h.until > now() + interval '86400 s')
   AND EXISTS (SELECT FROM unnest(%(agents)s::text[]) AS a(agent) CROSS JOIN LATERAL (
        SELECT FROM draft_requests AS r
         WHERE r.status = 'pending' AND NOT r.limited AND r.agent = a.agent AND r.available_at <= now() LIMIT 1) AS x)
RETURNING h.model;

-- name: return_probe
-- Allow another request to probe a model at once.
--
-- Parameters: model.
UPDATE draft_holds SET probing = false, until = now() WHERE model = %(model)s AND probing;

-- name: end_hold
-- End a hold and wake all daemons, which read the holds and claim the rows that waited.
--
-- Parameters: model.
WITH ended AS (DELETE FROM draft_holds WHERE model = %(model)s RETURNING model)
SELECT pg_notify('draft_requests', '') FROM ended;

-- name: forget
-- End the holds and throttles of some models, and wake all daemons if there was a hold.
--
-- Parameters: models.
WITH throttles AS (
    DELETE FROM draft_throttles WHERE model = ANY (%(models)s)
), ended AS (
    DELETE FROM draft_holds WHERE model = ANY (%(models)s) RETURNING model
)
SELECT pg_notify('draft_requests', '') FROM ended;

-- name: read_holds
-- The models on hold, and the seconds left of each pause.
SELECT h.model, h.code,
       CASE WHEN h.until > now() AND h.until <= now() + interval '86400 s'
            THEN (extract(epoch FROM h.until) - extract(epoch FROM now()))::float8
            ELSE 0 END AS until_s
  FROM draft_holds AS h;

-- name: mark_used
-- Mark the holds of the models that a daemon uses, unless one was marked in the last 7.5 s, half the interval between marks.
--
-- Parameters: models.
UPDATE draft_holds SET used_at = now()
 WHERE model = ANY (%(models)s)
   AND used_at NOT BETWEEN now() - interval '7.5 s' AND now() + interval '1 min';

-- name: forget_unused
-- Delete holds that no daemon has marked for 60 s (four marks are missing), and throttles that have not changed for an hour, which
-- have long recovered. Returns the models of the holds.
WITH throttles AS (
    DELETE FROM draft_throttles WHERE changed_at NOT BETWEEN now() - interval '1 h' AND now() + interval '1 min'
)
DELETE FROM draft_holds WHERE used_at NOT BETWEEN now() - interval '60 s' AND now() + interval '1 min' RETURNING model;

-- name: list_holds
-- The holds, for operators.
SELECT model, code, since, until, reason FROM draft_holds ORDER BY since;
