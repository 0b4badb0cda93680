"""What holds need under force: rows that come back again and again, one probe at a time, halved concurrency."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

UPGRADE = r"""
ALTER TABLE draft_requests ADD COLUMN given_back smallint NOT NULL DEFAULT 0;
COMMENT ON COLUMN draft_requests.given_back IS 'how often a hold gave the attempt back';

ALTER TABLE model_holds ADD COLUMN probing boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN model_holds.probing IS 'whether a probe is under way; only the end of one doubles the pause';

CREATE TABLE model_throttles (
    model      text        NOT NULL,
    share      real        NOT NULL DEFAULT 0.5,
    bursts     integer     NOT NULL DEFAULT 1,
    since      timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT model_throttles_pkey PRIMARY KEY (model)
);
COMMENT ON COLUMN model_throttles.share IS 'of its concurrency that each daemon may use, as of changed_at';
COMMENT ON COLUMN model_throttles.bursts IS 'of rate limits in a row without a success';

-- Whether another request to the same model has succeeded since: asked when a call has failed.
CREATE INDEX draft_usage_answered_idx ON draft_usage (model, created_at) WHERE code IS NULL;

-- Private by default, like every table of draftd.
ALTER TABLE model_throttles ENABLE ROW LEVEL SECURITY;
DO $$
DECLARE
    stranger text;
BEGIN
    FOR stranger IN
        SELECT 'public' UNION ALL SELECT quote_ident(rolname) FROM pg_roles WHERE rolname IN ('anon', 'authenticated')
    LOOP
        EXECUTE format('REVOKE ALL ON TABLE model_throttles FROM %s', stranger);
    END LOOP;
END $$;
"""

DOWNGRADE = r"""
DROP INDEX draft_usage_answered_idx;
DROP TABLE model_throttles;
ALTER TABLE model_holds DROP COLUMN probing;
ALTER TABLE draft_requests DROP COLUMN given_back;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
