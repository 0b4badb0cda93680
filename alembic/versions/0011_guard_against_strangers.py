"""Let strangers change nothing of a request but its cancellation, whatever they have been granted."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

UPGRADE = r"""
-- A mark and nothing else: the right to use this type is what makes a role a worker (draftd grants --worker). It is a right,
-- because rights are the owner's to give, members inherit them, and asking costs 0.3 us; a list in a table cost 20 us for each
-- row of each renewal. It is a type's, because GRANT ... ON ALL covers tables, sequences and functions, and no types.
CREATE DOMAIN draft_worker AS text;
COMMENT ON DOMAIN draft_worker IS 'a role with USAGE may write draft_requests as a daemon does';

-- Only a cancellation is looked at as a whole, because that reads the pictures.
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

-- Private by default, like everything of draftd.
DO $$
DECLARE
    stranger text;
BEGIN
    EXECUTE format('ALTER FUNCTION draft_requests_guard() SET search_path = %I, pg_temp', current_schema());
    FOR stranger IN
        SELECT 'public' UNION ALL SELECT quote_ident(rolname) FROM pg_roles WHERE rolname IN ('anon', 'authenticated')
    LOOP
        EXECUTE format('REVOKE ALL ON TYPE draft_worker FROM %s', stranger);
        EXECUTE format('REVOKE ALL ON FUNCTION draft_requests_guard() FROM %s', stranger);
    END LOOP;
    -- Somebody's default privileges for types must not make workers.
    FOR stranger IN
        SELECT DISTINCT CASE g.grantee WHEN 0 THEN 'public' ELSE quote_ident(pg_get_userbyid(g.grantee)) END
          FROM pg_type AS t, aclexplode(t.typacl) AS g WHERE t.oid = 'draft_worker'::regtype AND g.grantee <> t.typowner
    LOOP
        EXECUTE format('REVOKE ALL ON TYPE draft_worker FROM %s', stranger);
    END LOOP;
END $$;
"""

DOWNGRADE = r"""
DROP TRIGGER "00_draft_requests_guard_truncate" ON draft_requests;
DROP TRIGGER "00_draft_requests_guard" ON draft_requests;
DROP FUNCTION draft_requests_guard();
DROP DOMAIN draft_worker;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
