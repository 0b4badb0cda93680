-- name: end_row
-- Fail a row that the server refuses to change otherwise; writes as few columns as possible.
--
-- Invariants: waits for no lock; matches id and lease_token; fails unfinished rows only.
-- Parameters: id, lease_token, code, message, details.
UPDATE draft_requests AS r SET
    status = 'failed', error_code = %(code)s, error_message = %(message)s, error_details = %(details)s
 WHERE r.id = (SELECT x.id FROM draft_requests AS x
                WHERE x.id = %(id)s AND x.lease_token = %(lease_token)s AND x.status IN ('pending', 'processing')
                  FOR NO KEY UPDATE SKIP LOCKED)
   AND r.status IN ('pending', 'processing')
RETURNING r.id;
