"""End users: who the current requester is, a view for them, deleting a conversation, and the schema's revision for clients."""

from alembic import op

from draftd.db.private import keep_private, replaced

revision = "0030"
down_revision = "0028"
branch_labels = None
depends_on = None

REQUESTER = r"""
-- For whom the current transaction acts: the subject of the JWT, as PostgREST sets it, or '' without one (a service role, a
-- backend, psql). It has the rights of its caller, so that current_user is the caller's role in an expression of
-- draftd grants --identity, which replaces the body. Later migrations must leave it alone.
CREATE FUNCTION draft_current_requester() RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN coalesce(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub', '');
EXCEPTION WHEN data_exception THEN
    RETURN '';
END $$;

COMMENT ON FUNCTION draft_current_requester() IS 'the requester that the caller acts for: the subject of its JWT, or empty';

ALTER TABLE draft_requests ALTER COLUMN requester_id SET DEFAULT draft_current_requester();
ALTER TABLE draft_profiles ALTER COLUMN requester_id SET DEFAULT draft_current_requester();

-- Before draft_requests_05_begin, which runs with the owner's rights.
CREATE TRIGGER draft_requests_04_requester BEFORE INSERT ON draft_requests
    FOR EACH ROW WHEN (NEW.requester_id IS NULL)
    EXECUTE FUNCTION draft_nulls_are_defaults(requester_id);
"""
# Whoever could insert without naming a requester still can.
ALLOW_EARLIER_CLIENTS = r"""
DO $$
DECLARE
    client text;
BEGIN
    FOR client IN
        SELECT DISTINCT CASE g.grantee WHEN 0 THEN 'public' ELSE quote_ident(pg_get_userbyid(g.grantee)) END
          FROM (SELECT c.oid, c.relowner, c.relacl AS acl FROM pg_class AS c
                UNION ALL
                SELECT c.oid, c.relowner, a.attacl FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid) AS o,
               aclexplode(o.acl) AS g
         WHERE o.oid IN ('draft_requests'::regclass, 'draft_profiles'::regclass)
           AND g.privilege_type = 'INSERT' AND g.grantee <> o.relowner
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION draft_current_requester() TO %s', client);
    END LOOP;
END $$;
"""
VIEW = r"""
-- What a client may see, for tools that send SELECT *. The caller's own rights and row security decide which rows.
CREATE VIEW draft_replies WITH (security_invoker = true) AS
SELECT id, requester_id, agent, status, context, options, parent_id, idempotency_key, expires_at, metadata, traceparent,
       partial_result, result, error_code, error_message, error_details, attempt, created_at, claimed_at, finished_at,
       updated_at
  FROM draft_requests;
COMMENT ON VIEW draft_replies IS 'of each request that the caller may see, what a client is meant to read';
"""

CREATE = r"""
-- Inserts, or finds the earlier request of the same requester and idempotency key. Only the columns that are given are named, so
-- that the caller's column rights and the defaults hold. A known key is looked up before the insert, which might refuse the
-- repetition: for a limit, or because the agent is gone.
CREATE OR REPLACE FUNCTION create_draft_request(request jsonb) RETURNS jsonb LANGUAGE plpgsql SECURITY INVOKER AS $$
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
    -- A second time if another transaction inserts the key between the two statements; a third if it deletes it again.
    FOR turn IN 1 .. 3 LOOP
        IF request ->> 'idempotency_key' IS NOT NULL THEN
            SELECT r.id, r.status INTO found_id, found_status FROM draft_requests AS r
             WHERE r.requester_id = coalesce(request ->> 'requester_id', draft_current_requester())
               AND r.idempotency_key = request ->> 'idempotency_key';
            IF FOUND THEN
                RETURN jsonb_build_object('id', found_id, 'status', found_status, 'created', false);
            END IF;
        END IF;
        EXECUTE format('INSERT INTO draft_requests AS r (%1$s) SELECT %1$s FROM jsonb_populate_record(NULL::draft_requests, $1) '
                       'ON CONFLICT (requester_id, idempotency_key) DO NOTHING RETURNING r.id, r.status', given)
           INTO found_id, found_status USING request;
        IF found_id IS NOT NULL THEN
            RETURN jsonb_build_object('id', found_id, 'status', found_status, 'created', true);
        END IF;
    END LOOP;
    RAISE EXCEPTION 'create_draft_request: a request with this idempotency_key exists, and this role cannot see it'
        USING ERRCODE = 'unique_violation';
END $$;
"""
CREATE_BEFORE = r"""
-- Inserts, or finds the earlier request of the same requester and idempotency key. Only the columns that are given are named, so
-- that the caller's column rights hold.
CREATE OR REPLACE FUNCTION create_draft_request(request jsonb) RETURNS jsonb LANGUAGE plpgsql SECURITY INVOKER AS $$
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
"""

DELETING = r"""
CREATE INDEX draft_requests_parent_id_idx ON draft_requests (parent_id) WHERE parent_id IS NOT NULL;

-- Strangers change nothing of a request but its cancellation, whatever they have been granted, and delete only what is finished
-- and their own. Only a cancellation is looked at as a whole, because that reads the pictures.
CREATE OR REPLACE FUNCTION draft_requests_guard() RETURNS trigger LANGUAGE plpgsql SECURITY INVOKER AS $$
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
    IF TG_OP = 'DELETE' THEN
        IF OLD.status IN ('completed', 'failed', 'cancelled') AND OLD.requester_id <> ''
           AND OLD.requester_id = draft_current_requester() THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'draft_requests: the role % may cancel a request that is pending or processing, delete a finished one of '
                    'its own requester, and change nothing else', quote_ident(current_user)
        USING ERRCODE = 'insufficient_privilege', HINT = 'A role for daemons is made with draftd grants --worker.';
END $$;

-- A requester's deletions wait for each other before they lock a row: two that begin in the same conversation, each at another
-- row, would wait for each other's rows.
CREATE FUNCTION draft_requests_delete_in_turn() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('draft_requests ' || draft_current_requester(), 0));
    RETURN NULL;
END $$;

-- Whoever may delete a finished request of their own deletes its conversation: what it refines, and what refines it. The owner
-- and the workers delete row by row (prune). Of a conversation that is not finished nothing is deleted. Each deleted row takes
-- those that were beside it in the conversation, so all are found, however many the statement deletes. SECURITY DEFINER, because
-- the guard and row security would ask for each of them again.
CREATE FUNCTION draft_requests_delete_conversation() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    ids uuid[];
    is_unfinished boolean;
BEGIN
    WITH RECURSIVE earlier AS (
        SELECT r.id, r.parent_id FROM draft_requests AS r WHERE r.id = OLD.parent_id AND r.requester_id = OLD.requester_id
        UNION
        SELECT r.id, r.parent_id FROM earlier AS e JOIN draft_requests AS r ON r.id = e.parent_id
         WHERE r.requester_id = OLD.requester_id
    ), conversation AS (
        (SELECT e.id FROM earlier AS e
         UNION
         SELECT r.id FROM draft_requests AS r WHERE r.parent_id = OLD.id AND r.requester_id = OLD.requester_id)
        UNION
        SELECT r.id FROM conversation AS c JOIN draft_requests AS r ON r.parent_id = c.id
         WHERE r.requester_id = OLD.requester_id
    )
    SELECT array_agg(locked.id), bool_or(locked.status IN ('pending', 'processing')) INTO ids, is_unfinished
      FROM (SELECT r.id, r.status FROM draft_requests AS r WHERE r.id IN (SELECT c.id FROM conversation AS c)
             ORDER BY r.id FOR UPDATE) AS locked;
    IF is_unfinished THEN
        RAISE EXCEPTION 'draft_requests: another request of this conversation is not finished; cancel it first'
            USING ERRCODE = 'check_violation';
    END IF;
    DELETE FROM draft_requests AS r WHERE r.id = ANY (ids);
    RETURN NULL;
END $$;

CREATE TRIGGER draft_requests_40_delete_in_turn BEFORE DELETE ON draft_requests
    FOR EACH STATEMENT WHEN (NOT has_type_privilege('draft_worker'::regtype, 'USAGE'))
    EXECUTE FUNCTION draft_requests_delete_in_turn();
CREATE TRIGGER draft_requests_80_delete_conversation AFTER DELETE ON draft_requests
    FOR EACH ROW WHEN (NOT has_type_privilege('draft_worker'::regtype, 'USAGE'))
    EXECUTE FUNCTION draft_requests_delete_conversation();
"""
GUARD_BEFORE = r"""
-- Strangers change nothing of a request but its cancellation, whatever they have been granted. Only a cancellation is looked at
-- as a whole, because that reads the pictures.
CREATE OR REPLACE FUNCTION draft_requests_guard() RETURNS trigger LANGUAGE plpgsql SECURITY INVOKER AS $$
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
"""

RATING = r"""
-- Whoever rates a request must be able to see it, or could read others' drafts here. What is kept of the rated request is more
-- than an end user may read of it, so draft_feedback_begin reads it with the owner's rights.
CREATE FUNCTION draft_feedback_check_visible() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM draft_requests AS r WHERE r.id = NEW.request_id) THEN
        RAISE EXCEPTION 'draft_feedback: request_id is no request' USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER draft_feedback_08_check_visible BEFORE INSERT ON draft_feedback
    FOR EACH ROW EXECUTE FUNCTION draft_feedback_check_visible();
ALTER FUNCTION draft_feedback_begin() SECURITY DEFINER;
"""

BROADCAST = r"""
-- Tells the requester's own channel of Supabase what draft_results tells on LISTEN. draftd grants --preset supabase makes the
-- triggers, where realtime.send is. Nothing that goes wrong there may stop a settlement, and no lock there may hold it up.
CREATE FUNCTION draft_requests_broadcast() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '100ms' AS $$
DECLARE
    options jsonb := coalesce(NEW.result, NEW.partial_result) -> 'options';
BEGIN
    PERFORM realtime.send(
        jsonb_build_object('id', NEW.id, 'status', NEW.status, 'options_ready',
                           CASE WHEN jsonb_typeof(options) = 'array' THEN jsonb_array_length(options) ELSE 0 END),
        'draft', 'draftd:' || NEW.requester_id, true);
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;
"""

REVISION = r"""
ALTER TABLE draft_settings ADD COLUMN schema_revision text NOT NULL DEFAULT '';
COMMENT ON COLUMN draft_settings.schema_revision IS 'of the newest migration; every client may read it';

-- Whatever is written: a restored row is one of another database, perhaps at another revision.
CREATE FUNCTION draft_settings_take_revision() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    NEW.schema_revision := coalesce((SELECT v.version_num FROM draftd_alembic_version AS v), '');
    RETURN NEW;
END $$;
CREATE TRIGGER draft_settings_90_take_revision BEFORE INSERT OR UPDATE ON draft_settings
    FOR EACH ROW EXECUTE FUNCTION draft_settings_take_revision();

CREATE FUNCTION draft_settings_follow_revision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE draft_settings AS s SET schema_revision = NEW.version_num;
    RETURN NULL;
END $$;
CREATE TRIGGER draftd_alembic_version_90_follow_revision AFTER INSERT OR UPDATE ON draftd_alembic_version
    FOR EACH ROW EXECUTE FUNCTION draft_settings_follow_revision();
"""

DOWNGRADE = r"""
-- End users lose their rights before the policies that show each of them only their own rows go.
DO $$
DECLARE
    users text;
BEGIN
    FOR users IN
        SELECT DISTINCT quote_ident(pg_get_userbyid(r.oid)) FROM pg_policy AS p, unnest(p.polroles) AS r(oid)
         WHERE p.polrelid = 'draft_requests'::regclass AND NOT p.polpermissive AND r.oid <> 0
    LOOP
        EXECUTE format('REVOKE ALL ON draft_requests, draft_feedback, draft_profiles FROM %s', users);
    END LOOP;
END $$;
DROP FUNCTION draft_settings_follow_revision() CASCADE;
DROP FUNCTION draft_settings_take_revision() CASCADE;
ALTER TABLE draft_settings DROP COLUMN schema_revision;
DROP FUNCTION draft_requests_broadcast() CASCADE;
ALTER FUNCTION draft_feedback_begin() SECURITY INVOKER;
DROP FUNCTION draft_feedback_check_visible() CASCADE;
DROP FUNCTION draft_requests_delete_conversation() CASCADE;
DROP FUNCTION draft_requests_delete_in_turn() CASCADE;
DROP INDEX draft_requests_parent_id_idx;
DROP VIEW draft_replies;
DROP TRIGGER draft_requests_04_requester ON draft_requests;
ALTER TABLE draft_profiles ALTER COLUMN requester_id DROP DEFAULT;
ALTER TABLE draft_requests ALTER COLUMN requester_id SET DEFAULT '';
-- CASCADE: the policies of end users, whose rights are gone.
DROP FUNCTION draft_current_requester() CASCADE;
"""

REPLACED = ["create_draft_request(jsonb)", "draft_requests_guard()"]
FUNCTIONS = [
    "draft_current_requester()",
    "draft_requests_delete_in_turn()",
    "draft_requests_delete_conversation()",
    "draft_feedback_check_visible()",
    "draft_requests_broadcast()",
    "draft_settings_follow_revision()",
    "draft_settings_take_revision()",
]


def upgrade() -> None:
    for part in (REQUESTER, VIEW, CREATE, DELETING, RATING, BROADCAST, REVISION):
        op.execute(part)
    op.execute(replaced(REPLACED))
    op.execute(keep_private(views=["draft_replies"], functions=FUNCTIONS))
    op.execute(ALLOW_EARLIER_CLIENTS)


def downgrade() -> None:
    op.execute(GUARD_BEFORE)
    op.execute(CREATE_BEFORE)
    op.execute(replaced(REPLACED))
    op.execute(DOWNGRADE)
