"""Let every table's name begin with draft_, so that none collides with an app's own."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

RENAMED = {"model_holds": "draft_holds", "model_throttles": "draft_throttles"}


# PostgreSQL 18 names NOT NULL constraints too, after the table.
RENAME_CONSTRAINTS = """
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN SELECT conname FROM pg_constraint
                  WHERE conrelid = '{new}'::regclass AND starts_with(conname, '{old}_') LOOP
        EXECUTE format('ALTER TABLE {new} RENAME CONSTRAINT %I TO %I', found.conname,
                       '{new}' || substr(found.conname, length('{old}') + 1));
    END LOOP;
END $$;
"""


def rename(old: str, new: str) -> None:
    op.execute(f"ALTER TABLE {old} RENAME TO {new}")
    op.execute(RENAME_CONSTRAINTS.format(old=old, new=new))


def upgrade() -> None:
    for old, new in RENAMED.items():
        rename(old, new)


def downgrade() -> None:
    for old, new in RENAMED.items():
        rename(new, old)
