"""Ceilings that are used up, and limits that cost little.

Room that calls in flight leave when they use less than expected is found within a second. A pass over all requesters is bounded.
What a lost call may still cost stays reserved until its usage can hardly arrive any more. What counts a requester's inserts is
deleted when it is idle, and counts anew after each change of limits.
"""

from alembic import op

from draftd.db.comments import comment_on
from draftd.db.private import keep_private
from draftd.db.replaced import replace_parts

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

MODEL_ROOM = (
    ("    frees timestamptz;\nBEGIN\n", "    frees timestamptz;\n    surely_frees timestamptz;\nBEGIN\n"),
    (
        "        need := least(ceiling.tpm, draft_model_room.tokens * ratio);\n",
        """        -- Without a number, one of the usual size.
        need := least(ceiling.tpm, ratio * coalesce(draft_model_room.tokens, (
            SELECT avg(v.estimate) FROM (
                SELECT v.estimate FROM draft_reservations AS v
                 WHERE v.model = draft_model_room.model AND v.send = 1 ORDER BY v.began_at DESC LIMIT 100) AS v), 10000));
""",
    ),
    (
        """            SELECT max(w.began_at) INTO frees FROM (
                SELECT v.began_at, sum(coalesce(v.tokens, v.estimate * ratio)) OVER (ORDER BY v.began_at DESC) AS newer
                  FROM draft_reservations AS v WHERE v.model = draft_model_room.model AND v.began_at > since) AS w
             WHERE w.newer + need > ceiling.tpm;
            wait_s := greatest(wait_s, extract(epoch FROM frees - since));
""",
        """            -- Calls in flight may use less than expected, and so leave room at any time. What ended calls used stays
            -- until the window has passed them.
            SELECT max(w.began_at) FILTER (WHERE w.expected + need > ceiling.tpm),
                   max(w.began_at) FILTER (WHERE w.used + need > ceiling.tpm) INTO frees, surely_frees
              FROM (SELECT v.began_at, sum(coalesce(v.tokens, v.estimate * ratio)) OVER newer AS expected,
                           sum(coalesce(v.tokens, v.estimate * ratio)) FILTER (WHERE v.settled_at IS NOT NULL) OVER newer AS used
                      FROM draft_reservations AS v WHERE v.model = draft_model_room.model AND v.began_at > since
                    WINDOW newer AS (ORDER BY v.began_at DESC)) AS w;
            wait_s := greatest(wait_s, least(extract(epoch FROM frees - since),
                                             greatest(1, extract(epoch FROM surely_frees - since))));
""",
    ),
)
"""When a refused call is to ask again."""

CLAIM_ROOM = (
    (
        "    busy integer;\n    calling integer;\n    preparing integer;\n    usual_tokens float8;\n",
        "    calling integer;\n    preparing integer;\n",
    ),
    ("draft_model_room(draft_claim_room.model, 0, clock", "draft_model_room(draft_claim_room.model, NULL, clock"),
    (
        """    busy := (SELECT count(*) FROM draft_requests AS r
              WHERE r.status = 'processing' AND r.agent = ANY (draft_claim_room.agents));
    calling := """,
        "    calling := ",
    ),
    (
        "    preparing := greatest(0, busy - calling);\n",
        """    -- What has called already is being checked and settled, and is unlikely to call again.
    preparing := (SELECT count(*) FROM draft_requests AS r
                   WHERE r.status = 'processing' AND r.agent = ANY (draft_claim_room.agents)
                     AND NOT EXISTS (SELECT FROM draft_reservations AS v
                                      WHERE v.request_id = r.id AND v.lease_token = r.lease_token));
""",
    ),
    (
        """                  has.in_flight + calling + greatest(1, (has.in_flight + calling) / 4) - busy);
    IF has.tokens_left IS NOT NULL THEN
        SELECT avg(v.used) INTO usual_tokens FROM (
            SELECT coalesce(v.tokens, v.estimate * has.ratio) AS used FROM draft_reservations AS v
             WHERE v.model = draft_claim_room.model AND v.send = 1 ORDER BY v.began_at DESC LIMIT 100) AS v;
        -- One call is made while the window is empty, whatever it needs.
        room := least(room, ceil(has.tokens_left / greatest(1, coalesce(usual_tokens, 10000)))::int - preparing);
    END IF;
""",
        """                  has.in_flight + greatest(1, (has.in_flight + calling) / 4) - preparing,
                  floor(has.tokens_left / greatest(1, has.need))::int - preparing);
""",
    ),
)
"""A request is claimed when a call of the usual size has room, not when any token is left: it would be prepared, refused and
given back for the rest of the minute."""

APPLY_LIMITS = (
    ("    room integer;\n", "    batch_ends text;\n    room integer;\n"),
    (
        """    stuck := ARRAY (SELECT s.agent FROM draft_agent_states() AS s
                        WHERE s.state IN ('held', 'paused', 'no_key') OR s.is_served IS NOT TRUE);
    FOR number IN 1 .. 500 LOOP
        requester := CASE WHEN for_everybody THEN draft_next_requester(false, requester)
                          ELSE named[number] END;
        reached := requester;
        EXIT WHEN requester IS NULL;
""",
        """    stuck := ARRAY (SELECT s.agent FROM draft_agent_states() AS s
                        WHERE s.state IN ('held', 'paused', 'no_key') OR s.is_served IS NOT TRUE);
    IF for_everybody THEN
        -- Most are within their limit. Only whoever may not be is looked at: who has too many rows, or one that may have to give
        -- its place up, or may be blocked.
        SELECT array_agg(b.requester_id ORDER BY b.requester_id) FILTER (WHERE
                   b.may_give_up OR b.rows + p.rows > l.max_in_flight
                   OR EXISTS (SELECT FROM draft_pauses AS x WHERE x.what = 'requester' AND x.name = b.requester_id)
                   OR EXISTS (SELECT FROM draft_spending AS x
                               WHERE x.payer = 'requester' AND x.requester_id = b.requester_id AND x.refused IS NOT NULL
                                 AND x.day >= (now() AT TIME ZONE 'UTC')::date)),
               CASE WHEN count(*) = 1000 THEN max(b.requester_id) END
          INTO named, batch_ends
          FROM (SELECT r.requester_id, count(*) AS rows, bool_or(r.available_at > now() OR r.agent = ANY (stuck)) AS may_give_up
                  FROM draft_requests AS r
                 WHERE r.status = 'pending' AND NOT r.limited AND r.requester_id >= ''
                   AND r.requester_id >= coalesce(after, '') AND r.requester_id IS DISTINCT FROM after
                 GROUP BY r.requester_id ORDER BY r.requester_id LIMIT 1000) AS b
               CROSS JOIN LATERAL (
                SELECT count(*) AS rows FROM draft_requests AS r
                 WHERE r.status = 'processing' AND r.requester_id = b.requester_id) AS p
               CROSS JOIN LATERAL (
                SELECT x.max_in_flight FROM draft_limits AS x WHERE x.requester_id IN (b.requester_id, '*')
                 ORDER BY x.requester_id <> b.requester_id LIMIT 1) AS l;
    END IF;
    FOR number IN 1 .. 1001 LOOP
        requester := named[number];
        IF requester IS NULL THEN
            reached := batch_ends;
            EXIT;
        END IF;
        -- The caller goes on where this ended.
        EXIT WHEN number > 1 AND clock_timestamp() - statement_timestamp() > interval '50 ms';
        reached := requester;
""",
    ),
    (
        "             ORDER BY 1 LIMIT 500);\n",
        "             ORDER BY 1 LIMIT 1000);\n        batch_ends := named[1000];\n",
    ),
)
CHARGE_LOST = (
    ("    cost numeric;\n", "    cost numeric;\n    rest numeric;\n"),
    (
        "         WHERE v.settled_at IS NULL\n",
        """         WHERE v.guessed AND v.ends_at <= moment AND v.usd > v.charged_usd
            OR v.settled_at IS NULL
""",
    ),
    (
        """        cost := draft_reservation_guess(held);
        IF held.day IS NOT NULL THEN
            PERFORM draft_spending_add(held.day, held.requester_id, cost, -held.usd);
        END IF;
        UPDATE draft_reservations AS v SET settled_at = moment, guessed = true, charged_usd = cost
""",
        """        cost := coalesce(held.charged_usd, draft_reservation_guess(held));
        -- The rest stays reserved until the call's time is over: its usage may arrive, and show that it has cost more.
        rest := CASE WHEN held.ends_at > moment THEN held.usd - cost ELSE 0 END;
        IF held.day IS NOT NULL THEN
            PERFORM draft_spending_add(held.day, held.requester_id, cost - coalesce(held.charged_usd, 0),
                                       rest + coalesce(held.charged_usd, 0) - held.usd);
        END IF;
        UPDATE draft_reservations AS v SET settled_at = coalesce(v.settled_at, moment), guessed = true, charged_usd = cost,
                                           usd = cost + rest
""",
    ),
    ("        charged := charged + 1;\n", "        charged := charged + (held.settled_at IS NULL)::integer;\n"),
)
"""One loop for both, because two would lock the days' sums out of their order."""
USAGE_SETTLE = (
    (
        "CASE WHEN held.settled_at IS NULL THEN -held.usd ELSE 0 END);",
        """CASE WHEN held.settled_at IS NULL THEN -held.usd
                                        WHEN held.guessed THEN held.charged_usd - held.usd
                                        ELSE 0 END);""",
    ),
)

PASS_TURNSTILE = (
    (
        "    waiting bigint;\n",
        "    waiting bigint;\n    limits_epoch CONSTANT bigint := (SELECT s.last_value FROM draft_limits_epoch AS s);\n",
    ),
    (
        """    INSERT INTO draft_turnstiles AS t (requester_id, at_most) VALUES (requester, 9223372036854775807)
    ON CONFLICT (requester_id) DO UPDATE SET at_most = t.at_most + 1 WHERE t.at_most < 9223372036854775807
""",
        """    INSERT INTO draft_turnstiles AS t (requester_id, at_most, epoch) VALUES (requester, 9223372036854775807, 0)
    ON CONFLICT (requester_id) DO UPDATE SET at_most = t.at_most + 1
     WHERE t.at_most < 9223372036854775807 AND t.epoch = limits_epoch
""",
    ),
    (
        "    UPDATE draft_turnstiles AS t SET at_most = waiting + 1 + (\n",
        "    UPDATE draft_turnstiles AS t SET epoch = limits_epoch, at_most = waiting + 1 + (\n",
    ),
)
LIMITS_CHANGED = (
    (
        "        -- A row that is locked belongs to an insert, which counts.\n",
        """        -- A row that is locked or not committed belongs to an insert, which counts; now it is of an earlier epoch.
        PERFORM nextval('draft_limits_epoch');
""",
    ),
)

CREATE = r"""
CREATE INDEX draft_reservations_guessed_idx ON draft_reservations (ends_at) WHERE guessed;

ALTER TABLE draft_turnstiles ADD COLUMN epoch bigint NOT NULL DEFAULT 0;
-- Owned by a column, so that it changes its owner with the table.
CREATE SEQUENCE draft_limits_epoch OWNED BY draft_turnstiles.epoch;

-- Delete turnstiles of requesters who have nothing unfinished, and return how many. Without its row, the next insert counts. A
-- row that is locked belongs to an insert whose transaction is open.
CREATE FUNCTION draft_prune_turnstiles(at_most integer) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    pruned integer;
BEGIN
    DELETE FROM draft_turnstiles AS t WHERE t.ctid = ANY (ARRAY (
        SELECT x.ctid FROM draft_turnstiles AS x
         WHERE NOT EXISTS (SELECT FROM draft_requests AS r
                            WHERE r.status = 'pending' AND NOT r.limited AND r.requester_id >= ''
                              AND r.requester_id = x.requester_id)
           AND NOT EXISTS (SELECT FROM draft_requests AS r
                            WHERE r.status = 'pending' AND r.limited AND r.requester_id = x.requester_id)
           AND NOT EXISTS (SELECT FROM draft_requests AS r
                            WHERE r.status = 'processing' AND r.requester_id = x.requester_id)
         LIMIT draft_prune_turnstiles.at_most FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS pruned = ROW_COUNT;
    RETURN pruned;
END $$;
"""
DROP = """
DROP FUNCTION draft_prune_turnstiles(integer);
ALTER TABLE draft_turnstiles DROP COLUMN epoch;
DROP INDEX draft_reservations_guessed_idx;
"""
PRUNE = "draft_prune_turnstiles(integer)"
TEXTS = {
    f"FUNCTION {PRUNE}": "For draftd: deletes what counts the inserts of idle requesters.",
    "COLUMN draft_turnstiles.epoch": "database: how often limits had been changed when at_most was counted",
}

CHANGES = {
    "draft_model_room(text, bigint, timestamptz)": MODEL_ROOM,
    "draft_claim_room(text, text[], integer)": CLAIM_ROOM,
    "draft_apply_limits(text)": APPLY_LIMITS,
    "draft_charge_lost(timestamptz)": CHARGE_LOST,
    "draft_usage_settle()": USAGE_SETTLE,
    "draft_pass_turnstile(text, text, boolean)": PASS_TURNSTILE,
    "draft_limits_changed()": LIMITS_CHANGED,
}


def upgrade() -> None:
    op.execute(CREATE)
    op.execute(keep_private(sequences=["draft_limits_epoch"], functions=[PRUNE]))
    op.execute(comment_on(TEXTS))
    for function, parts in CHANGES.items():
        op.execute(replace_parts(function, parts, revision=down_revision))


def downgrade() -> None:
    for function, parts in reversed(CHANGES.items()):
        op.execute(replace_parts(function, [(new, old) for old, new in reversed(parts)], revision=revision))
    op.execute(DROP)
