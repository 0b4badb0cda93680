-- The agents' models (draft_agents) and the definitions of model names (draft_models).

-- name: read
-- Both tables, as a heartbeat reads them. Returns params as text, truncated if long: an unreadable value must not affect other
-- rows.
SELECT (SELECT coalesce(jsonb_agg(to_jsonb(a) || jsonb_build_object('params', left(a.params::text, 10000))), '[]')
          FROM draft_agents AS a) AS agents,
       (SELECT coalesce(jsonb_agg(to_jsonb(m) || jsonb_build_object('params', left(m.params::text, 10000))), '[]')
          FROM draft_models AS m) AS models;

-- name: list_agents
SELECT agent, model, fallback_models, params, updated_at FROM draft_agents ORDER BY agent;

-- name: set_agent
-- Parameters: the columns.
INSERT INTO draft_agents (agent, model, fallback_models, params)
VALUES (%(agent)s, %(model)s, %(fallback_models)s, %(params)s)
ON CONFLICT (agent) DO UPDATE SET
    model = excluded.model, fallback_models = excluded.fallback_models, params = excluded.params, updated_at = now();

-- name: unset_agent
-- Parameters: agent.
DELETE FROM draft_agents WHERE agent = %(agent)s RETURNING model, fallback_models;

-- name: chosen
-- The models of one agent.
--
-- Parameters: agent.
SELECT model, fallback_models FROM draft_agents WHERE agent = %(agent)s;

-- name: list_models
SELECT name, coalesce(model, name) AS model, api_base, api_key_env, params, input_usd_per_mtok, output_usd_per_mtok,
       cached_input_usd_per_mtok, rpm, tpm, max_in_flight, updated_at
  FROM draft_models ORDER BY name;

-- name: set_model
-- Parameters: the columns.
INSERT INTO draft_models (name, model, api_base, api_key_env, params, input_usd_per_mtok, output_usd_per_mtok,
                          cached_input_usd_per_mtok, rpm, tpm, max_in_flight)
VALUES (%(name)s, %(model)s, %(api_base)s, %(api_key_env)s, %(params)s, %(input_usd_per_mtok)s, %(output_usd_per_mtok)s,
        %(cached_input_usd_per_mtok)s, %(rpm)s, %(tpm)s, %(max_in_flight)s)
ON CONFLICT (name) DO UPDATE SET
    model = excluded.model, api_base = excluded.api_base, api_key_env = excluded.api_key_env, params = excluded.params,
    input_usd_per_mtok = excluded.input_usd_per_mtok, output_usd_per_mtok = excluded.output_usd_per_mtok,
    cached_input_usd_per_mtok = excluded.cached_input_usd_per_mtok, rpm = excluded.rpm, tpm = excluded.tpm,
    max_in_flight = excluded.max_in_flight, updated_at = now();

-- name: unset_model
-- Parameters: name.
DELETE FROM draft_models WHERE name = %(name)s RETURNING name;

-- name: defined
-- The names that have a row.
--
-- Parameters: names.
SELECT name FROM draft_models WHERE name = ANY (%(names)s);

-- name: users
-- The agents that use a model.
--
-- Parameters: name.
SELECT agent FROM draft_agents WHERE model = %(name)s OR %(name)s = ANY (fallback_models) ORDER BY agent;
