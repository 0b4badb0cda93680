-- name: look_for_due
-- Whether any row is due, and which rows are that the last claim left out because the server refuses them. A drain asks this.
--
-- Invariants: locks nothing, and so sees what the claims' SKIP LOCKED passes over.
-- Parameters: agents; skip, what the last claim left out.
SELECT EXISTS (SELECT FROM draft_requests AS r
                WHERE r.status = 'pending' AND r.agent = ANY (%(agents)s) AND r.available_at <= now()
                  AND r.id <> ALL (%(skip)s::uuid[])) AS is_due,
       ARRAY (SELECT r.id::text FROM draft_requests AS r
               WHERE r.status = 'pending' AND r.agent = ANY (%(agents)s) AND r.available_at <= now()
                 AND r.id = ANY (%(skip)s::uuid[])) AS refused;
