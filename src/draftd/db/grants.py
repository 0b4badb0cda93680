"""The SQL that ``draftd grants`` prints: exactly the rights that a client and a daemon need.

Owns which role gets which rights and row security policies. The guard in the migrations restricts all other roles, whatever they
were granted. Invariants: the SQL revokes every right on every table first; it is one transaction, and applying it again changes
nothing; the caller's input appears in it only as quoted identifiers.
"""

import hashlib
from collections.abc import Iterable, Iterator

from psycopg import sql

from draftd.errors import UsageError

MAX_NAME_BYTES = 63
"""PostgreSQL truncates longer identifiers."""
_NOT_A_ROLE = {"public", "none"}
"""Keywords for PostgreSQL, even when quoted."""

CLIENT_COLUMNS = (
    "requester_id", "agent", "image_urls", "context", "options", "parent_id", "available_at", "expires_at",
    "idempotency_key", "max_attempts", "traceparent", "metadata",
)  # fmt: skip
TRUSTED_COLUMNS = ("id", "priority")
"""A client that sets priorities can starve others; one that chooses ids can find out which exist."""
FUNCTIONS = (
    "create_draft_request(jsonb)", "cancel_draft_request(uuid)", "draft_request_wait(uuid)",
    "draft_request_wait_of(uuid, timestamptz)",
)  # fmt: skip
RESERVE_CALL = (
    "draft_reserve_call(uuid, bigint, smallint, smallint, text, text, uuid, numeric, numeric, numeric, integer, bigint, "
    "float8, timestamptz)"
)
WORKER_FUNCTIONS = (
    "draft_admit(text[], text[], integer, text)", "draft_apply_limits(text)", "draft_agent_states()", "draftd_demand()",
    "draft_requester_blocked_until(text)", RESERVE_CALL, "draft_claim_room(text, text[], integer)",
    "draft_model_room(text, bigint, timestamptz)", "draft_release_call(uuid, bigint, smallint)",
    "draft_charge_lost(timestamptz)", "draft_budget_until(text, timestamptz)",
    "draft_fail_unpayable(text[], text, text, jsonb)", "draft_budgets()",
)  # fmt: skip
"""In addition to those for clients. They have the owner's rights, so that a worker cannot change what was reserved or spent."""
TRUSTED_FUNCTIONS = ("forget_draft_requester(text)",)
"""Deletes any requester's data, past row security."""
WORKER_TYPE = "draft_worker"
"""The guard treats a role as a worker if it may use this type."""
TRUSTED_TYPE = "draft_trusted"
"""``forget_draft_requester`` obeys a role if it may use this type."""

FEEDBACK_INSERT = "INSERT (request_id, option, sent_text, outcome, rating)"
"""All else of a row of feedback is filled in by the database."""
CLIENT_RIGHTS = {
    "draft_feedback": f"SELECT, {FEEDBACK_INSERT}",
    "draft_profiles": "SELECT, INSERT, UPDATE, DELETE",
}
"""In addition to those on ``draft_requests``."""
WORKER_RIGHTS = {
    "draft_requests": "SELECT, INSERT, UPDATE, DELETE",
    "draft_workers": "SELECT, INSERT, UPDATE, DELETE",
    "draft_holds": "SELECT, INSERT, UPDATE, DELETE",
    "draft_throttles": "SELECT, INSERT, UPDATE, DELETE",
    "draft_pauses": "SELECT, INSERT, UPDATE, DELETE",
    "draft_limits": "SELECT",
    "draft_usage": "SELECT, INSERT",
    "draft_pictures": "SELECT, INSERT, UPDATE, DELETE",
    "draft_agents": "SELECT",
    "draft_models": "SELECT",
    "draft_settings": "SELECT",
    "draft_reservations": "SELECT",
    "draft_spending": "SELECT",
    "draft_feedback": f"SELECT, {FEEDBACK_INSERT}, UPDATE (score_at), DELETE",
    "draft_profiles": "SELECT",
    "draftd_alembic_version": "SELECT",
}
"""The rights that ``draftd run`` and the commands need. Only the owner may choose models, set limits and change
the fleet's settings."""
OWN_TABLES = ("draft_turnstiles",)
"""Tables that only triggers use."""
TABLES = tuple(sorted({*CLIENT_RIGHTS, *WORKER_RIGHTS, *OWN_TABLES}))

_EVERY_ROW = {"all": "FOR ALL TO {role} USING (true) WITH CHECK (true)"}
_NO_CHANGE_BUT_CANCEL = {
    "read": "FOR SELECT TO {role} USING (true)",
    "insert": "FOR INSERT TO {role} WITH CHECK (true)",
    "cancel": "FOR UPDATE TO {role} USING (status IN ('pending', 'processing')) WITH CHECK (status = 'cancelled')",
}


def backend(*, schema: str, client: str | None, worker: str | None, trusted: bool) -> str:
    """Return the SQL for an app's server, and for daemons that do not connect as the owner.

    Args:
        schema: the schema of the tables.
        client: the app's role, or None.
        worker: the daemons' role, or None.
        trusted: whether the client may choose ids and priorities, and forget requesters.

    Raises:
        UsageError: a name is invalid, or both roles are the same.
    """
    if client == worker:
        raise UsageError("give --client, --worker or both, as two different roles")
    home = _quoted(schema, "--schema")
    lines = [
        "-- Exactly the rights that these roles need on draftd's tables. Replaces any rights they had on them.",
        "-- Apply as the owner of the tables. Applying it again changes nothing.",
        "BEGIN;",
        "SET LOCAL lock_timeout = '5s';",
        "SET LOCAL client_min_messages = warning;",
    ]
    if client is not None:
        lines += _client(_Role(client, "--client", home), trusted=trusted)
    if worker is not None:
        lines += _worker(_Role(worker, "--worker", home))
    return "\n".join([*lines, "", "COMMIT;", ""])


class _Role:
    """Writes the statements that grant rights to one role."""

    def __init__(self, name: str, option: str, home: str) -> None:
        if name in _NOT_A_ROLE or name.startswith("pg_"):
            raise UsageError(f"{option}: {name!r} is a reserved role")
        self._quoted = _quoted(name, option)
        self._name = name
        self._home = home

    def begin(self) -> Iterator[str]:
        """Revoke every earlier grant; grant access to the schema."""
        yield f"REVOKE ALL ON {', '.join(f'{self._home}.{table}' for table in TABLES)} FROM {self._quoted};"
        functions = self._functions((*FUNCTIONS, *WORKER_FUNCTIONS, *TRUSTED_FUNCTIONS))
        yield f"REVOKE ALL ON FUNCTION {functions} FROM {self._quoted};"
        yield f"REVOKE ALL ON TYPE {self._home}.{WORKER_TYPE}, {self._home}.{TRUSTED_TYPE} FROM {self._quoted};"
        for table in TABLES:
            for purpose in (*_EVERY_ROW, *(_NO_CHANGE_BUT_CANCEL if table == "draft_requests" else ())):
                yield f"DROP POLICY IF EXISTS {self._policy(purpose)} ON {self._home}.{table};"
        yield f"GRANT USAGE ON SCHEMA {self._home} TO {self._quoted};"

    def table(self, table: str, rights: str, policies: dict[str, str] = _EVERY_ROW) -> Iterator[str]:
        """Grant rights on a table, and policies for the rows they apply to."""
        yield f"GRANT {rights} ON {self._home}.{table} TO {self._quoted};"
        for purpose, terms in policies.items():
            what = terms.format(role=self._quoted)
            yield f"CREATE POLICY {self._policy(purpose)} ON {self._home}.{table} {what};"

    def functions(self, names: Iterable[str]) -> str:
        """Grant functions."""
        return f"GRANT EXECUTE ON FUNCTION {self._functions(names)} TO {self._quoted};"

    def marked(self, type_name: str) -> str:
        """Make the role a worker, or a trusted one."""
        return f"GRANT USAGE ON TYPE {self._home}.{type_name} TO {self._quoted};"

    def _functions(self, names: Iterable[str]) -> str:
        return ", ".join(f"{self._home}.{one}" for one in names)

    def _policy(self, purpose: str) -> str:
        """Return a policy's name, distinct even for long role names with the same prefix."""
        name = f"draftd {purpose}: {self._name}"
        if len(name.encode()) > MAX_NAME_BYTES:
            name = f"draftd {purpose}: {hashlib.sha256(self._name.encode()).hexdigest()[:32]}"
        return sql.Identifier(name).as_string()


def _client(role: _Role, *, trusted: bool) -> Iterator[str]:
    yield ""
    yield "-- The client may insert, read, refine and cancel all requesters' requests, rate drafts and keep profiles."
    yield "-- It is a server that acts for all of them. Never give this role to a browser or a phone."
    yield from role.begin()
    if trusted:
        yield "-- It may also set id and priority, and delete everything stored of a requester (forget_draft_requester)."
        yield "-- A client that sets priorities can starve others."
    columns = ", ".join((*TRUSTED_COLUMNS, *CLIENT_COLUMNS) if trusted else CLIENT_COLUMNS)
    yield from role.table(
        "draft_requests", f"SELECT, INSERT ({columns}), UPDATE (status)", policies=_NO_CHANGE_BUT_CANCEL
    )
    for table, rights in CLIENT_RIGHTS.items():
        yield from role.table(table, rights)
    yield role.functions(FUNCTIONS)
    if trusted:
        yield role.functions(TRUSTED_FUNCTIONS)
        yield role.marked(TRUSTED_TYPE)


def _worker(role: _Role) -> Iterator[str]:
    yield ""
    yield "-- The worker runs draftd run and every command except the owner's: migrate, forget, and those that set and unset."
    yield from role.begin()
    yield "-- This makes it a worker: the guard on draft_requests lets it write what daemons write."
    yield role.marked(WORKER_TYPE)
    for table, rights in WORKER_RIGHTS.items():
        yield from role.table(table, rights)
    yield role.functions((*FUNCTIONS, *WORKER_FUNCTIONS))


def _quoted(name: str, option: str) -> str:
    """Return a name as an SQL identifier.

    Raises:
        UsageError: it is not a valid name in PostgreSQL, or not printable.
    """
    if not name.isprintable() or not 0 < len(name.encode()) <= MAX_NAME_BYTES:
        raise UsageError(f"{option}: {name!r} is not a valid name; PostgreSQL names have 1 to {MAX_NAME_BYTES} bytes")
    return sql.Identifier(name).as_string()
