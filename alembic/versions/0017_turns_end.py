"""Let the last turn that there is be given again: one row must not keep its requester from inserting the next."""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

TAKE_TURN = r"""
CREATE OR REPLACE FUNCTION draft_requests_take_turn() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    front bigint;
    mine bigint;
BEGIN
    SELECT r.turn INTO front FROM draft_requests AS r
     WHERE r.status = 'pending' AND r.agent = NEW.agent AND r.priority = NEW.priority
     ORDER BY r.turn LIMIT 1;
    -- A row that comes back from an attempt has waited its turn before: it goes to the front, not behind its requester's others.
    IF TG_OP = 'UPDATE' AND OLD.status = 'processing' THEN
        NEW.turn := greatest(OLD.turn, coalesce(front, OLD.turn));
        RETURN NEW;
    END IF;
    SELECT r.turn INTO mine FROM draft_requests AS r
     WHERE r.status = 'pending' AND r.agent = NEW.agent AND r.priority = NEW.priority AND r.requester_id = NEW.requester_id
       AND r.requester_id >= ''
     ORDER BY r.turn DESC LIMIT 1;
    NEW.turn := greatest(coalesce(@next@, front, 0), coalesce(front, 0));
    RETURN NEW;
END $$;
"""
SEARCH_PATH = """
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION draft_requests_take_turn() SET search_path = %I, pg_temp', current_schema());
END $$;
"""


def upgrade() -> None:
    op.execute(
        TAKE_TURN.replace("@next@", "CASE WHEN mine < 9223372036854775807 THEN mine + 1 ELSE mine END") + SEARCH_PATH
    )


def downgrade() -> None:
    op.execute(TAKE_TURN.replace("@next@", "mine + 1") + SEARCH_PATH)
