"""The tables, their indexes and storage parameters."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

UPGRADE = r"""
CREATE TABLE draft_requests (
    -- set by the client
    id              uuid        NOT NULL DEFAULT gen_random_uuid(),
    requester_id    text        NOT NULL DEFAULT '',
    agent           text        NOT NULL DEFAULT 'comment_generator',
    image_urls      text[]      NOT NULL DEFAULT '{}'::text[],
    context         text,
    options         jsonb       NOT NULL DEFAULT '{}'::jsonb,
    parent_id       uuid,
    priority        smallint    NOT NULL DEFAULT 0,
    available_at    timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz,
    idempotency_key text,
    max_attempts    smallint    NOT NULL DEFAULT 5,
    metadata        jsonb       NOT NULL DEFAULT '{}'::jsonb,
    -- written by the daemon
    status          text        NOT NULL DEFAULT 'pending',
    attempt         smallint    NOT NULL DEFAULT 0,
    lease_token     bigint      NOT NULL DEFAULT 0,
    lease_until     timestamptz,
    deadline_at     timestamptz,
    worker_id       uuid,
    turn            bigint      NOT NULL DEFAULT 0,
    partial_result  jsonb,
    result          jsonb,
    reading         jsonb,
    error_code      text,
    error_message   text,
    errors          jsonb       NOT NULL DEFAULT '[]'::jsonb,
    images          jsonb,
    model           text,
    prompt_version  text,
    input_tokens    integer,
    output_tokens   integer,
    cost_usd        numeric(12, 6),
    trace_id        text,
    created_at      timestamptz NOT NULL DEFAULT now(),
    claimed_at      timestamptz,
    finished_at     timestamptz,
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT draft_requests_pkey PRIMARY KEY (id),
    CONSTRAINT draft_requests_requester_id_idempotency_key_key UNIQUE (requester_id, idempotency_key),
    CONSTRAINT draft_requests_status_check
        CHECK (status IN ('pending', 'processing', 'completed', 'failed', 'cancelled')),
    CONSTRAINT draft_requests_result_check CHECK ((status = 'completed') = (result IS NOT NULL))
) WITH (
    -- Room for the claim's and the renewals' new row versions on the same page.
    fillfactor = 85,
    -- Dead index entries slowed the claim from 4,700/s to 2,600/s within 24 s: vacuum early, and at full speed.
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.02,
    autovacuum_vacuum_cost_delay = 0,
    toast.autovacuum_vacuum_scale_factor = 0.01,
    toast.autovacuum_vacuum_cost_delay = 0
);
COMMENT ON COLUMN draft_requests.reading IS 'the messages that mattered, verbatim, for a refinement';

-- Screenshots in base64 do not compress; not trying saves 200 ms for 7 MB, and makes the stored size the true one.
ALTER TABLE draft_requests ALTER COLUMN image_urls SET STORAGE EXTERNAL;

CREATE INDEX draft_requests_claim_idx ON draft_requests (agent, priority DESC, turn, available_at, id)
    WHERE status = 'pending';
CREATE INDEX draft_requests_turn_idx ON draft_requests (agent, priority, requester_id, turn DESC)
    WHERE status = 'pending';
CREATE INDEX draft_requests_expires_at_idx ON draft_requests (expires_at)
    WHERE status = 'pending' AND expires_at IS NOT NULL;
CREATE INDEX draft_requests_default_expiry_idx ON draft_requests (available_at)
    WHERE status = 'pending' AND expires_at IS NULL;
CREATE INDEX draft_requests_processing_idx ON draft_requests (deadline_at) WHERE status = 'processing';
CREATE INDEX draft_requests_created_at_idx ON draft_requests (created_at);

CREATE TABLE draft_workers (
    id           uuid        NOT NULL,
    hostname     text        NOT NULL,
    pid          integer     NOT NULL,
    version      text        NOT NULL,
    state        text        NOT NULL,
    agents       text[]      NOT NULL DEFAULT '{}'::text[],
    concurrency  integer     NOT NULL,
    in_flight    integer     NOT NULL DEFAULT 0,
    started_at   timestamptz NOT NULL DEFAULT now(),
    heartbeat_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT draft_workers_pkey PRIMARY KEY (id),
    CONSTRAINT draft_workers_state_check CHECK (state IN ('running', 'draining', 'stopped'))
) WITH (fillfactor = 50);
COMMENT ON COLUMN draft_workers.agents IS 'whose prompts it has';

CREATE TABLE model_configs (
    agent           text        NOT NULL,
    model           text        NOT NULL,
    fallback_models text[]      NOT NULL DEFAULT '{}'::text[],
    params          jsonb       NOT NULL DEFAULT '{}'::jsonb,
    api_base        text,
    api_key_env     text,
    price_in        numeric,
    price_out       numeric,
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT model_configs_pkey PRIMARY KEY (agent)
);
COMMENT ON COLUMN model_configs.price_in IS 'USD per million input tokens';
COMMENT ON COLUMN model_configs.price_out IS 'USD per million output tokens';

CREATE TABLE model_holds (
    model    text        NOT NULL,
    code     text        NOT NULL,
    since    timestamptz NOT NULL DEFAULT now(),
    until    timestamptz NOT NULL DEFAULT now(),
    reason   text        NOT NULL DEFAULT '',
    failures integer     NOT NULL DEFAULT 1,
    CONSTRAINT model_holds_pkey PRIMARY KEY (model)
);
COMMENT ON COLUMN model_holds.failures IS 'in a row; the pause doubles with each';

CREATE TABLE draft_usage (
    id            bigint GENERATED ALWAYS AS IDENTITY,
    request_id    uuid        NOT NULL,
    requester_id  text        NOT NULL,
    attempt       smallint    NOT NULL,
    lease_token   bigint      NOT NULL,
    call          smallint    NOT NULL,
    model         text        NOT NULL,
    code          text,
    input_tokens  integer,
    output_tokens integer,
    cost_usd      numeric(12, 6),
    elapsed_s     numeric(10, 3),
    trace_id      text,
    created_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT draft_usage_pkey PRIMARY KEY (id),
    -- A repeated write (the connection was lost, the row was not) changes nothing.
    CONSTRAINT draft_usage_request_id_lease_token_call_key UNIQUE (request_id, lease_token, call)
);
COMMENT ON COLUMN draft_usage.call IS 'which model call of the attempt, from 1';
COMMENT ON COLUMN draft_usage.code IS 'null when the call was answered, else its error';

CREATE TABLE draft_feedback (
    id         bigint GENERATED ALWAYS AS IDENTITY,
    request_id uuid        NOT NULL,
    option     text,
    sent_text  text,
    rating     smallint,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT draft_feedback_pkey PRIMARY KEY (id),
    CONSTRAINT draft_feedback_request_id_fkey FOREIGN KEY (request_id) REFERENCES draft_requests (id) ON DELETE CASCADE,
    CONSTRAINT draft_feedback_option_check CHECK (option IN ('short', 'medium', 'detailed'))
);
CREATE INDEX draft_feedback_request_id_idx ON draft_feedback (request_id);

CREATE TABLE draft_profiles (
    requester_id    text   NOT NULL,
    me              text,
    about           text,
    facts           text[] NOT NULL DEFAULT '{}'::text[],
    signature       text,
    voice_samples   text[] NOT NULL DEFAULT '{}'::text[],
    reader_language text,
    CONSTRAINT draft_profiles_pkey PRIMARY KEY (requester_id)
);
"""

DOWNGRADE = r"""
DROP TABLE draft_profiles;
DROP TABLE draft_feedback;
DROP TABLE draft_usage;
DROP TABLE model_holds;
DROP TABLE model_configs;
DROP TABLE draft_workers;
DROP TABLE draft_requests;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
