-- Limits of requesters in draft_limits.

-- name: list
-- All limits; the row for everybody first.
SELECT requester_id, max_pending, max_in_flight, usd_per_day
  FROM draft_limits ORDER BY requester_id <> '*', requester_id;

-- name: set
-- Set some limits of a requester.
--
-- Parameters: requester_id; each column, null for no limit, and has_ each column, whether to change it.
INSERT INTO draft_limits AS l (requester_id, max_pending, max_in_flight, usd_per_day)
VALUES (%(requester_id)s, %(max_pending)s, %(max_in_flight)s, %(usd_per_day)s)
ON CONFLICT (requester_id) DO UPDATE SET
    max_pending = CASE WHEN %(has_max_pending)s THEN excluded.max_pending ELSE l.max_pending END,
    max_in_flight = CASE WHEN %(has_max_in_flight)s THEN excluded.max_in_flight ELSE l.max_in_flight END,
    usd_per_day = CASE WHEN %(has_usd_per_day)s THEN excluded.usd_per_day ELSE l.usd_per_day END
RETURNING l.requester_id, l.max_pending, l.max_in_flight, l.usd_per_day;

-- name: unset
-- Remove all limits of a requester.
--
-- Parameters: requester_id.
DELETE FROM draft_limits WHERE requester_id = %(requester_id)s RETURNING requester_id;
