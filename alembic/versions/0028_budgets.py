"""Budgets per day and ceilings per model: every model call is reserved before it is made, and settled after it."""

from alembic import op

from draftd.db.private import keep_private
from draftd.db.replaced import replace_parts

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

TABLES = r"""
ALTER TABLE draft_models
    ADD COLUMN rpm integer,
    ADD COLUMN tpm integer,
    ADD COLUMN max_in_flight integer,
    ADD CONSTRAINT draft_models_rpm_check CHECK (rpm BETWEEN 1 AND 1000000),
    ADD CONSTRAINT draft_models_tpm_check CHECK (tpm BETWEEN 1 AND 2000000000),
    ADD CONSTRAINT draft_models_max_in_flight_check CHECK (max_in_flight BETWEEN 1 AND 100000);
COMMENT ON COLUMN draft_models.rpm IS 'calls that the fleet may begin in any 60 s; null: any number';
COMMENT ON COLUMN draft_models.tpm IS 'tokens that the fleet may use in any 60 s; null: any number';
COMMENT ON COLUMN draft_models.max_in_flight IS 'calls that the fleet may have in flight; null: any number';

-- Not NaN either, which PostgreSQL sorts above every number.
ALTER TABLE draft_settings
    ADD COLUMN usd_per_day numeric,
    ADD CONSTRAINT draft_settings_usd_per_day_check CHECK (usd_per_day BETWEEN 0 AND 1000000);
COMMENT ON COLUMN draft_settings.usd_per_day IS 'the fleet''s budget for a day in UTC; null: none';

CREATE TABLE draft_reservations (
    request_id    uuid           NOT NULL,
    lease_token   bigint         NOT NULL,
    call          smallint       NOT NULL,
    send          smallint       NOT NULL DEFAULT 1,
    requester_id  text,
    model         text           NOT NULL,
    worker_id     uuid           NOT NULL,
    day           date,
    usd           numeric(14, 6) NOT NULL,
    prompt_usd    numeric(14, 6) NOT NULL,
    output_usd    numeric(14, 6) NOT NULL,
    output_tokens integer        NOT NULL,
    estimate      bigint         NOT NULL,
    began_at      timestamptz    NOT NULL,
    ends_at       timestamptz    NOT NULL,
    settled_at    timestamptz,
    guessed       boolean        NOT NULL DEFAULT false,
    charged_usd   numeric(14, 6),
    tokens        bigint,
    CONSTRAINT draft_reservations_pkey PRIMARY KEY (request_id, lease_token, call, send)
) WITH (
    fillfactor = 70,
    -- Rows live for minutes, and every reservation reads those of the last one.
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 500,
    autovacuum_vacuum_cost_delay = 0
);
COMMENT ON COLUMN draft_reservations.send IS 'which HTTP request of the call, from 1: a provider may refuse its form';
COMMENT ON COLUMN draft_reservations.requester_id IS 'null: the requester has been forgotten';
COMMENT ON COLUMN draft_reservations.day IS 'the UTC day whose budgets it counts against; null: no budget was set';
COMMENT ON COLUMN draft_reservations.usd IS 'the most that the call can cost';
COMMENT ON COLUMN draft_reservations.prompt_usd IS 'what its prompt is expected to cost';
COMMENT ON COLUMN draft_reservations.output_usd IS 'what output_tokens cost';
COMMENT ON COLUMN draft_reservations.output_tokens IS 'the limit of the answer';
COMMENT ON COLUMN draft_reservations.estimate IS 'tokens, as expected before the call';
COMMENT ON COLUMN draft_reservations.ends_at IS 'when the call is over, whatever became of its worker';
COMMENT ON COLUMN draft_reservations.guessed IS 'charged without usage, which may still arrive';
COMMENT ON COLUMN draft_reservations.charged_usd IS 'what was charged in the end';
COMMENT ON COLUMN draft_reservations.tokens IS 'as the provider counted them';
CREATE INDEX draft_reservations_began_at_idx ON draft_reservations (model, began_at);
CREATE INDEX draft_reservations_open_idx ON draft_reservations (model) WHERE settled_at IS NULL;
CREATE INDEX draft_reservations_settled_at_idx ON draft_reservations (settled_at);

CREATE TABLE draft_spending (
    day          date           NOT NULL,
    payer        text           NOT NULL,
    requester_id text           NOT NULL DEFAULT '',
    spent        numeric(16, 6) NOT NULL DEFAULT 0,
    reserved     numeric(16, 6) NOT NULL DEFAULT 0,
    calls        integer        NOT NULL DEFAULT 0,
    asked        numeric(16, 6) NOT NULL DEFAULT 0,
    refused      numeric(16, 6),
    CONSTRAINT draft_spending_pkey PRIMARY KEY (day, payer, requester_id),
    CONSTRAINT draft_spending_payer_check CHECK (payer IN ('fleet', 'requester'))
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
COMMENT ON COLUMN draft_spending.day IS 'in UTC';
COMMENT ON COLUMN draft_spending.reserved IS 'for calls whose cost is not known yet';
COMMENT ON COLUMN draft_spending.calls IS 'admitted';
COMMENT ON COLUMN draft_spending.asked IS 'the sum of what they reserved';
COMMENT ON COLUMN draft_spending.refused IS 'the smallest reservation that the rest of the day''s budget could not hold';
"""

# Locks are taken in this order, and held for one small statement: the model's, the day's beginning, the fleet's row, the
# requester's row; of several days, those of the earlier one first. Each query of a plpgsql function sees what was committed
# before it, so what is read under a lock is current.
FUNCTIONS = r"""
-- The budget of a requester per day; null if it has none. The row '*' counts for everybody without a row of their own.
CREATE FUNCTION draft_budget_of(requester_id text) RETURNS numeric LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$
#variable_conflict use_column
BEGIN
    RETURN (SELECT l.usd_per_day FROM draft_limits AS l WHERE l.requester_id IN (draft_budget_of.requester_id, '*')
             ORDER BY l.requester_id = '*' LIMIT 1);
END $$;

-- Add to what a day's payers have spent and reserved: the fleet's row first, then the requester's.
CREATE FUNCTION draft_spending_add(
    day date, requester_id text, spent numeric, reserved numeric, asked numeric DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER AS $$
#variable_conflict use_column
DECLARE
    who text;
BEGIN
    FOREACH who IN ARRAY ARRAY['fleet', 'requester'] LOOP
        CONTINUE WHEN who = 'requester' AND draft_spending_add.requester_id IS NULL;
        INSERT INTO draft_spending AS s (day, payer, requester_id, spent, reserved, calls, asked)
        VALUES (draft_spending_add.day, who, CASE who WHEN 'fleet' THEN '' ELSE draft_spending_add.requester_id END,
                draft_spending_add.spent, draft_spending_add.reserved,
                (draft_spending_add.asked IS NOT NULL)::int, coalesce(draft_spending_add.asked, 0))
        ON CONFLICT (day, payer, requester_id) DO UPDATE SET
            spent = s.spent + excluded.spent, reserved = s.reserved + excluded.reserved,
            calls = s.calls + excluded.calls, asked = s.asked + excluded.asked;
    END LOOP;
END $$;

-- Begin to count a day's spending, at the first reservation under a budget: sum up what the day has cost so far. From then on the
-- trigger on draft_usage counts, which finds the fleet's row. The lock waits for usage that is being written without it, and for
-- another session that begins the day, after which there is nothing left to sum up.
CREATE FUNCTION draft_spending_begin(day date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
#variable_conflict use_column
BEGIN
    IF EXISTS (SELECT FROM draft_spending AS s WHERE s.day = draft_spending_begin.day AND s.payer = 'fleet') THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock('draft_usage'::regclass::oid::int, 0);
    IF EXISTS (SELECT FROM draft_spending AS s WHERE s.day = draft_spending_begin.day AND s.payer = 'fleet') THEN
        RETURN;
    END IF;
    INSERT INTO draft_spending AS s (day, payer, requester_id, spent)
    SELECT draft_spending_begin.day, CASE grouping(u.requester_id) WHEN 1 THEN 'fleet' ELSE 'requester' END,
           coalesce(u.requester_id, ''), coalesce(sum(u.cost_usd), 0)
      FROM draft_usage AS u
     WHERE u.created_at >= draft_spending_begin.day::timestamp AT TIME ZONE 'UTC'
       AND u.created_at < (draft_spending_begin.day + 1)::timestamp AT TIME ZONE 'UTC'
       -- What was reserved is counted on the day of its reservation.
       AND NOT EXISTS (SELECT FROM draft_reservations AS v
                        WHERE v.request_id = u.request_id AND v.lease_token = u.lease_token AND v.call = u.call
                          AND v.day IS NOT NULL)
     GROUP BY GROUPING SETS ((), (u.requester_id));
END $$;

-- What a model's ceilings leave: calls in flight, calls and tokens in the last minute, each null without its ceiling; and in how
-- many seconds there is room for one more call of so many tokens. The window is 61 s, because a call reaches its provider a
-- little later than the next one may.
--
-- ratio corrects estimates by the model's last settled calls: what a provider counts for a picture or a word is its own matter.
CREATE FUNCTION draft_model_room(
    model text, tokens bigint, moment timestamptz,
    OUT in_flight integer, OUT calls integer, OUT tokens_left float8, OUT ratio float8, OUT need float8, OUT wait_s float8)
LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$
#variable_conflict use_column
DECLARE
    ceiling record;
    since CONSTANT timestamptz := moment - interval '61 s';
    frees timestamptz;
BEGIN
    SELECT m.rpm, m.tpm, m.max_in_flight INTO ceiling FROM draft_models AS m WHERE m.name = draft_model_room.model;
    wait_s := 0;
    IF ceiling.max_in_flight IS NOT NULL THEN
        in_flight := ceiling.max_in_flight - (
            SELECT count(*) FROM draft_reservations AS v WHERE v.model = draft_model_room.model AND v.settled_at IS NULL);
    END IF;
    IF ceiling.rpm IS NOT NULL THEN
        calls := ceiling.rpm - (
            SELECT count(*) FROM draft_reservations AS v WHERE v.model = draft_model_room.model AND v.began_at > since);
        IF calls < 1 THEN
            SELECT v.began_at INTO frees FROM draft_reservations AS v
             WHERE v.model = draft_model_room.model AND v.began_at > since
             ORDER BY v.began_at DESC OFFSET ceiling.rpm - 1 LIMIT 1;
            wait_s := extract(epoch FROM frees - since);
        END IF;
    END IF;
    IF ceiling.tpm IS NOT NULL THEN
        SELECT CASE WHEN count(*) >= 5 THEN sum(v.tokens) / greatest(1, sum(v.estimate)) ELSE 1 END INTO ratio FROM (
            SELECT v.tokens, v.estimate FROM draft_reservations AS v
             WHERE v.model = draft_model_room.model AND v.began_at > moment - interval '10 min' AND v.tokens > 0
             ORDER BY v.began_at DESC LIMIT 100) AS v;
        need := least(ceiling.tpm, draft_model_room.tokens * ratio);
        tokens_left := ceiling.tpm - coalesce((
            SELECT sum(coalesce(v.tokens, v.estimate * ratio)) FROM draft_reservations AS v
             WHERE v.model = draft_model_room.model AND v.began_at > since), 0);
        IF tokens_left < need THEN
            SELECT max(w.began_at) INTO frees FROM (
                SELECT v.began_at, sum(coalesce(v.tokens, v.estimate * ratio)) OVER (ORDER BY v.began_at DESC) AS newer
                  FROM draft_reservations AS v WHERE v.model = draft_model_room.model AND v.began_at > since) AS w
             WHERE w.newer + need > ceiling.tpm;
            wait_s := greatest(wait_s, extract(epoch FROM frees - since));
        END IF;
    END IF;
END $$;

-- How many requests of some agents may be claimed for a model with ceilings, and in how many seconds to ask again if some that
-- are due have to wait. The caller claims in the same transaction, and the next one waits for its end: what has been claimed and
-- does not call the model yet counts.
--
-- A quarter more than may be in flight, at least one, is claimed: a request is prepared while another one's call is in flight.
CREATE FUNCTION draft_claim_room(
    model text, agents text[], wanted integer, OUT room integer, OUT wait_s float8)
LANGUAGE plpgsql SECURITY DEFINER AS $$
#variable_conflict use_column
DECLARE
    has record;
    busy integer;
    calling integer;
    preparing integer;
    usual_tokens float8;
BEGIN
    PERFORM pg_advisory_xact_lock('draft_requests'::regclass::oid::int, hashtext(draft_claim_room.model));
    has := draft_model_room(draft_claim_room.model, 0, clock_timestamp());
    busy := (SELECT count(*) FROM draft_requests AS r
              WHERE r.status = 'processing' AND r.agent = ANY (draft_claim_room.agents));
    calling := (SELECT count(*) FROM draft_reservations AS v
                 WHERE v.model = draft_claim_room.model AND v.settled_at IS NULL);
    preparing := greatest(0, busy - calling);
    room := least(draft_claim_room.wanted, has.calls - preparing,
                  has.in_flight + calling + greatest(1, (has.in_flight + calling) / 4) - busy);
    IF has.tokens_left IS NOT NULL THEN
        SELECT avg(v.used) INTO usual_tokens FROM (
            SELECT coalesce(v.tokens, v.estimate * has.ratio) AS used FROM draft_reservations AS v
             WHERE v.model = draft_claim_room.model AND v.send = 1 ORDER BY v.began_at DESC LIMIT 100) AS v;
        -- One call is made while the window is empty, whatever it needs.
        room := least(room, ceil(has.tokens_left / greatest(1, coalesce(usual_tokens, 10000)))::int - preparing);
    END IF;
    room := greatest(0, room);
    IF room < draft_claim_room.wanted AND EXISTS (
        SELECT FROM draft_requests AS r
         WHERE r.status = 'pending' AND NOT r.limited AND r.agent = ANY (draft_claim_room.agents)
           AND r.available_at <= now() OFFSET room) THEN
        wait_s := greatest(0.25, least(has.wait_s, 60));
    END IF;
END $$;

-- Reserve what one model call may use, or return why not.
--
-- refusal   null: reserved. lost: the claim no longer holds the row. price: a budget is set, and the model's price is not known.
--           fleet_budget, requester_budget: what is left of the day's budget does not hold this call. budget_reserved: it does
--           once calls in flight have cost less than they may. in_flight, rpm, tpm: a ceiling of the model. locked: another
--           session has locked the request.
-- wait_s    after how many seconds to ask again; for a budget, until the next day
-- used      what has been spent of the requester's budget, from 0 to 1; null without one
CREATE FUNCTION draft_reserve_call(
    request_id uuid, lease_token bigint, call smallint, send smallint, requester_id text, model text, worker_id uuid,
    usd numeric, prompt_usd numeric, output_usd numeric, output_tokens integer, tokens bigint, time_s float8,
    moment timestamptz DEFAULT NULL, OUT refusal text, OUT wait_s float8, OUT used float8)
LANGUAGE plpgsql SECURITY DEFINER AS $$
#variable_conflict use_column
DECLARE
    room record;
    today date;
    fleet_usd numeric;
    own_usd numeric;
    fleet draft_spending;
    own draft_spending;
    payer text;
BEGIN
    -- A repeated statement, after its connection was lost.
    IF EXISTS (SELECT FROM draft_reservations AS v
                WHERE v.request_id = draft_reserve_call.request_id AND v.lease_token = draft_reserve_call.lease_token
                  AND v.call = draft_reserve_call.call AND v.send = draft_reserve_call.send) THEN
        RETURN;
    END IF;
    IF NOT EXISTS (SELECT FROM draft_requests AS r
                    WHERE r.id = draft_reserve_call.request_id AND r.status = 'processing'
                      AND r.lease_token = draft_reserve_call.lease_token) THEN
        refusal := 'lost';
        RETURN;
    END IF;
    -- Under this lock, because the requester may be forgotten meanwhile, and must not come back with the reservation.
    PERFORM FROM draft_requests AS r WHERE r.id = draft_reserve_call.request_id FOR KEY SHARE SKIP LOCKED;
    IF NOT FOUND THEN
        refusal := 'locked';
        wait_s := 0.2;
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM draft_models AS m WHERE m.name = draft_reserve_call.model
                  AND num_nonnulls(m.rpm, m.tpm, m.max_in_flight) > 0) THEN
        PERFORM pg_advisory_xact_lock('draft_reservations'::regclass::oid::int, hashtext(draft_reserve_call.model));
        moment := coalesce(moment, clock_timestamp());
        room := draft_model_room(draft_reserve_call.model, tokens, moment);
        refusal := CASE WHEN room.in_flight < 1 AND send = 1 THEN 'in_flight'
                        WHEN room.calls < 1 THEN 'rpm'
                        WHEN room.tokens_left < room.need AND send = 1 THEN 'tpm' END;
        IF refusal IS NOT NULL THEN
            wait_s := room.wait_s;
            RETURN;
        END IF;
    END IF;
    moment := coalesce(moment, clock_timestamp());
    today := (moment AT TIME ZONE 'UTC')::date;
    fleet_usd := (SELECT s.usd_per_day FROM draft_settings AS s);
    own_usd := draft_budget_of(draft_reserve_call.requester_id);
    IF num_nonnulls(fleet_usd, own_usd) = 0 OR send > 1 THEN
        today := NULL;
    ELSIF draft_reserve_call.usd IS NULL THEN
        refusal := 'price';
        RETURN;
    ELSE
        PERFORM draft_spending_begin(today);
        SELECT * INTO fleet FROM draft_spending AS s WHERE s.day = today AND s.payer = 'fleet' FOR NO KEY UPDATE;
        SELECT * INTO own FROM draft_spending AS s
         WHERE s.day = today AND s.payer = 'requester' AND s.requester_id = draft_reserve_call.requester_id FOR NO KEY UPDATE;
        used := coalesce(own.spent, 0) / nullif(own_usd, 0);
        -- What costs nothing needs no budget.
        IF draft_reserve_call.usd > 0 THEN
            payer := CASE WHEN fleet.spent + draft_reserve_call.usd > fleet_usd THEN 'fleet'
                          WHEN coalesce(own.spent, 0) + draft_reserve_call.usd > own_usd THEN 'requester' END;
            IF payer IS NOT NULL THEN
                refusal := payer || '_budget';
                wait_s := extract(epoch FROM (today + 1)::timestamp AT TIME ZONE 'UTC' - moment);
                INSERT INTO draft_spending AS s (day, payer, requester_id, refused)
                VALUES (today, payer, CASE payer WHEN 'fleet' THEN '' ELSE draft_reserve_call.requester_id END,
                        draft_reserve_call.usd)
                ON CONFLICT (day, payer, requester_id) DO UPDATE SET refused = least(s.refused, excluded.refused)
                 WHERE s.refused IS NULL OR s.refused > excluded.refused;
                RETURN;
            END IF;
            IF fleet.spent + fleet.reserved + draft_reserve_call.usd > fleet_usd
               OR coalesce(own.spent + own.reserved, 0) + draft_reserve_call.usd > own_usd THEN
                refusal := 'budget_reserved';
                wait_s := 1;
                RETURN;
            END IF;
        END IF;
    END IF;
    INSERT INTO draft_reservations (request_id, lease_token, call, send, requester_id, model, worker_id, day, usd, prompt_usd,
                                    output_usd, output_tokens, estimate, began_at, ends_at)
    VALUES (draft_reserve_call.request_id, draft_reserve_call.lease_token, draft_reserve_call.call, draft_reserve_call.send,
            draft_reserve_call.requester_id, draft_reserve_call.model, draft_reserve_call.worker_id, today,
            coalesce(draft_reserve_call.usd, 0), coalesce(draft_reserve_call.prompt_usd, 0),
            coalesce(draft_reserve_call.output_usd, 0), draft_reserve_call.output_tokens, draft_reserve_call.tokens, moment,
            moment + make_interval(secs => draft_reserve_call.time_s))
    ON CONFLICT DO NOTHING;
    -- The statement that this one repeats may have ended only now.
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF today IS NOT NULL THEN
        PERFORM draft_spending_add(today, draft_reserve_call.requester_id, 0, draft_reserve_call.usd, draft_reserve_call.usd);
    END IF;
    IF send > 1 THEN
        -- Only the request counts: the call's first one holds the rest.
        UPDATE draft_reservations AS v SET settled_at = moment, charged_usd = 0, tokens = 0
         WHERE v.request_id = draft_reserve_call.request_id AND v.lease_token = draft_reserve_call.lease_token
           AND v.call = draft_reserve_call.call AND v.send = draft_reserve_call.send;
    END IF;
END $$;

-- Give back what was reserved for a call that was not made.
CREATE FUNCTION draft_release_call(request_id uuid, lease_token bigint, call smallint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER AS $$
#variable_conflict use_column
DECLARE
    held draft_reservations;
BEGIN
    DELETE FROM draft_reservations AS v
     WHERE v.request_id = draft_release_call.request_id AND v.lease_token = draft_release_call.lease_token
       AND v.call = draft_release_call.call AND v.send = 1 AND v.settled_at IS NULL
    RETURNING v.* INTO held;
    IF held.day IS NOT NULL THEN
        PERFORM draft_spending_add(held.day, held.requester_id, 0, -held.usd);
    END IF;
END $$;

-- What a call without known usage is charged: its prompt, and the mean answer of the model's last 100 calls; at most what was
-- reserved.
CREATE FUNCTION draft_reservation_guess(held draft_reservations) RETURNS numeric LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$
DECLARE
    mean_tokens numeric;
BEGIN
    SELECT avg(u.output_tokens) INTO mean_tokens FROM (
        SELECT x.output_tokens FROM draft_usage AS x WHERE x.model = held.model AND x.code IS NULL
         ORDER BY x.created_at DESC LIMIT 100) AS u;
    RETURN least(held.usd, held.prompt_usd + held.output_usd
                           * least(1, coalesce(mean_tokens / nullif(held.output_tokens, 0), 1)));
END $$;

-- Settle a reservation with a call's real cost, whenever its usage arrives; also one that was charged by a guess. Usage without a
-- reservation (no budget was set, or its daemon did not know of it yet) counts on the day that it is written.
CREATE FUNCTION draft_usage_settle() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
#variable_conflict use_column
DECLARE
    held draft_reservations;
    cost numeric := NEW.cost_usd;
    used_tokens bigint := NEW.input_tokens + NEW.output_tokens;
    today CONSTANT date := (now() AT TIME ZONE 'UTC')::date;
BEGIN
    SELECT * INTO held FROM draft_reservations AS v
     WHERE v.request_id = NEW.request_id AND v.lease_token = NEW.lease_token AND v.call = NEW.call AND v.send = 1
       FOR NO KEY UPDATE;
    IF NOT FOUND OR held.day IS NULL THEN
        IF cost > 0 THEN
            PERFORM pg_advisory_xact_lock_shared('draft_usage'::regclass::oid::int, 0);
            IF EXISTS (SELECT FROM draft_spending AS s WHERE s.day = today AND s.payer = 'fleet') THEN
                PERFORM draft_spending_add(today, NEW.requester_id, cost, 0);
            END IF;
        END IF;
    ELSE
        -- Without a known cost: an answer costs what was reserved, a call that was cut off what such calls cost, and one that
        -- the provider refused nothing.
        cost := coalesce(cost, CASE WHEN NEW.code IS NULL THEN held.usd
                                    WHEN NEW.code IN ('model_timeout', 'aborted') THEN draft_reservation_guess(held)
                                    ELSE 0 END);
        PERFORM draft_spending_add(held.day, held.requester_id, cost - coalesce(held.charged_usd, 0),
                                   CASE WHEN held.settled_at IS NULL THEN -held.usd ELSE 0 END);
    END IF;
    IF held.request_id IS NOT NULL THEN
        UPDATE draft_reservations AS v SET
            settled_at = coalesce(v.settled_at, clock_timestamp()), guessed = false, charged_usd = cost,
            tokens = coalesce(used_tokens, CASE WHEN NEW.code IS NULL OR NEW.code IN ('model_timeout', 'aborted')
                                                THEN NULL ELSE 0 END)
         WHERE v.request_id = held.request_id AND v.lease_token = held.lease_token AND v.call = held.call AND v.send = 1;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER draft_usage_50_settle AFTER INSERT ON draft_usage
    FOR EACH ROW EXECUTE FUNCTION draft_usage_settle();

-- Charge the calls of dead workers by a guess, and delete what no window and no correction needs any more. A call is over when
-- its time is, or when its claim has been taken back and its worker has missed three beats. Returns the number of calls charged.
CREATE FUNCTION draft_charge_lost(moment timestamptz DEFAULT now()) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER AS $$
#variable_conflict use_column
DECLARE
    held draft_reservations;
    cost numeric;
    charged integer := 0;
    today CONSTANT date := (moment AT TIME ZONE 'UTC')::date;
BEGIN
    FOR held IN
        SELECT v.* FROM draft_reservations AS v
         WHERE v.settled_at IS NULL
           AND (v.ends_at <= moment
                OR NOT EXISTS (SELECT FROM draft_requests AS r
                                WHERE r.id = v.request_id AND r.status = 'processing' AND r.lease_token = v.lease_token)
                   AND NOT EXISTS (SELECT FROM draft_workers AS w
                                    WHERE w.id = v.worker_id AND w.state <> 'stopped'
                                      AND w.heartbeat_at > moment - make_interval(
                                            secs => 3 * greatest(0, least(w.beat_s, 28800)))))
         ORDER BY v.day, v.request_id, v.lease_token, v.call LIMIT 500 FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        cost := draft_reservation_guess(held);
        IF held.day IS NOT NULL THEN
            PERFORM draft_spending_add(held.day, held.requester_id, cost, -held.usd);
        END IF;
        UPDATE draft_reservations AS v SET settled_at = moment, guessed = true, charged_usd = cost
         WHERE v.request_id = held.request_id AND v.lease_token = held.lease_token AND v.call = held.call
           AND v.send = held.send;
        charged := charged + 1;
    END LOOP;
    -- Usage that arrives just now holds its reservation and waits for the fleet's row, which this may hold: skip it.
    DELETE FROM draft_reservations AS v WHERE v.ctid = ANY (ARRAY (
        SELECT x.ctid FROM draft_reservations AS x
         WHERE x.settled_at < moment - interval '10 min' AND (NOT x.guessed OR x.settled_at < moment - interval '1 day')
         LIMIT 5000 FOR UPDATE SKIP LOCKED));
    DELETE FROM draft_spending AS s WHERE s.day < today - 2;
    RETURN charged;
END $$;

-- Until when a requester's budget lets nothing more begin, or the fleet's if requester_id is null; null while it does. A budget
-- is used up when a call was refused and the rest holds neither that one nor a usual one.
CREATE FUNCTION draft_budget_until(requester_id text DEFAULT NULL, moment timestamptz DEFAULT now()) RETURNS timestamptz
LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$
#variable_conflict use_column
DECLARE
    today CONSTANT date := (moment AT TIME ZONE 'UTC')::date;
    budget CONSTANT numeric := CASE WHEN draft_budget_until.requester_id IS NULL
                                    THEN (SELECT s.usd_per_day FROM draft_settings AS s)
                                    ELSE draft_budget_of(draft_budget_until.requester_id) END;
BEGIN
    IF budget IS NOT NULL AND EXISTS (
        SELECT FROM draft_spending AS s
         WHERE s.day = today AND s.payer = CASE WHEN draft_budget_until.requester_id IS NULL THEN 'fleet' ELSE 'requester' END
           AND s.requester_id = coalesce(draft_budget_until.requester_id, '')
           AND s.spent + least(s.refused, s.asked / nullif(s.calls, 0)) > budget AND s.refused IS NOT NULL) THEN
        RETURN (today + 1)::timestamp AT TIME ZONE 'UTC';
    END IF;
    RETURN NULL;
END $$;

-- Fail pending requests that expire before the next day's budget begins, and return them: those of agents whose models cost
-- something when the fleet's budget is used up, and those of requesters whose own is. A row that a trigger refuses to change
-- harms only itself. SECURITY INVOKER, because only a worker may fail a request.
CREATE FUNCTION draft_fail_unpayable(agents text[], message text, told text, details jsonb) RETURNS SETOF uuid
LANGUAGE plpgsql SECURITY INVOKER SET enable_seqscan = off AS $$
DECLARE
    until CONSTANT timestamptz := draft_budget_until();
    today CONSTANT date := (now() AT TIME ZONE 'UTC')::date;
    found uuid;
BEGIN
    FOR found IN
        SELECT x.id FROM (
            (SELECT r.id FROM draft_requests AS r
              WHERE r.status = 'pending' AND r.expires_at IS NOT NULL AND r.expires_at <= until AND r.agent = ANY (agents)
              LIMIT 500)
            UNION
            SELECT r.id FROM draft_spending AS s CROSS JOIN LATERAL (SELECT draft_budget_until(s.requester_id) AS until) AS b
                   CROSS JOIN LATERAL (
                    SELECT r.id FROM draft_requests AS r
                     WHERE r.status = 'pending' AND r.limited AND r.requester_id = s.requester_id
                       AND r.expires_at <= b.until
                     LIMIT 500) AS r
             WHERE s.day = today AND s.payer = 'requester' AND s.refused IS NOT NULL AND b.until IS NOT NULL) AS x
         LIMIT 500
    LOOP
        CONTINUE WHEN NOT EXISTS (
            SELECT FROM draft_requests AS r WHERE r.id = found AND r.status = 'pending' FOR NO KEY UPDATE SKIP LOCKED);
        BEGIN
            UPDATE draft_requests AS r SET
                status = 'failed', error_code = 'budget_exceeded', error_message = told, error_details = details,
                errors = CASE WHEN jsonb_typeof(r.errors) <> 'array' THEN '[]'
                              WHEN jsonb_array_length(r.errors) >= 20 THEN r.errors - 0
                              ELSE r.errors END
                         || jsonb_build_object('attempt', r.attempt, 'at', now(), 'code', 'budget_exceeded',
                                               'message', message, 'model', r.model),
                updated_at = now()
             WHERE r.id = found AND r.status = 'pending';
            RETURN NEXT found;
        EXCEPTION WHEN OTHERS THEN
            RAISE DEBUG 'draft_requests: % is not failed: %', found, SQLERRM;
        END;
    END LOOP;
END $$;

-- Requests that wait for the next day's budget are tried again when the budget has been changed.
CREATE FUNCTION draft_budget_changed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    whose CONSTANT text := CASE WHEN TG_TABLE_NAME = 'draft_limits' THEN to_jsonb(coalesce(NEW, OLD)) ->> 'requester_id' END;
BEGIN
    UPDATE draft_requests AS r SET available_at = now()
     WHERE r.id IN (
        SELECT x.id FROM draft_requests AS x
         WHERE x.status = 'pending' AND x.error_code = 'budget_exceeded' AND x.available_at > now()
           AND (whose IS NULL OR whose = '*' OR x.requester_id = whose)
         ORDER BY x.id FOR NO KEY UPDATE SKIP LOCKED);
    PERFORM pg_notify('draft_requests', '');
    RETURN NULL;
END $$;
CREATE TRIGGER draft_settings_90_budget AFTER UPDATE ON draft_settings
    FOR EACH ROW WHEN (OLD.usd_per_day IS DISTINCT FROM NEW.usd_per_day) EXECUTE FUNCTION draft_budget_changed();
CREATE TRIGGER draft_limits_90_budget AFTER UPDATE ON draft_limits
    FOR EACH ROW WHEN (OLD.usd_per_day IS DISTINCT FROM NEW.usd_per_day) EXECUTE FUNCTION draft_budget_changed();
CREATE TRIGGER draft_limits_90_budget_unset AFTER INSERT OR DELETE ON draft_limits
    FOR EACH ROW EXECUTE FUNCTION draft_budget_changed();

-- What the daemons and the operator need to know of the budgets; a heartbeat reads it.
CREATE FUNCTION draft_budgets() RETURNS jsonb LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        SELECT jsonb_build_object(
                    'usd_per_day', s.usd_per_day, 'spent', coalesce(d.spent, 0), 'reserved', coalesce(d.reserved, 0),
                    'is_used_up', s.usd_per_day IS NOT NULL AND draft_budget_until() IS NOT NULL,
                    'have_requesters', EXISTS (SELECT FROM draft_limits AS l WHERE l.usd_per_day IS NOT NULL),
                    'have_reservations', EXISTS (SELECT FROM draft_reservations))
          FROM (SELECT) AS one
          LEFT JOIN draft_settings AS s ON true
          LEFT JOIN draft_spending AS d ON d.day = (now() AT TIME ZONE 'UTC')::date AND d.payer = 'fleet');
END $$;
"""

DOWNGRADE = r"""
DROP FUNCTION draft_budgets();
DROP FUNCTION draft_budget_changed() CASCADE;
DROP FUNCTION draft_fail_unpayable(text[], text, text, jsonb);
DROP FUNCTION draft_budget_until(text, timestamptz);
DROP FUNCTION draft_charge_lost(timestamptz);
DROP TRIGGER draft_usage_50_settle ON draft_usage;
DROP FUNCTION draft_usage_settle();
DROP FUNCTION draft_reservation_guess(draft_reservations);
DROP FUNCTION draft_release_call(uuid, bigint, smallint);
DROP FUNCTION draft_reserve_call(uuid, bigint, smallint, smallint, text, text, uuid, numeric, numeric, numeric, integer, bigint,
                                 float8, timestamptz);
DROP FUNCTION draft_claim_room(text, text[], integer);
DROP FUNCTION draft_model_room(text, bigint, timestamptz);
DROP FUNCTION draft_spending_begin(date);
DROP FUNCTION draft_spending_add(date, text, numeric, numeric, numeric);
DROP FUNCTION draft_budget_of(text);
DROP TABLE draft_spending;
DROP TABLE draft_reservations;
ALTER TABLE draft_settings DROP COLUMN usd_per_day;
ALTER TABLE draft_models DROP COLUMN rpm, DROP COLUMN tpm, DROP COLUMN max_in_flight;
"""

ADMIT = (
    "draft_reserve_call(uuid, bigint, smallint, smallint, text, text, uuid, numeric, numeric, numeric, integer, bigint, float8, "
    "timestamptz)"
)
PRIVATE_FUNCTIONS = (
    ADMIT,
    "draft_budget_of(text)",
    "draft_spending_add(date, text, numeric, numeric, numeric)",
    "draft_spending_begin(date)",
    "draft_model_room(text, bigint, timestamptz)",
    "draft_claim_room(text, text[], integer)",
    "draft_release_call(uuid, bigint, smallint)",
    "draft_reservation_guess(draft_reservations)",
    "draft_usage_settle()",
    "draft_charge_lost(timestamptz)",
    "draft_budget_until(text, timestamptz)",
    "draft_fail_unpayable(text[], text, text, jsonb)",
    "draft_budgets()",
    "draft_budget_changed()",
)


BLOCKED = "draft_requester_blocked_until(text)"
PAUSED = (
    "(SELECT timestamptz 'infinity' WHERE EXISTS (SELECT FROM draft_pauses WHERE what = 'requester' AND name = $1))"
)
BLOCKED_BEFORE = f"RETURN {PAUSED};"
BLOCKED_AFTER = f"RETURN coalesce({PAUSED}, draft_budget_until($1));"
FORGET = "draft_forget_some(text, integer)"
DEMAND = "draftd_demand()"
WAIT = "draft_request_wait_of(uuid, timestamptz)"
WAITS = (
    ("r.available_at, r.limited INTO mine", "r.available_at, r.limited, r.error_code INTO mine"),
    (
        "    blocked := draft_requester_blocked_until(mine.requester_id);",
        "    blocked := coalesce(draft_requester_blocked_until(mine.requester_id), draft_budget_until());",
    ),
    (
        "        reason := 'later';\n",
        "        reason := CASE mine.error_code WHEN 'budget_exceeded' THEN 'budget' ELSE 'later' END;\n",
    ),
)
DEMAND_BEFORE = "    demand := (SELECT count(*) FROM draft_requests AS r WHERE r.status = 'processing');\n"
DEMAND_AFTER = (
    f"{DEMAND_BEFORE}    IF draft_budget_until() IS NOT NULL THEN\n        RETURN least(demand, most);\n    END IF;\n"
)
FORGET_BEFORE = "DELETE FROM draft_turnstiles AS t WHERE t.requester_id = $1;"
FORGET_AFTER = """DELETE FROM draft_turnstiles AS t WHERE t.requester_id = $1;
    UPDATE draft_reservations AS v SET requester_id = NULL WHERE v.requester_id = $1;
    DELETE FROM draft_spending AS s WHERE s.payer = 'requester' AND s.requester_id = $1;"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(FUNCTIONS)
    op.execute(replace_parts(FORGET, [(FORGET_BEFORE, FORGET_AFTER)], revision="0027"))
    op.execute(replace_parts(BLOCKED, [(BLOCKED_BEFORE, BLOCKED_AFTER)], revision="0027"))
    op.execute(replace_parts(WAIT, WAITS, revision="0027"))
    op.execute(replace_parts(DEMAND, [(DEMAND_BEFORE, DEMAND_AFTER)], revision="0027"))
    op.execute(keep_private(tables=["draft_reservations", "draft_spending"], functions=PRIVATE_FUNCTIONS))


def downgrade() -> None:
    op.execute(replace_parts(FORGET, [(FORGET_AFTER, FORGET_BEFORE)], revision=revision))
    op.execute(replace_parts(BLOCKED, [(BLOCKED_AFTER, BLOCKED_BEFORE)], revision=revision))
    op.execute(replace_parts(WAIT, [(after, before) for before, after in reversed(WAITS)], revision=revision))
    op.execute(replace_parts(DEMAND, [(DEMAND_AFTER, DEMAND_BEFORE)], revision=revision))
    op.execute(DOWNGRADE)
