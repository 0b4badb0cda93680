-- name: look_for_due
-- Whether any row is due, and which of the rows that the last claim skipped because the server refuses them. For a drain.
--
-- Invariants: locks nothing, and so sees the rows that a claim's SKIP LOCKED skips.
-- Parameters: agents; skip, the ids that the last claim skipped.
SELECT EXISTS (SELECT FROM draft_requests AS r
                WHERE r.status = 'pending' AND NOT r.limited AND r.agent = ANY (%(agents)s) AND r.available_at <= now()
                  AND r.id <> ALL (%(skip)s::uuid[])) AS is_due,
       ARRAY (SELECT r.id::text FROM draft_requests AS r
               WHERE r.status = 'pending' AND NOT r.limited AND r.agent = ANY (%(agents)s) AND r.available_at <= now()
                 AND r.id = ANY (%(skip)s::uuid[])) AS refused;
