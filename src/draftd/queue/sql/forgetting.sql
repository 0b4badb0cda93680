-- name: forget_some
-- Forget a requester: up to batch rows of each table (alembic/versions/0027_forget.py).
--
-- Parameters: requester_id, batch.
SELECT draft_forget_some(%(requester_id)s, %(batch)s) AS done;

-- name: count_forgettable
-- What forgetting a requester would change, and the traces in Langfuse that this would leave.
--
-- Invariants: writes nothing and locks nothing.
-- Parameters: requester_id.
SELECT jsonb_build_object(
    'requests', (SELECT count(*) FROM draft_requests AS r WHERE r.requester_id = %(requester_id)s),
    'feedback', (SELECT count(*) FROM draft_feedback AS f WHERE f.requester_id = %(requester_id)s),
    'profiles', (SELECT count(*) FROM draft_profiles AS p WHERE p.requester_id = %(requester_id)s),
    'usage', (SELECT count(*) FROM draft_usage AS u WHERE u.requester_id = %(requester_id)s AND u.requester_id <> ''),
    'trace_ids', to_jsonb(ARRAY(
        SELECT r.trace_id FROM draft_requests AS r WHERE r.requester_id = %(requester_id)s AND r.trace_id IS NOT NULL
        UNION
        SELECT u.trace_id FROM draft_usage AS u
         WHERE u.requester_id = %(requester_id)s AND u.requester_id <> '' AND u.trace_id IS NOT NULL)),
    'is_recent', false) AS done;
