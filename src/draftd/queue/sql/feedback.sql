-- name: insert_feedback
-- Record what became of a draft. Triggers fill in the rest and refuse what cannot be.
--
-- Parameters: request_id; the others may be null.
-- Returns: the row, without the texts.
INSERT INTO draft_feedback (request_id, option, outcome, sent_text, rating)
VALUES (%(request_id)s, %(option)s, %(outcome)s, %(sent_text)s, %(rating)s)
RETURNING id, request_id, option, outcome, rating, similarity, created_at;

-- name: claim_scores
-- Take feedback whose scores are due, the oldest first, for as long as sending it may take. If it is not sent by then (the
-- process died, Langfuse is away), it is due again.
--
-- Invariants: no transaction stays open while scores are sent; skips what another daemon is taking. No value that JSON lacks (NaN)
-- is returned: one would have its whole batch refused.
-- Parameters: batch, the maximum number of rows; lease_s.
UPDATE draft_feedback AS f SET score_at = now() + make_interval(secs => %(lease_s)s)
  FROM (SELECT id FROM draft_feedback WHERE score_at <= now() ORDER BY score_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED) AS due
 WHERE f.id = due.id
RETURNING f.id, f.request_id, f.trace_id, f.option, f.outcome, f.rating, f.created_at, f.score_at,
          CASE WHEN f.similarity BETWEEN 0 AND 1 THEN f.similarity END AS similarity;

-- name: settle_scores
-- Note that scores were sent, or when to try again.
--
-- Invariants: a row that was taken again since (its lease ran out) is left to whoever has it.
-- Parameters: ids; until, the end of each one's lease; delay_s, null if they were sent.
UPDATE draft_feedback AS f SET score_at = now() + make_interval(secs => %(delay_s)s)
  FROM unnest(%(ids)s::bigint[], %(until)s::timestamptz[]) AS v(id, until)
 WHERE f.id = v.id AND f.score_at = v.until;
