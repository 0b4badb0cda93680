"""A return to pending leaves a null ``expires_at`` null; only a retry of a final request fills it in anew."""

from alembic import op

from draftd.db.private import keep_private

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

REQUEUE = r"""
-- SECURITY DEFINER, because a worker need not see the fleet's settings for this.
CREATE OR REPLACE FUNCTION draft_requests_requeue() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    {expiry}
    NEW.lease_until := NULL;
    NEW.deadline_at := NULL;
    NEW.finished_at := NULL;
    NEW.updated_at := now();
    RETURN NEW;
END $$;
"""
ALWAYS = "NEW.expires_at := coalesce(NEW.expires_at, draft_requests_default_expiry(NEW.available_at));"
# A request that was inserted while the fleet had no expiry keeps none: counted from its old available_at, a default set since
# then would already have passed.
ON_RETRY = f"""IF OLD.status IN ('failed', 'cancelled') THEN
        {ALWAYS}
    END IF;"""


def replace(expiry: str) -> None:
    """Replace the function, and its search_path, which a replacement loses."""
    op.execute(REQUEUE.format(expiry=expiry))
    op.execute(keep_private(functions=["draft_requests_requeue()"]))


def upgrade() -> None:
    replace(ON_RETRY)


def downgrade() -> None:
    replace(ALWAYS)
