"""Limits and ceilings that do not bind cost less.

Simple statements check an insert that surely has room, a row that waits for its admission is announced, and a claim learns
whether a ceiling has ample room.
"""

from alembic import op

from draftd.db.comments import comment_on
from draftd.db.private import keep_private
from draftd.db.replaced import replace_parts

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None

TAKE_TURN = "draft_requests_take_turn()"
DECLARED = "    mine bigint;\n"
ALSO_DECLARED = f"""{DECLARED}    most_pending bigint;
    most_in_flight bigint;
    budget numeric;
    may_be_blocked boolean;
    may_pass boolean;
    bound bigint;
    place tid;
    hint text;
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
# Each of these statements takes 10 to 30 us; one for all that is read takes 100.
SURELY_FITS_OR_WAITS = """\
            SELECT l.max_pending, l.max_in_flight, l.usd_per_day INTO most_pending, most_in_flight, budget
              FROM draft_limits AS l WHERE l.requester_id = NEW.requester_id;
            IF NOT FOUND THEN
                SELECT l.max_pending, l.max_in_flight, l.usd_per_day INTO most_pending, most_in_flight, budget
                  FROM draft_limits AS l WHERE l.requester_id = '*';
            END IF;
            PERFORM FROM draft_pauses AS p WHERE p.what = 'requester' AND p.name = NEW.requester_id;
            may_be_blocked := FOUND;
            IF budget IS NOT NULL AND NOT may_be_blocked THEN
                PERFORM FROM draft_spending AS s
                  WHERE s.day = (now() AT TIME ZONE 'UTC')::date AND s.payer = 'requester'
                    AND s.requester_id = NEW.requester_id AND s.refused IS NOT NULL;
                may_be_blocked := FOUND;
            END IF;
            -- What surely has room passes here. All else is up to the functions below, whose calls cost more.
            may_pass := TG_OP = 'INSERT' AND most_pending IS NOT NULL;
            IF may_pass AND NEW.idempotency_key IS NOT NULL THEN
                PERFORM FROM draft_requests AS r
                  WHERE r.requester_id = NEW.requester_id AND r.idempotency_key = NEW.idempotency_key;
                may_pass := NOT FOUND;
            END IF;
            IF may_pass THEN
                -- An index leads to the row through all versions that this transaction has made of it, one for each insert. So it
                -- is looked for where the insert before has left it; a wrong setting finds nothing.
                hint := current_setting('draftd.turnstile', true);
                IF hint ~ '^\\(\\d{1,9},\\d{1,4}\\)$' THEN
                    UPDATE draft_turnstiles AS t SET at_most = t.at_most + 1
                     WHERE t.ctid = hint::tid AND t.requester_id = NEW.requester_id AND t.at_most < most_pending
                       AND t.epoch = (SELECT s.last_value FROM draft_limits_epoch AS s)
                    RETURNING t.at_most, t.ctid INTO bound, place;
                END IF;
                IF bound IS NULL THEN
                    UPDATE draft_turnstiles AS t SET at_most = t.at_most + 1
                     WHERE t.requester_id = NEW.requester_id AND t.at_most < most_pending
                       AND t.epoch = (SELECT s.last_value FROM draft_limits_epoch AS s)
                    RETURNING t.at_most, t.ctid INTO bound, place;
                END IF;
                IF bound IS NOT NULL THEN
                    hint := set_config('draftd.turnstile', place::text, true);
                END IF;
            END IF;
            IF most_pending IS NOT NULL AND bound IS NULL AND (TG_OP = 'INSERT' OR OLD.status <> 'processing') THEN
                PERFORM draft_pass_turnstile(NEW.requester_id, NEW.idempotency_key, TG_OP = 'UPDATE');
            END IF;
            IF TG_OP = 'UPDATE' THEN
                NEW.limited := draft_requester_waits(
                    NEW.requester_id, OLD.status = 'processing' AND NEW.available_at <= now());
            ELSIF bound > most_in_flight AND bound % greatest(1, most_in_flight / 8) <> 0 THEN
                -- As draft_requester_fits would say.
                NEW.limited := true;
            ELSIF may_be_blocked OR most_in_flight IS NOT NULL
                  AND (bound IS NULL OR bound > most_in_flight OR NEW.available_at > now()) THEN
                NEW.limited := NOT draft_requester_fits(NEW.requester_id, NEW.available_at > now());
            END IF;
"""
ADMIT = "draft_admit(text[], text[], integer, text)"
ADMITS = "        place := 0;\n"
COUNTS_AGAIN_AND_ADMITS = f"""\
        -- Counted again: what was inserted since then may be claimable already. Whoever inserts later counts the candidates.
        room := least(room, coalesce(draft_requester_room(requester), room));
{ADMITS}"""
WAITS = "    IF NEW.limited THEN\n        RETURN NEW;\n"
WAITS_AND_SAYS_SO = """\
    IF NEW.limited THEN
        PERFORM pg_notify('draft_requests', 'admit');
        RETURN NEW;
"""
TURN_PARTS = [(DECLARED, ALSO_DECLARED), (FITS_OR_WAITS, SURELY_FITS_OR_WAITS), (WAITS, WAITS_AND_SAYS_SO)]

CHANGED = ("draft_limits_changed()", "draft_budget_changed()")
RINGS = "pg_notify('draft_requests', '')"
ASKS_FOR_ADMISSIONS = "pg_notify('draft_requests', 'admit')"

CLAIM_ROOM = "draft_claim_room(text, text[], integer)"
ROOM_TEXT = {
    f"FUNCTION {CLAIM_ROOM}": (
        "For daemons: how many requests may be claimed for a model with ceilings, and when to ask again, in seconds."
    )
}
COUNT_ROOM = """
-- How many rows may be claimed for a model with ceilings, and when to ask again if that is too few for what is due.
CREATE FUNCTION draft_claim_room(model text, agents text[], wanted integer, OUT room integer, OUT wait_s float8{out})
LANGUAGE plpgsql SECURITY DEFINER AS $$
#variable_conflict use_column
DECLARE
    has record;
    calling integer;
    preparing integer;
BEGIN
    PERFORM draft_check_worker();
    PERFORM pg_advisory_xact_lock('draft_requests'::regclass::oid::int, hashtext(draft_claim_room.model));
    has := draft_model_room(draft_claim_room.model, NULL, clock_timestamp());
    calling := (SELECT count(*) FROM draft_reservations AS v
                 WHERE v.model = draft_claim_room.model AND v.settled_at IS NULL);
    -- What has called already is being checked and settled, and is unlikely to call again.
    preparing := (SELECT count(*) FROM draft_requests AS r
                   WHERE r.status = 'processing' AND r.agent = ANY (draft_claim_room.agents)
                     AND NOT EXISTS (SELECT FROM draft_reservations AS v
                                      WHERE v.request_id = r.id AND v.lease_token = r.lease_token));
{room}    IF room < draft_claim_room.wanted AND EXISTS (
        SELECT FROM draft_requests AS r
         WHERE r.status = 'pending' AND NOT r.limited AND r.agent = ANY (draft_claim_room.agents)
           AND r.available_at <= now() OFFSET room) THEN
        wait_s := greatest(0.25, least(has.wait_s, 60));
    END IF;
END $$;
"""
CAPPED = """\
    room := least(draft_claim_room.wanted, has.calls - preparing,
                  has.in_flight + greatest(1, (has.in_flight + calling) / 4) - preparing,
                  floor(has.tokens_left / greatest(1, has.need))::int - preparing);
    room := greatest(0, room);
"""
CAPPED_OR_AMPLE = """\
    room := least(has.calls - preparing, has.in_flight + greatest(1, (has.in_flight + calling) / 4) - preparing,
                  floor(has.tokens_left / greatest(1, has.need))::int - preparing);
    -- More than the fleet can use up in a second, at four calls for each request that it works on.
    is_ample := coalesce(room > 4 * (
        SELECT sum(w.concurrency) FROM draft_workers AS w
         WHERE w.state <> 'stopped' AND w.heartbeat_at > now() - interval '1 min'), false);
    room := greatest(0, least(draft_claim_room.wanted, room));
"""

NOTE_GRANTEES = f"""
SELECT set_config('draftd.grantees', coalesce(string_agg(DISTINCT quote_ident(pg_get_userbyid(g.grantee)), ', '), ''), true)
  FROM pg_proc AS p CROSS JOIN aclexplode(p.proacl) AS g
 WHERE p.oid = '{CLAIM_ROOM}'::regprocedure AND g.grantee NOT IN (0, p.proowner);
"""
GRANT_AGAIN = f"""
DO $$
BEGIN
    IF current_setting('draftd.grantees') <> '' THEN
        EXECUTE 'GRANT EXECUTE ON FUNCTION {CLAIM_ROOM} TO ' || current_setting('draftd.grantees');
    END IF;
END $$;
"""


def upgrade() -> None:
    op.execute(replace_parts(ADMIT, [(ADMITS, COUNTS_AGAIN_AND_ADMITS)], revision=down_revision))
    op.execute(replace_parts(TAKE_TURN, TURN_PARTS, revision=down_revision))
    # Planned while its tables are small, its queries would read them whole once they have grown. Without generic plans, a query
    # that seems cheaper for its parameters is planned for each insert, which takes 0.1 ms.
    op.execute(f"ALTER FUNCTION {TAKE_TURN} SET enable_seqscan = off SET plan_cache_mode = force_generic_plan")
    for function in CHANGED:
        op.execute(replace_parts(function, [(RINGS, ASKS_FOR_ADMISSIONS)], revision=down_revision))
    _replace_room(", OUT is_ample boolean", CAPPED_OR_AMPLE)


def downgrade() -> None:
    _replace_room("", CAPPED)
    for function in CHANGED:
        op.execute(replace_parts(function, [(ASKS_FOR_ADMISSIONS, RINGS)], revision=revision))
    op.execute(f"ALTER FUNCTION {TAKE_TURN} RESET enable_seqscan RESET plan_cache_mode")
    op.execute(replace_parts(TAKE_TURN, [(new, old) for old, new in reversed(TURN_PARTS)], revision=revision))
    op.execute(replace_parts(ADMIT, [(COUNTS_AGAIN_AND_ADMITS, ADMITS)], revision=revision))


def _replace_room(out: str, room: str) -> None:
    """Make the function anew, because a replacement cannot return anything else; who may execute it stays."""
    op.execute(NOTE_GRANTEES)
    op.execute(f"DROP FUNCTION {CLAIM_ROOM}")
    op.execute(COUNT_ROOM.format(out=out, room=room))
    op.execute(keep_private(functions=[CLAIM_ROOM]))
    op.execute(comment_on(ROOM_TEXT))
    op.execute(GRANT_AGAIN)
