"""Refuse a malformed request at INSERT, with a message that its author can act on."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

UPGRADE = r"""
-- A trigger and not a CHECK: a CHECK is evaluated at every UPDATE, and one that reads image_urls makes the renewal of a
-- 7 MB row 200 times dearer. SECURITY DEFINER, because row security may hide the parent; a foreign parent and a missing one
-- get the same answer, so that nobody can find out which ids exist.
CREATE FUNCTION draft_requests_check_shape() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    image_count integer;
    entry text;
BEGIN
    -- Clients of PostgREST send null where they mean nothing.
    NEW.image_urls := coalesce(NEW.image_urls, '{}');
    NEW.options := coalesce(NEW.options, '{}');
    NEW.metadata := coalesce(NEW.metadata, '{}');
    image_count := cardinality(NEW.image_urls);
    IF NEW.status <> 'pending' OR NEW.attempt <> 0 OR NEW.lease_token <> 0 OR NEW.result IS NOT NULL
       OR NEW.lease_until IS NOT NULL OR NEW.worker_id IS NOT NULL OR NEW.finished_at IS NOT NULL THEN
        RAISE EXCEPTION 'draft_requests: a new request is pending; status, attempt, lease and result are written by draftd'
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.parent_id IS NULL AND image_count NOT BETWEEN 1 AND 8 THEN
        RAISE EXCEPTION 'draft_requests: image_urls takes 1 to 8 entries, not %', image_count
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.parent_id IS NOT NULL AND image_count > 0 THEN
        RAISE EXCEPTION 'draft_requests: a refinement (parent_id) takes no image_urls'
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.parent_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM draft_requests AS p WHERE p.id = NEW.parent_id AND p.requester_id = NEW.requester_id) THEN
        RAISE EXCEPTION 'draft_requests: parent_id is no earlier request of this requester'
            USING ERRCODE = 'foreign_key_violation';
    END IF;
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
            RAISE EXCEPTION 'draft_requests: an image URL has at most 8,192 characters' USING ERRCODE = 'check_violation';
        END IF;
    END LOOP;
    IF length(NEW.context) > 8000 THEN
        RAISE EXCEPTION 'draft_requests: context has at most 8,000 characters, not %', length(NEW.context)
            USING ERRCODE = 'check_violation';
    END IF;
    IF jsonb_typeof(NEW.options) <> 'object' OR jsonb_typeof(NEW.metadata) <> 'object' THEN
        RAISE EXCEPTION 'draft_requests: options and metadata are JSON objects' USING ERRCODE = 'check_violation';
    END IF;
    IF pg_column_size(NEW.options) > 262144 OR pg_column_size(NEW.metadata) > 262144 THEN
        RAISE EXCEPTION 'draft_requests: options and metadata hold at most 256 KiB each' USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.max_attempts NOT BETWEEN 1 AND 10 THEN
        RAISE EXCEPTION 'draft_requests: max_attempts is 1 to 10, not %', NEW.max_attempts
            USING ERRCODE = 'check_violation';
    END IF;
    IF length(NEW.requester_id) > 256 OR length(NEW.agent) > 256 OR length(NEW.idempotency_key) > 256 THEN
        RAISE EXCEPTION 'draft_requests: requester_id, agent and idempotency_key have at most 256 characters'
            USING ERRCODE = 'check_violation';
    END IF;
    IF NOT isfinite(NEW.available_at) OR NOT isfinite(coalesce(NEW.expires_at, now())) THEN
        RAISE EXCEPTION 'draft_requests: available_at and expires_at are moments, not infinity'
            USING ERRCODE = 'check_violation';
    END IF;
    -- The rest of what the daemon writes begins empty, whatever an ORM sends along as its defaults.
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

CREATE TRIGGER draft_requests_10_check_shape BEFORE INSERT ON draft_requests
    FOR EACH ROW EXECUTE FUNCTION draft_requests_check_shape();

-- A SECURITY DEFINER function must not follow its caller's search_path.
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION draft_requests_check_shape() SET search_path = %I, pg_temp', current_schema());
END $$;
"""

DOWNGRADE = r"""
DROP TRIGGER draft_requests_10_check_shape ON draft_requests;
DROP FUNCTION draft_requests_check_shape();
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
