"""Private by default: row security on, every right of strangers revoked."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

UPGRADE = r"""
-- PUBLIC holds EXECUTE on new functions; hosts such as Supabase give anon and authenticated everything on new tables.
DO $$
DECLARE
    stranger text;
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['draft_requests', 'draft_workers', 'model_configs', 'model_holds',
                                'draft_usage', 'draft_feedback', 'draft_profiles', 'draftd_alembic_version'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    END LOOP;
    FOR stranger IN
        SELECT 'public' UNION ALL SELECT quote_ident(rolname) FROM pg_roles WHERE rolname IN ('anon', 'authenticated')
    LOOP
        FOREACH name IN ARRAY ARRAY['draft_requests', 'draft_workers', 'model_configs', 'model_holds',
                                'draft_usage', 'draft_feedback', 'draft_profiles', 'draftd_alembic_version'] LOOP
            EXECUTE format('REVOKE ALL ON TABLE %I FROM %s', name, stranger);
        END LOOP;
        FOREACH name IN ARRAY ARRAY['draft_usage_id_seq', 'draft_feedback_id_seq'] LOOP
            EXECUTE format('REVOKE ALL ON SEQUENCE %I FROM %s', name, stranger);
        END LOOP;
        FOREACH name IN ARRAY ARRAY['create_draft_request(jsonb)', 'cancel_draft_request(uuid)',
                                    'draft_requests_check_shape()', 'draft_requests_take_turn()',
                                    'draft_requests_finish()',
                                    'draft_requests_without_pictures(text[])', 'draft_requests_requeue()',
                                    'draft_requests_ring()', 'draft_requests_announce()'] LOOP
            EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', name, stranger);
        END LOOP;
    END LOOP;
END $$;
"""

DOWNGRADE = r"""
-- Rights that were revoked are not given back: a downgrade must not open what was closed.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['draft_requests', 'draft_workers', 'model_configs', 'model_holds',
                                'draft_usage', 'draft_feedback', 'draft_profiles', 'draftd_alembic_version'] LOOP
        EXECUTE format('ALTER TABLE %I DISABLE ROW LEVEL SECURITY', name);
    END LOOP;
END $$;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
