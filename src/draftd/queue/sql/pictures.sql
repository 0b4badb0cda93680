-- name: keep_pictures
-- Keep prepared pictures for the next attempt at a claimed row, replacing those kept for the same entries.
--
-- Invariants: only while the claim holds the row, and under the row's lock, so that pictures cannot be written after the end of
-- the request has deleted them; skips a locked row; keeps nothing once all pictures together reach max_bytes. A picture counts as
-- at least min_bytes, so that at most 16,384 rows are summed up (2 ms).
--
-- Parameters: id, lease_token; positions, url_sha256s, facts and data, one of each per picture; min_bytes, max_bytes.
WITH stock AS MATERIALIZED (
    SELECT coalesce(sum(greatest(octet_length(p.data), %(min_bytes)s)), 0) >= %(max_bytes)s AS is_full
      FROM draft_pictures AS p
), held AS MATERIALIZED (
    SELECT r.id FROM draft_requests AS r, stock
     WHERE r.id = %(id)s AND r.status = 'processing' AND r.lease_token = %(lease_token)s AND NOT stock.is_full
       FOR NO KEY UPDATE OF r SKIP LOCKED
), kept AS (
    INSERT INTO draft_pictures (request_id, position, url_sha256, facts, data)
    SELECT held.id, v.* FROM held, unnest(%(positions)s::smallint[], %(url_sha256s)s::bytea[], %(facts)s::jsonb[],
                                          %(data)b::bytea[]) AS v
    ON CONFLICT (request_id, position) DO UPDATE SET
        url_sha256 = excluded.url_sha256, facts = excluded.facts, data = excluded.data, created_at = now()
    RETURNING position
)
SELECT EXISTS (SELECT FROM kept) AS is_kept,
       NOT is_full AND EXISTS (SELECT FROM draft_requests AS r WHERE r.id = %(id)s AND r.status = 'processing'
                                  AND r.lease_token = %(lease_token)s) AS is_held
  FROM stock;

-- name: find_pictures
-- The pictures that an earlier attempt kept, unless they exceed max_bytes.
--
-- Parameters: id, max_bytes.
SELECT position, url_sha256, facts, data FROM draft_pictures
 WHERE request_id = %(id)s
   AND (SELECT sum(octet_length(p.data)) FROM draft_pictures AS p WHERE p.request_id = %(id)s) <= %(max_bytes)s;
