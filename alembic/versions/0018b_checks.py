"""What a row may be: how it begins, what is refused, and null for the default."""

from alembic import op

revision = "0018b"
down_revision = "0018a"
branch_labels = None
depends_on = None

UPGRADE = r"""
-- Takes the defaults from the catalogue: for the columns that the trigger names, or for all. No record is turned into JSON on the
-- way, because numbers, moments and 7 MB of pictures must come out as they went in.
CREATE FUNCTION draft_nulls_are_defaults() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    fields text;
BEGIN
    SELECT string_agg(CASE WHEN a.attnotnull AND a.attgenerated = '' AND d.adbin IS NOT NULL
                                AND (TG_NARGS = 0 OR a.attname = ANY (TG_ARGV))
                           THEN format('coalesce(($1).%I, (%s)::%s)', a.attname, pg_get_expr(d.adbin, d.adrelid),
                                       format_type(a.atttypid, a.atttypmod))
                           ELSE format('($1).%I', a.attname) END, ', ' ORDER BY a.attnum)
      INTO fields
      FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE a.attrelid = TG_RELID AND a.attnum > 0 AND NOT a.attisdropped;
    EXECUTE 'SELECT ' || fields INTO NEW USING NEW;
    RETURN NEW;
END $$;

CREATE TRIGGER draft_feedback_05_defaults BEFORE INSERT OR UPDATE ON draft_feedback
    FOR EACH ROW EXECUTE FUNCTION draft_nulls_are_defaults();
CREATE TRIGGER draft_profiles_05_defaults BEFORE INSERT OR UPDATE ON draft_profiles
    FOR EACH ROW EXECUTE FUNCTION draft_nulls_are_defaults();
CREATE TRIGGER draft_agents_05_defaults BEFORE INSERT OR UPDATE ON draft_agents
    FOR EACH ROW EXECUTE FUNCTION draft_nulls_are_defaults();
CREATE TRIGGER draft_models_05_defaults BEFORE INSERT OR UPDATE ON draft_models
    FOR EACH ROW EXECUTE FUNCTION draft_nulls_are_defaults();
CREATE TRIGGER draft_settings_05_defaults BEFORE INSERT OR UPDATE ON draft_settings
    FOR EACH ROW EXECUTE FUNCTION draft_nulls_are_defaults();
-- What a client may set. The daemon's columns stay strict: a null status would otherwise start a paid draft again. At INSERT
-- draft_requests_begin sets every column anyway.
CREATE TRIGGER draft_requests_05_defaults
    BEFORE UPDATE OF requester_id, agent, image_urls, options, priority, available_at, max_attempts, metadata
    ON draft_requests FOR EACH ROW
    WHEN (NEW.requester_id IS NULL OR NEW.agent IS NULL OR NEW.image_urls IS NULL OR NEW.options IS NULL
          OR NEW.priority IS NULL OR NEW.available_at IS NULL OR NEW.max_attempts IS NULL OR NEW.metadata IS NULL)
    EXECUTE FUNCTION draft_nulls_are_defaults(
        requester_id, agent, image_urls, options, priority, available_at, max_attempts, metadata);

-- A moment near the end of time has none after it.
CREATE FUNCTION draft_requests_default_expiry(available_at timestamptz) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT least($1, timestamptz '290000-01-01 00:00+00') + make_interval(secs => s.default_expiry_s)
      FROM draft_settings AS s WHERE s.default_expiry_s > 0;
$$;

-- How every request begins. Clients of PostgREST send null where they mean nothing; ORMs send their own defaults for the
-- daemon's columns, which begin empty whatever was sent. What would be a result or a claim is refused. SECURITY DEFINER, because
-- a client need not see the fleet's settings.
CREATE FUNCTION draft_requests_begin() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
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

-- Judges what is new: at INSERT everything (OLD is null there), at UPDATE what differs. A row that was let in before a check was
-- made, or whose pictures have become hashes, can still be claimed, ended and retried. A trigger and not a CHECK: a CHECK is
-- evaluated at every UPDATE, and one that reads image_urls makes the renewal of a 7 MB row 200 times dearer. SECURITY DEFINER,
-- because row security may hide the parent; a foreign parent and a missing one get the same answer, so that nobody can find out
-- which ids exist.
CREATE FUNCTION draft_requests_check_shape() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
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

-- The daemon writes two of the judged columns, available_at and expires_at. They have a trigger of their own, whose condition is
-- asked without calling anything: a claim or a renewal of a 7 MB row does not pay for a look at its pictures.
CREATE TRIGGER draft_requests_05_begin BEFORE INSERT ON draft_requests
    FOR EACH ROW EXECUTE FUNCTION draft_requests_begin();
CREATE TRIGGER draft_requests_10_check_shape BEFORE INSERT ON draft_requests
    FOR EACH ROW EXECUTE FUNCTION draft_requests_check_shape();
CREATE TRIGGER draft_requests_10_check_changed_shape
    BEFORE UPDATE OF image_urls, context, options, metadata, parent_id, requester_id, agent, idempotency_key, max_attempts,
                     priority, traceparent
    ON draft_requests FOR EACH ROW EXECUTE FUNCTION draft_requests_check_shape();
CREATE TRIGGER draft_requests_10_check_changed_moments BEFORE UPDATE OF available_at, expires_at ON draft_requests
    FOR EACH ROW WHEN (NOT isfinite(NEW.available_at) OR NOT isfinite(NEW.expires_at))
    EXECUTE FUNCTION draft_requests_check_shape();

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
"""

DOWNGRADE = r"""
DROP FUNCTION draft_feedback_begin() CASCADE;
DROP FUNCTION draft_requests_check_shape() CASCADE;
DROP FUNCTION draft_requests_begin() CASCADE;
DROP FUNCTION draft_requests_default_expiry(timestamptz);
DROP FUNCTION draft_nulls_are_defaults() CASCADE;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
