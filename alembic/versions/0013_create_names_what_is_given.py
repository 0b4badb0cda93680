"""Let create_draft_request name the columns that are given and no other, so that the caller's column rights hold."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# CREATE OR REPLACE keeps who may execute the function; it does not keep its search_path.
UPGRADE = r"""
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
                     'available_at', 'expires_at', 'idempotency_key', 'max_attempts', 'metadata');
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

DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION create_draft_request(jsonb) SET search_path = %I, pg_temp', current_schema());
END $$;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    earlier = op.get_context().environment_context.script.get_revision("0005").module.UPGRADE
    op.execute(earlier.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
