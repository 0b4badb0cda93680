"""Hold the checks of INSERT at every UPDATE too, take null for the default, and refuse unknown agents and options."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

UPGRADE = r"""
-- How every request begins. Clients of PostgREST send null where they mean nothing; ORMs send their own defaults for the
-- daemon's columns, which begin empty whatever was sent. What would be a result or a claim is refused.
CREATE FUNCTION draft_requests_begin() RETURNS trigger LANGUAGE plpgsql AS $$
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
-- made, or whose pictures have become hashes, can still be claimed, ended and retried.
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
CREATE TRIGGER draft_requests_10_check_changed_shape
    BEFORE UPDATE OF image_urls, context, options, metadata, parent_id, requester_id, agent, idempotency_key, max_attempts
    ON draft_requests FOR EACH ROW EXECUTE FUNCTION draft_requests_check_shape();
CREATE TRIGGER draft_requests_10_check_changed_moments BEFORE UPDATE OF available_at, expires_at ON draft_requests
    FOR EACH ROW WHEN (NOT isfinite(NEW.available_at) OR NOT isfinite(NEW.expires_at))
    EXECUTE FUNCTION draft_requests_check_shape();

DROP TRIGGER draft_requests_15_begin_unheld ON draft_requests;
DROP FUNCTION draft_requests_begin_unheld();

CREATE FUNCTION draft_profiles_begin() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.facts := coalesce(NEW.facts, '{}');
    NEW.voice_samples := coalesce(NEW.voice_samples, '{}');
    RETURN NEW;
END $$;
CREATE TRIGGER draft_profiles_05_begin BEFORE INSERT ON draft_profiles
    FOR EACH ROW EXECUTE FUNCTION draft_profiles_begin();

CREATE FUNCTION draft_feedback_begin() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.created_at := coalesce(NEW.created_at, now());
    RETURN NEW;
END $$;
CREATE TRIGGER draft_feedback_05_begin BEFORE INSERT ON draft_feedback
    FOR EACH ROW EXECUTE FUNCTION draft_feedback_begin();

-- Private by default, like every function of draftd.
DO $$
DECLARE
    stranger text;
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['draft_requests_begin()', 'draft_requests_check_shape()', 'draft_profiles_begin()',
                                'draft_feedback_begin()'] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', name, current_schema());
    END LOOP;
    FOR stranger IN
        SELECT 'public' UNION ALL SELECT quote_ident(rolname) FROM pg_roles WHERE rolname IN ('anon', 'authenticated')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION draft_requests_begin(), draft_profiles_begin(), draft_feedback_begin() FROM %s',
                       stranger);
    END LOOP;
END $$;
"""

DOWNGRADE = r"""
DROP TRIGGER draft_feedback_05_begin ON draft_feedback;
DROP FUNCTION draft_feedback_begin();
DROP TRIGGER draft_profiles_05_begin ON draft_profiles;
DROP FUNCTION draft_profiles_begin();
DROP TRIGGER draft_requests_10_check_changed_moments ON draft_requests;
DROP TRIGGER draft_requests_10_check_changed_shape ON draft_requests;
DROP TRIGGER draft_requests_10_check_shape ON draft_requests;
DROP FUNCTION draft_requests_check_shape();
DROP TRIGGER draft_requests_05_begin ON draft_requests;
DROP FUNCTION draft_requests_begin();
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
    # The functions and their triggers as these made them.
    for earlier in ("0002", "0009"):
        op.execute(op.get_context().environment_context.script.get_revision(earlier).module.UPGRADE)
    op.execute("REVOKE ALL ON FUNCTION draft_requests_check_shape() FROM public")
