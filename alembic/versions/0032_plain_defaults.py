"""Defaults that schema generators can copy: no expression and no empty text on a text column.

drizzle-kit 0.31 writes both as code that does not compile.
"""

from alembic import op

from draftd.db.comments import comment_on
from draftd.db.private import keep_private

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

UPGRADE = r"""
-- The default of requester_id stands for draft_current_requester(). With the caller's rights, like that function.
CREATE FUNCTION draft_requester_begin() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.requester_id := draft_current_requester();
    RETURN NEW;
END $$;

ALTER TABLE draft_requests ALTER COLUMN requester_id SET DEFAULT '(current)';
DROP TRIGGER draft_requests_04_requester ON draft_requests;
CREATE TRIGGER draft_requests_04_requester BEFORE INSERT OR UPDATE OF requester_id ON draft_requests
    FOR EACH ROW WHEN (NEW.requester_id IS NULL OR NEW.requester_id = '(current)')
    EXECUTE FUNCTION draft_requester_begin();

ALTER TABLE draft_profiles ALTER COLUMN requester_id SET DEFAULT '(current)';
CREATE TRIGGER draft_profiles_04_requester BEFORE INSERT OR UPDATE OF requester_id ON draft_profiles
    FOR EACH ROW WHEN (NEW.requester_id IS NULL OR NEW.requester_id = '(current)')
    EXECUTE FUNCTION draft_requester_begin();

-- At INSERT draft_feedback_begin sets it.
ALTER TABLE draft_feedback ALTER COLUMN requester_id SET DEFAULT '(current)';
CREATE TRIGGER draft_feedback_04_requester BEFORE UPDATE OF requester_id ON draft_feedback
    FOR EACH ROW WHEN (NEW.requester_id IS NULL OR NEW.requester_id = '(current)')
    EXECUTE FUNCTION draft_requester_begin();

CREATE FUNCTION draft_pauses_begin() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.name := coalesce(NEW.name, '');
    NEW.reason := coalesce(NEW.reason, '');
    NEW."by" := coalesce(NEW."by", current_user);
    NEW.since := coalesce(NEW.since, now());
    RETURN NEW;
END $$;
ALTER TABLE draft_pauses ALTER COLUMN name DROP DEFAULT, ALTER COLUMN reason DROP DEFAULT, ALTER COLUMN by DROP DEFAULT;
DROP TRIGGER draft_pauses_05_defaults ON draft_pauses;
CREATE TRIGGER draft_pauses_05_begin BEFORE INSERT OR UPDATE ON draft_pauses
    FOR EACH ROW EXECUTE FUNCTION draft_pauses_begin();

ALTER TABLE draft_holds ALTER COLUMN reason SET DEFAULT 'unknown';
ALTER TABLE draft_spending ALTER COLUMN requester_id DROP DEFAULT;
ALTER TABLE draft_settings ALTER COLUMN schema_revision DROP DEFAULT;
"""
DOWNGRADE = r"""
ALTER TABLE draft_settings ALTER COLUMN schema_revision SET DEFAULT '';
ALTER TABLE draft_spending ALTER COLUMN requester_id SET DEFAULT '';
ALTER TABLE draft_holds ALTER COLUMN reason SET DEFAULT '';

DROP TRIGGER draft_pauses_05_begin ON draft_pauses;
CREATE TRIGGER draft_pauses_05_defaults BEFORE INSERT OR UPDATE ON draft_pauses
    FOR EACH ROW EXECUTE FUNCTION draft_nulls_are_defaults();
ALTER TABLE draft_pauses ALTER COLUMN name SET DEFAULT '', ALTER COLUMN reason SET DEFAULT '',
    ALTER COLUMN by SET DEFAULT CURRENT_USER;
DROP FUNCTION draft_pauses_begin();

DROP TRIGGER draft_feedback_04_requester ON draft_feedback;
ALTER TABLE draft_feedback ALTER COLUMN requester_id SET DEFAULT '';
DROP TRIGGER draft_profiles_04_requester ON draft_profiles;
ALTER TABLE draft_profiles ALTER COLUMN requester_id SET DEFAULT draft_current_requester();
DROP TRIGGER draft_requests_04_requester ON draft_requests;
CREATE TRIGGER draft_requests_04_requester BEFORE INSERT ON draft_requests
    FOR EACH ROW WHEN (NEW.requester_id IS NULL)
    EXECUTE FUNCTION draft_nulls_are_defaults(requester_id);
ALTER TABLE draft_requests ALTER COLUMN requester_id SET DEFAULT draft_current_requester();
DROP FUNCTION draft_requester_begin();
"""
FUNCTIONS = ["draft_requester_begin()", "draft_pauses_begin()"]
TEXTS = {
    "FUNCTION draft_requester_begin()": "Trigger: replaces the default of requester_id by the current requester.",
    "FUNCTION draft_pauses_begin()": "Trigger: fills in what a pause leaves out.",
}


def upgrade() -> None:
    op.execute(UPGRADE)
    op.execute(keep_private(functions=FUNCTIONS))
    op.execute(comment_on(TEXTS))


def downgrade() -> None:
    op.execute(DOWNGRADE)
