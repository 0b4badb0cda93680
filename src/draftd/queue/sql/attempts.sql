-- name: read_request
-- A claimed request: a row for each picture, in no order, with all other columns on the first picture's row. No row if the claim
-- no longer holds it.
--
-- A row for each picture, because psycopg scans an array for quotes, which at 24 MiB blocks the event loop for 35 to 50 ms. The
-- caller sorts them: a sort here would write the pictures to temporary files. A data: URL with a non-ASCII character is invalid,
-- and one such character makes the whole string four times as large in Python; so it is cut. Entries may be null: the owner of
-- the tables may have written anything.
--
-- chain holds what the request's ancestors asked for and got, the parent first: 20 of them at most, which also ends a circle of
-- parents that the owner has made, and 1 MiB at most, because an option may have 256 KiB before it is checked. It ends at an
-- ancestor that was deleted, or that is another requester's.
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
            SELECT a.parent_id, 1 AS depth, jsonb_build_object('context', a.context, 'options', a.options,
                       'drafts', coalesce(a.result, a.partial_result) -> 'options') AS step
              FROM draft_requests AS a WHERE a.id = f.parent_id AND a.requester_id = f.requester_id
            UNION ALL
            SELECT a.parent_id, d.depth + 1, jsonb_build_object('context', a.context, 'options', a.options,
                       'drafts', coalesce(a.result, a.partial_result) -> 'options')
              FROM ancestors AS d JOIN draft_requests AS a ON a.id = d.parent_id AND a.requester_id = f.requester_id
             WHERE d.depth < 20)
        SELECT jsonb_agg(c.step ORDER BY c.depth)
          FROM (SELECT d.step, d.depth, sum(octet_length(d.step::text)) OVER (ORDER BY d.depth) AS size_bytes
                  FROM ancestors AS d) AS c
         WHERE c.size_bytes <= 1048576) AS chain,
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
    UPDATE draft_requests AS r SET
        partial_result = %(partial_result)s::jsonb,
        first_option_at = coalesce(r.first_option_at, now()),
        updated_at = now()
      FROM locked WHERE r.id = locked.id AND r.status = 'processing' AND r.lease_token = %(lease_token)s
)
SELECT CASE WHEN r.status = 'processing' AND r.lease_token = %(lease_token)s THEN 'held' ELSE r.status END AS standing
  FROM draft_requests AS r WHERE r.id = %(id)s;

-- name: record_usage
-- Record one model call. May be repeated.
--
-- Invariants: not fenced, because a result can be rejected and its cost cannot. The requester is named only while the request
-- exists, under a lock that its deletion waits for: what forgets a requester either finds the name or has deleted the request
-- (alembic/versions/0027_forget.py). Skips a locked request: then it writes nothing, and the caller retries.
--
-- Parameters: the columns; an empty requester_id needs no request.
-- Returns is_busy: whether nothing was written because the request is locked.
WITH request AS MATERIALIZED (
    SELECT r.requester_id FROM draft_requests AS r
     WHERE r.id = %(request_id)s AND r.requester_id = %(requester_id)s AND %(requester_id)s <> ''
       FOR KEY SHARE SKIP LOCKED
), standing AS MATERIALIZED (
    SELECT (SELECT requester_id FROM request) AS requester_id,
           NOT EXISTS (SELECT FROM request)
           AND EXISTS (SELECT FROM draft_requests AS r
                        WHERE r.id = %(request_id)s AND r.requester_id = %(requester_id)s AND %(requester_id)s <> '') AS is_busy
), recorded AS (
    INSERT INTO draft_usage (request_id, requester_id, attempt, lease_token, call, model, code,
                             input_tokens, cached_tokens, output_tokens, cost_usd, elapsed_s, trace_id)
    SELECT %(request_id)s, coalesce(standing.requester_id, ''), %(attempt)s, %(lease_token)s, %(call)s, %(model)s, %(code)s,
           %(input_tokens)s, %(cached_tokens)s, %(output_tokens)s, %(cost_usd)s, %(elapsed_s)s, %(trace_id)s
      FROM standing WHERE NOT standing.is_busy
    ON CONFLICT (request_id, lease_token, call) DO NOTHING
)
SELECT is_busy FROM standing;
