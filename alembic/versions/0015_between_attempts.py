"""What time must not take away: prepared pictures between two attempts, and each worker's own interval."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

UPGRADE = r"""
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

-- SECURITY DEFINER, because whoever may end a request (a client that cancels) may not therefore touch the pictures.
CREATE FUNCTION draft_requests_forget_pictures() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    DELETE FROM draft_pictures WHERE request_id = NEW.id;
    RETURN NULL;
END $$;

-- A request that completes in its first attempt has left none, and pays for no look.
CREATE TRIGGER draft_requests_80_forget_pictures AFTER UPDATE ON draft_requests
    FOR EACH ROW WHEN (NEW.status IN ('completed', 'failed', 'cancelled') AND OLD.status IS DISTINCT FROM NEW.status
                       AND NEW.lease_token > CASE NEW.status WHEN 'completed' THEN 1 ELSE 0 END)
    EXECUTE FUNCTION draft_requests_forget_pictures();

-- 4: of daemons that do not say yet; nearly that of the default lease.
ALTER TABLE draft_workers ADD COLUMN beat_s real NOT NULL DEFAULT 4;
COMMENT ON COLUMN draft_workers.beat_s IS 'seconds between two of its heartbeats';

-- Private by default, like every table and function of draftd.
ALTER TABLE draft_pictures ENABLE ROW LEVEL SECURITY;
DO $$
DECLARE
    stranger text;
BEGIN
    EXECUTE format('ALTER FUNCTION draft_requests_forget_pictures() SET search_path = %I, pg_temp', current_schema());
    FOR stranger IN
        SELECT 'public' UNION ALL SELECT quote_ident(rolname) FROM pg_roles WHERE rolname IN ('anon', 'authenticated')
    LOOP
        EXECUTE format('REVOKE ALL ON TABLE draft_pictures FROM %s', stranger);
        EXECUTE format('REVOKE ALL ON FUNCTION draft_requests_forget_pictures() FROM %s', stranger);
    END LOOP;
END $$;
"""

DOWNGRADE = r"""
ALTER TABLE draft_workers DROP COLUMN beat_s;
DROP TRIGGER draft_requests_80_forget_pictures ON draft_requests;
DROP FUNCTION draft_requests_forget_pictures();
DROP TABLE draft_pictures;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
