"""How a request goes from one state to the next, who may change it, and the two functions of the message bus."""

from alembic import op

revision = "0018c"
down_revision = "0018b"
branch_labels = None
depends_on = None

UPGRADE = r"""
-- The fair order: each requester's next request stands one turn behind its last. Over the pending rows of the same agent and
-- priority, the front of the line is the lowest turn, and a requester's next turn is the one after its own last, but never
-- before the front (else an old requester's pause would count as credit). The last turn that there is may be given again: one
-- row must not keep its requester from inserting the next. SECURITY DEFINER, because row security hides the others' rows, and
-- the line consists of them.
CREATE FUNCTION draft_requests_take_turn() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    front bigint;
    mine bigint;
BEGIN
    SELECT r.turn INTO front FROM draft_requests AS r
     WHERE r.status = 'pending' AND r.agent = NEW.agent AND r.priority = NEW.priority
     ORDER BY r.turn LIMIT 1;
    -- A row that comes back from an attempt has waited its turn before: it goes to the front, not behind its requester's others.
    IF TG_OP = 'UPDATE' AND OLD.status = 'processing' THEN
        NEW.turn := greatest(OLD.turn, coalesce(front, OLD.turn));
        RETURN NEW;
    END IF;
    SELECT r.turn INTO mine FROM draft_requests AS r
     WHERE r.status = 'pending' AND r.agent = NEW.agent AND r.priority = NEW.priority AND r.requester_id = NEW.requester_id
       AND r.requester_id >= ''
     ORDER BY r.turn DESC LIMIT 1;
    NEW.turn := greatest(coalesce(CASE WHEN mine < 9223372036854775807 THEN mine + 1 ELSE mine END, front, 0), coalesce(front, 0));
    RETURN NEW;
END $$;

CREATE TRIGGER draft_requests_20_take_turn BEFORE INSERT ON draft_requests
    FOR EACH ROW EXECUTE FUNCTION draft_requests_take_turn();
CREATE TRIGGER draft_requests_20_take_turn_again BEFORE UPDATE ON draft_requests
    FOR EACH ROW WHEN (OLD.status <> 'pending' AND NEW.status = 'pending')
    EXECUTE FUNCTION draft_requests_take_turn();

-- Whoever ends a request (the daemon, the reaper, a client that cancels), the same things happen. SECURITY DEFINER, because a
-- client that may cancel may not therefore call the function below.
CREATE FUNCTION draft_requests_finish() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF OLD.status NOT IN ('pending', 'processing') THEN
        RAISE EXCEPTION 'draft_requests: this request is % already', OLD.status USING ERRCODE = 'check_violation';
    END IF;
    NEW.finished_at := now();
    NEW.updated_at := now();
    NEW.lease_until := NULL;
    NEW.deadline_at := NULL;
    IF EXISTS (SELECT FROM unnest(NEW.image_urls) AS u WHERE u ILIKE 'data:%') THEN
        NEW.image_urls := draft_requests_without_pictures(NEW.image_urls);
    END IF;
    RETURN NEW;
END $$;

-- Each data: URL becomes the hash of its picture. What is no base64 is hashed as it stands: ending a request never fails.
CREATE FUNCTION draft_requests_without_pictures(image_urls text[]) RETURNS text[] LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    entry text;
    kept text[] := '{}';
    picture bytea;
BEGIN
    FOREACH entry IN ARRAY image_urls LOOP
        IF entry ILIKE 'data:%' THEN
            BEGIN
                picture := decode(substr(entry, position(',' IN entry) + 1), 'base64');
            EXCEPTION WHEN data_exception THEN
                picture := convert_to(entry, 'UTF8');
            END;
            entry := 'sha256:' || encode(sha256(picture), 'hex');
        END IF;
        kept := kept || entry;
    END LOOP;
    RETURN kept;
END $$;

-- SECURITY DEFINER, because a worker need not see the fleet's settings for this.
CREATE FUNCTION draft_requests_requeue() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    NEW.expires_at := coalesce(NEW.expires_at, draft_requests_default_expiry(NEW.available_at));
    NEW.lease_until := NULL;
    NEW.deadline_at := NULL;
    NEW.finished_at := NULL;
    NEW.updated_at := now();
    RETURN NEW;
END $$;

CREATE TRIGGER draft_requests_10_finish BEFORE UPDATE ON draft_requests
    FOR EACH ROW WHEN (NEW.status IN ('completed', 'failed', 'cancelled') AND OLD.status IS DISTINCT FROM NEW.status)
    EXECUTE FUNCTION draft_requests_finish();
CREATE TRIGGER draft_requests_10_requeue BEFORE UPDATE ON draft_requests
    FOR EACH ROW WHEN (OLD.status <> 'pending' AND NEW.status = 'pending')
    EXECUTE FUNCTION draft_requests_requeue();

-- SECURITY DEFINER, because whoever may end a request (a client that cancels) may not therefore touch the pictures.
CREATE FUNCTION draft_requests_forget_pictures() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    DELETE FROM draft_pictures WHERE request_id = NEW.id;
    RETURN NULL;
END $$;

-- A request that completes in its first attempt has left none, and pays for no look.
CREATE TRIGGER draft_requests_80_forget_pictures AFTER UPDATE ON draft_requests
    FOR EACH ROW WHEN (NEW.status IN ('completed', 'failed', 'cancelled') AND OLD.status IS DISTINCT FROM NEW.status
                       AND NEW.lease_token > CASE NEW.status WHEN 'completed' THEN 1 ELSE 0 END)
    EXECUTE FUNCTION draft_requests_forget_pictures();

CREATE FUNCTION draft_requests_ring() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('draft_requests', '');
    RETURN NULL;
END $$;

CREATE FUNCTION draft_requests_announce() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    options jsonb := coalesce(NEW.result, NEW.partial_result) -> 'options';
BEGIN
    PERFORM pg_notify('draft_results', jsonb_build_object(
        'id', NEW.id, 'status', NEW.status,
        'options_ready', CASE WHEN jsonb_typeof(options) = 'array' THEN jsonb_array_length(options) ELSE 0 END)::text);
    RETURN NULL;
END $$;

-- Per statement for INSERT, per row for the return to pending: a statement trigger on UPDATE fires on zero rows too, and made
-- two idle daemons ring each other 52,000 times in 5 s.
CREATE TRIGGER draft_requests_90_ring AFTER INSERT ON draft_requests
    FOR EACH STATEMENT EXECUTE FUNCTION draft_requests_ring();
CREATE TRIGGER draft_requests_90_ring_again AFTER UPDATE ON draft_requests
    FOR EACH ROW WHEN (OLD.status <> 'pending' AND NEW.status = 'pending')
    EXECUTE FUNCTION draft_requests_ring();
CREATE TRIGGER draft_requests_90_announce AFTER UPDATE ON draft_requests
    FOR EACH ROW WHEN (NEW.status IN ('completed', 'failed', 'cancelled') AND OLD.status IN ('pending', 'processing'))
    EXECUTE FUNCTION draft_requests_announce();
-- Of the statements that daemons send only the one that publishes names this column.
CREATE TRIGGER draft_requests_90_announce_progress AFTER UPDATE OF partial_result ON draft_requests
    FOR EACH ROW WHEN (NEW.status = 'processing' AND NEW.partial_result IS NOT NULL)
    EXECUTE FUNCTION draft_requests_announce();

-- Strangers change nothing of a request but its cancellation, whatever they have been granted. Only a cancellation is looked at
-- as a whole, because that reads the pictures.
CREATE FUNCTION draft_requests_guard() RETURNS trigger LANGUAGE plpgsql SECURITY INVOKER AS $$
DECLARE
    otherwise record;
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.status = 'cancelled' AND OLD.status IN ('pending', 'processing') THEN
        otherwise := NEW;
        otherwise.status := OLD.status;
        IF otherwise IS NOT DISTINCT FROM OLD THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'draft_requests: the role % may cancel a request that is pending or processing, and change nothing else',
        quote_ident(current_user)
        USING ERRCODE = 'insufficient_privilege', HINT = 'A role for daemons is made with draftd grants --worker.';
END $$;

-- The condition is asked with the rights of whoever runs the statement: after SET ROLE, and inside functions that have their
-- owner's. It is false for the owner of the type, for roles that inherit from the owner, for superusers and for workers.
-- Named so as to run first, also of an app's own triggers: what these change, such as times, is not the stranger's doing.
CREATE TRIGGER "00_draft_requests_guard" BEFORE UPDATE OR DELETE ON draft_requests
    FOR EACH ROW WHEN (NOT has_type_privilege('draft_worker'::regtype, 'USAGE'))
    EXECUTE FUNCTION draft_requests_guard();
CREATE TRIGGER "00_draft_requests_guard_truncate" BEFORE TRUNCATE ON draft_requests
    FOR EACH STATEMENT WHEN (NOT has_type_privilege('draft_worker'::regtype, 'USAGE'))
    EXECUTE FUNCTION draft_requests_guard();

-- Inserts, or finds the earlier request of the same requester and idempotency key. Only the columns that are given are named, so
-- that the caller's column rights hold.
CREATE FUNCTION create_draft_request(request jsonb) RETURNS jsonb LANGUAGE plpgsql SECURITY INVOKER AS $$
DECLARE
    unknown text;
    given text;
    found_id uuid;
    found_status text;
BEGIN
    IF jsonb_typeof(request) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'create_draft_request: the request is a JSON object' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT string_agg(k, ', ' ORDER BY k) INTO unknown FROM jsonb_object_keys(request) AS k
     WHERE k NOT IN ('id', 'requester_id', 'agent', 'image_urls', 'context', 'options', 'parent_id', 'priority',
                     'available_at', 'expires_at', 'idempotency_key', 'max_attempts', 'metadata', 'traceparent');
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION 'create_draft_request: unknown key: %', unknown USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF jsonb_typeof(request -> 'image_urls') NOT IN ('array', 'null') THEN
        RAISE EXCEPTION 'create_draft_request: image_urls is a list' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT coalesce(string_agg(quote_ident(key), ', '), 'image_urls') INTO given
      FROM jsonb_each(request) WHERE value <> 'null';
    EXECUTE format('INSERT INTO draft_requests AS r (%1$s) SELECT %1$s FROM jsonb_populate_record(NULL::draft_requests, $1) '
                   'ON CONFLICT (requester_id, idempotency_key) DO NOTHING RETURNING r.id, r.status', given)
       INTO found_id, found_status USING request;
    IF found_id IS NOT NULL THEN
        RETURN jsonb_build_object('id', found_id, 'status', found_status, 'created', true);
    END IF;
    SELECT r.id, r.status INTO STRICT found_id, found_status FROM draft_requests AS r
     WHERE r.requester_id = coalesce(request ->> 'requester_id', '')
       AND r.idempotency_key = request ->> 'idempotency_key';
    RETURN jsonb_build_object('id', found_id, 'status', found_status, 'created', false);
END $$;

-- $1 and not the name: beside WHERE id = id it would cancel the whole table.
CREATE FUNCTION cancel_draft_request(id uuid) RETURNS boolean LANGUAGE sql SECURITY INVOKER AS $$
    WITH cancelled AS (
        UPDATE draft_requests AS r SET status = 'cancelled'
         WHERE r.id = $1 AND r.status IN ('pending', 'processing')
        RETURNING r.id)
    SELECT EXISTS (SELECT FROM cancelled);
$$;
"""  # noqa: E501  # a line of a function as earlier migrations made it: it must stay the same text

DOWNGRADE = r"""
DROP FUNCTION cancel_draft_request(uuid);
DROP FUNCTION create_draft_request(jsonb);
DROP FUNCTION draft_requests_guard() CASCADE;
DROP FUNCTION draft_requests_announce() CASCADE;
DROP FUNCTION draft_requests_ring() CASCADE;
DROP FUNCTION draft_requests_forget_pictures() CASCADE;
DROP FUNCTION draft_requests_requeue() CASCADE;
DROP FUNCTION draft_requests_finish() CASCADE;
DROP FUNCTION draft_requests_without_pictures(text[]);
DROP FUNCTION draft_requests_take_turn() CASCADE;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
