"""Feedback keeps what the report, the scores and learning need; the time of the first option; usage can be read by its day."""

from alembic import op

from draftd.db.private import keep_private
from draftd.db.replaced import replace_parts

revision = "0025"
down_revision = "0023"
branch_labels = None
depends_on = None

UPGRADE = r"""
ALTER TABLE draft_feedback
    ADD COLUMN similarity     real,
    ADD COLUMN angle          text,
    ADD COLUMN stance         text,
    ADD COLUMN agent          text,
    ADD COLUMN prompt_version text,
    ADD COLUMN trace_id       text,
    ADD COLUMN score_at       timestamptz;
COMMENT ON COLUMN draft_feedback.similarity IS 'of drafted_text and sent_text, 0 to 1; 1: equal but for space around them';
COMMENT ON COLUMN draft_feedback.score_at IS 'when its scores are due at Langfuse; null: nothing is left to send';
CREATE INDEX draft_feedback_score_at_idx ON draft_feedback (score_at) WHERE score_at IS NOT NULL;

ALTER TABLE draft_requests ADD COLUMN first_option_at timestamptz;
COMMENT ON COLUMN draft_requests.first_option_at IS 'when the first option was published; null if none was before the end';

-- Rows come in the order of their time and stay: a few kilobytes find the day.
CREATE INDEX draft_usage_created_at_idx ON draft_usage USING brin (created_at);

-- Dice's coefficient over the sets of trigrams: 2 * common / (trigrams of one + trigrams of the other). Of longer texts the
-- first 4,000 characters count, which takes some 20 ms. Trigrams of characters and not of words: not every language has spaces.
-- Case counts, because who sends "ok" for "OK" has corrected the draft. Texts that differ are never 1.
CREATE FUNCTION draft_text_similarity(a text, b text) RETURNS real LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    WITH given AS MATERIALIZED (
        SELECT btrim(replace($1, E'\r\n', E'\n'), E' \t\r\n') COLLATE "C" AS a,
               btrim(replace($2, E'\r\n', E'\n'), E' \t\r\n') COLLATE "C" AS b
    ), trigrams AS (
        SELECT side, lag(c, 2) OVER place || lag(c) OVER place || c AS trigram
          FROM given, LATERAL (VALUES (1, given.a), (2, given.b)) AS v(side, content),
               unnest(string_to_array('  ' || left(v.content, 4000) || ' ', NULL)) WITH ORDINALITY AS u(c, i)
        WINDOW place AS (PARTITION BY side ORDER BY i)
    ), both_sides AS (
        SELECT trigram, count(DISTINCT side) AS sides FROM trigrams WHERE trigram IS NOT NULL GROUP BY trigram
    )
    SELECT CASE WHEN given.a = given.b THEN 1
                ELSE (SELECT least(0.999, coalesce(2.0 * count(*) FILTER (WHERE sides = 2) / nullif(sum(sides), 0), 0))
                        FROM both_sides) END::real
      FROM given
$$;

-- SECURITY INVOKER: whoever rates a request must be able to see it, or could read others' drafts here.
CREATE OR REPLACE FUNCTION draft_feedback_begin() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    rated record;
    chosen jsonb;
BEGIN
    IF length(NEW.sent_text) > 8000 THEN
        RAISE EXCEPTION 'draft_feedback: sent_text has at most 8,000 characters, not %', length(NEW.sent_text)
            USING ERRCODE = 'check_violation';
    END IF;
    SELECT r.requester_id, r.agent, r.prompt_version, r.trace_id, r.traceparent, r.id, r.status,
           coalesce(r.result, r.partial_result) AS result INTO rated
      FROM draft_requests AS r WHERE r.id = NEW.request_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'draft_feedback: request_id is no request' USING ERRCODE = 'foreign_key_violation';
    END IF;
    chosen := jsonb_path_query_first(rated.result, '$.options[*] ? (@.length == $length)',
                                     jsonb_build_object('length', NEW.option));
    -- An unfinished request may have lost the option that was shown: its next attempt publishes anew. A result without lengths
    -- is of another kind than draftd's.
    IF NEW.option IN ('short', 'medium', 'detailed') AND chosen IS NULL AND rated.status NOT IN ('pending', 'processing')
       AND (rated.result IS NULL OR jsonb_path_exists(rated.result, '$.options[*].length ? (@.type() == "string")')) THEN
        RAISE EXCEPTION 'draft_feedback: this request has no option %', quote_literal(NEW.option)
            USING ERRCODE = 'check_violation',
                  HINT = coalesce('It has ' || nullif(array_to_string(ARRAY(
                      SELECT o ->> 'length' FROM jsonb_path_query(rated.result, '$.options[*]') AS o), ', '), '') || '.',
                      'It has none at all; leave option out.');
    END IF;
    NEW.requester_id := rated.requester_id;
    NEW.agent := rated.agent;
    NEW.prompt_version := rated.prompt_version;
    NEW.platform := rated.result ->> 'platform';
    NEW.author := rated.result #>> '{replying_to,author}';
    NEW.drafted_text := chosen #>> '{text}';
    NEW.angle := chosen ->> 'angle';
    NEW.stance := chosen ->> 'stance';
    -- As long as nothing is settled, the trace id is what the daemon will make it: the client's trace, or the start of a hash.
    NEW.trace_id := CASE WHEN rated.trace_id IS NOT NULL OR rated.status NOT IN ('pending', 'processing') THEN rated.trace_id
                         WHEN rated.traceparent IS NOT NULL THEN split_part(rated.traceparent, '-', 2)
                         ELSE left(encode(sha256(convert_to(rated.id::text, 'UTF8')), 'hex'), 32) END;
    NEW.created_at := now();
    RETURN NEW;
END $$;

-- SECURITY DEFINER, because a client need not be allowed to call the function: this reads the new row alone.
CREATE FUNCTION draft_feedback_compare() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    NEW.similarity := draft_text_similarity(NEW.drafted_text, NEW.sent_text);
    NEW.outcome := coalesce(NEW.outcome, CASE WHEN NEW.similarity = 1 THEN 'sent'
                                              WHEN NEW.similarity IS NOT NULL THEN 'edited' END);
    NEW.score_at := CASE WHEN NEW.trace_id IS NOT NULL
                          AND num_nonnulls(NEW.rating, NEW.outcome, NEW.option, NEW.similarity) > 0 THEN now() END;
    RETURN NEW;
END $$;
CREATE TRIGGER draft_feedback_20_compare BEFORE INSERT ON draft_feedback
    FOR EACH ROW EXECUTE FUNCTION draft_feedback_compare();
"""
FEEDBACK_BEGIN = r"""
CREATE OR REPLACE FUNCTION draft_feedback_begin() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    rated record;
BEGIN
    SELECT r.requester_id, coalesce(r.result, r.partial_result) AS result INTO rated
      FROM draft_requests AS r WHERE r.id = NEW.request_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'draft_feedback: request_id is no request' USING ERRCODE = 'foreign_key_violation';
    END IF;
    NEW.requester_id := rated.requester_id;
    NEW.platform := rated.result ->> 'platform';
    NEW.author := rated.result #>> '{replying_to,author}';
    NEW.drafted_text := jsonb_path_query_first(rated.result, '$.options[*] ? (@.length == $length).text',
                                               jsonb_build_object('length', NEW.option)) #>> '{}';
    NEW.created_at := now();
    RETURN NEW;
END $$;
"""
DOWNGRADE = r"""
DROP FUNCTION draft_feedback_compare() CASCADE;
DROP FUNCTION draft_text_similarity(text, text);
DROP INDEX draft_usage_created_at_idx;
ALTER TABLE draft_requests DROP COLUMN first_option_at;
ALTER TABLE draft_feedback
    DROP COLUMN similarity, DROP COLUMN angle, DROP COLUMN stance, DROP COLUMN agent, DROP COLUMN prompt_version,
    DROP COLUMN trace_id, DROP COLUMN score_at;
"""
# A new request has published nothing, whatever was sent.
BEFORE = "NEW.trace_id := NULL;"
AFTER = f"{BEFORE}\n    NEW.first_option_at := NULL;"


def upgrade() -> None:
    op.execute(UPGRADE)
    op.execute(replace_parts("draft_requests_begin()", [(BEFORE, AFTER)], revision="0023"))
    op.execute(
        keep_private(
            functions=["draft_text_similarity(text, text)", "draft_feedback_begin()", "draft_feedback_compare()"]
        )
    )


def downgrade() -> None:
    op.execute(replace_parts("draft_requests_begin()", [(AFTER, BEFORE)], revision=revision))
    op.execute(DOWNGRADE)
    op.execute(FEEDBACK_BEGIN)
    op.execute(keep_private(functions=["draft_feedback_begin()"]))
