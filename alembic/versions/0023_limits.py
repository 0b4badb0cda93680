"""Pauses and limits: who may not be drafted for right now, and who may enqueue no more.

A pending row with ``limited`` set is not claimable. The claim's indexes leave such rows out, so that any number of them costs a
claim nothing. Rows of a requester with a limit arrive with it set; ``draft_admit`` clears it for as many as may run.
"""

from alembic import op

from draftd.db.private import keep_private
from draftd.db.replaced import replace_parts

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

TABLES = ("draft_pauses", "draft_limits", "draft_turnstiles")
FUNCTIONS = (
    "draft_requester_blocked_until(text)", "draft_requester_room(text)", "draft_agent_states()",
    "draft_requester_waits(text, boolean)", "draft_pass_turnstile(text, text, boolean)", "draft_limits_changed()",
    "draft_next_requester(boolean, text)", "draft_set_limited(uuid[], boolean)", "draft_admit(text[], text[], integer, text)",
    "draft_apply_limits(text)", "draftd_demand()", "draft_request_wait(uuid)", "draft_request_wait_of(uuid, timestamptz)",
)  # fmt: skip

UPGRADE = r"""
CREATE TABLE draft_pauses (
    what   text        NOT NULL,
    name   text        NOT NULL DEFAULT '',
    reason text        NOT NULL DEFAULT '',
    by     text        NOT NULL DEFAULT CURRENT_USER,
    since  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT draft_pauses_pkey PRIMARY KEY (what, name),
    CONSTRAINT draft_pauses_what_check CHECK (what IN ('all', 'model', 'requester')),
    CONSTRAINT draft_pauses_name_check CHECK (what <> 'all' OR name = '')
);
COMMENT ON COLUMN draft_pauses.name IS 'of the model or the requester; empty for all';

CREATE TABLE draft_limits (
    requester_id  text NOT NULL,
    max_pending   integer,
    max_in_flight integer,
    usd_per_day   numeric,
    CONSTRAINT draft_limits_pkey PRIMARY KEY (requester_id),
    CONSTRAINT draft_limits_max_pending_check CHECK (max_pending BETWEEN 0 AND 10000000),
    CONSTRAINT draft_limits_max_in_flight_check CHECK (max_in_flight BETWEEN 0 AND 10000000),
    CONSTRAINT draft_limits_usd_per_day_check CHECK (usd_per_day BETWEEN 0 AND 1000000)
);
COMMENT ON COLUMN draft_limits.requester_id IS '*: everybody without a row of their own';
COMMENT ON COLUMN draft_limits.max_pending IS 'beyond which an INSERT is refused; null: no limit, as in the other columns';
COMMENT ON COLUMN draft_limits.max_in_flight IS 'requests of the requester that may be drafted at the same time';

CREATE TABLE draft_turnstiles (
    requester_id text   NOT NULL,
    at_most      bigint NOT NULL,
    CONSTRAINT draft_turnstiles_pkey PRIMARY KEY (requester_id)
) WITH (fillfactor = 50);
COMMENT ON TABLE draft_turnstiles IS 'inserts of a requester with a max_pending pass one transaction at a time';
COMMENT ON COLUMN draft_turnstiles.at_most IS 'no more than this many of the requester''s requests are unfinished';

CREATE TRIGGER draft_pauses_05_defaults BEFORE INSERT OR UPDATE ON draft_pauses
    FOR EACH ROW EXECUTE FUNCTION draft_nulls_are_defaults();

ALTER TABLE draft_requests ADD COLUMN limited boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN draft_requests.limited IS 'waits, while pending, until its requester may have another one drafted';

ALTER TABLE draft_workers ADD COLUMN models jsonb NOT NULL DEFAULT '{}'::jsonb;
COMMENT ON COLUMN draft_workers.models IS 'by agent and model, whether it can call it';

DROP INDEX draft_requests_claim_idx;
CREATE INDEX draft_requests_claim_idx ON draft_requests (agent, priority DESC, turn, available_at, id)
    WHERE status = 'pending' AND NOT limited;
-- The requester comes first, so that the index also counts a requester's rows.
DROP INDEX draft_requests_turn_idx;
CREATE INDEX draft_requests_turn_idx ON draft_requests (requester_id, agent, priority, turn DESC)
    WHERE status = 'pending' AND NOT limited AND requester_id >= '';
CREATE INDEX draft_requests_limited_idx ON draft_requests (requester_id, agent, priority DESC, available_at, id)
    WHERE status = 'pending' AND limited;
DROP INDEX draft_requests_processing_idx;
CREATE INDEX draft_requests_processing_idx ON draft_requests (requester_id, deadline_at) WHERE status = 'processing';

-- Until when a requester may have nothing drafted; 'infinity' until a person says so, null if nothing blocks the requester. The
-- one place that decides this: the triggers and functions below ask it. In plpgsql, which keeps its plans: in SQL, each call was
-- planned again.
CREATE FUNCTION draft_requester_blocked_until(requester text) RETURNS timestamptz LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    RETURN (SELECT timestamptz 'infinity' WHERE EXISTS (SELECT FROM draft_pauses WHERE what = 'requester' AND name = $1));
END $$;

-- How many more requests of a requester may become claimable now; null for any number. A row counts from its admission to the end
-- of its attempt, so that no more than max_in_flight of them are ever processing.
CREATE FUNCTION draft_requester_room(requester text) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
SET enable_seqscan = off AS $$
DECLARE
    most integer;
BEGIN
    IF draft_requester_blocked_until(requester) > now() THEN
        RETURN 0;
    END IF;
    SELECT l.max_in_flight INTO most FROM draft_limits AS l
     WHERE l.requester_id IN (requester, '*') ORDER BY l.requester_id <> requester LIMIT 1;
    IF most IS NULL THEN
        RETURN NULL;
    END IF;
    -- In one statement: a row that is claimed meanwhile is in one of the two.
    RETURN most - (SELECT (SELECT count(*) FROM draft_requests AS r
                            WHERE r.status = 'processing' AND r.requester_id = requester)
                        + (SELECT count(*) FROM draft_requests AS r
                            WHERE r.status = 'pending' AND NOT r.limited AND r.requester_id >= ''
                              AND r.requester_id = requester));
END $$;

-- Whether a new row of a requester waits for its admission. One whose attempt goes on at once keeps its place.
CREATE FUNCTION draft_requester_waits(requester text, has_place boolean) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    most integer;
BEGIN
    SELECT l.max_in_flight INTO most FROM draft_limits AS l
     WHERE l.requester_id IN (requester, '*') ORDER BY l.requester_id <> requester LIMIT 1;
    RETURN most IS NOT NULL AND has_place IS NOT TRUE OR coalesce(draft_requester_blocked_until(requester) > now(), false);
END $$;

-- Refuses an insert beyond max_pending. Inserts of one requester wait here for each other's transactions, as they do for the same
-- idempotency key. At REPEATABLE READ, whose snapshot is too old to count, the second one fails with 40001, and its client tries
-- again: that is why this writes a row, and does not take an advisory lock. at_most is the last count, and what was inserted
-- since; rows in processing are counted too, because they may return. Rows are counted only when it exceeds the limit.
CREATE FUNCTION draft_pass_turnstile(requester text, key text, is_retry boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET enable_seqscan = off AS $$
DECLARE
    most bigint;
    bound bigint;
    waiting bigint;
BEGIN
    SELECT l.max_pending INTO most FROM draft_limits AS l
     WHERE l.requester_id IN (requester, '*') ORDER BY l.requester_id <> requester LIMIT 1;
    -- The insert of a key that is known fails or does nothing, and neither is decided here.
    IF most IS NULL OR key IS NOT NULL AND NOT is_retry AND EXISTS (
            SELECT FROM draft_requests AS r WHERE r.requester_id = requester AND r.idempotency_key = key) THEN
        RETURN;
    END IF;
    INSERT INTO draft_turnstiles AS t (requester_id, at_most) VALUES (requester, 9223372036854775807)
    ON CONFLICT (requester_id) DO UPDATE SET at_most = t.at_most + 1 WHERE t.at_most < 9223372036854775807
    RETURNING t.at_most INTO bound;
    -- What an operator retries is counted and never refused. The key may have become known while this transaction waited.
    IF is_retry OR bound <= most OR key IS NOT NULL AND EXISTS (
            SELECT FROM draft_requests AS r WHERE r.requester_id = requester AND r.idempotency_key = key) THEN
        RETURN;
    END IF;
    SELECT (SELECT count(*) FROM (SELECT FROM draft_requests AS r
             WHERE r.status = 'pending' AND NOT r.limited AND r.requester_id >= '' AND r.requester_id = requester
             LIMIT most) AS x)
         + (SELECT count(*) FROM (SELECT FROM draft_requests AS r
             WHERE r.status = 'pending' AND r.limited AND r.requester_id = requester LIMIT most) AS x) INTO waiting;
    IF waiting >= most THEN
        RAISE EXCEPTION 'draft_requests: too many requests are waiting for this requester: at most % at a time', most
            USING ERRCODE = 'PT429', HINT = 'Try again when some are done.';
    END IF;
    UPDATE draft_turnstiles AS t SET at_most = waiting + 1 + (
        SELECT count(*) FROM draft_requests AS r WHERE r.status = 'processing' AND r.requester_id = requester)
     WHERE t.requester_id = requester;
END $$;

DROP TRIGGER draft_requests_20_take_turn_again ON draft_requests;
CREATE TRIGGER draft_requests_20_take_turn_again BEFORE UPDATE ON draft_requests
    FOR EACH ROW WHEN (NEW.status = 'pending' AND (OLD.status <> 'pending' OR OLD.limited AND NOT NEW.limited))
    EXECUTE FUNCTION draft_requests_take_turn();

-- Daemons look again at once. What was inserted without a limit was not counted.
CREATE FUNCTION draft_limits_changed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM pg_notify('draft_requests', '');
    IF TG_TABLE_NAME = 'draft_limits' THEN
        -- A row that is locked belongs to an insert, which counts.
        UPDATE draft_turnstiles AS t SET at_most = 9223372036854775807
          FROM (SELECT x.requester_id FROM draft_turnstiles AS x
                 WHERE x.at_most < 9223372036854775807 FOR NO KEY UPDATE SKIP LOCKED) AS free
         WHERE t.requester_id = free.requester_id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER draft_limits_90_changed AFTER INSERT OR UPDATE OR DELETE ON draft_limits
    FOR EACH STATEMENT EXECUTE FUNCTION draft_limits_changed();
CREATE TRIGGER draft_pauses_90_changed AFTER INSERT OR UPDATE OR DELETE ON draft_pauses
    FOR EACH STATEMENT EXECUTE FUNCTION draft_limits_changed();

-- What can be done for each agent of which the daemons know: 'ok', 'probe' (its models' holds have lapsed), 'held', 'paused' or
-- 'no_key'. What workers said last stays after they stop, but those that live are believed before them.
CREATE FUNCTION draft_agent_states(
    OUT agent text, OUT state text, OUT is_served boolean, OUT model text, OUT code text, OUT until timestamptz
) RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER AS $$
    WITH workers AS MATERIALIZED (
        SELECT w.agents, CASE WHEN jsonb_typeof(w.models) = 'object' THEN w.models ELSE '{}' END AS models,
               w.state = 'running'
               AND w.heartbeat_at BETWEEN now() - make_interval(secs => 3 * greatest(0, least(w.beat_s, 28800)) + 50)
                                      AND now() + interval '1 min' AS is_alive
          FROM draft_workers AS w
    ), agents AS MATERIALIZED (
        SELECT a.agent, bool_or(w.is_alive) AS is_served FROM workers AS w, unnest(w.agents) AS a(agent)
         WHERE a.agent IS NOT NULL GROUP BY a.agent
    ), models AS MATERIALIZED (
        SELECT DISTINCT a.agent, m.key AS model, h.code, h.until, p.name IS NOT NULL AS is_paused,
               h.until <= now() OR h.until > now() + interval '86400 s' AS is_lapsed
          FROM agents AS a JOIN workers AS w ON w.is_alive OR NOT a.is_served
               CROSS JOIN jsonb_each_text(CASE WHEN jsonb_typeof(w.models -> a.agent) = 'object'
                                               THEN w.models -> a.agent ELSE '{}' END) AS m
               LEFT JOIN draft_holds AS h ON h.model = m.key
               LEFT JOIN draft_pauses AS p ON p.what = 'model' AND p.name = m.key
         WHERE m.value = 'true'
    ), everything AS MATERIALIZED (
        SELECT EXISTS (SELECT FROM draft_pauses AS p WHERE p.what = 'all') AS is_paused
    )
    SELECT a.agent,
           CASE WHEN e.is_paused THEN 'paused'
                WHEN NOT EXISTS (SELECT FROM workers AS w WHERE w.models ? a.agent AND (w.is_alive OR NOT a.is_served))
                     OR m.is_free THEN 'ok'
                WHEN m.is_lapsed THEN 'probe'
                WHEN m.is_held THEN 'held'
                WHEN m.is_paused THEN 'paused'
                ELSE 'no_key' END,
           a.is_served, m.model, m.code, m.until
      FROM agents AS a CROSS JOIN everything AS e LEFT JOIN LATERAL (
        SELECT bool_or(m.code IS NULL AND NOT m.is_paused) AS is_free,
               bool_or(m.is_lapsed AND NOT m.is_paused) AS is_lapsed,
               bool_or(m.code IS NOT NULL AND NOT m.is_paused) AS is_held,
               bool_or(m.is_paused) AS is_paused,
               (array_agg(m.model ORDER BY m.is_paused, m.until))[1] AS model,
               (array_agg(m.code ORDER BY m.is_paused, m.until))[1] AS code,
               min(m.until) FILTER (WHERE NOT m.is_paused) AS until
          FROM models AS m WHERE m.agent = a.agent) AS m ON true
     ORDER BY a.agent;
$$;

-- The first requester after another (null: of all) that has a claimable row, or one that waits for its admission.
CREATE FUNCTION draft_next_requester(waits boolean, after text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER
SET enable_seqscan = off AS $$
BEGIN
    IF waits AND after IS NULL THEN
        RETURN (SELECT r.requester_id FROM draft_requests AS r
                 WHERE r.status = 'pending' AND r.limited ORDER BY r.requester_id LIMIT 1);
    ELSIF waits THEN
        RETURN (SELECT r.requester_id FROM draft_requests AS r
                 WHERE r.status = 'pending' AND r.limited AND r.requester_id > after ORDER BY r.requester_id LIMIT 1);
    ELSIF after IS NULL THEN
        RETURN (SELECT r.requester_id FROM draft_requests AS r
                 WHERE r.status = 'pending' AND NOT r.limited AND r.requester_id >= ''
                 ORDER BY r.requester_id LIMIT 1);
    END IF;
    RETURN (SELECT r.requester_id FROM draft_requests AS r
             WHERE r.status = 'pending' AND NOT r.limited AND r.requester_id >= '' AND r.requester_id > after
             ORDER BY r.requester_id LIMIT 1);
END $$;

-- Lets pending rows wait, or admits them in this order. Skips locked rows: a client that holds one in a long transaction must not
-- delay others. A row that the server refuses to change stays as it is, and harms only itself.
CREATE FUNCTION draft_set_limited(ids uuid[], wanted boolean) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
SET enable_seqscan = off AS $$
DECLARE
    one uuid;
    half integer := cardinality(ids) / 2;
    changed integer := 0;
BEGIN
    FOREACH one IN ARRAY ids LOOP
        UPDATE draft_requests AS r SET limited = wanted
         WHERE r.id = (SELECT x.id FROM draft_requests AS x
                        WHERE x.id = one AND x.status = 'pending' AND x.limited <> wanted FOR NO KEY UPDATE SKIP LOCKED)
           AND r.status = 'pending';
        IF FOUND THEN
            changed := changed + 1;
        END IF;
    END LOOP;
    RETURN changed;
EXCEPTION WHEN OTHERS THEN
    IF half = 0 THEN
        RETURN 0;
    END IF;
    RETURN draft_set_limited(ids[1 : half], wanted) + draft_set_limited(ids[half + 1 : cardinality(ids)], wanted);
END $$;

-- Admits waiting rows as far as their requesters have room, each requester's by priority and age.
--
-- For daemons, in a transaction of its own at READ COMMITTED. The lock makes it exact: whoever has it counts, in a snapshot taken
-- after the lock, and admits; nobody waits for it. Only rows of these agents are admitted, or of all but those that no daemon
-- can work for now (null): a row that cannot be claimed would keep its place from others.
--
-- Parameters: the requesters, or null for those that follow another; the agents; at_most, of rows; after, the last requester of
-- the call before. Returns how many were admitted; the requesters that another session was admitting; the last one reached, or
-- null after the last of all.
CREATE FUNCTION draft_admit(
    requesters text[], agents text[], at_most integer, after text,
    OUT admitted integer, OUT busy text[], OUT reached text
) LANGUAGE plpgsql SECURITY DEFINER SET enable_seqscan = off AS $$
DECLARE
    requester text := after;
    stuck text[];
    room integer;
    place integer;
    taken integer;
    candidates uuid[];
BEGIN
    admitted := 0;
    busy := '{}';
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RETURN;
    END IF;
    IF agents IS NULL THEN
        stuck := ARRAY (SELECT s.agent FROM draft_agent_states() AS s
                        WHERE s.state IN ('held', 'paused', 'no_key') OR s.is_served IS NOT TRUE);
    END IF;
    FOR number IN 1 .. CASE WHEN requesters IS NULL THEN 200 ELSE cardinality(requesters) END LOOP
        IF requesters IS NULL THEN
            reached := draft_next_requester(true, requester);
            requester := reached;
            EXIT WHEN requester IS NULL;
        ELSE
            requester := requesters[number];
            CONTINUE WHEN NOT EXISTS (
                SELECT FROM draft_requests AS r WHERE r.status = 'pending' AND r.limited AND r.requester_id = requester);
        END IF;
        IF NOT pg_try_advisory_xact_lock(hashtextextended(requester, 7239911043)) THEN
            busy := busy || requester;
            CONTINUE;
        END IF;
        room := least(coalesce(draft_requester_room(requester), at_most), at_most - admitted);
        CONTINUE WHEN room <= 0;
        -- A few more than there is room for: some may be locked, or refused.
        candidates := ARRAY (
            WITH RECURSIVE lines AS (
                (SELECT r.agent, r.priority FROM draft_requests AS r
                  WHERE r.status = 'pending' AND r.limited AND r.requester_id = requester
                  ORDER BY r.agent, r.priority DESC LIMIT 1)
                UNION ALL
                SELECT x.agent, x.priority FROM lines CROSS JOIN LATERAL (
                    (SELECT r.agent, r.priority FROM draft_requests AS r
                      WHERE r.status = 'pending' AND r.limited AND r.requester_id = requester
                        AND r.agent = lines.agent AND r.priority < lines.priority
                      ORDER BY r.agent, r.priority DESC LIMIT 1)
                    UNION ALL
                    (SELECT r.agent, r.priority FROM draft_requests AS r
                      WHERE r.status = 'pending' AND r.limited AND r.requester_id = requester
                        AND r.agent > lines.agent
                      ORDER BY r.agent, r.priority DESC LIMIT 1)
                    LIMIT 1) AS x
            )
            SELECT x.id FROM lines CROSS JOIN LATERAL (
                SELECT r.id, r.available_at FROM draft_requests AS r
                 WHERE r.status = 'pending' AND r.limited AND r.requester_id = requester
                   AND r.agent = lines.agent AND r.priority = lines.priority AND r.available_at <= now()
                 ORDER BY r.available_at, r.id LIMIT room + 50) AS x
             WHERE lines.agent = ANY (agents) OR agents IS NULL AND lines.agent <> ALL (stuck)
             ORDER BY lines.priority DESC, x.available_at, x.id LIMIT room + 50);
        place := 0;
        WHILE room > 0 AND place < cardinality(candidates) LOOP
            taken := draft_set_limited(candidates[place + 1 : place + room], false);
            place := place + room;
            room := room - taken;
            admitted := admitted + taken;
        END LOOP;
        EXIT WHEN admitted >= at_most;
    END LOOP;
END $$;

-- A pass of the reaper: what a new limit or pause makes wait, and then what may go on. Corrects whatever changed beside the
-- triggers: limits and pauses, the time, rows inserted by a transaction that did not see a limit yet.
--
-- Parameters: after, where the call before ended. Returns how many rows changed, and where this call ended; null after the last
-- requester of all.
CREATE FUNCTION draft_apply_limits(after text, OUT changed integer, OUT reached text)
LANGUAGE plpgsql SECURITY DEFINER SET enable_seqscan = off AS $$
DECLARE
    for_everybody boolean := EXISTS (
        SELECT FROM draft_limits AS l WHERE l.requester_id = '*' AND num_nonnulls(l.max_in_flight, l.usd_per_day) > 0);
    requester text := after;
    named text[];
    stuck text[];
    room integer;
    ids uuid[];
BEGIN
    changed := 0;
    IF NOT for_everybody THEN
        -- Only those that have claimable rows: most limits are of requesters who want nothing now.
        named := ARRAY (
            SELECT n.name FROM (
                SELECT l.requester_id AS name FROM draft_limits AS l WHERE num_nonnulls(l.max_in_flight, l.usd_per_day) > 0
                UNION SELECT p.name FROM draft_pauses AS p WHERE p.what = 'requester') AS n
             WHERE (after IS NULL OR n.name > after)
               AND EXISTS (SELECT FROM draft_requests AS r
                            WHERE r.status = 'pending' AND NOT r.limited AND r.requester_id >= '' AND r.requester_id = n.name)
             ORDER BY 1 LIMIT 500);
        IF named = '{}' THEN
            RETURN;
        END IF;
    END IF;
    stuck := ARRAY (SELECT s.agent FROM draft_agent_states() AS s
                        WHERE s.state IN ('held', 'paused', 'no_key') OR s.is_served IS NOT TRUE);
    FOR number IN 1 .. 500 LOOP
        requester := CASE WHEN for_everybody THEN draft_next_requester(false, requester)
                          ELSE named[number] END;
        reached := requester;
        EXIT WHEN requester IS NULL;
        room := draft_requester_room(requester);
        CONTINUE WHEN room IS NULL OR room > 0;
        IF draft_requester_blocked_until(requester) > now() OR room < -1000 THEN
            ids := ARRAY (SELECT r.id FROM draft_requests AS r
                           WHERE r.status = 'pending' AND NOT r.limited AND r.requester_id >= '' AND r.requester_id = requester
                           LIMIT 1000);
        ELSE
            -- A row that is not due, or that nobody can work for while another could go, gives its place up.
            ids := ARRAY (
                SELECT x.id FROM (
                    SELECT r.id, r.available_at > now() AS is_later, r.agent = ANY (stuck) AS is_stuck,
                           row_number() OVER (ORDER BY r.available_at > now() DESC, r.agent = ANY (stuck) DESC,
                                                       r.priority, r.turn DESC, r.id) AS place
                      FROM draft_requests AS r
                     WHERE r.status = 'pending' AND NOT r.limited AND r.requester_id >= '' AND r.requester_id = requester) AS x
                 WHERE x.place <= -room OR x.is_later
                    OR x.is_stuck AND EXISTS (
                        SELECT FROM draft_requests AS r
                         WHERE r.status = 'pending' AND r.limited AND r.requester_id = requester
                           AND r.available_at <= now() AND r.agent <> ALL (stuck)));
        END IF;
        changed := changed + draft_set_limited(ids, true);
        EXIT WHEN changed >= 1000;
    END LOOP;
END $$;

-- What an autoscaler divides by the number of loops of one daemon: requests being processed, and due ones that some daemon could
-- work on. For a model whose hold has lapsed one counts, its probe. SECURITY DEFINER, for a role that may read nothing else.
CREATE FUNCTION draftd_demand() RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET enable_seqscan = off AS $$
DECLARE
    most CONSTANT integer := 10000;
    stuck text[] := '{}';
    probed text[] := '{}';
    probes text[] := '{}';
    due text[] := '{}';
    demand bigint;
    room integer;
    one record;
    requester text;
BEGIN
    FOR one IN SELECT * FROM draft_agent_states() LOOP
        IF one.state <> 'ok' THEN
            stuck := stuck || one.agent;
        END IF;
        IF one.state = 'probe' THEN
            probed := probed || one.agent;
            probes := probes || one.model;
        END IF;
    END LOOP;
    demand := (SELECT count(*) FROM draft_requests AS r WHERE r.status = 'processing');
    demand := demand + (
        WITH RECURSIVE asked AS (
            (SELECT r.agent FROM draft_requests AS r WHERE r.status = 'pending' AND NOT r.limited ORDER BY r.agent LIMIT 1)
            UNION ALL
            SELECT (SELECT r.agent FROM draft_requests AS r
                     WHERE r.status = 'pending' AND NOT r.limited AND r.agent > asked.agent ORDER BY r.agent LIMIT 1)
              FROM asked WHERE asked.agent IS NOT NULL
        )
        SELECT count(*) FROM (
            SELECT FROM asked CROSS JOIN LATERAL (
                SELECT FROM draft_requests AS r
                 WHERE r.status = 'pending' AND NOT r.limited AND r.agent = asked.agent AND r.available_at <= now()
                 LIMIT most) AS x
             WHERE asked.agent <> ALL (stuck) LIMIT most) AS x);
    FOR number IN 1 .. 20000 LOOP
        requester := draft_next_requester(true, requester);
        EXIT WHEN requester IS NULL OR demand >= most;
        room := least(draft_requester_room(requester), most);
        CONTINUE WHEN room <= 0;
        demand := demand + (SELECT count(*) FROM (
            SELECT FROM draft_requests AS r
             WHERE r.status = 'pending' AND r.limited AND r.requester_id = requester AND r.available_at <= now()
               AND r.agent <> ALL (stuck)
             LIMIT room) AS x);
        due := due || ARRAY (SELECT p.agent FROM unnest(probed) AS p(agent) WHERE EXISTS (
            SELECT FROM draft_requests AS r
             WHERE r.status = 'pending' AND r.limited AND r.requester_id = requester AND r.agent = p.agent
               AND r.available_at <= now()));
    END LOOP;
    demand := demand + (
        SELECT count(DISTINCT p.model) FROM unnest(probed, probes) AS p(agent, model)
         WHERE p.agent = ANY (due) OR EXISTS (
            SELECT FROM draft_requests AS r
             WHERE r.status = 'pending' AND NOT r.limited AND r.agent = p.agent AND r.available_at <= now()));
    RETURN least(demand, most);
END $$;

-- Why a row is not being drafted. Only a caller who can see the row knows its id together with the moment of its creation, so
-- nobody learns anything about another's. SECURITY DEFINER, because the line consists of others' rows.
CREATE FUNCTION draft_request_wait_of(id uuid, created_at timestamptz) RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    mine record;
    about record;
    blocked timestamptz;
    reason text := 'turn';
    ahead bigint := 0;
    until timestamptz;
BEGIN
    SELECT r.status, r.agent, r.requester_id, r.priority, r.turn, r.available_at, r.limited INTO mine
      FROM draft_requests AS r WHERE r.id = $1 AND r.created_at = $2;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF mine.status <> 'pending' THEN
        RETURN jsonb_build_object('reason', NULL, 'ahead', 0, 'until', NULL);
    END IF;
    SELECT * INTO about FROM draft_agent_states() AS s WHERE s.agent = mine.agent;
    blocked := draft_requester_blocked_until(mine.requester_id);
    IF about.state = 'paused' OR EXISTS (SELECT FROM draft_pauses AS p
            WHERE p.what = 'all' OR p.what = 'requester' AND p.name = mine.requester_id) THEN
        reason := 'paused';
    ELSIF mine.available_at > now() THEN
        reason := 'later';
        until := mine.available_at;
    ELSIF blocked > now() THEN
        reason := 'budget';
        until := nullif(blocked, 'infinity');
    ELSIF NOT coalesce(about.is_served, false) OR about.state = 'no_key' THEN
        reason := 'no_worker';
    ELSIF about.state IN ('held', 'probe') THEN
        reason := 'model';
        until := CASE WHEN about.state = 'held' THEN about.until END;
    ELSIF mine.limited THEN
        reason := 'limit';
    END IF;
    IF mine.limited THEN
        ahead := (SELECT count(*) FROM (
            SELECT FROM draft_requests AS r
             WHERE r.status = 'pending' AND r.limited AND r.requester_id = mine.requester_id AND r.agent = mine.agent
               AND (r.priority > mine.priority
                    OR r.priority = mine.priority AND (r.available_at, r.id) < (mine.available_at, $1))
             LIMIT 1000) AS x);
    ELSE
        ahead := (SELECT count(*) FROM (
            SELECT FROM draft_requests AS r
             WHERE r.status = 'pending' AND NOT r.limited AND r.agent = mine.agent
               AND (r.priority > mine.priority
                    OR r.priority = mine.priority AND (r.turn, r.available_at, r.id) < (mine.turn, mine.available_at, $1))
             LIMIT 1000) AS x);
    END IF;
    RETURN jsonb_build_object('reason', reason, 'ahead', ahead, 'until', until);
END $$;

-- Why an own row is not being drafted; null for one that the caller cannot see.
CREATE FUNCTION draft_request_wait(id uuid) RETURNS jsonb LANGUAGE sql SECURITY INVOKER AS $$
    SELECT draft_request_wait_of(r.id, r.created_at) FROM draft_requests AS r WHERE r.id = $1;
$$;
"""

DOWNGRADE = r"""
DROP FUNCTION draft_request_wait(uuid);
DROP FUNCTION draft_request_wait_of(uuid, timestamptz);
DROP FUNCTION draftd_demand();
DROP FUNCTION draft_apply_limits(text);
DROP FUNCTION draft_admit(text[], text[], integer, text);
DROP FUNCTION draft_set_limited(uuid[], boolean);
DROP FUNCTION draft_next_requester(boolean, text);
DROP FUNCTION draft_agent_states();
DROP TRIGGER draft_requests_20_take_turn_again ON draft_requests;
CREATE TRIGGER draft_requests_20_take_turn_again BEFORE UPDATE ON draft_requests
    FOR EACH ROW WHEN (OLD.status <> 'pending' AND NEW.status = 'pending')
    EXECUTE FUNCTION draft_requests_take_turn();
DROP FUNCTION draft_pass_turnstile(text, text, boolean);
DROP FUNCTION draft_requester_waits(text, boolean);
DROP FUNCTION draft_requester_room(text);
DROP FUNCTION draft_requester_blocked_until(text);
DROP INDEX draft_requests_processing_idx;
CREATE INDEX draft_requests_processing_idx ON draft_requests (deadline_at) WHERE status = 'processing';
DROP INDEX draft_requests_limited_idx;
DROP INDEX draft_requests_turn_idx;
CREATE INDEX draft_requests_turn_idx ON draft_requests (agent, priority, requester_id, turn DESC)
    WHERE status = 'pending' AND requester_id >= '';
DROP INDEX draft_requests_claim_idx;
CREATE INDEX draft_requests_claim_idx ON draft_requests (agent, priority DESC, turn, available_at, id)
    WHERE status = 'pending';
ALTER TABLE draft_workers DROP COLUMN models;
ALTER TABLE draft_requests DROP COLUMN limited;
DROP TABLE draft_turnstiles;
DROP TABLE draft_limits;
DROP TABLE draft_pauses;
DROP FUNCTION draft_limits_changed();
"""

TAKE_TURN = "draft_requests_take_turn()"
TAKES_TURN = (
    (
        "BEGIN\n    SELECT r.turn INTO front",
        """BEGIN
    IF TG_OP = 'INSERT' OR OLD.status <> 'pending' THEN
        NEW.limited := false;
        -- Asked first, because it costs next to nothing.
        IF EXISTS (SELECT FROM draft_limits) OR EXISTS (SELECT FROM draft_pauses) THEN
            NEW.limited := draft_requester_waits(
                NEW.requester_id, TG_OP = 'UPDATE' AND OLD.status = 'processing' AND NEW.available_at <= now());
            IF TG_OP = 'INSERT' OR OLD.status <> 'processing' THEN
                PERFORM draft_pass_turnstile(NEW.requester_id, NEW.idempotency_key, TG_OP = 'UPDATE');
            END IF;
        END IF;
    END IF;
    -- A row that waits for its admission stands in no line yet.
    IF NEW.limited THEN
        RETURN NEW;
    END IF;
    SELECT r.turn INTO front""",
    ),
    ("WHERE r.status = 'pending' AND r.agent", "WHERE r.status = 'pending' AND NOT r.limited AND r.agent"),
    (
        "TG_OP = 'UPDATE' AND OLD.status = 'processing' THEN",
        "TG_OP = 'UPDATE' AND (OLD.status = 'processing' OR OLD.status = 'pending' AND OLD.attempt > 0) THEN",
    ),
)
"""What changes in ``draft_requests_take_turn``: the line consists of claimable rows."""


def upgrade() -> None:
    op.execute(UPGRADE)
    op.execute(replace_parts(TAKE_TURN, TAKES_TURN, revision="0022"))
    op.execute(keep_private(tables=TABLES, functions=FUNCTIONS))


def downgrade() -> None:
    op.execute(replace_parts(TAKE_TURN, [(new, old) for old, new in reversed(TAKES_TURN)], revision=revision))
    op.execute(DOWNGRADE)
