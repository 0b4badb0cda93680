"""Private by default: row security on, every right of strangers revoked, no function follows its caller's search_path."""

from alembic import op

from draftd.db.private import keep_private

revision = "0019"
down_revision = "0018c"
branch_labels = None
depends_on = None

TABLES = (
    "draft_requests", "draft_pictures", "draft_workers", "draft_agents", "draft_models", "draft_holds", "draft_throttles",
    "draft_usage", "draft_feedback", "draft_profiles", "draft_settings", "draftd_alembic_version",
)  # fmt: skip
SEQUENCES = ("draft_usage_id_seq", "draft_feedback_id_seq")
FUNCTIONS = (
    "create_draft_request(jsonb)", "cancel_draft_request(uuid)", "draft_nulls_are_defaults()",
    "draft_requests_default_expiry(timestamptz)", "draft_requests_begin()", "draft_requests_check_shape()",
    "draft_requests_take_turn()", "draft_requests_finish()", "draft_requests_without_pictures(text[])",
    "draft_requests_requeue()", "draft_requests_forget_pictures()", "draft_requests_ring()", "draft_requests_announce()",
    "draft_requests_guard()", "draft_feedback_begin()",
)  # fmt: skip


def upgrade() -> None:
    op.execute(keep_private(tables=TABLES, sequences=SEQUENCES, functions=FUNCTIONS))


def downgrade() -> None:
    """Leave it as it is: what was closed is not opened on the way down."""
