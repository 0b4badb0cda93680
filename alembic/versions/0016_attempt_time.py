"""Let each worker say how long its attempts may take: a lease beyond that is nobody's."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

UPGRADE = """
ALTER TABLE draft_workers ADD COLUMN attempt_s real;
COMMENT ON COLUMN draft_workers.attempt_s IS 'the longest attempt, in seconds';
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute("ALTER TABLE draft_workers DROP COLUMN attempt_s")
