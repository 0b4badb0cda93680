-- Throttles in draft_throttles. A row's share dates from changed_at and doubles every 30 s after that, up to 1. It is never below
-- 1/64. No value in a column makes a statement fail: times are subtracted as epochs, because PostgreSQL 16 and older cannot
-- subtract an infinite timestamp.

-- name: halve
-- Halve the fleet's share for a model, unless this rate limit's burst has halved it already.
--
-- Invariants: idempotent. A call that began before the share last changed belongs to the burst that changed it. Bursts are counted
-- until the share has recovered or a call has succeeded.
--
-- Parameters: model; request_id, the request that was refused, and elapsed_s since its call began.
-- Returns: the share and the bursts, or null and 0 if nothing was halved; another_succeeded, whether the model has answered another
-- request since the call began.
WITH halved AS (
    INSERT INTO draft_throttles AS t (model) VALUES (%(model)s)
    ON CONFLICT (model) DO UPDATE SET (share, since, bursts, changed_at) = (
        SELECT greatest(0.015625, n.share / 2),
               CASE WHEN n.share < 1 THEN t.since ELSE now() END,
               CASE WHEN n.share < 1 AND NOT EXISTS (
                         SELECT FROM draft_usage AS u
                          WHERE u.model = t.model AND u.code IS NULL
                            AND u.created_at BETWEEN t.changed_at AND now() + interval '1 min')
                    THEN least(t.bursts, 1000000) + 1 ELSE 1 END,
               now()
          FROM (SELECT least(1, greatest(0.015625, least(1, t.share)) * 2 ^ greatest(0, least(20, floor(
                    (extract(epoch FROM now()) - extract(epoch FROM t.changed_at))::float8 / 30)))) AS share) AS n)
     WHERE t.changed_at NOT BETWEEN now() - make_interval(secs => %(elapsed_s)s) AND now() + interval '1 min'
    RETURNING t.share, t.bursts
), another AS (
    SELECT EXISTS (SELECT FROM draft_usage AS u
                    WHERE u.model = %(model)s AND u.code IS NULL AND u.request_id <> %(request_id)s
                      AND u.created_at BETWEEN now() - make_interval(secs => %(elapsed_s)s)
                                           AND now() + interval '1 min') AS succeeded
)
SELECT halved.share::float8, coalesce(halved.bursts, 0) AS bursts, another.succeeded AS another_succeeded
  FROM another LEFT JOIN halved ON true;

-- name: list_throttles
-- The throttles in effect, for operators.
SELECT n.model, n.share, n.since, n.bursts
  FROM (SELECT t.model, t.since, t.bursts,
               least(1, greatest(0.015625, least(1, t.share)) * 2 ^ greatest(0, least(20, floor(
                   (extract(epoch FROM now()) - extract(epoch FROM t.changed_at))::float8 / 30)))) AS share
          FROM draft_throttles AS t) AS n
 WHERE n.share < 1 ORDER BY n.model;
