-- A final request is old if it ended long enough ago. No request ends before it is created, so the condition on created_at
-- excludes none of them, and lets its index be used. A row that a pending or running refinement reads stays. These are found in
-- two branches, because each has its partial index: one condition on both statuses would read the whole table.
--
-- Common parameters: older_than_s; batch, the maximum number of rows; now, which overrides the database's time (tests).

-- name: prune
-- Delete a batch of old final requests, the oldest first.
--
-- Invariants: deletes only final rows; skips locked ones.
-- Further parameters: after, the created_at of the last row of the previous batch; skip, the ids of rows to skip; only, which
-- restricts the rows to these ids, or null.
-- Returns: seen, the number of rows in the batch; reached, the created_at of its last row; pruned, the number of rows deleted.
WITH refined AS MATERIALIZED (
    SELECT c.parent_id FROM draft_requests AS c WHERE c.status = 'pending' AND c.parent_id IS NOT NULL
    UNION SELECT c.parent_id FROM draft_requests AS c WHERE c.status = 'processing' AND c.parent_id IS NOT NULL
), old AS MATERIALIZED (
    SELECT r.id, r.created_at FROM draft_requests AS r
     WHERE r.status IN ('completed', 'failed', 'cancelled')
       AND r.created_at <= coalesce(%(now)s::timestamptz, now()) - make_interval(secs => %(older_than_s)s)
       AND r.finished_at <= coalesce(%(now)s::timestamptz, now()) - make_interval(secs => %(older_than_s)s)
       AND r.id NOT IN (SELECT parent_id FROM refined)
       AND r.created_at >= coalesce(%(after)s, '-infinity'::timestamptz)
       AND r.id <> ALL (%(skip)s::uuid[]) AND (%(only)s::uuid[] IS NULL OR r.id = ANY (%(only)s))
     ORDER BY r.created_at LIMIT %(batch)s FOR UPDATE OF r SKIP LOCKED
), pruned AS (
    DELETE FROM draft_requests AS r USING old
     WHERE r.id = old.id AND r.status IN ('completed', 'failed', 'cancelled')
    RETURNING r.id
)
SELECT (SELECT count(*) FROM old)::int AS seen, (SELECT max(created_at) FROM old) AS reached,
       (SELECT count(*) FROM pruned)::int AS pruned;

-- name: find_prunable
-- The rows of a batch that the server refused to delete as a whole.
--
-- Invariants: deletes nothing; skips locked rows, as prune does.
-- Further parameters: after, skip and only, as for prune.
WITH refined AS MATERIALIZED (
    SELECT c.parent_id FROM draft_requests AS c WHERE c.status = 'pending' AND c.parent_id IS NOT NULL
    UNION SELECT c.parent_id FROM draft_requests AS c WHERE c.status = 'processing' AND c.parent_id IS NOT NULL
)
SELECT r.id, r.created_at FROM draft_requests AS r
 WHERE r.status IN ('completed', 'failed', 'cancelled')
   AND r.created_at <= coalesce(%(now)s::timestamptz, now()) - make_interval(secs => %(older_than_s)s)
   AND r.finished_at <= coalesce(%(now)s::timestamptz, now()) - make_interval(secs => %(older_than_s)s)
   AND r.id NOT IN (SELECT parent_id FROM refined)
   AND r.created_at >= coalesce(%(after)s, '-infinity'::timestamptz)
   AND r.id <> ALL (%(skip)s::uuid[]) AND (%(only)s::uuid[] IS NULL OR r.id = ANY (%(only)s))
 ORDER BY r.created_at LIMIT %(batch)s FOR UPDATE OF r SKIP LOCKED;

-- name: count_prunable
-- How many rows of the next batch prune would delete, including locked ones, and where the batch ends; no row after the last
-- batch.
--
-- Invariants: writes nothing and locks nothing.
-- Further parameters: after and after_id, the last row of the previous batch.
WITH refined AS MATERIALIZED (
    SELECT c.parent_id FROM draft_requests AS c WHERE c.status = 'pending' AND c.parent_id IS NOT NULL
    UNION SELECT c.parent_id FROM draft_requests AS c WHERE c.status = 'processing' AND c.parent_id IS NOT NULL
), old AS MATERIALIZED (
    SELECT r.id, r.created_at FROM draft_requests AS r
     WHERE r.status IN ('completed', 'failed', 'cancelled')
       AND r.created_at <= coalesce(%(now)s::timestamptz, now()) - make_interval(secs => %(older_than_s)s)
       AND r.finished_at <= coalesce(%(now)s::timestamptz, now()) - make_interval(secs => %(older_than_s)s)
       AND r.id NOT IN (SELECT parent_id FROM refined)
       AND (%(after)s::timestamptz IS NULL OR (r.created_at, r.id) > (%(after)s, %(after_id)s::uuid))
     ORDER BY r.created_at, r.id LIMIT %(batch)s
)
SELECT created_at AS reached, id AS reached_id, (SELECT count(*) FROM old)::int AS seen
  FROM old ORDER BY created_at DESC, id DESC LIMIT 1;

-- name: prune_feedback
-- Delete a batch of old feedback, the oldest first. Returns a row for each.
--
-- Invariants: skips locked rows.
DELETE FROM draft_feedback AS f USING (
    SELECT id FROM draft_feedback
     WHERE created_at <= coalesce(%(now)s::timestamptz, now()) - make_interval(secs => %(older_than_s)s)
     ORDER BY created_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED) AS old
 WHERE f.id = old.id RETURNING f.id;

-- name: prune_turnstiles
-- Delete a batch of turnstiles (draft_turnstiles) of requesters who have nothing unfinished. Returns pruned, the number.
SELECT draft_prune_turnstiles(%(batch)s) AS pruned;
