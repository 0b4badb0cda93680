-- name: settle
-- Write the outcomes of some attempts, each once, and only if its claim still holds the row.
--
-- Invariants: matches id, status 'processing' and lease_token; locks in the order of ids. Skips locked rows, which the caller
-- retries: a client that holds one row in a long transaction must not delay the results of others. May be repeated: the second
-- execution finds the rows settled by the first with their claims' tokens.
--
-- Parameters: rows, a JSON array of settlements.
-- Returns for each settlement: settled, the new status if this execution wrote it; otherwise standing, is_mine and is_busy.
WITH v AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb) AS v(
        id uuid, lease_token bigint, status text, give_back boolean, delay_s float8, code text, message text, told text,
        details jsonb, error_model text, max_tokens int, result jsonb, reading jsonb, model text, prompt_version text,
        images jsonb,
        trace_id text)
     ORDER BY id
), locked AS MATERIALIZED (
    -- The row's values once it is locked: the statement's own snapshot may be older. LATERAL, because with a join the planner
    -- might read the whole table for 50 rows.
    SELECT x.* FROM (SELECT DISTINCT id FROM v ORDER BY id) AS v CROSS JOIN LATERAL (
        SELECT r.id, r.status, r.lease_token, r.error_code FROM draft_requests AS r
         WHERE r.id = v.id FOR NO KEY UPDATE SKIP LOCKED) AS x
), settled AS (
    UPDATE draft_requests AS r SET
        status = CASE WHEN v.status = 'pending' AND NOT v.give_back AND r.attempt >= r.max_attempts
                      THEN 'failed' ELSE v.status END,
        attempt = r.attempt - v.give_back::int,
        -- A row that waits for the next day's budget is not the cause of anything.
        given_back = r.given_back + (v.give_back AND coalesce(v.code, 'budget_exceeded') <> 'budget_exceeded')::int,
        available_at = CASE WHEN v.delay_s > 0 THEN now() + make_interval(secs => v.delay_s) ELSE r.available_at END,
        error_code = v.code,
        error_message = v.told,
        error_details = v.details,
        -- Keeps the last 20. A value that is not an array (not written by draftd) is replaced, so as not to fail the statement.
        errors = CASE WHEN v.code IS NULL THEN r.errors
                      ELSE CASE WHEN jsonb_typeof(r.errors) <> 'array' THEN '[]'
                                WHEN jsonb_array_length(r.errors) >= 20 THEN r.errors - 0
                                ELSE r.errors END
                           || (jsonb_build_object('attempt', r.attempt, 'at', now(), 'code', v.code,
                                                 'message', v.message, 'model', v.error_model)
                           || CASE WHEN v.max_tokens IS NULL THEN '{}'
                                   ELSE jsonb_build_object('max_tokens', v.max_tokens) END) END,
        result = v.result,
        reading = coalesce(v.reading, r.reading),
        model = coalesce(v.model, r.model),
        prompt_version = coalesce(v.prompt_version, r.prompt_version),
        images = coalesce(v.images, r.images),
        trace_id = coalesce(v.trace_id, r.trace_id),
        input_tokens = u.input_tokens,
        output_tokens = u.output_tokens,
        cost_usd = u.cost_usd,
        updated_at = now()
      FROM locked JOIN v ON v.id = locked.id LEFT JOIN LATERAL (
        SELECT sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
               CASE WHEN bool_and(cost_usd IS NOT NULL) THEN sum(cost_usd) END AS cost_usd
          FROM draft_usage WHERE request_id = v.id AND (code IS NULL OR input_tokens IS NOT NULL)) AS u ON true
     WHERE r.id = v.id AND r.status = 'processing' AND r.lease_token = v.lease_token
    RETURNING r.id, r.lease_token, r.status
)
SELECT v.id, v.lease_token, settled.status AS settled, locked.status AS standing,
       -- A row that the reaper returned to pending has this token as well, but another code.
       locked.lease_token = v.lease_token AND locked.error_code IS NOT DISTINCT FROM v.code AS is_mine,
       locked.id IS NULL AND coalesce((SELECT true FROM draft_requests AS r WHERE r.id = v.id), false) AS is_busy
  FROM v LEFT JOIN locked ON locked.id = v.id
         LEFT JOIN settled ON settled.id = v.id AND settled.lease_token = v.lease_token;
