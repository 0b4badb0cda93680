-- The statements that set up a trial, which is rolled back: they find other rows, and prepare one for the change.
--
-- The newest rows are tried first: a request that came after many refused ones is likely to be of another kind. Pending rows are
-- read in the order of draft_requests_claim_idx, backwards.

-- name: find_pending
-- The newest 50 pending rows.
--
-- Parameters: but, the ids of rows not to try.
SELECT r.id FROM draft_requests AS r WHERE r.status = 'pending' AND NOT r.limited AND r.id <> ALL (%(but)s::uuid[])
 ORDER BY r.agent DESC, r.priority, r.turn DESC, r.available_at DESC, r.id DESC LIMIT 50;

-- name: find_unfinished
-- The newest 50 processing and the newest 50 pending rows, alternating.
--
-- Parameters: but, the ids of rows not to try.
(SELECT r.id, row_number() OVER (ORDER BY r.deadline_at DESC) AS place
   FROM draft_requests AS r WHERE r.status = 'processing' AND r.id <> ALL (%(but)s::uuid[])
  ORDER BY r.deadline_at DESC LIMIT 50)
UNION ALL
(SELECT r.id, row_number() OVER (ORDER BY r.agent DESC, r.priority, r.turn DESC, r.available_at DESC, r.id DESC) AS place
   FROM draft_requests AS r WHERE r.status = 'pending' AND NOT r.limited AND r.id <> ALL (%(but)s::uuid[])
  ORDER BY r.agent DESC, r.priority, r.turn DESC, r.available_at DESC, r.id DESC LIMIT 50)
ORDER BY place;

-- name: make_pending
-- Lock a pending row, unless it is locked, and leave it as it is.
--
-- Parameters: id.
SELECT r.id, r.lease_token FROM draft_requests AS r
 WHERE r.id = (SELECT x.id FROM draft_requests AS x WHERE x.id = %(id)s AND x.status = 'pending' AND NOT x.limited
                  FOR NO KEY UPDATE SKIP LOCKED);

-- name: make_overdue
-- Make a pending row overdue, unless it is locked.
--
-- Parameters: id.
UPDATE draft_requests AS r SET expires_at = now() - interval '1 d'
 WHERE r.id = (SELECT x.id FROM draft_requests AS x WHERE x.id = %(id)s AND x.status = 'pending' AND NOT x.limited
                  FOR NO KEY UPDATE SKIP LOCKED)
RETURNING r.id, r.lease_token;

-- name: make_held
-- Make an unfinished row one that a worker holds, unless it is locked. Its lease differs from any that a worker sets, so that a
-- renewal still is a change.
--
-- Parameters: id; worker_id, null for any; lease_s, negative for an expired lease.
UPDATE draft_requests AS r SET
    status = 'processing', attempt = greatest(r.attempt, 1), worker_id = coalesce(%(worker_id)s, r.worker_id),
    lease_until = now() + make_interval(secs => %(lease_s)s), deadline_at = coalesce(r.deadline_at, now() + interval '1 min')
 WHERE r.id = (SELECT x.id FROM draft_requests AS x WHERE x.id = %(id)s AND x.status IN ('pending', 'processing')
                  FOR NO KEY UPDATE SKIP LOCKED)
RETURNING r.id, r.lease_token;
