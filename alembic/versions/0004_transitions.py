"""What a change of status brings with it: the end's times, the dropped pictures, the ring of the bell."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

UPGRADE = r"""
-- Whoever ends a request (the daemon, the reaper, a client that cancels), the same things happen. SECURITY DEFINER, because a
-- client that may cancel may not therefore call the function below.
CREATE FUNCTION draft_requests_finish() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF OLD.status NOT IN ('pending', 'processing') THEN
        RAISE EXCEPTION 'draft_requests: this request is % already', OLD.status USING ERRCODE = 'check_violation';
    END IF;
    NEW.finished_at := now();
    NEW.updated_at := now();
    NEW.lease_until := NULL;
    NEW.deadline_at := NULL;
    IF EXISTS (SELECT FROM unnest(NEW.image_urls) AS u WHERE u ILIKE 'data:%') THEN
        NEW.image_urls := draft_requests_without_pictures(NEW.image_urls);
    END IF;
    RETURN NEW;
END $$;

-- Each data: URL becomes the hash of its picture. What is no base64 is hashed as it stands: ending a request never fails.
CREATE FUNCTION draft_requests_without_pictures(image_urls text[]) RETURNS text[] LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    entry text;
    kept text[] := '{}';
    picture bytea;
BEGIN
    FOREACH entry IN ARRAY image_urls LOOP
        IF entry ILIKE 'data:%' THEN
            BEGIN
                picture := decode(substr(entry, position(',' IN entry) + 1), 'base64');
            EXCEPTION WHEN data_exception THEN
                picture := convert_to(entry, 'UTF8');
            END;
            entry := 'sha256:' || encode(sha256(picture), 'hex');
        END IF;
        kept := kept || entry;
    END LOOP;
    RETURN kept;
END $$;

CREATE FUNCTION draft_requests_requeue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.lease_until := NULL;
    NEW.deadline_at := NULL;
    NEW.finished_at := NULL;
    NEW.updated_at := now();
    RETURN NEW;
END $$;

CREATE TRIGGER draft_requests_10_finish BEFORE UPDATE ON draft_requests
    FOR EACH ROW WHEN (NEW.status IN ('completed', 'failed', 'cancelled') AND OLD.status IS DISTINCT FROM NEW.status)
    EXECUTE FUNCTION draft_requests_finish();
CREATE TRIGGER draft_requests_10_requeue BEFORE UPDATE ON draft_requests
    FOR EACH ROW WHEN (OLD.status <> 'pending' AND NEW.status = 'pending')
    EXECUTE FUNCTION draft_requests_requeue();

CREATE FUNCTION draft_requests_ring() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('draft_requests', '');
    RETURN NULL;
END $$;

CREATE FUNCTION draft_requests_announce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('draft_results', jsonb_build_object('id', NEW.id, 'status', NEW.status)::text);
    RETURN NULL;
END $$;

-- Per statement for INSERT, per row for the return to pending: a statement trigger on UPDATE fires on zero rows too, and made
-- two idle daemons ring each other 52,000 times in 5 s.
CREATE TRIGGER draft_requests_90_ring AFTER INSERT ON draft_requests
    FOR EACH STATEMENT EXECUTE FUNCTION draft_requests_ring();
CREATE TRIGGER draft_requests_90_ring_again AFTER UPDATE ON draft_requests
    FOR EACH ROW WHEN (OLD.status <> 'pending' AND NEW.status = 'pending')
    EXECUTE FUNCTION draft_requests_ring();
CREATE TRIGGER draft_requests_90_announce AFTER UPDATE ON draft_requests
    FOR EACH ROW WHEN (NEW.status IN ('completed', 'failed', 'cancelled') AND OLD.status IN ('pending', 'processing'))
    EXECUTE FUNCTION draft_requests_announce();

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['draft_requests_finish()', 'draft_requests_without_pictures(text[])',
                                'draft_requests_requeue()', 'draft_requests_ring()', 'draft_requests_announce()'] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', name, current_schema());
    END LOOP;
END $$;
"""

DOWNGRADE = r"""
DROP TRIGGER draft_requests_90_announce ON draft_requests;
DROP TRIGGER draft_requests_90_ring_again ON draft_requests;
DROP TRIGGER draft_requests_90_ring ON draft_requests;
DROP TRIGGER draft_requests_10_requeue ON draft_requests;
DROP TRIGGER draft_requests_10_finish ON draft_requests;
DROP FUNCTION draft_requests_announce();
DROP FUNCTION draft_requests_ring();
DROP FUNCTION draft_requests_requeue();
DROP FUNCTION draft_requests_finish();
DROP FUNCTION draft_requests_without_pictures(text[]);
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
