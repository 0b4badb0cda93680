"""The contract's last cheap changes: the fleet's settings, error details, trace contexts, feedback that outlives its request."""

import re

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

TABLES = r"""
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

ALTER TABLE draft_requests ADD COLUMN traceparent text, ADD COLUMN error_details jsonb;
COMMENT ON COLUMN draft_requests.traceparent IS 'the client''s trace, in W3C''s form';
UPDATE draft_requests SET priority = least(100, greatest(-100, priority)) WHERE priority NOT BETWEEN -100 AND 100;

ALTER TABLE draft_feedback
    DROP CONSTRAINT draft_feedback_request_id_fkey,
    ALTER COLUMN request_id DROP NOT NULL,
    ADD COLUMN requester_id text NOT NULL DEFAULT '',
    ADD COLUMN outcome text,
    ADD COLUMN platform text,
    ADD COLUMN author text,
    ADD COLUMN drafted_text text;
UPDATE draft_feedback AS f SET rating = nullif(sign(f.rating), 0), requester_id = r.requester_id, @copied@
  FROM draft_requests AS r WHERE r.id = f.request_id;
ALTER TABLE draft_feedback
    ADD CONSTRAINT draft_feedback_request_id_fkey FOREIGN KEY (request_id) REFERENCES draft_requests (id) ON DELETE SET NULL,
    ADD CONSTRAINT draft_feedback_outcome_check CHECK (outcome IN ('sent', 'edited', 'rejected')),
    ADD CONSTRAINT draft_feedback_rating_check CHECK (rating IN (-1, 1));
CREATE INDEX draft_feedback_created_at_idx ON draft_feedback (created_at);
"""
COPIED = """
       platform = r.result ->> 'platform', author = r.result #>> '{replying_to,author}',
       drafted_text = jsonb_path_query_first(r.result, '$.options[*] ? (@.length == $length).text',
                                             jsonb_build_object('length', f.option)) #>> '{}'"""

FUNCTIONS = r"""
-- A moment near the end of time has none after it.
CREATE FUNCTION draft_requests_default_expiry(available_at timestamptz) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT least($1, timestamptz '290000-01-01 00:00+00') + make_interval(secs => s.default_expiry_s)
      FROM draft_settings AS s WHERE s.default_expiry_s > 0;
$$;

CREATE OR REPLACE FUNCTION draft_requests_begin() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF NEW.status <> 'pending' OR NEW.attempt <> 0 OR NEW.lease_token <> 0 OR NEW.result IS NOT NULL
       OR NEW.lease_until IS NOT NULL OR NEW.worker_id IS NOT NULL OR NEW.finished_at IS NOT NULL THEN
        RAISE EXCEPTION 'draft_requests: a new request is pending; status, attempt, lease and result are written by draftd'
            USING ERRCODE = 'check_violation';
    END IF;
    NEW.id := coalesce(NEW.id, gen_random_uuid());
    NEW.requester_id := coalesce(NEW.requester_id, '');
    NEW.agent := coalesce(NEW.agent, 'comment_generator');
    NEW.image_urls := coalesce(NEW.image_urls, '{}');
    NEW.options := coalesce(NEW.options, '{}');
    NEW.priority := coalesce(NEW.priority, 0);
    NEW.available_at := coalesce(NEW.available_at, now());
    NEW.expires_at := coalesce(NEW.expires_at, draft_requests_default_expiry(NEW.available_at));
    NEW.max_attempts := coalesce(NEW.max_attempts, 5);
    NEW.metadata := coalesce(NEW.metadata, '{}');
    NEW.status := 'pending';
    NEW.attempt := 0;
    NEW.lease_token := 0;
    NEW.given_back := 0;
    NEW.errors := '[]';
    NEW.deadline_at := NULL;
    NEW.claimed_at := NULL;
    NEW.partial_result := NULL;
    NEW.reading := NULL;
    NEW.error_code := NULL;
    NEW.error_message := NULL;
    NEW.error_details := NULL;
    NEW.images := NULL;
    NEW.model := NULL;
    NEW.prompt_version := NULL;
    NEW.input_tokens := NULL;
    NEW.output_tokens := NULL;
    NEW.cost_usd := NULL;
    NEW.trace_id := NULL;
    NEW.created_at := now();
    NEW.updated_at := now();
    RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION draft_requests_check_shape() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    option_keys CONSTANT text[] := '{tone,language,reader_language,me,voice_samples,max_chars}';
    unknown jsonb;
    entry text;
BEGIN
    IF NEW.image_urls IS DISTINCT FROM OLD.image_urls OR NEW.parent_id IS DISTINCT FROM OLD.parent_id THEN
        IF NEW.parent_id IS NULL AND cardinality(NEW.image_urls) NOT BETWEEN 1 AND 8 THEN
            RAISE EXCEPTION 'draft_requests: image_urls takes 1 to 8 entries, not %', cardinality(NEW.image_urls)
                USING ERRCODE = 'check_violation';
        END IF;
        IF NEW.parent_id IS NOT NULL AND cardinality(NEW.image_urls) > 0 THEN
            RAISE EXCEPTION 'draft_requests: a refinement (parent_id) takes no image_urls'
                USING ERRCODE = 'check_violation';
        END IF;
    END IF;
    IF NEW.parent_id IS NOT NULL
       AND (NEW.parent_id IS DISTINCT FROM OLD.parent_id OR NEW.requester_id IS DISTINCT FROM OLD.requester_id) THEN
        IF NOT EXISTS (
            SELECT FROM draft_requests AS p WHERE p.id = NEW.parent_id AND p.requester_id = NEW.requester_id) THEN
            RAISE EXCEPTION 'draft_requests: parent_id is no earlier request of this requester'
                USING ERRCODE = 'foreign_key_violation';
        END IF;
    END IF;
    IF NEW.image_urls IS DISTINCT FROM OLD.image_urls THEN
        IF coalesce(array_ndims(NEW.image_urls), 1) > 1 THEN
            RAISE EXCEPTION 'draft_requests: image_urls takes a flat list' USING ERRCODE = 'check_violation';
        END IF;
        IF (SELECT sum(octet_length(u)) FROM unnest(NEW.image_urls) AS u) > 24 * 1024 * 1024 THEN
            RAISE EXCEPTION 'draft_requests: image_urls holds more than 24 MiB' USING ERRCODE = 'check_violation';
        END IF;
        FOREACH entry IN ARRAY NEW.image_urls LOOP
            -- The entry itself stays out of the message: its path or query may be a secret.
            IF entry IS NULL OR left(entry, 200) !~* '^(https?://[^[:space:]]|data:image/[a-z0-9.+-]+;base64,)' THEN
                RAISE EXCEPTION 'draft_requests: each entry of image_urls begins with https://, http:// or data:image/…;base64,'
                    USING ERRCODE = 'check_violation';
            END IF;
            IF left(entry, 5) !~* '^data:' AND length(entry) > 8192 THEN
                RAISE EXCEPTION 'draft_requests: an image URL has at most 8,192 characters'
                    USING ERRCODE = 'check_violation';
            END IF;
        END LOOP;
    END IF;
    IF NEW.context IS DISTINCT FROM OLD.context AND length(NEW.context) > 8000 THEN
        RAISE EXCEPTION 'draft_requests: context has at most 8,000 characters, not %', length(NEW.context)
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.options IS DISTINCT FROM OLD.options OR NEW.metadata IS DISTINCT FROM OLD.metadata THEN
        IF jsonb_typeof(NEW.options) <> 'object' OR jsonb_typeof(NEW.metadata) <> 'object' THEN
            RAISE EXCEPTION 'draft_requests: options and metadata are JSON objects' USING ERRCODE = 'check_violation';
        END IF;
        IF pg_column_size(NEW.options) > 262144 OR pg_column_size(NEW.metadata) > 262144 THEN
            RAISE EXCEPTION 'draft_requests: options and metadata hold at most 256 KiB each'
                USING ERRCODE = 'check_violation';
        END IF;
        unknown := NEW.options - option_keys;
        IF unknown <> '{}' THEN
            RAISE EXCEPTION 'draft_requests: options: unknown key %',
                (SELECT quote_literal(left(k, 100)) FROM jsonb_object_keys(unknown) AS k LIMIT 1)
                USING ERRCODE = 'check_violation', HINT = format('Known are %s.', array_to_string(option_keys, ', '));
        END IF;
    END IF;
    IF NEW.priority IS DISTINCT FROM OLD.priority AND NEW.priority NOT BETWEEN -100 AND 100 THEN
        RAISE EXCEPTION 'draft_requests: priority is -100 to 100, not %', NEW.priority USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.max_attempts IS DISTINCT FROM OLD.max_attempts AND NEW.max_attempts NOT BETWEEN 1 AND 10 THEN
        RAISE EXCEPTION 'draft_requests: max_attempts is 1 to 10, not %', NEW.max_attempts
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.requester_id IS DISTINCT FROM OLD.requester_id AND length(NEW.requester_id) > 256
       OR NEW.agent IS DISTINCT FROM OLD.agent AND length(NEW.agent) > 256
       OR NEW.idempotency_key IS DISTINCT FROM OLD.idempotency_key AND length(NEW.idempotency_key) > 256 THEN
        RAISE EXCEPTION 'draft_requests: requester_id, agent and idempotency_key have at most 256 characters'
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.traceparent IS DISTINCT FROM OLD.traceparent
       AND NEW.traceparent !~ '^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$' THEN
        RAISE EXCEPTION 'draft_requests: traceparent is not a W3C trace context (00-<32 hex>-<16 hex>-<2 hex>)'
            USING ERRCODE = 'check_violation';
    END IF;
    -- Workers of the last day and not only those alive: an agent stays known while its daemons restart. Where there are none,
    -- nobody can say what is unknown.
    IF NEW.agent IS DISTINCT FROM OLD.agent
       AND NOT (SELECT bool_or(known.agent = NEW.agent) FROM draft_workers AS w, unnest(w.agents) AS known(agent)
                 WHERE w.heartbeat_at > now() - interval '1 day') THEN
        RAISE EXCEPTION 'draft_requests: no daemon has a prompt for the agent %', quote_literal(left(NEW.agent, 100))
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.available_at IS DISTINCT FROM OLD.available_at AND NOT isfinite(NEW.available_at)
       OR NEW.expires_at IS DISTINCT FROM OLD.expires_at AND NOT isfinite(NEW.expires_at) THEN
        RAISE EXCEPTION 'draft_requests: available_at and expires_at are moments, not infinity'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

DROP TRIGGER draft_requests_10_check_changed_shape ON draft_requests;
CREATE TRIGGER draft_requests_10_check_changed_shape
    BEFORE UPDATE OF image_urls, context, options, metadata, parent_id, requester_id, agent, idempotency_key, max_attempts,
                     priority, traceparent
    ON draft_requests FOR EACH ROW EXECUTE FUNCTION draft_requests_check_shape();

CREATE OR REPLACE FUNCTION draft_requests_requeue() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    NEW.expires_at := coalesce(NEW.expires_at, draft_requests_default_expiry(NEW.available_at));
    NEW.lease_until := NULL;
    NEW.deadline_at := NULL;
    NEW.finished_at := NULL;
    NEW.updated_at := now();
    RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION draft_requests_announce() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    options jsonb := coalesce(NEW.result, NEW.partial_result) -> 'options';
BEGIN
    PERFORM pg_notify('draft_results', jsonb_build_object(
        'id', NEW.id, 'status', NEW.status,
        'options_ready', CASE WHEN jsonb_typeof(options) = 'array' THEN jsonb_array_length(options) ELSE 0 END)::text);
    RETURN NULL;
END $$;
-- Of the statements that daemons send only the one that publishes names this column.
CREATE TRIGGER draft_requests_90_announce_progress AFTER UPDATE OF partial_result ON draft_requests
    FOR EACH ROW WHEN (NEW.status = 'processing' AND NEW.partial_result IS NOT NULL)
    EXECUTE FUNCTION draft_requests_announce();

-- SECURITY INVOKER: whoever rates a request must be able to see it, or could read others' drafts here.
CREATE FUNCTION draft_feedback_begin() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    rated record;
BEGIN
    SELECT r.requester_id, coalesce(r.result, r.partial_result) AS result INTO rated
      FROM draft_requests AS r WHERE r.id = NEW.request_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'draft_feedback: request_id is no request' USING ERRCODE = 'foreign_key_violation';
    END IF;
    NEW.requester_id := rated.requester_id;
    NEW.platform := rated.result ->> 'platform';
    NEW.author := rated.result #>> '{replying_to,author}';
    NEW.drafted_text := jsonb_path_query_first(rated.result, '$.options[*] ? (@.length == $length).text',
                                               jsonb_build_object('length', NEW.option)) #>> '{}';
    NEW.created_at := now();
    RETURN NEW;
END $$;
CREATE TRIGGER draft_feedback_10_begin BEFORE INSERT ON draft_feedback
    FOR EACH ROW EXECUTE FUNCTION draft_feedback_begin();
CREATE TRIGGER draft_settings_05_defaults BEFORE INSERT OR UPDATE ON draft_settings
    FOR EACH ROW EXECUTE FUNCTION draft_nulls_are_defaults();

CREATE OR REPLACE FUNCTION create_draft_request(request jsonb) RETURNS jsonb LANGUAGE plpgsql SECURITY INVOKER AS $$
DECLARE
    unknown text;
    given text;
    found_id uuid;
    found_status text;
BEGIN
    IF jsonb_typeof(request) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'create_draft_request: the request is a JSON object' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT string_agg(k, ', ' ORDER BY k) INTO unknown FROM jsonb_object_keys(request) AS k
     WHERE k NOT IN ('id', 'requester_id', 'agent', 'image_urls', 'context', 'options', 'parent_id', 'priority',
                     'available_at', 'expires_at', 'idempotency_key', 'max_attempts', 'metadata', 'traceparent');
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION 'create_draft_request: unknown key: %', unknown USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF jsonb_typeof(request -> 'image_urls') NOT IN ('array', 'null') THEN
        RAISE EXCEPTION 'create_draft_request: image_urls is a list' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT coalesce(string_agg(quote_ident(key), ', '), 'image_urls') INTO given
      FROM jsonb_each(request) WHERE value <> 'null';
    EXECUTE format('INSERT INTO draft_requests AS r (%1$s) SELECT %1$s FROM jsonb_populate_record(NULL::draft_requests, $1) '
                   'ON CONFLICT (requester_id, idempotency_key) DO NOTHING RETURNING r.id, r.status', given)
       INTO found_id, found_status USING request;
    IF found_id IS NOT NULL THEN
        RETURN jsonb_build_object('id', found_id, 'status', found_status, 'created', true);
    END IF;
    SELECT r.id, r.status INTO STRICT found_id, found_status FROM draft_requests AS r
     WHERE r.requester_id = coalesce(request ->> 'requester_id', '')
       AND r.idempotency_key = request ->> 'idempotency_key';
    RETURN jsonb_build_object('id', found_id, 'status', found_status, 'created', false);
END $$;

-- $1 and not the name: beside WHERE id = id it would cancel the whole table.
CREATE OR REPLACE FUNCTION cancel_draft_request(id uuid) RETURNS boolean LANGUAGE sql SECURITY INVOKER AS $$
    WITH cancelled AS (
        UPDATE draft_requests AS r SET status = 'cancelled'
         WHERE r.id = $1 AND r.status IN ('pending', 'processing')
        RETURNING r.id)
    SELECT EXISTS (SELECT FROM cancelled);
$$;

-- Private by default, like everything of draftd.
ALTER TABLE draft_settings ENABLE ROW LEVEL SECURITY;
DO $$
DECLARE
    stranger text;
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['draft_requests_default_expiry(timestamptz)', 'draft_requests_begin()',
                                'draft_requests_check_shape()', 'draft_requests_requeue()', 'draft_requests_announce()',
                                'draft_feedback_begin()', 'create_draft_request(jsonb)', 'cancel_draft_request(uuid)'] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', name, current_schema());
    END LOOP;
    FOR stranger IN
        SELECT 'public' UNION ALL SELECT quote_ident(rolname) FROM pg_roles WHERE rolname IN ('anon', 'authenticated')
    LOOP
        EXECUTE format('REVOKE ALL ON TABLE draft_settings FROM %s', stranger);
        EXECUTE format('REVOKE ALL ON FUNCTION draft_requests_default_expiry(timestamptz), draft_feedback_begin() FROM %s',
                       stranger);
    END LOOP;
END $$;

-- What no client named an end for ends like what is inserted now.
UPDATE draft_requests SET expires_at = draft_requests_default_expiry(available_at)
 WHERE status IN ('pending', 'processing') AND expires_at IS NULL;
DROP INDEX draft_requests_default_expiry_idx;
"""


DOWNGRADE = r"""
CREATE INDEX draft_requests_default_expiry_idx ON draft_requests (available_at)
    WHERE status = 'pending' AND expires_at IS NULL;
DROP TRIGGER draft_requests_90_announce_progress ON draft_requests;
DROP TRIGGER draft_requests_10_check_changed_shape ON draft_requests;
CREATE TRIGGER draft_requests_10_check_changed_shape
    BEFORE UPDATE OF image_urls, context, options, metadata, parent_id, requester_id, agent, idempotency_key, max_attempts
    ON draft_requests FOR EACH ROW EXECUTE FUNCTION draft_requests_check_shape();
DROP TRIGGER draft_feedback_10_begin ON draft_feedback;
DROP FUNCTION draft_feedback_begin();
@earlier@
DROP FUNCTION draft_requests_default_expiry(timestamptz);
DROP TABLE draft_settings;
DROP INDEX draft_feedback_created_at_idx;
DELETE FROM draft_feedback WHERE request_id IS NULL;
ALTER TABLE draft_feedback
    DROP CONSTRAINT draft_feedback_rating_check,
    DROP CONSTRAINT draft_feedback_request_id_fkey,
    ALTER COLUMN request_id SET NOT NULL,
    DROP COLUMN requester_id,
    DROP COLUMN outcome,
    DROP COLUMN platform,
    DROP COLUMN author,
    DROP COLUMN drafted_text,
    ADD CONSTRAINT draft_feedback_request_id_fkey FOREIGN KEY (request_id) REFERENCES draft_requests (id) ON DELETE CASCADE;
ALTER TABLE draft_requests DROP COLUMN traceparent, DROP COLUMN error_details;
"""


def upgrade() -> None:
    op.execute(TABLES.replace("@copied@", COPIED.strip()))
    op.execute(FUNCTIONS)


def downgrade() -> None:
    revisions = op.get_context().environment_context.script

    def function(revision: str, name: str) -> str:
        text = revisions.get_revision(revision).module.UPGRADE
        found = re.search(rf"CREATE (OR REPLACE )?FUNCTION {name}\(.*?\nEND \$\$;", text, re.DOTALL)
        return found[0].replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")

    earlier = [
        function("0004", "draft_requests_requeue"),
        function("0004", "draft_requests_announce"),
        function("0012", "draft_requests_begin"),
        function("0012", "draft_requests_check_shape"),
    ]
    op.execute(DOWNGRADE.replace("@earlier@", "\n".join(earlier)))
    op.execute(revisions.get_revision("0013").module.UPGRADE)
