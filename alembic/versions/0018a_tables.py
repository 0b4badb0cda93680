"""The tables, their indexes and storage parameters.

The migrations before the first release, 0001 to 0019, were squashed into this one and the next three. The last of them keeps the
id 0019, so that a database at 0019 goes on; the columns stand in the order in which the old ones had added them.
"""

from alembic import op

from draftd.db.private import keep_private

revision = "0018a"
down_revision = None
branch_labels = None
depends_on = None

UPGRADE = r"""
-- A mark and nothing else: the right to use this type is what makes a role a worker (draftd grants --worker). It is a right,
-- because rights are the owner's to give, members inherit them, and asking costs 0.3 us; a list in a table cost 20 us for each
-- row of each renewal. It is a type's, because GRANT ... ON ALL covers tables, sequences and functions, and no types.
CREATE DOMAIN draft_worker AS text;
COMMENT ON DOMAIN draft_worker IS 'a role with USAGE may write draft_requests as a daemon does';

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
    given_back      smallint    NOT NULL DEFAULT 0,
    -- by the client
    traceparent     text,
    -- by the daemon
    error_details   jsonb,
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
COMMENT ON COLUMN draft_requests.given_back IS 'how often a hold gave the attempt back';
COMMENT ON COLUMN draft_requests.traceparent IS 'the client''s trace, in W3C''s form';

-- Screenshots in base64 do not compress; not trying saves 200 ms for 7 MB, and makes the stored size the true one.
ALTER TABLE draft_requests ALTER COLUMN image_urls SET STORAGE EXTERNAL;

CREATE INDEX draft_requests_claim_idx ON draft_requests (agent, priority DESC, turn, available_at, id)
    WHERE status = 'pending';
-- With next to nothing pending, all indexes on pending rows cost the planner the same, and the claim took the smallest and
-- sorted. That plan is cached: a burst of 20,000 requests was then read whole by every claim, 35 ms instead of 0.2 ms, until
-- the next ANALYZE. The second condition is true of every row, but only the query that names it may use the index.
CREATE INDEX draft_requests_turn_idx ON draft_requests (agent, priority, requester_id, turn DESC)
    WHERE status = 'pending' AND requester_id >= '';
CREATE INDEX draft_requests_expires_at_idx ON draft_requests (expires_at)
    WHERE status = 'pending' AND expires_at IS NOT NULL;
CREATE INDEX draft_requests_processing_idx ON draft_requests (deadline_at) WHERE status = 'processing';
CREATE INDEX draft_requests_created_at_idx ON draft_requests (created_at);

CREATE TABLE draft_pictures (
    request_id uuid        NOT NULL,
    position   smallint    NOT NULL,
    url_sha256 bytea       NOT NULL,
    facts      jsonb       NOT NULL,
    data       bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT draft_pictures_pkey PRIMARY KEY (request_id, position),
    CONSTRAINT draft_pictures_request_id_fkey FOREIGN KEY (request_id) REFERENCES draft_requests (id) ON DELETE CASCADE
) WITH (
    -- Rows of this table live for minutes and weigh much: their room is for the next ones.
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_cost_delay = 0,
    toast.autovacuum_vacuum_scale_factor = 0.01,
    toast.autovacuum_vacuum_cost_delay = 0
);
COMMENT ON COLUMN draft_pictures.position IS 'of the entry in image_urls, from 1';
COMMENT ON COLUMN draft_pictures.url_sha256 IS 'of that entry as it was when it was fetched';
COMMENT ON COLUMN draft_pictures.facts IS 'what is known of the picture, and the sizes of its parts';
COMMENT ON COLUMN draft_pictures.data IS 'its parts as the model sees them, one after the other';
-- JPEG does not compress.
ALTER TABLE draft_pictures ALTER COLUMN data SET STORAGE EXTERNAL;

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
    beat_s       real        NOT NULL DEFAULT 4,
    attempt_s    real,
    CONSTRAINT draft_workers_pkey PRIMARY KEY (id),
    CONSTRAINT draft_workers_state_check CHECK (state IN ('running', 'draining', 'stopped'))
) WITH (fillfactor = 50);
COMMENT ON COLUMN draft_workers.agents IS 'whose prompts it has';
COMMENT ON COLUMN draft_workers.beat_s IS 'seconds between two of its heartbeats';
COMMENT ON COLUMN draft_workers.attempt_s IS 'the longest attempt, in seconds';

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

CREATE TABLE draft_holds (
    model    text        NOT NULL,
    code     text        NOT NULL,
    since    timestamptz NOT NULL DEFAULT now(),
    until    timestamptz NOT NULL DEFAULT now(),
    reason   text        NOT NULL DEFAULT '',
    failures integer     NOT NULL DEFAULT 1,
    probing  boolean     NOT NULL DEFAULT false,
    used_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT draft_holds_pkey PRIMARY KEY (model)
);
COMMENT ON COLUMN draft_holds.failures IS 'in a row; the pause doubles with each';
COMMENT ON COLUMN draft_holds.probing IS 'whether a probe is under way; only the end of one doubles the pause';
COMMENT ON COLUMN draft_holds.used_at IS 'when a daemon that uses the model last said so';

CREATE TABLE draft_throttles (
    model      text        NOT NULL,
    share      real        NOT NULL DEFAULT 0.5,
    bursts     integer     NOT NULL DEFAULT 1,
    since      timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT draft_throttles_pkey PRIMARY KEY (model)
);
COMMENT ON COLUMN draft_throttles.share IS 'of its concurrency that each daemon may use, as of changed_at';
COMMENT ON COLUMN draft_throttles.bursts IS 'of rate limits in a row without a success';

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
-- Whether another request to the same model has succeeded since: asked when a call has failed.
CREATE INDEX draft_usage_answered_idx ON draft_usage (model, created_at) WHERE code IS NULL;

CREATE TABLE draft_feedback (
    id           bigint GENERATED ALWAYS AS IDENTITY,
    request_id   uuid,
    option       text,
    sent_text    text,
    rating       smallint,
    created_at   timestamptz NOT NULL DEFAULT now(),
    requester_id text        NOT NULL DEFAULT '',
    outcome      text,
    platform     text,
    author       text,
    drafted_text text,
    CONSTRAINT draft_feedback_pkey PRIMARY KEY (id),
    CONSTRAINT draft_feedback_request_id_fkey FOREIGN KEY (request_id) REFERENCES draft_requests (id) ON DELETE SET NULL,
    CONSTRAINT draft_feedback_option_check CHECK (option IN ('short', 'medium', 'detailed')),
    CONSTRAINT draft_feedback_outcome_check CHECK (outcome IN ('sent', 'edited', 'rejected')),
    CONSTRAINT draft_feedback_rating_check CHECK (rating IN (-1, 1))
);
CREATE INDEX draft_feedback_request_id_idx ON draft_feedback (request_id);
CREATE INDEX draft_feedback_created_at_idx ON draft_feedback (created_at);

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

CREATE TABLE draft_settings (
    id                      boolean NOT NULL DEFAULT true,
    default_expiry_s        integer NOT NULL DEFAULT 21600,
    retention_days          integer NOT NULL DEFAULT 0,
    feedback_retention_days integer NOT NULL DEFAULT 0,
    CONSTRAINT draft_settings_pkey PRIMARY KEY (id),
    CONSTRAINT draft_settings_id_check CHECK (id),
    CONSTRAINT draft_settings_default_expiry_s_check CHECK (default_expiry_s BETWEEN 0 AND 315360000),
    CONSTRAINT draft_settings_retention_days_check CHECK (retention_days BETWEEN 0 AND 36500),
    CONSTRAINT draft_settings_feedback_retention_days_check CHECK (feedback_retention_days BETWEEN 0 AND 36500)
);
COMMENT ON COLUMN draft_settings.id IS 'always true: there is one row';
COMMENT ON COLUMN draft_settings.default_expiry_s IS 'from available_at to the expires_at that a client left null; 0: never';
COMMENT ON COLUMN draft_settings.retention_days IS 'final requests older than this are deleted; 0: they are kept';
COMMENT ON COLUMN draft_settings.feedback_retention_days IS 'feedback older than this is deleted; 0: it is kept';
INSERT INTO draft_settings DEFAULT VALUES;
"""

DOWNGRADE = r"""
DROP TABLE draft_settings;
DROP TABLE draft_profiles;
DROP TABLE draft_feedback;
DROP TABLE draft_usage;
DROP TABLE draft_throttles;
DROP TABLE draft_holds;
DROP TABLE draft_models;
DROP TABLE draft_agents;
DROP TABLE draft_workers;
DROP TABLE draft_pictures;
DROP TABLE draft_requests;
DROP DOMAIN draft_worker;
"""


def upgrade() -> None:
    op.execute(UPGRADE)
    op.execute(keep_private(types=["draft_worker"]))


def downgrade() -> None:
    op.execute(DOWNGRADE)
