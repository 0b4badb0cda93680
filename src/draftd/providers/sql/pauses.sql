-- Pauses in draft_pauses. Those of requesters are the database's matter (migration 0023).

-- name: read_pauses
-- What daemons leave out: everything, or models.
SELECT coalesce(jsonb_agg(jsonb_build_object('what', p.what, 'name', p.name)), '[]') AS pauses
  FROM draft_pauses AS p WHERE p.what IN ('all', 'model');

-- name: list_pauses
-- The pauses, for operators.
SELECT what, name, reason, by, since FROM draft_pauses ORDER BY since, what, name;

-- name: pause
-- Pause everything, a model or a requester. From the commit on nothing new is claimed for it.
--
-- Parameters: what, name, reason, by.
INSERT INTO draft_pauses (what, name, reason, by) VALUES (%(what)s, %(name)s, %(reason)s, %(by)s)
ON CONFLICT (what, name) DO UPDATE SET reason = excluded.reason, by = excluded.by, since = now()
RETURNING what, name, reason, by, since;

-- name: resume
-- End a pause.
--
-- Parameters: what, name.
DELETE FROM draft_pauses WHERE what = %(what)s AND name = %(name)s RETURNING what, name, reason, by, since;
