-- Limits of requesters: which of their pending rows are claimable. The rules are functions of the database (migration 0023).

-- name: admit
-- Admit waiting rows as far as their requesters have room.
--
-- Invariants: waits for no lock; exact across daemons; rings only if more was admitted than the caller claims itself.
-- Parameters: requesters, null for all; agents, whose rows may be admitted, null for all that somebody can work for; at_most, of rows;
-- after, the last requester of the call before; wanted, how many rows the caller claims next.
-- Returns: admitted; busy, the requesters that another session was admitting; reached, null after the last requester.
SELECT a.admitted, a.busy, a.reached,
       CASE WHEN a.admitted > %(wanted)s THEN pg_notify('draft_requests', '') END IS NOT NULL AS rang
  FROM draft_admit(%(requesters)s, %(agents)s, %(at_most)s, %(after)s) AS a;

-- name: apply
-- Let rows wait whose requester is paused or over a limit by now.
--
-- Parameters: after, the last requester of the call before.
-- Returns: changed, the number of rows; reached, null after the last requester.
SELECT l.changed, l.reached FROM draft_apply_limits(%(after)s) AS l;

-- name: is_oldest
-- Whether no other living worker has run longer than this one.
--
-- Parameters: worker_id.
SELECT NOT EXISTS (
    SELECT FROM draft_workers AS me JOIN draft_workers AS w ON (w.started_at, w.id) < (me.started_at, me.id)
     WHERE me.id = %(worker_id)s AND w.state = 'running'
       AND w.heartbeat_at BETWEEN now() - make_interval(secs => 3 * greatest(0, least(w.beat_s, 28800)))
                              AND now() + interval '1 min') AS is_oldest;
