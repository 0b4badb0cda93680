"""Sessions that forget the same requester take turns.

One that waited for the other's batch found its own rows gone, took that for the end, and said so while others were left.
"""

from alembic import op

from draftd.db.replaced import replace_parts

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

FORGET = "draft_forget_some(text, integer)"
BEFORE = """    SELECT array_agg(locked.id), array_agg(DISTINCT locked.trace_id)"""
AFTER = f"""    -- At READ COMMITTED the statements below see what the other session has left.
    PERFORM pg_advisory_xact_lock(hashtextextended('draft_forget_some ' || $1, 0));
{BEFORE}"""


def upgrade() -> None:
    op.execute(replace_parts(FORGET, [(BEFORE, AFTER)], revision="0028"))


def downgrade() -> None:
    op.execute(replace_parts(FORGET, [(AFTER, BEFORE)], revision=revision))
