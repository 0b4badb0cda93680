"""Let no client say how often a hold has given its row back."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# Chosen as a probe, a row of -32,768 would have held its model for months; one of 10 would have spent its attempts in an outage.
UPGRADE = r"""
CREATE FUNCTION draft_requests_begin_unheld() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.given_back := 0;
    RETURN NEW;
END $$;

CREATE TRIGGER draft_requests_15_begin_unheld BEFORE INSERT ON draft_requests
    FOR EACH ROW WHEN (NEW.given_back <> 0) EXECUTE FUNCTION draft_requests_begin_unheld();

-- Private by default, like every function of draftd.
DO $$
DECLARE
    stranger text;
BEGIN
    EXECUTE format('ALTER FUNCTION draft_requests_begin_unheld() SET search_path = %I, pg_temp', current_schema());
    FOR stranger IN
        SELECT 'public' UNION ALL SELECT quote_ident(rolname) FROM pg_roles WHERE rolname IN ('anon', 'authenticated')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION draft_requests_begin_unheld() FROM %s', stranger);
    END LOOP;
END $$;
"""

DOWNGRADE = r"""
DROP TRIGGER draft_requests_15_begin_unheld ON draft_requests;
DROP FUNCTION draft_requests_begin_unheld();
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
