"""Let every table's name begin with draft_, so that none collides with an app's own."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

RENAMED = {"model_holds": "draft_holds", "model_throttles": "draft_throttles"}


def rename(old: str, new: str) -> None:
    op.execute(f"ALTER TABLE {old} RENAME TO {new}")
    op.execute(f"ALTER TABLE {new} RENAME CONSTRAINT {old}_pkey TO {new}_pkey")


def upgrade() -> None:
    for old, new in RENAMED.items():
        rename(old, new)


def downgrade() -> None:
    for old, new in RENAMED.items():
        rename(new, old)
