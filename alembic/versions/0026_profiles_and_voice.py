"""What a profile may hold, and whether the fleet learns a voice from what was sent."""

from alembic import op

from draftd.db.private import keep_private

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

# A profile is sent with each of its requester's requests, so its bounds are those of what a prompt can carry: of the facts, those
# that a conversation touches are chosen; everything else goes whole.
UPGRADE = r"""
COMMENT ON TABLE draft_profiles IS 'what is true of a requester, whatever the request; the request''s own options come first';
COMMENT ON COLUMN draft_profiles.me IS 'as options.me; 200 characters';
COMMENT ON COLUMN draft_profiles.about IS 'who the requester is, in a few sentences; 2,000 characters';
COMMENT ON COLUMN draft_profiles.facts IS 'up to 200 true statements of up to 500 characters';
COMMENT ON COLUMN draft_profiles.signature IS 'closes mails; 500 characters';
COMMENT ON COLUMN draft_profiles.voice_samples IS 'up to 10 texts by the requester, of up to 2,000 characters';
COMMENT ON COLUMN draft_profiles.reader_language IS 'as options.reader_language: a tag such as en or pt-BR';

-- Judges what is new, like draft_requests_check_shape: a profile written before this revision stays, and the daemons cut it.
CREATE FUNCTION draft_profiles_check() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    field text;
    given text[];
    most integer;
    most_chars integer;
BEGIN
    IF NEW.requester_id IS DISTINCT FROM OLD.requester_id AND length(NEW.requester_id) NOT BETWEEN 1 AND 256 THEN
        RAISE EXCEPTION 'draft_profiles: requester_id has 1 to 256 characters: without one, a profile would be everybody''s'
            USING ERRCODE = 'check_violation';
    END IF;
    NEW.me := nullif(btrim(NEW.me, E' \t\r\n'), '');
    NEW.about := nullif(btrim(NEW.about, E' \t\r\n'), '');
    NEW.signature := nullif(btrim(NEW.signature, E' \t\r\n'), '');
    NEW.reader_language := nullif(btrim(NEW.reader_language), '');
    FOR field, most_chars IN
        SELECT f.name, f.chars FROM (VALUES ('me', 200, NEW.me, OLD.me), ('about', 2000, NEW.about, OLD.about),
                                            ('signature', 500, NEW.signature, OLD.signature)) AS f(name, chars, new, old)
         WHERE f.new IS DISTINCT FROM f.old AND length(f.new) > f.chars
    LOOP
        RAISE EXCEPTION 'draft_profiles: % has at most % characters', field, to_char(most_chars, 'FM9,999')
            USING ERRCODE = 'check_violation';
    END LOOP;
    IF NEW.reader_language IS DISTINCT FROM OLD.reader_language
       AND (NEW.reader_language !~ '^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$' OR length(NEW.reader_language) > 35) THEN
        RAISE EXCEPTION 'draft_profiles: reader_language is a language tag such as en or pt-BR' USING ERRCODE = 'check_violation';
    END IF;
    FOREACH field IN ARRAY ARRAY['facts', 'voice_samples'] LOOP
        given := CASE field WHEN 'facts' THEN NEW.facts ELSE NEW.voice_samples END;
        CONTINUE WHEN given IS NOT DISTINCT FROM CASE field WHEN 'facts' THEN OLD.facts ELSE OLD.voice_samples END;
        most := CASE field WHEN 'facts' THEN 200 ELSE 10 END;
        most_chars := CASE field WHEN 'facts' THEN 500 ELSE 2000 END;
        IF coalesce(array_ndims(given), 1) > 1 THEN
            RAISE EXCEPTION 'draft_profiles: % takes a flat list', field USING ERRCODE = 'check_violation';
        END IF;
        IF cardinality(given) > most THEN
            RAISE EXCEPTION 'draft_profiles: % takes up to % entries, not %', field, most, cardinality(given)
                USING ERRCODE = 'check_violation';
        END IF;
        IF EXISTS (SELECT FROM unnest(given) AS g(entry) WHERE coalesce(btrim(g.entry, E' \t\r\n'), '') = '') THEN
            RAISE EXCEPTION 'draft_profiles: % has an entry without text', field USING ERRCODE = 'check_violation';
        END IF;
        IF EXISTS (SELECT FROM unnest(given) AS g(entry) WHERE length(g.entry) > most_chars) THEN
            RAISE EXCEPTION 'draft_profiles: each entry of % has at most % characters', field, to_char(most_chars, 'FM9,999')
                USING ERRCODE = 'check_violation';
        END IF;
    END LOOP;
    RETURN NEW;
END $$;
CREATE TRIGGER draft_profiles_10_check BEFORE INSERT OR UPDATE ON draft_profiles
    FOR EACH ROW EXECUTE FUNCTION draft_profiles_check();

ALTER TABLE draft_settings ADD COLUMN voice_learning boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN draft_settings.voice_learning IS 'whether drafts learn from what their requester really sent before';

CREATE INDEX draft_feedback_requester_id_created_at_idx ON draft_feedback (requester_id, created_at);
"""
DOWNGRADE = r"""
DROP INDEX draft_feedback_requester_id_created_at_idx;
ALTER TABLE draft_settings DROP COLUMN voice_learning;
DROP FUNCTION draft_profiles_check() CASCADE;
COMMENT ON TABLE draft_profiles IS NULL;
COMMENT ON COLUMN draft_profiles.me IS NULL;
COMMENT ON COLUMN draft_profiles.about IS NULL;
COMMENT ON COLUMN draft_profiles.facts IS NULL;
COMMENT ON COLUMN draft_profiles.signature IS NULL;
COMMENT ON COLUMN draft_profiles.voice_samples IS NULL;
COMMENT ON COLUMN draft_profiles.reader_language IS NULL;
"""


def upgrade() -> None:
    op.execute(UPGRADE)
    op.execute(keep_private(functions=["draft_profiles_check()"]))


def downgrade() -> None:
    op.execute(DOWNGRADE)
