"""The fair order: each requester's next request stands one turn behind its last."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

UPGRADE = r"""
-- Over the pending rows of the same agent and priority: the front of the line is the lowest turn, and a requester's next
-- turn is the one after its own last, but never before the front (else an old requester's pause would count as credit).
-- SECURITY DEFINER, because row security hides the others' rows, and the line consists of them.
CREATE FUNCTION draft_requests_take_turn() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
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
     ORDER BY r.turn DESC LIMIT 1;
    NEW.turn := greatest(coalesce(mine + 1, front, 0), coalesce(front, 0));
    RETURN NEW;
END $$;

CREATE TRIGGER draft_requests_20_take_turn BEFORE INSERT ON draft_requests
    FOR EACH ROW EXECUTE FUNCTION draft_requests_take_turn();
CREATE TRIGGER draft_requests_20_take_turn_again BEFORE UPDATE ON draft_requests
    FOR EACH ROW WHEN (OLD.status <> 'pending' AND NEW.status = 'pending')
    EXECUTE FUNCTION draft_requests_take_turn();

DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION draft_requests_take_turn() SET search_path = %I, pg_temp', current_schema());
END $$;
"""

DOWNGRADE = r"""
DROP TRIGGER draft_requests_20_take_turn_again ON draft_requests;
DROP TRIGGER draft_requests_20_take_turn ON draft_requests;
DROP FUNCTION draft_requests_take_turn();
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
