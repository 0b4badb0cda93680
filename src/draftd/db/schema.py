"""The tables of section 1 of the contract, for Alembic and for clients' SQLAlchemy code.

Owns columns, constraints, indexes and storage parameters; ``alembic check`` compares them with the database. Triggers, functions
and row security are in the migrations only. draftd's own statements do not use this module: they are SQL files in the packages.
"""

from sqlalchemy import (
    ARRAY,
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from draftd.db.descriptions import COLUMNS, TABLES
from draftd.status import STATUSES

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)

_NOW = text("now()")
_REQUESTER = "(current)"
"""Stands for ``draft_current_requester()``, which a trigger fills in: drizzle-kit cannot copy an expression or an empty text."""
_EMPTY_OBJECT = text("'{}'::jsonb")
_EMPTY_LIST = text("'[]'::jsonb")


def _time(name: str, *, default: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=not default, server_default=_NOW if default else None)


draft_requests = Table(
    "draft_requests",
    metadata,
    Column("id", Uuid, primary_key=True, server_default=text("gen_random_uuid()")),
    Column("requester_id", Text, nullable=False, server_default=_REQUESTER),
    Column("agent", Text, nullable=False, server_default="comment_generator"),
    Column("image_urls", ARRAY(Text), nullable=False, server_default=text("'{}'::text[]")),
    Column("context", Text),
    Column("options", JSONB, nullable=False, server_default=_EMPTY_OBJECT),
    Column("parent_id", Uuid),
    Column("priority", SmallInteger, nullable=False, server_default=text("0")),
    _time("available_at", default=True),
    _time("expires_at"),
    Column("idempotency_key", Text),
    Column("max_attempts", SmallInteger, nullable=False, server_default=text("5")),
    Column("metadata", JSONB, nullable=False, server_default=_EMPTY_OBJECT),
    Column("status", Text, nullable=False, server_default="pending"),
    Column("attempt", SmallInteger, nullable=False, server_default=text("0")),
    Column("lease_token", BigInteger, nullable=False, server_default=text("0")),
    _time("lease_until"),
    _time("deadline_at"),
    Column("worker_id", Uuid),
    Column("turn", BigInteger, nullable=False, server_default=text("0")),
    Column("partial_result", JSONB),
    Column("result", JSONB),
    Column("reading", JSONB),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("errors", JSONB, nullable=False, server_default=_EMPTY_LIST),
    Column("images", JSONB),
    Column("model", Text),
    Column("prompt_version", Text),
    Column("input_tokens", Integer),
    Column("output_tokens", Integer),
    Column("cost_usd", Numeric(12, 6)),
    Column("trace_id", Text),
    _time("created_at", default=True),
    _time("claimed_at"),
    _time("finished_at"),
    _time("updated_at", default=True),
    Column("given_back", SmallInteger, nullable=False, server_default=text("0")),
    Column("traceparent", Text),
    Column("error_details", JSONB),
    Column("limited", Boolean, nullable=False, server_default=text("false")),
    Column("first_option_at", DateTime(timezone=True)),
    CheckConstraint(text(f"status IN {STATUSES}"), name="status"),
    CheckConstraint(text("(status = 'completed') = (result IS NOT NULL)"), name="result"),
    UniqueConstraint("requester_id", "idempotency_key"),
    Index(
        "draft_requests_claim_idx",
        text("agent"),
        text("priority DESC"),
        text("turn"),
        text("available_at"),
        text("id"),
        postgresql_where=text("status = 'pending' AND NOT limited"),
    ),
    # The second condition is true of every row, but the planner uses the index only for queries that repeat it: not for the
    # claim.
    Index(
        "draft_requests_turn_idx",
        text("requester_id"),
        text("agent"),
        text("priority"),
        text("turn DESC"),
        postgresql_where=text("status = 'pending' AND NOT limited AND requester_id >= ''"),
    ),
    Index(
        "draft_requests_limited_idx",
        text("requester_id"),
        text("agent"),
        text("priority DESC"),
        text("available_at"),
        text("id"),
        postgresql_where=text("status = 'pending' AND limited"),
    ),
    Index(
        "draft_requests_expires_at_idx",
        "expires_at",
        postgresql_where=text("status = 'pending' AND expires_at IS NOT NULL"),
    ),
    # Not on lease_until: with an index on a column that renewals write, no renewal would be a heap-only update.
    Index(
        "draft_requests_processing_idx",
        "requester_id",
        "deadline_at",
        postgresql_where=text("status = 'processing'"),
    ),
    Index("draft_requests_created_at_idx", "created_at"),
    Index("draft_requests_parent_id_idx", "parent_id", postgresql_where=text("parent_id IS NOT NULL")),
)

draft_pictures = Table(
    "draft_pictures",
    metadata,
    Column("request_id", Uuid, ForeignKey("draft_requests.id", ondelete="CASCADE"), primary_key=True),
    Column("position", SmallInteger, primary_key=True),
    Column("url_sha256", LargeBinary, nullable=False),
    Column("facts", JSONB, nullable=False),
    Column("data", LargeBinary, nullable=False),
    _time("created_at", default=True),
)

draft_workers = Table(
    "draft_workers",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("hostname", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("version", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("agents", ARRAY(Text), nullable=False, server_default=text("'{}'::text[]")),
    Column("concurrency", Integer, nullable=False),
    Column("in_flight", Integer, nullable=False, server_default=text("0")),
    _time("started_at", default=True),
    _time("heartbeat_at", default=True),
    Column("beat_s", REAL, nullable=False, server_default=text("4")),
    Column("attempt_s", REAL),
    Column("models", JSONB, nullable=False, server_default=_EMPTY_OBJECT),
    CheckConstraint(text("state IN ('running', 'draining', 'stopped')"), name="state"),
)

draft_agents = Table(
    "draft_agents",
    metadata,
    Column("agent", Text, primary_key=True),
    Column("model", Text, nullable=False),
    Column("fallback_models", ARRAY(Text), nullable=False, server_default=text("'{}'::text[]")),
    Column("params", JSONB, nullable=False, server_default=_EMPTY_OBJECT),
    _time("updated_at", default=True),
)

draft_models = Table(
    "draft_models",
    metadata,
    Column("name", Text, primary_key=True),
    Column("model", Text),
    Column("api_base", Text),
    Column("api_key_env", Text),
    Column("params", JSONB, nullable=False, server_default=_EMPTY_OBJECT),
    Column("input_usd_per_mtok", Numeric),
    Column("output_usd_per_mtok", Numeric),
    _time("updated_at", default=True),
    Column("cached_input_usd_per_mtok", Numeric),
    Column("rpm", Integer),
    Column("tpm", Integer),
    Column("max_in_flight", Integer),
    # Not NaN either, which PostgreSQL sorts above every number.
    CheckConstraint(text("input_usd_per_mtok BETWEEN 0 AND 10000"), name="input_usd_per_mtok"),
    CheckConstraint(text("output_usd_per_mtok BETWEEN 0 AND 10000"), name="output_usd_per_mtok"),
    CheckConstraint(text("cached_input_usd_per_mtok BETWEEN 0 AND 10000"), name="cached_input_usd_per_mtok"),
    CheckConstraint(text("(input_usd_per_mtok IS NULL) = (output_usd_per_mtok IS NULL)"), name="prices"),
    CheckConstraint(text("rpm BETWEEN 1 AND 1000000"), name="rpm"),
    CheckConstraint(text("tpm BETWEEN 1 AND 2000000000"), name="tpm"),
    CheckConstraint(text("max_in_flight BETWEEN 1 AND 100000"), name="max_in_flight"),
)

draft_holds = Table(
    "draft_holds",
    metadata,
    Column("model", Text, primary_key=True),
    Column("code", Text, nullable=False),
    _time("since", default=True),
    _time("until", default=True),
    Column("reason", Text, nullable=False, server_default="unknown"),
    Column("failures", Integer, nullable=False, server_default=text("1")),
    Column("probing", Boolean, nullable=False, server_default=text("false")),
    Column("used_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
)

draft_pauses = Table(
    "draft_pauses",
    metadata,
    Column("what", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("by", Text, nullable=False),
    _time("since", default=True),
    CheckConstraint(text("what IN ('all', 'model', 'requester')"), name="what"),
    CheckConstraint(text("what <> 'all' OR name = ''"), name="name"),
)

draft_limits = Table(
    "draft_limits",
    metadata,
    Column("requester_id", Text, primary_key=True),
    Column("max_pending", Integer),
    Column("max_in_flight", Integer),
    Column("usd_per_day", Numeric),
    CheckConstraint(text("max_pending BETWEEN 0 AND 10000000"), name="max_pending"),
    CheckConstraint(text("max_in_flight BETWEEN 0 AND 10000000"), name="max_in_flight"),
    CheckConstraint(text("usd_per_day BETWEEN 0 AND 1000000"), name="usd_per_day"),
)

draft_turnstiles = Table(
    "draft_turnstiles",
    metadata,
    Column("requester_id", Text, primary_key=True),
    Column("at_most", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False, server_default=text("0")),
)

draft_throttles = Table(
    "draft_throttles",
    metadata,
    Column("model", Text, primary_key=True),
    Column("share", REAL, nullable=False, server_default=text("0.5")),
    Column("bursts", Integer, nullable=False, server_default=text("1")),
    _time("since", default=True),
    _time("changed_at", default=True),
)

draft_usage = Table(
    "draft_usage",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("request_id", Uuid, nullable=False),
    Column("requester_id", Text, nullable=False),
    Column("attempt", SmallInteger, nullable=False),
    Column("lease_token", BigInteger, nullable=False),
    Column("call", SmallInteger, nullable=False),
    Column("model", Text, nullable=False),
    Column("code", Text),
    Column("input_tokens", Integer),
    Column("output_tokens", Integer),
    Column("cost_usd", Numeric(12, 6)),
    Column("elapsed_s", Numeric(10, 3)),
    Column("trace_id", Text),
    _time("created_at", default=True),
    Column("cached_tokens", Integer),
    # Makes recording idempotent: a write is repeated when its connection is lost.
    UniqueConstraint("request_id", "lease_token", "call"),
    Index("draft_usage_requester_id_idx", "requester_id"),
    Index("draft_usage_answered_idx", "model", "created_at", postgresql_where=text("code IS NULL")),
    Index("draft_usage_created_at_idx", "created_at", postgresql_using="brin"),
)

draft_reservations = Table(
    "draft_reservations",
    metadata,
    Column("request_id", Uuid, primary_key=True),
    Column("lease_token", BigInteger, primary_key=True, autoincrement=False),
    Column("call", SmallInteger, primary_key=True, autoincrement=False),
    Column("send", SmallInteger, primary_key=True, autoincrement=False, server_default=text("1")),
    Column("requester_id", Text),
    Column("model", Text, nullable=False),
    Column("worker_id", Uuid, nullable=False),
    Column("day", Date),
    Column("usd", Numeric(14, 6), nullable=False),
    Column("prompt_usd", Numeric(14, 6), nullable=False),
    Column("output_usd", Numeric(14, 6), nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("estimate", BigInteger, nullable=False),
    Column("began_at", DateTime(timezone=True), nullable=False),
    Column("ends_at", DateTime(timezone=True), nullable=False),
    _time("settled_at"),
    Column("guessed", Boolean, nullable=False, server_default=text("false")),
    Column("charged_usd", Numeric(14, 6)),
    Column("tokens", BigInteger),
    Index("draft_reservations_began_at_idx", "model", "began_at"),
    Index("draft_reservations_open_idx", "model", postgresql_where=text("settled_at IS NULL")),
    Index("draft_reservations_settled_at_idx", "settled_at"),
    Index("draft_reservations_guessed_idx", "ends_at", postgresql_where=text("guessed")),
)

draft_spending = Table(
    "draft_spending",
    metadata,
    Column("day", Date, primary_key=True),
    Column("payer", Text, primary_key=True),
    Column("requester_id", Text, primary_key=True),
    Column("spent", Numeric(16, 6), nullable=False, server_default=text("0")),
    Column("reserved", Numeric(16, 6), nullable=False, server_default=text("0")),
    Column("calls", Integer, nullable=False, server_default=text("0")),
    Column("asked", Numeric(16, 6), nullable=False, server_default=text("0")),
    Column("refused", Numeric(16, 6)),
    CheckConstraint(text("payer IN ('fleet', 'requester')"), name="payer"),
)

draft_feedback = Table(
    "draft_feedback",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("request_id", Uuid, ForeignKey("draft_requests.id", ondelete="SET NULL"), index=True),
    Column("option", Text),
    Column("sent_text", Text),
    Column("rating", SmallInteger),
    _time("created_at", default=True),
    Column("requester_id", Text, nullable=False, server_default=_REQUESTER),
    Column("outcome", Text),
    Column("platform", Text),
    Column("author", Text),
    Column("drafted_text", Text),
    Column("similarity", REAL),
    Column("angle", Text),
    Column("stance", Text),
    Column("agent", Text),
    Column("prompt_version", Text),
    Column("trace_id", Text),
    Column("score_at", DateTime(timezone=True)),
    Index("draft_feedback_created_at_idx", "created_at"),
    Index("draft_feedback_requester_id_created_at_idx", "requester_id", "created_at"),
    Index("draft_feedback_score_at_idx", "score_at", postgresql_where=text("score_at IS NOT NULL")),
    CheckConstraint(text("option IN ('short', 'medium', 'detailed')"), name="option"),
    CheckConstraint(text("outcome IN ('sent', 'edited', 'rejected')"), name="outcome"),
    CheckConstraint(text("rating IN (-1, 1)"), name="rating"),
)

draft_profiles = Table(
    "draft_profiles",
    metadata,
    Column("requester_id", Text, primary_key=True, server_default=_REQUESTER),
    Column("me", Text),
    Column("about", Text),
    Column("facts", ARRAY(Text), nullable=False, server_default=text("'{}'::text[]")),
    Column("signature", Text),
    Column("voice_samples", ARRAY(Text), nullable=False, server_default=text("'{}'::text[]")),
    Column("reader_language", Text),
)

draft_settings = Table(
    "draft_settings",
    metadata,
    Column("id", Boolean, primary_key=True, server_default=text("true")),
    Column("default_expiry_s", Integer, nullable=False, server_default=text("21600")),
    Column("retention_days", Integer, nullable=False, server_default=text("0")),
    Column("feedback_retention_days", Integer, nullable=False, server_default=text("0")),
    Column("voice_learning", Boolean, nullable=False, server_default=text("false")),
    CheckConstraint(text("id"), name="id"),
    CheckConstraint(text("default_expiry_s BETWEEN 0 AND 315360000"), name="default_expiry_s"),
    CheckConstraint(text("retention_days BETWEEN 0 AND 36500"), name="retention_days"),
    CheckConstraint(text("feedback_retention_days BETWEEN 0 AND 36500"), name="feedback_retention_days"),
    Column("usd_per_day", Numeric),
    # Not NaN either, which PostgreSQL sorts above every number.
    CheckConstraint(text("usd_per_day BETWEEN 0 AND 1000000"), name="usd_per_day"),
    Column("schema_revision", Text, nullable=False),
)

for _table in metadata.tables.values():
    _table.comment = TABLES[_table.name]
    for _column in _table.columns:
        _column.comment = COLUMNS[_table.name][_column.name]
