"""Limits that do not bind cost little.

A row that surely has room needs no admission, rows are admitted by one statement, and a claim says whether any row waits.
"""

from alembic import op

from draftd.db.comments import comment_on
from draftd.db.private import keep_private
from draftd.db.replaced import replace_parts

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None

FITS = "draft_requester_fits(text, boolean)"
ANYONE_WAITS = "draft_anyone_waits()"
TEXTS = {
    f"FUNCTION {FITS}": "For draftd: whether a new request is claimable without an admission.",
    f"FUNCTION {ANYONE_WAITS}": "For draftd: whether a request waits for its admission that no pause or budget keeps back.",
}
CREATE_ANYONE_WAITS = """
-- Whether anybody has a row that waits for its admission and is not blocked; true also if too many are blocked to tell. One read
-- of the index for each requester, however many rows it has.
CREATE FUNCTION draft_anyone_waits() RETURNS boolean LANGUAGE plpgsql SECURITY INVOKER
SET enable_seqscan = off AS $$
DECLARE
    requester text := (
        SELECT r.requester_id FROM draft_requests AS r
         WHERE r.status = 'pending' AND r.limited ORDER BY r.requester_id LIMIT 1);
BEGIN
    FOR number IN 1 .. 20 LOOP
        IF requester IS NULL THEN
            RETURN false;
        END IF;
        EXIT WHEN coalesce(draft_requester_blocked_until(requester) <= now(), true);
        requester := (
            SELECT r.requester_id FROM draft_requests AS r
             WHERE r.status = 'pending' AND r.limited AND r.requester_id > requester ORDER BY r.requester_id LIMIT 1);
    END LOOP;
    RETURN true;
END $$;
"""
CREATE_FITS = """
-- Whether a row that is being inserted is claimable at once: nothing limits its requester, or all its unfinished rows may run at
-- the same time. at_most tells if this transaction has just counted the row there, and so keeps others from inserting until it
-- ends. Where it is too high to tell, the rows are counted, in one of so many inserts that each pays for eight rows.
CREATE FUNCTION draft_requester_fits(requester text, is_later boolean) RETURNS boolean LANGUAGE plpgsql SECURITY INVOKER
SET enable_seqscan = off AS $$
DECLARE
    own record;
    bound bigint;
    unfinished bigint;
BEGIN
    IF draft_requester_blocked_until(requester) > now() THEN
        RETURN false;
    END IF;
    SELECT l.max_pending, l.max_in_flight::bigint AS most INTO own FROM draft_limits AS l
     WHERE l.requester_id IN (requester, '*') ORDER BY l.requester_id <> requester LIMIT 1;
    IF own.most IS NULL THEN
        RETURN true;
    ELSIF own.max_pending IS NULL OR is_later THEN
        RETURN false;
    END IF;
    SELECT t.at_most INTO bound FROM draft_turnstiles AS t
     WHERE t.requester_id = requester AND t.xmin = pg_current_xact_id()::xid;
    IF bound <= own.most THEN
        RETURN true;
    ELSIF bound IS NULL OR bound % greatest(1, own.most / 8) <> 0 THEN
        RETURN false;
    END IF;
    unfinished := (
        SELECT (SELECT count(*) FROM (SELECT FROM draft_requests AS r
                 WHERE r.status = 'pending' AND NOT r.limited AND r.requester_id >= '' AND r.requester_id = requester
                 LIMIT own.most) AS x)
             + (SELECT count(*) FROM (SELECT FROM draft_requests AS r
                 WHERE r.status = 'pending' AND r.limited AND r.requester_id = requester LIMIT own.most) AS x)
             + (SELECT count(*) FROM (SELECT FROM draft_requests AS r
                 WHERE r.status = 'processing' AND r.requester_id = requester LIMIT own.most) AS x));
    IF unfinished >= own.most THEN
        RETURN false;
    END IF;
    UPDATE draft_turnstiles AS t SET at_most = unfinished + 1 WHERE t.requester_id = requester;
    RETURN true;
END $$;
"""

TAKE_TURN = "draft_requests_take_turn()"
WAITS_OR_PASSES = """\
            NEW.limited := draft_requester_waits(
                NEW.requester_id, TG_OP = 'UPDATE' AND OLD.status = 'processing' AND NEW.available_at <= now());
            IF TG_OP = 'INSERT' OR OLD.status <> 'processing' THEN
                PERFORM draft_pass_turnstile(NEW.requester_id, NEW.idempotency_key, TG_OP = 'UPDATE');
            END IF;
"""
FITS_OR_WAITS = """\
            IF TG_OP = 'INSERT' OR OLD.status <> 'processing' THEN
                PERFORM draft_pass_turnstile(NEW.requester_id, NEW.idempotency_key, TG_OP = 'UPDATE');
            END IF;
            IF TG_OP = 'INSERT' THEN
                NEW.limited := NOT draft_requester_fits(NEW.requester_id, NEW.available_at > now());
            ELSE
                NEW.limited := draft_requester_waits(
                    NEW.requester_id, OLD.status = 'processing' AND NEW.available_at <= now());
            END IF;
"""

SET_LIMITED = "draft_set_limited(uuid[], boolean)"
ONE_BY_ONE = """    FOREACH one IN ARRAY ids LOOP
        UPDATE draft_requests AS r SET limited = wanted
         WHERE r.id = (SELECT x.id FROM draft_requests AS x
                        WHERE x.id = one AND x.status = 'pending' AND x.limited <> wanted FOR NO KEY UPDATE SKIP LOCKED)
           AND r.status = 'pending';
        IF FOUND THEN
            changed := changed + 1;
        END IF;
    END LOOP;
"""
TOGETHER = """    -- Only a nested loop keeps their order, in which they take their turns.
    WITH free AS MATERIALIZED (
        SELECT x.id FROM unnest(ids) WITH ORDINALITY AS i(id, place) CROSS JOIN LATERAL (
            SELECT r.id FROM draft_requests AS r
             WHERE r.id = i.id AND r.status = 'pending' AND r.limited <> wanted FOR NO KEY UPDATE SKIP LOCKED) AS x
    )
    UPDATE draft_requests AS r SET limited = wanted FROM free WHERE r.id = free.id AND r.status = 'pending';
    GET DIAGNOSTICS changed = ROW_COUNT;
"""
DECLARED = "    one uuid;\n"

BLOCKED = "draft_requester_blocked_until(text)"
ASKS_ALWAYS = "draft_budget_until($1));"
ASKS_IF_REFUSED = """CASE WHEN EXISTS (
        SELECT FROM draft_spending AS s
         WHERE s.day = (now() AT TIME ZONE 'UTC')::date AND s.payer = 'requester' AND s.requester_id = $1
           AND s.refused IS NOT NULL) THEN draft_budget_until($1) END);"""
"""Only what was refused a call today can have used its budget up; one read of an index tells."""


def upgrade() -> None:
    op.execute(CREATE_FITS)
    op.execute(CREATE_ANYONE_WAITS)
    op.execute(keep_private(functions=[FITS, ANYONE_WAITS]))
    op.execute(comment_on(TEXTS))
    op.execute(replace_parts(TAKE_TURN, [(WAITS_OR_PASSES, FITS_OR_WAITS)], revision=down_revision))
    op.execute(replace_parts(SET_LIMITED, [(DECLARED, ""), (ONE_BY_ONE, TOGETHER)], revision=down_revision))
    op.execute(f"ALTER FUNCTION {SET_LIMITED} SET enable_hashjoin = off SET enable_mergejoin = off")
    op.execute(replace_parts(BLOCKED, [(ASKS_ALWAYS, ASKS_IF_REFUSED)], revision=down_revision))
    # Planned while the table is small, its queries would read all pending rows for each insert into a table that has grown.
    # A sort that cannot be avoided then seems to cost so much that the server would compile it, for 0.3 s.
    op.execute(f"ALTER FUNCTION {TAKE_TURN} SET enable_sort = off SET jit = off")
    # Likewise with its enable_seqscan = off; daemons' own sessions never compile.
    op.execute("ALTER FUNCTION draftd_demand() SET jit = off")


def downgrade() -> None:
    op.execute("ALTER FUNCTION draftd_demand() RESET jit")
    op.execute(f"ALTER FUNCTION {TAKE_TURN} RESET enable_sort RESET jit")
    op.execute(replace_parts(BLOCKED, [(ASKS_IF_REFUSED, ASKS_ALWAYS)], revision=revision))
    op.execute(f"ALTER FUNCTION {SET_LIMITED} RESET enable_hashjoin RESET enable_mergejoin")
    op.execute(
        replace_parts(
            SET_LIMITED,
            [(TOGETHER, ONE_BY_ONE), ("    half integer", f"{DECLARED}    half integer")],
            revision=revision,
        )
    )
    op.execute(replace_parts(TAKE_TURN, [(FITS_OR_WAITS, WAITS_OR_PASSES)], revision=revision))
    op.execute(f"DROP FUNCTION {FITS}, {ANYONE_WAITS}")
