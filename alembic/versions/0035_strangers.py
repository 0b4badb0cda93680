"""Strangers: functions of the daemons obey workers only, no small JSON expands to gigabytes, no key passes a limit."""

from alembic import op

from draftd.db.comments import comment_on
from draftd.db.private import keep_private
from draftd.db.replaced import replace_parts

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

# A right to execute is not enough: hosts suggest GRANT ... ON ALL ROUTINES, and a restore without privileges (pg_dump -x) opens
# every function to PUBLIC. A right on a type is what GRANT ... ON ALL does not give, see draft_worker.
CHECK_WORKER = r"""
-- For functions with the owner's rights: inside them current_user is the owner, so the role asked for is the session's.
CREATE FUNCTION draft_check_worker() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    caller CONSTANT name := CASE current_setting('role') WHEN 'none' THEN session_user ELSE current_setting('role') END;
BEGIN
    IF NOT has_type_privilege(caller, 'draft_worker'::regtype, 'USAGE') THEN
        RAISE EXCEPTION 'draftd: the role % is no worker', quote_ident(caller)
            USING ERRCODE = 'insufficient_privilege', HINT = 'A role for daemons is made with draftd grants --worker.';
    END IF;
END $$;
"""
TEXTS = {"FUNCTION draft_check_worker()": "For draftd: refuses a caller that is neither the owner nor a worker."}
# Workers call these; what they read or write is not a worker's own to read or write.
FOR_WORKERS = (
    "draft_admit(text[], text[], integer, text)",
    "draft_apply_limits(text)",
    "draft_budgets()",
    "draft_charge_lost(timestamptz)",
    "draft_claim_room(text, text[], integer)",
    "draft_model_room(text, bigint, timestamptz)",
    "draft_prune_turnstiles(integer)",
    "draft_release_call(uuid, bigint, smallint)",
    (
        "draft_reserve_call(uuid, bigint, smallint, smallint, text, text, uuid, numeric, numeric, numeric, integer, bigint, "
        "float8, timestamptz)"
    ),
)
# Functions and triggers with the owner's rights call these; the first one workers too, who may read what it reads.
WITH_THE_CALLERS_RIGHTS = (
    "draft_agent_states()",
    "draft_budget_of(text)",
    "draft_next_requester(boolean, text)",
    "draft_pass_turnstile(text, text, boolean)",
    "draft_requester_room(text)",
    "draft_requester_waits(text, boolean)",
    "draft_reservation_guess(draft_reservations)",
    "draft_set_limited(uuid[], boolean)",
    "draft_spending_add(date, text, numeric, numeric, numeric)",
    "draft_spending_begin(date)",
)
BEGIN = "\nBEGIN\n"
CHECKED = f"{BEGIN}    PERFORM draft_check_worker();\n"
# A role with the right to execute these could make a trigger on a table of its own, and have others' drafts read to it, their
# requests deleted or their limits used up. Those that change nothing but the new row are left as they are.
TRIGGERS = {
    "draft_budget_changed()": ("draft_settings", "draft_limits"),
    "draft_feedback_begin()": ("draft_feedback",),
    "draft_limits_changed()": ("draft_limits", "draft_pauses"),
    "draft_requests_broadcast()": ("draft_requests",),
    "draft_requests_check_shape()": ("draft_requests",),
    "draft_requests_delete_conversation()": ("draft_requests",),
    "draft_requests_forget_pictures()": ("draft_requests",),
    "draft_requests_take_turn()": ("draft_requests",),
    "draft_usage_settle()": ("draft_usage",),
}


def placed(tables: tuple[str, ...]) -> str:
    """Return the beginning of a trigger function for these tables only."""
    known = ", ".join(f"'{table}'::regclass" for table in tables)
    return f"""{BEGIN}    IF TG_RELID NOT IN ({known}) THEN
        RAISE EXCEPTION 'draftd: % is not for this table', TG_NAME USING ERRCODE = 'insufficient_privilege';
    END IF;
"""


# 1e131071 takes 8 bytes in jsonb and 128 KiB as text: 27 KiB of a request took 4 GB. Nothing may turn such a number into text.
LONG_NUMBER = """EXISTS (SELECT FROM jsonb_path_query({}, 'strict $.** ? (@.type() == "number")') AS n
                WHERE length(n::text) > 300)"""
SHAPE = "draft_requests_check_shape()"
SIZES = "pg_column_size(NEW.options) > 262144 OR pg_column_size(NEW.metadata) > 262144"
SHAPES = (
    (
        f"        IF {SIZES} THEN",
        f"""        IF NEW.options = '{{}}' AND NEW.metadata = '{{}}' THEN
            -- Most requests; the checks below take 20 us.
        ELSIF {LONG_NUMBER.format("jsonb_build_array(NEW.options, NEW.metadata)")} THEN
            RAISE EXCEPTION 'draft_requests: a number in options and metadata has at most 300 digits'
                USING ERRCODE = 'check_violation';
        -- As text, which is what it takes to read them: what a table has compressed may be a hundred times as large.
        ELSIF octet_length(NEW.options::text) > 262144 OR octet_length(NEW.metadata::text) > 262144 THEN""",
    ),
)
CREATE = "create_draft_request(jsonb)"
CREATES = (
    (
        "    SELECT string_agg(k, ', ' ORDER BY k) INTO unknown",
        f"""    IF {LONG_NUMBER.format("request")} THEN
        RAISE EXCEPTION 'create_draft_request: a number has at most 300 digits' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT string_agg(k, ', ' ORDER BY k) INTO unknown""",
    ),
    (
        "coalesce(request ->> 'requester_id', draft_current_requester())",
        "coalesce(nullif(request ->> 'requester_id', '(current)'), draft_current_requester())",
    ),
)
# A key counts as known only under a lock: its row may just be being deleted, and the insert would then pass uncounted.
TURNSTILE = "draft_pass_turnstile(text, text, boolean)"
KNOWN = "SELECT FROM draft_requests AS r WHERE r.requester_id = requester AND r.idempotency_key = key)"
TURNSTILES = ((KNOWN, f"{KNOWN[:-1]} FOR KEY SHARE)"),)
# ILIKE folds the whole of a picture, at each end of a request: 24 MiB took 2.4 of the 7 s of a cancellation on a busy machine,
# and hosts give an end user's statement 8 s.
FINISH = "draft_requests_finish()"
FINISHES = (("u ILIKE 'data:%'", "lower(left(u, 5)) = 'data:'"),)
HASH = "draft_requests_without_pictures(text[])"
HASHES = (("entry ILIKE 'data:%'", "lower(left(entry, 5)) = 'data:'"),)
CHANGES = ((SHAPE, SHAPES), (CREATE, CREATES), (TURNSTILE, TURNSTILES), (FINISH, FINISHES), (HASH, HASHES))


def upgrade() -> None:
    op.execute(CHECK_WORKER)
    op.execute(keep_private(functions=["draft_check_worker()"]))
    op.execute(comment_on(TEXTS))
    for function in FOR_WORKERS:
        op.execute(replace_parts(function, [(BEGIN, CHECKED)], revision=down_revision))
    for function in WITH_THE_CALLERS_RIGHTS:
        op.execute(f"ALTER FUNCTION {function} SECURITY INVOKER")
    for function, tables in TRIGGERS.items():
        op.execute(replace_parts(function, [(BEGIN, placed(tables))], revision=down_revision))
    for function, parts in CHANGES:
        op.execute(replace_parts(function, parts, revision=down_revision))


def downgrade() -> None:
    for function, parts in CHANGES:
        op.execute(replace_parts(function, [(after, before) for before, after in parts], revision=revision))
    for function, tables in TRIGGERS.items():
        op.execute(replace_parts(function, [(placed(tables), BEGIN)], revision=revision))
    for function in WITH_THE_CALLERS_RIGHTS:
        op.execute(f"ALTER FUNCTION {function} SECURITY DEFINER")
    for function in FOR_WORKERS:
        op.execute(replace_parts(function, [(CHECKED, BEGIN)], revision=revision))
    op.execute("DROP FUNCTION draft_check_worker()")
