"""Take null for the default in every table that a client or an operator writes, at UPDATE as at INSERT.

One function replaces those of single tables. An INSERT into ``draft_requests`` keeps ``draft_requests_begin``, which sets every
column anyway.
"""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

# What an UPDATE may set to null. The daemon's columns stay strict: a null status would otherwise start a paid draft again.
OF_A_CLIENT = ("requester_id", "agent", "image_urls", "options", "priority", "available_at", "max_attempts", "metadata")

UPGRADE = r"""
-- Takes the defaults from the catalogue: for the columns that the trigger names, or for all. No record is turned into JSON on the
-- way, because numbers, moments and 7 MB of pictures must come out as they went in.
CREATE FUNCTION draft_nulls_are_defaults() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    fields text;
BEGIN
    SELECT string_agg(CASE WHEN a.attnotnull AND a.attgenerated = '' AND d.adbin IS NOT NULL
                                AND (TG_NARGS = 0 OR a.attname = ANY (TG_ARGV))
                           THEN format('coalesce(($1).%I, (%s)::%s)', a.attname, pg_get_expr(d.adbin, d.adrelid),
                                       format_type(a.atttypid, a.atttypmod))
                           ELSE format('($1).%I', a.attname) END, ', ' ORDER BY a.attnum)
      INTO fields
      FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE a.attrelid = TG_RELID AND a.attnum > 0 AND NOT a.attisdropped;
    EXECUTE 'SELECT ' || fields INTO NEW USING NEW;
    RETURN NEW;
END $$;

DROP TRIGGER draft_feedback_05_begin ON draft_feedback;
DROP FUNCTION draft_feedback_begin();
DROP TRIGGER draft_profiles_05_begin ON draft_profiles;
DROP FUNCTION draft_profiles_begin();

CREATE TRIGGER draft_feedback_05_defaults BEFORE INSERT OR UPDATE ON draft_feedback
    FOR EACH ROW EXECUTE FUNCTION draft_nulls_are_defaults();
CREATE TRIGGER draft_profiles_05_defaults BEFORE INSERT OR UPDATE ON draft_profiles
    FOR EACH ROW EXECUTE FUNCTION draft_nulls_are_defaults();
CREATE TRIGGER draft_agents_05_defaults BEFORE INSERT OR UPDATE ON draft_agents
    FOR EACH ROW EXECUTE FUNCTION draft_nulls_are_defaults();
CREATE TRIGGER draft_models_05_defaults BEFORE INSERT OR UPDATE ON draft_models
    FOR EACH ROW EXECUTE FUNCTION draft_nulls_are_defaults();
CREATE TRIGGER draft_requests_05_defaults BEFORE UPDATE OF @columns@ ON draft_requests
    FOR EACH ROW WHEN (@any@ IS NULL)
    EXECUTE FUNCTION draft_nulls_are_defaults(@columns@);

-- Private by default, like every function of draftd.
DO $$
DECLARE
    stranger text;
BEGIN
    EXECUTE format('ALTER FUNCTION draft_nulls_are_defaults() SET search_path = %I, pg_temp', current_schema());
    FOR stranger IN
        SELECT 'public' UNION ALL SELECT quote_ident(rolname) FROM pg_roles WHERE rolname IN ('anon', 'authenticated')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION draft_nulls_are_defaults() FROM %s', stranger);
    END LOOP;
END $$;
"""

DOWNGRADE = r"""
DROP TRIGGER draft_requests_05_defaults ON draft_requests;
DROP TRIGGER draft_models_05_defaults ON draft_models;
DROP TRIGGER draft_agents_05_defaults ON draft_agents;
DROP TRIGGER draft_profiles_05_defaults ON draft_profiles;
DROP TRIGGER draft_feedback_05_defaults ON draft_feedback;
DROP FUNCTION draft_nulls_are_defaults();

CREATE FUNCTION draft_profiles_begin() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.facts := coalesce(NEW.facts, '{}');
    NEW.voice_samples := coalesce(NEW.voice_samples, '{}');
    RETURN NEW;
END $$;
CREATE TRIGGER draft_profiles_05_begin BEFORE INSERT ON draft_profiles
    FOR EACH ROW EXECUTE FUNCTION draft_profiles_begin();

CREATE FUNCTION draft_feedback_begin() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.created_at := coalesce(NEW.created_at, now());
    RETURN NEW;
END $$;
CREATE TRIGGER draft_feedback_05_begin BEFORE INSERT ON draft_feedback
    FOR EACH ROW EXECUTE FUNCTION draft_feedback_begin();

REVOKE ALL ON FUNCTION draft_profiles_begin(), draft_feedback_begin() FROM public;
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['draft_profiles_begin()', 'draft_feedback_begin()'] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', name, current_schema());
    END LOOP;
END $$;
"""


def upgrade() -> None:
    columns = ", ".join(OF_A_CLIENT)
    any_null = " IS NULL OR ".join(f"NEW.{column}" for column in OF_A_CLIENT)
    op.execute(UPGRADE.replace("@columns@", columns).replace("@any@", any_null))


def downgrade() -> None:
    op.execute(DOWNGRADE)
