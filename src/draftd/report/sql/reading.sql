-- What a report needs to know of a period, each statement one pass over the rows of the period, by the indexes on created_at.
--
-- Texts are cut, and a result of more than 1 MiB is left out: whoever may write rows may write 1 GB into each.
--
-- Common parameters: since and until, the period; step_s, the width of a plot's bar in seconds.

-- name: read_period
-- The period by the database's clock. Further parameter: since_s, how long it is.
SELECT now() AS until, now() - make_interval(secs => %(since_s)s) AS since;

-- name: read_volume
-- The number of requests inserted in each step, by status, and by error code if they failed.
SELECT date_bin(make_interval(secs => %(step_s)s), created_at, timestamptz '2000-01-03 00:00Z') AS at, status,
       CASE WHEN status = 'failed' THEN left(error_code, 200) END AS code, count(*)::int AS n
  FROM draft_requests WHERE created_at >= %(since)s AND created_at < %(until)s
 GROUP BY 1, 2, 3 ORDER BY 1;

-- name: read_latency
-- Medians and 95th percentiles of completed requests in seconds, for each step, and for the period (at is null).
--
-- Further parameter: share, of the requests that are looked at: sorting a million times takes longer than reading them.
--
-- A request that was retried waits from its insert, because available_at is then the retry's. Without a published option the first
-- one came with the result. Differences of epochs: PostgreSQL 16 and older cannot subtract infinite timestamps, which a worker's
-- role can write; no difference is more than a hundred years.
WITH seen AS (
    SELECT date_bin(make_interval(secs => %(step_s)s), created_at, timestamptz '2000-01-03 00:00Z') AS at,
           CASE WHEN attempt <= 1 THEN greatest(created_at, available_at) ELSE created_at END AS began,
           greatest(created_at, available_at) AS due, claimed_at, first_option_at, finished_at
      FROM draft_requests
     WHERE created_at >= %(since)s AND created_at < %(until)s AND status = 'completed'
       AND (uuid_hash(id) & 65535) < %(share)s * 65536
), measured AS (
    SELECT at,
           least(3153600000, greatest(0, extract(epoch FROM claimed_at) - extract(epoch FROM due)))::float8 AS wait_s,
           least(3153600000, greatest(0, extract(epoch FROM least(coalesce(first_option_at, finished_at), finished_at))
                                         - extract(epoch FROM began)))::float8 AS first_s,
           least(3153600000, greatest(0, extract(epoch FROM finished_at) - extract(epoch FROM began)))::float8 AS result_s
      FROM seen
)
SELECT at, count(*)::int AS n,
       percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY wait_s) AS wait_s,
       percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY first_s) AS first_s,
       percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY result_s) AS result_s
  FROM measured GROUP BY GROUPING SETS ((at), ()) ORDER BY at;

-- name: read_drafted
-- The number of completed requests by platform, agent and prompt version, the most frequent first.
-- Further parameter: most, the maximum number of rows.
SELECT left(result ->> 'platform', 200) AS platform, left(agent, 200) AS agent, left(prompt_version, 200) AS prompt_version,
       count(*)::int AS n, min(created_at) AS first_at
  FROM draft_requests WHERE created_at >= %(since)s AND created_at < %(until)s AND status = 'completed'
 GROUP BY 1, 2, 3 ORDER BY n DESC, 1, 2, 3 LIMIT %(most)s;

-- name: read_usage
-- Model calls by day (UTC) and model. Calls that failed before they had tokens cost nothing; the cost of the others is unknown
-- where it is null. Further parameter: most, the maximum number of rows.
SELECT (created_at AT TIME ZONE 'UTC')::date AS day, left(model, 200) AS model, count(*)::int AS calls,
       count(*) FILTER (WHERE code IS NOT NULL)::int AS failed,
       coalesce(sum(input_tokens), 0)::bigint AS input_tokens, coalesce(sum(cached_tokens), 0)::bigint AS cached_tokens,
       coalesce(sum(output_tokens), 0)::bigint AS output_tokens, coalesce(sum(nullif(cost_usd, 'NaN')), 0)::float8 AS cost_usd,
       count(*) FILTER (WHERE nullif(cost_usd, 'NaN') IS NULL AND (code IS NULL OR input_tokens IS NOT NULL))::int AS unpriced
  FROM draft_usage WHERE created_at >= %(since)s AND created_at < %(until)s
 GROUP BY 1, 2 ORDER BY 1, 2 LIMIT %(most)s;

-- name: read_feedback
-- Feedback of the period, counted by everything that it can be told apart by: one per request, whose newest outcome and newest
-- rating count. Where both texts are known, they say whether a draft that was sent was edited. A row whose request is gone counts
-- for itself. Further parameter: most, the maximum number of rows.
--
-- tenth is that of the similarity, 10 for texts that are equal. A similarity that the triggers do not make (NaN) is left out.
WITH given AS (
    SELECT f.id, coalesce(f.request_id::text, f.id::text) AS rated, left(f.platform, 200) AS platform, left(f.agent, 200) AS agent,
           f.option, left(f.stance, 200) AS stance, f.rating, f.outcome,
           CASE WHEN f.similarity BETWEEN 0 AND 1 THEN f.similarity END AS similarity,
           left(coalesce(f.prompt_version, r.prompt_version), 200) AS prompt_version
      FROM draft_feedback AS f LEFT JOIN draft_requests AS r ON r.id = f.request_id
     WHERE f.created_at >= %(since)s AND f.created_at < %(until)s
), newest AS (
    SELECT max(id) AS id, max(id) FILTER (WHERE outcome IS NOT NULL) AS outcome_id,
           max(id) FILTER (WHERE rating IS NOT NULL) AS rating_id
      FROM given GROUP BY rated
)
SELECT g.platform, g.agent, g.prompt_version, o.option, o.stance, r.rating,
       CASE WHEN o.outcome = 'rejected' OR o.similarity IS NULL THEN o.outcome
            WHEN o.similarity = 1 THEN 'sent' ELSE 'edited' END AS outcome,
       CASE WHEN o.outcome <> 'rejected' THEN floor(o.similarity * 10)::int END AS tenth,
       count(*)::int AS n, coalesce(sum(o.similarity) FILTER (WHERE o.outcome <> 'rejected'), 0)::float8 AS similarity
  FROM newest JOIN given AS g USING (id)
       LEFT JOIN given AS o ON o.id = newest.outcome_id LEFT JOIN given AS r ON r.id = newest.rating_id
 GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 ORDER BY n DESC LIMIT %(most)s;

-- name: read_angles
-- The angles of the drafts that were sent, as drafted or edited, the most frequent first. Further parameter: most.
SELECT lower(left(angle, 200)) AS angle, count(DISTINCT coalesce(request_id::text, id::text))::int AS n
  FROM draft_feedback
 WHERE created_at >= %(since)s AND created_at < %(until)s AND outcome IN ('sent', 'edited') AND angle <> ''
 GROUP BY 1 ORDER BY n DESC, 1 LIMIT %(most)s;

-- name: read_drafts
-- The newest finished requests with their newest feedback. Further parameter: most, the maximum number of rows.
SELECT r.id, r.created_at, r.status, left(r.agent, 200) AS agent, left(r.model, 200) AS model,
       left(r.prompt_version, 200) AS prompt_version, left(r.error_code, 200) AS error_code,
       left(r.error_message, 8000) AS error_message,
       nullif(r.cost_usd, 'NaN')::float8 AS cost_usd,
       least(3153600000, greatest(0, extract(epoch FROM r.finished_at) - extract(epoch FROM r.created_at)))::float8 AS result_s,
       CASE WHEN octet_length(coalesce(r.result, r.partial_result)::text) <= 1048576
            THEN coalesce(r.result, r.partial_result) END AS result, f.option, f.outcome, f.rating,
       CASE WHEN f.similarity BETWEEN 0 AND 1 THEN f.similarity END AS similarity, left(f.sent_text, 8000) AS sent_text,
       f.option IS NOT NULL OR f.outcome IS NOT NULL OR f.rating IS NOT NULL AS is_rated
  FROM draft_requests AS r LEFT JOIN LATERAL (
        SELECT * FROM draft_feedback AS x WHERE x.request_id = r.id ORDER BY x.id DESC LIMIT 1) AS f ON true
 WHERE r.created_at >= %(since)s AND r.created_at < %(until)s AND r.status IN ('completed', 'failed')
 ORDER BY r.created_at DESC LIMIT %(most)s;
