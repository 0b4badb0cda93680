"""The two functions of the message bus, with the caller's own rights."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

UPGRADE = r"""
-- Inserts, or finds the earlier request of the same requester and idempotency key.
CREATE FUNCTION create_draft_request(request jsonb) RETURNS jsonb LANGUAGE plpgsql SECURITY INVOKER AS $$
DECLARE
    unknown text;
    found_id uuid;
    found_status text;
BEGIN
    IF jsonb_typeof(request) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'create_draft_request: the request is a JSON object' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT string_agg(k, ', ' ORDER BY k) INTO unknown FROM jsonb_object_keys(request) AS k
     WHERE k NOT IN ('id', 'requester_id', 'agent', 'image_urls', 'context', 'options', 'parent_id', 'priority',
                     'available_at', 'expires_at', 'idempotency_key', 'max_attempts', 'metadata');
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION 'create_draft_request: unknown key: %', unknown USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF jsonb_typeof(request -> 'image_urls') NOT IN ('array', 'null') THEN
        RAISE EXCEPTION 'create_draft_request: image_urls is a list' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO draft_requests AS r (
        id, requester_id, agent, image_urls, context, options, parent_id, priority,
        available_at, expires_at, idempotency_key, max_attempts, metadata)
    VALUES (
        coalesce((request ->> 'id')::uuid, gen_random_uuid()),
        coalesce(request ->> 'requester_id', ''),
        coalesce(request ->> 'agent', 'comment_generator'),
        ARRAY(SELECT e.value FROM jsonb_array_elements_text(nullif(request -> 'image_urls', 'null'))
                                  WITH ORDINALITY AS e(value, n) ORDER BY e.n),
        request ->> 'context',
        coalesce(nullif(request -> 'options', 'null'), '{}'),
        (request ->> 'parent_id')::uuid,
        coalesce((request ->> 'priority')::smallint, 0),
        coalesce((request ->> 'available_at')::timestamptz, now()),
        (request ->> 'expires_at')::timestamptz,
        request ->> 'idempotency_key',
        coalesce((request ->> 'max_attempts')::smallint, 5),
        coalesce(nullif(request -> 'metadata', 'null'), '{}'))
    ON CONFLICT (requester_id, idempotency_key) DO NOTHING
    RETURNING r.id, r.status INTO found_id, found_status;
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

DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION create_draft_request(jsonb) SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION cancel_draft_request(uuid) SET search_path = %I, pg_temp', current_schema());
END $$;
"""

DOWNGRADE = r"""
DROP FUNCTION cancel_draft_request(uuid);
DROP FUNCTION create_draft_request(jsonb);
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
