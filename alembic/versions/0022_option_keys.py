"""The options of a request may contain facts, stance, answer_to and lengths."""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

BEFORE = "{tone,language,reader_language,me,voice_samples,max_chars}"
AFTER = "{tone,language,reader_language,me,voice_samples,max_chars,facts,stance,answer_to,lengths}"


def replace(old: str, new: str) -> None:
    """Replace the keys in the function, whose other 90 lines, owner's rights and search_path stay as they are."""
    op.execute(f"""
    DO $change$
    DECLARE
        definition CONSTANT text := pg_get_functiondef('draft_requests_check_shape()'::regprocedure);
    BEGIN
        IF strpos(definition, '{old}') = 0 THEN
            RAISE EXCEPTION 'draft_requests_check_shape() does not list the option keys of revision {down_revision}';
        END IF;
        EXECUTE replace(definition, '{old}', '{new}');
    END $change$;
    """)


def upgrade() -> None:
    replace(BEFORE, AFTER)


def downgrade() -> None:
    replace(AFTER, BEFORE)
