-- name: read_request
-- A claimed request: a row for each picture, in no order, with all other columns on the first picture's row. No row if the claim
-- no longer holds it.
--
-- A row for each picture, because psycopg scans an array for quotes, which at 24 MiB blocks the event loop for 35 to 50 ms. The
-- caller sorts them: a sort here would write the pictures to temporary files. A data: URL with a non-ASCII character is invalid,
-- and one such character makes the whole string four times as large in Python; so it is cut. Entries may be null: the owner of
-- the tables may have written anything.
--
-- chain_options holds the options of the request's ancestors, the parent first. The depth is bounded because the owner may have
-- made a circle of parents.
--
-- asked_at is when the request was made, within what Python's dates can hold.
--
-- profile is the requester's, and sent, with voice_learning, what the requester really sent, the latest first: never another
-- requester's, and nothing where requester_id is empty, since those share no person. Nothing is learnt where voice samples are
-- given. A text counts as the requester's own work up to a similarity of 0.8: above it, it is the draft with a word, a name or a
-- full stop changed, and learning from it would be learning from the model. Of the last 500 texts, 100 are returned.
--
-- Parameters: id, lease_token.
SELECT CASE WHEN lower(left(i.url, 5)) = 'data:' AND octet_length(i.url) <> length(i.url) THEN 'data:'
            ELSE coalesce(i.url, '') END AS url,
       coalesce(i.place, 1) AS place, i.place IS NOT NULL AS has_picture,
       f.context, f.options, f.errors, p.result AS parent_result, p.reading AS parent_reading,
       (WITH RECURSIVE ancestors AS (
            SELECT a.parent_id, coalesce(a.result, a.partial_result) -> 'options' AS options, 1 AS depth
              FROM draft_requests AS a WHERE a.id = f.parent_id AND a.requester_id = f.requester_id
            UNION ALL
            SELECT a.parent_id, coalesce(a.result, a.partial_result) -> 'options', d.depth + 1
              FROM ancestors AS d JOIN draft_requests AS a ON a.id = d.parent_id AND a.requester_id = f.requester_id
             WHERE d.depth < 20)
        SELECT jsonb_agg(d.options ORDER BY d.depth) FROM ancestors AS d) AS chain_options,
       least(greatest(f.created_at, timestamptz '2000-01-01 00:00Z'), now()) AS asked_at,
       to_jsonb(o) AS profile,
       CASE WHEN f.requester_id <> '' AND (SELECT s.voice_learning FROM draft_settings AS s)
                 AND coalesce(nullif(f.options -> 'voice_samples', 'null'), '[]') = '[]'
                 AND coalesce(o.voice_samples, '{}') = '{}'
            THEN (SELECT jsonb_agg(jsonb_build_object('text', b.sent_text, 'platform', b.platform, 'author', left(b.author, 200))
                                   ORDER BY b.created_at DESC, b.id DESC)
                    FROM (SELECT c.* FROM (SELECT d.* FROM draft_feedback AS d
                                            WHERE d.requester_id = f.requester_id AND d.sent_text IS NOT NULL
                                            ORDER BY d.created_at DESC LIMIT 500) AS c
                           WHERE c.similarity <= 0.8::real AND length(c.sent_text) <= 2000 AND c.sent_text ~ '[^[:space:]]'
                           ORDER BY c.created_at DESC LIMIT 100) AS b) END AS sent
  FROM draft_requests AS r LEFT JOIN LATERAL unnest(r.image_urls) WITH ORDINALITY AS i(url, place) ON true
       LEFT JOIN draft_requests AS f ON f.id = r.id AND coalesce(i.place, 1) = 1
       LEFT JOIN draft_profiles AS o ON o.requester_id = f.requester_id AND f.requester_id <> ''
       LEFT JOIN draft_requests AS p ON p.id = f.parent_id AND p.requester_id = f.requester_id
 WHERE r.id = %(id)s AND r.status = 'processing' AND r.lease_token = %(lease_token)s;

-- name: publish
-- Publish the options that are ready so far. Returns 'held', or the status of a request that the claim no longer holds, or no row
-- if it is gone.
--
-- Invariants: fenced like a settlement. Best effort: skips a locked row.
-- Parameters: id, lease_token, partial_result.
WITH locked AS MATERIALIZED (
    SELECT r.id FROM draft_requests AS r WHERE r.id = %(id)s FOR NO KEY UPDATE SKIP LOCKED
), published AS (
    UPDATE draft_requests AS r SET partial_result = %(partial_result)s::jsonb, updated_at = now()
      FROM locked WHERE r.id = locked.id AND r.status = 'processing' AND r.lease_token = %(lease_token)s
)
SELECT CASE WHEN r.status = 'processing' AND r.lease_token = %(lease_token)s THEN 'held' ELSE r.status END AS standing
  FROM draft_requests AS r WHERE r.id = %(id)s;

-- name: record_usage
-- Record one model call. May be repeated.
--
-- Invariants: not fenced, because a result can be rejected and its cost cannot.
-- Parameters: the columns.
INSERT INTO draft_usage (request_id, requester_id, attempt, lease_token, call, model, code,
                         input_tokens, cached_tokens, output_tokens, cost_usd, elapsed_s, trace_id)
VALUES (%(request_id)s, %(requester_id)s, %(attempt)s, %(lease_token)s, %(call)s, %(model)s, %(code)s,
        %(input_tokens)s, %(cached_tokens)s, %(output_tokens)s, %(cost_usd)s, %(elapsed_s)s, %(trace_id)s)
ON CONFLICT (request_id, lease_token, call) DO NOTHING;
