"""Forgetting a requester: everything stored of one is deleted, and draft_usage keeps its sums without the name."""

from alembic import op

from draftd.db.private import keep_private

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

UPGRADE = r"""
-- Without it, forgetting one requester reads a table that only grows.
CREATE INDEX draft_usage_requester_id_idx ON draft_usage (requester_id);

-- The mark of a backend that may forget requesters (draftd grants --trusted). A right on a type, as draft_worker is: GRANT ... ON
-- ALL, which people write, covers functions and no types.
CREATE DOMAIN draft_trusted AS text;
COMMENT ON DOMAIN draft_trusted IS 'a role with USAGE may call forget_draft_requester';

-- Forgets up to max_rows rows of each table, or all (null). A pass that changes nothing is the last one.
--
-- Locks the requests first, in the order of ids, like every statement on several rows. A lock for deletion keeps out whatever
-- would bring the name back: feedback, whose foreign key is checked against the row; usage, which is written with the name only
-- under a lock of the request (record_usage); pictures. All three come too late, or are visible to the statements below. The
-- daemons' own statements skip locked rows, so they wait for nothing here.
--
-- $1 is the requester: as a name, requester_id would be ambiguous beside the columns.
--
-- Also returns trace_ids, which are those of Langfuse, and is_recent: whether a daemon may still be sending some of them.
CREATE FUNCTION draft_forget_some(requester_id text, max_rows integer) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    ids uuid[];
    recent boolean;
    traces text[];
    usage_traces text[];
    requests bigint;
    feedback bigint;
    usage bigint;
    profiles bigint;
BEGIN
    IF $1 IS NULL THEN
        RAISE EXCEPTION 'forget_draft_requester: requester_id is null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    -- With one snapshot for all statements, usage written in the meantime would keep the name.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'forget_draft_requester: the transaction must be READ COMMITTED'
            USING ERRCODE = 'invalid_transaction_state';
    END IF;
    SELECT array_agg(locked.id), array_agg(DISTINCT locked.trace_id) FILTER (WHERE locked.trace_id IS NOT NULL),
           bool_or(locked.status = 'processing' OR locked.updated_at > now() - interval '1 minute')
      INTO ids, traces, recent
      FROM (SELECT r.id, r.trace_id, r.status, r.updated_at FROM draft_requests AS r
             WHERE r.id IN (SELECT p.id FROM draft_requests AS p WHERE p.requester_id = $1 LIMIT max_rows)
               AND r.requester_id = $1
             ORDER BY r.id FOR UPDATE) AS locked;
    -- Clients that follow the request are told.
    UPDATE draft_requests AS r SET status = 'cancelled' WHERE r.id = ANY (ids) AND r.status = 'processing';
    WITH gone AS (
        DELETE FROM draft_feedback AS f
         WHERE f.id IN (SELECT p.id FROM draft_feedback AS p WHERE p.requester_id = $1 LIMIT max_rows)
            OR f.request_id = ANY (ids)
        RETURNING f.id)
    SELECT count(*) INTO feedback FROM gone;
    DELETE FROM draft_requests AS r WHERE r.id = ANY (ids);
    GET DIAGNOSTICS requests = ROW_COUNT;
    IF $1 <> '' THEN
        WITH nameless AS (
            UPDATE draft_usage AS u SET requester_id = ''
             WHERE u.id IN (SELECT p.id FROM draft_usage AS p WHERE p.requester_id = $1 LIMIT max_rows)
            RETURNING u.trace_id)
        SELECT count(*), array_agg(DISTINCT trace_id) FILTER (WHERE trace_id IS NOT NULL) INTO usage, usage_traces
          FROM nameless;
    END IF;
    DELETE FROM draft_turnstiles AS t WHERE t.requester_id = $1;
    DELETE FROM draft_limits AS l WHERE l.requester_id = $1 AND l.requester_id <> '*';
    DELETE FROM draft_pauses AS p WHERE p.what = 'requester' AND p.name = $1;
    DELETE FROM draft_profiles AS p WHERE p.requester_id = $1;
    GET DIAGNOSTICS profiles = ROW_COUNT;
    RETURN jsonb_build_object(
        'requests', requests, 'feedback', feedback, 'profiles', profiles, 'usage', coalesce(usage, 0),
        'trace_ids', to_jsonb(ARRAY(SELECT unnest(traces) UNION SELECT unnest(usage_traces))),
        'is_recent', coalesce(recent, false));
END $$;

-- SECURITY DEFINER, because it deletes what no client may delete, and because row security would hide some of it from its caller.
-- Whoever may call it may forget any requester: a backend that acts for all of them, never a browser. Inside, current_user is the
-- owner, so the role asked for is the session's: that of SET ROLE, or the one that logged in.
CREATE FUNCTION forget_draft_requester(requester_id text) RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    caller CONSTANT name := CASE current_setting('role') WHEN 'none' THEN session_user ELSE current_setting('role') END;
BEGIN
    IF NOT has_type_privilege(caller, 'draft_trusted'::regtype, 'USAGE') THEN
        RAISE EXCEPTION 'forget_draft_requester: the role % may not forget requesters', quote_ident(caller)
            USING ERRCODE = 'insufficient_privilege', HINT = 'A backend that may is made with draftd grants --trusted.';
    END IF;
    RETURN draft_forget_some($1, NULL) - '{trace_ids,is_recent}'::text[];
END $$;
"""

DOWNGRADE = """
DROP FUNCTION forget_draft_requester(text);
DROP FUNCTION draft_forget_some(text, integer);
DROP DOMAIN draft_trusted;
DROP INDEX draft_usage_requester_id_idx;
"""


def upgrade() -> None:
    op.execute(UPGRADE)
    functions = ["draft_forget_some(text, integer)", "forget_draft_requester(text)"]
    op.execute(keep_private(functions=functions, types=["draft_trusted"]))


def downgrade() -> None:
    op.execute(DOWNGRADE)
