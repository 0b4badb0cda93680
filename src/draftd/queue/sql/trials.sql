-- The statements that set a trial up: they find other rows, and make one so that a change can be tried on it. The trial is rolled
-- back.
--
-- The newest rows are tried first: a request that came after a crowd of refused ones is likely to be of another kind. The order of
-- pending rows is that of draft_requests_claim_idx, backwards.

-- name: find_pending
-- The newest 50 pending rows.
--
-- Parameters: but, rows that are not tried.
SELECT r.id FROM draft_requests AS r WHERE r.status = 'pending' AND r.id <> ALL (%(but)s::uuid[])
 ORDER BY r.agent DESC, r.priority, r.turn DESC, r.available_at DESC, r.id DESC LIMIT 50;

-- name: find_unfinished
-- The newest 50 processing and the newest 50 pending rows, by turns.
--
-- Parameters: but, rows that are not tried.
(SELECT r.id, row_number() OVER (ORDER BY r.deadline_at DESC) AS place
   FROM draft_requests AS r WHERE r.status = 'processing' AND r.id <> ALL (%(but)s::uuid[])
  ORDER BY r.deadline_at DESC LIMIT 50)
UNION ALL
(SELECT r.id, row_number() OVER (ORDER BY r.agent DESC, r.priority, r.turn DESC, r.available_at DESC, r.id DESC) AS place
   FROM draft_requests AS r WHERE r.status = 'pending' AND r.id <> ALL (%(but)s::uuid[])
  ORDER BY r.agent DESC, r.priority, r.turn DESC, r.available_at DESC, r.id DESC LIMIT 50)
ORDER BY place;

-- name: make_pending
-- A pending row as it is, locked, if nobody else has locked it.
--
-- Parameters: id.
SELECT r.id, r.lease_token FROM draft_requests AS r
 WHERE r.id = (SELECT x.id FROM draft_requests AS x WHERE x.id = %(id)s AND x.status = 'pending'
                  FOR NO KEY UPDATE SKIP LOCKED);

-- name: make_overdue
-- Make a pending row overdue, if nobody else has locked it.
--
-- Parameters: id.
UPDATE draft_requests AS r SET expires_at = now() - interval '1 d'
 WHERE r.id = (SELECT x.id FROM draft_requests AS x WHERE x.id = %(id)s AND x.status = 'pending'
                  FOR NO KEY UPDATE SKIP LOCKED)
RETURNING r.id, r.lease_token;

-- name: make_held
-- Make an unfinished row one that a worker holds, if nobody else has locked it. Its lease differs from any that a worker sets: a
-- renewal must still be a change.
--
-- Parameters: id; worker_id, null for any; lease_s, negative if the lease must have run out.
UPDATE draft_requests AS r SET
    status = 'processing', attempt = greatest(r.attempt, 1), worker_id = coalesce(%(worker_id)s, r.worker_id),
    lease_until = now() + make_interval(secs => %(lease_s)s), deadline_at = coalesce(r.deadline_at, now() + interval '1 min')
 WHERE r.id = (SELECT x.id FROM draft_requests AS x WHERE x.id = %(id)s AND x.status IN ('pending', 'processing')
                  FOR NO KEY UPDATE SKIP LOCKED)
RETURNING r.id, r.lease_token;
