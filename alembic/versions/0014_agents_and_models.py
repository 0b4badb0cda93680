"""Which models answer an agent, by name, and what a name means, in two tables; holds that nobody uses any more.

A row of ``model_configs`` with an address, a key or prices becomes a row of ``draft_agents`` and one of ``draft_models`` for each
of its models, named ``<litellm name>@<agent>``: the litellm name itself must go on to mean the provider, for ``DRAFTD_MODEL`` and
for other agents. Agents with the same model, address, key and prices share one, named after the first of them.

The downgrade gives an agent the address, key and prices of its first model: ``model_configs`` has no room for more.
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

PRIVATE = """
DO $$
DECLARE
    name text;
    stranger text;
BEGIN
    FOREACH name IN ARRAY ARRAY[{tables}] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        FOR stranger IN
            SELECT 'public' UNION ALL SELECT quote_ident(rolname) FROM pg_roles WHERE rolname IN ('anon', 'authenticated')
        LOOP
            EXECUTE format('REVOKE ALL ON TABLE %I FROM %s', name, stranger);
        END LOOP;
    END LOOP;
END $$;
"""

TABLES = """
CREATE TABLE draft_agents (
    agent           text        NOT NULL,
    model           text        NOT NULL,
    fallback_models text[]      NOT NULL DEFAULT '{}',
    params          jsonb       NOT NULL DEFAULT '{}',
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT draft_agents_pkey PRIMARY KEY (agent)
);
COMMENT ON COLUMN draft_agents.model IS 'by name, see draft_models';

CREATE TABLE draft_models (
    name                text        NOT NULL,
    model               text,
    api_base            text,
    api_key_env         text,
    params              jsonb       NOT NULL DEFAULT '{}',
    input_usd_per_mtok  numeric,
    output_usd_per_mtok numeric,
    updated_at          timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT draft_models_pkey PRIMARY KEY (name),
    CONSTRAINT draft_models_input_usd_per_mtok_check CHECK (input_usd_per_mtok BETWEEN 0 AND 10000),
    CONSTRAINT draft_models_output_usd_per_mtok_check CHECK (output_usd_per_mtok BETWEEN 0 AND 10000),
    CONSTRAINT draft_models_prices_check CHECK ((input_usd_per_mtok IS NULL) = (output_usd_per_mtok IS NULL))
);
COMMENT ON COLUMN draft_models.model IS 'the litellm name; null: the name itself';
COMMENT ON COLUMN draft_models.api_key_env IS 'the variable that holds the key, at the daemons';
"""

# Prices counted only together, and what was no price counts as none.
MOVE = """
CREATE TABLE draft_moved AS
WITH priced AS (
    SELECT c.*, c.price_in BETWEEN 0 AND 10000 AND c.price_out BETWEEN 0 AND 10000 AS is_priced FROM model_configs AS c
), used AS (
    SELECT DISTINCT p.agent, m.model, p.api_base, p.api_key_env,
           CASE WHEN p.is_priced THEN p.price_in END AS price_in, CASE WHEN p.is_priced THEN p.price_out END AS price_out
      FROM priced AS p CROSS JOIN LATERAL unnest(p.model || p.fallback_models) AS m(model)
     WHERE m.model IS NOT NULL AND (p.api_base IS NOT NULL OR p.api_key_env IS NOT NULL OR p.is_priced)
)
SELECT agent, model, api_base, api_key_env, price_in, price_out,
       model || '@' || min(agent) OVER (PARTITION BY model, api_base, api_key_env, price_in, price_out) AS name
  FROM used;

INSERT INTO draft_models (name, model, api_base, api_key_env, input_usd_per_mtok, output_usd_per_mtok)
SELECT DISTINCT name, model, api_base, api_key_env, price_in, price_out FROM draft_moved;

INSERT INTO draft_agents (agent, model, fallback_models, params, updated_at)
SELECT c.agent,
       coalesce((SELECT m.name FROM draft_moved AS m WHERE m.agent = c.agent AND m.model = c.model), c.model),
       ARRAY(SELECT coalesce(m.name, f.model)
               FROM unnest(c.fallback_models) WITH ORDINALITY AS f(model, place)
               LEFT JOIN draft_moved AS m ON m.agent = c.agent AND m.model = f.model
              WHERE f.model IS NOT NULL ORDER BY f.place),
       CASE WHEN jsonb_typeof(c.params) = 'object' THEN c.params ELSE '{}' END, c.updated_at
  FROM model_configs AS c;

DROP TABLE draft_moved;
DROP TABLE model_configs;
"""

HOLDS = """
ALTER TABLE draft_holds ADD COLUMN used_at timestamptz NOT NULL DEFAULT now();
COMMENT ON COLUMN draft_holds.used_at IS 'when a daemon that uses the model last said so';
"""

MOVE_BACK = """
CREATE TABLE model_configs (
    agent           text        NOT NULL,
    model           text        NOT NULL,
    fallback_models text[]      NOT NULL DEFAULT '{}',
    params          jsonb       NOT NULL DEFAULT '{}',
    api_base        text,
    api_key_env     text,
    price_in        numeric,
    price_out       numeric,
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT model_configs_pkey PRIMARY KEY (agent)
);
COMMENT ON COLUMN model_configs.price_in IS 'USD per million input tokens';
COMMENT ON COLUMN model_configs.price_out IS 'USD per million output tokens';

INSERT INTO model_configs (agent, model, fallback_models, params, api_base, api_key_env, price_in, price_out, updated_at)
SELECT a.agent, coalesce(m.model, a.model),
       ARRAY(SELECT coalesce(fm.model, f.name)
               FROM unnest(a.fallback_models) WITH ORDINALITY AS f(name, place) LEFT JOIN draft_models AS fm ON fm.name = f.name
              ORDER BY f.place),
       CASE WHEN jsonb_typeof(m.params) = 'object' THEN m.params ELSE '{}' END
           || CASE WHEN jsonb_typeof(a.params) = 'object' THEN a.params ELSE '{}' END,
       m.api_base, m.api_key_env, m.input_usd_per_mtok, m.output_usd_per_mtok, a.updated_at
  FROM draft_agents AS a LEFT JOIN draft_models AS m ON m.name = a.model;

ALTER TABLE draft_holds DROP COLUMN used_at;
DROP TABLE draft_agents;
DROP TABLE draft_models;
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(MOVE)
    op.execute(PRIVATE.format(tables="'draft_agents', 'draft_models'"))
    op.execute(HOLDS)


def downgrade() -> None:
    op.execute(MOVE_BACK)
    op.execute(PRIVATE.format(tables="'model_configs'"))
