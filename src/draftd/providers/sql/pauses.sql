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

-- name: used_models
-- The names of the models that agents use: those of draft_agents, and those that daemons have reported. Null under row security,
-- which may hide some.
SELECT CASE WHEN NOT row_security_active('draft_agents') AND NOT row_security_active('draft_workers') THEN ARRAY (
    SELECT x.name FROM (
        SELECT a.model AS name FROM draft_agents AS a UNION SELECT unnest(a.fallback_models) FROM draft_agents AS a
        UNION
        SELECT jsonb_object_keys(m.value) FROM draft_workers AS w
               CROSS JOIN jsonb_each(CASE WHEN jsonb_typeof(w.models) = 'object' THEN w.models ELSE '{}' END) AS m
         WHERE jsonb_typeof(m.value) = 'object') AS x
     WHERE x.name IS NOT NULL ORDER BY 1) END AS names;

-- name: resume
-- End a pause.
--
-- Parameters: what, name.
DELETE FROM draft_pauses WHERE what = %(what)s AND name = %(name)s RETURNING what, name, reason, by, since;
