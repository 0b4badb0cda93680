"""The SQL that ``draftd grants`` prints: exactly the rights that servers, end users and daemons need.

Owns which role gets which rights and row security policies. The guard in the migrations restricts all other roles, whatever they
were granted. Invariants: the SQL revokes every right on every table first; it is one transaction, and applying it again changes
nothing; the caller's input appears in it only as quoted identifiers and literals.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping

from psycopg import sql

from draftd.db.table_locks import lock_tables
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
    "create_draft_request(jsonb)", "cancel_draft_request(uuid)", "draft_current_requester()", "draft_request_wait(uuid)",
    "draft_request_wait_of(uuid, timestamptz)",
)  # fmt: skip
RESERVE_CALL = (
    "draft_reserve_call(uuid, bigint, smallint, smallint, text, text, uuid, numeric, numeric, numeric, integer, bigint, "
    "float8, timestamptz)"
)
WORKER_FUNCTIONS = (
    "draft_admit(text[], text[], integer, text)", "draft_apply_limits(text)", "draft_agent_states()", "draftd_demand()",
    "draft_anyone_waits()", "draft_requester_blocked_until(text)", RESERVE_CALL, "draft_claim_room(text, text[], integer)",
    "draft_model_room(text, bigint, timestamptz)", "draft_release_call(uuid, bigint, smallint)",
    "draft_charge_lost(timestamptz)", "draft_budget_until(text, timestamptz)",
    "draft_fail_unpayable(text[], text, text, jsonb)", "draft_budgets()", "draft_prune_turnstiles(integer)",
)  # fmt: skip
"""In addition to those for clients. They have the owner's rights, so that a worker cannot change what was reserved or spent."""
TRUSTED_FUNCTIONS = ("forget_draft_requester(text)",)
"""Deletes any requester's data, past row security."""
OWN_FUNCTIONS = (
    "draft_budget_of(text)", "draft_check_worker()", "draft_forget_some(text, integer)", "draft_next_requester(boolean, text)",
    "draft_pass_turnstile(text, text, boolean)", "draft_requester_fits(text, boolean)",
    "draft_requester_room(text)", "draft_requester_waits(text, boolean)", "draft_requests_default_expiry(timestamptz)",
    "draft_requests_without_pictures(text[])", "draft_reservation_guess(draft_reservations)",
    "draft_set_limited(uuid[], boolean)", "draft_spending_add(date, text, numeric, numeric, numeric)",
    "draft_spending_begin(date)", "draft_text_similarity(text, text)",
)  # fmt: skip
"""Functions that only triggers and other functions call."""
ALL_FUNCTIONS = (*FUNCTIONS, *WORKER_FUNCTIONS, *TRUSTED_FUNCTIONS, *OWN_FUNCTIONS)
VIEW = "draft_replies"
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
USER_COLUMNS = (
    "requester_id", "image_urls", "context", "options", "parent_id", "idempotency_key", "expires_at", "metadata", "traceparent",
)  # fmt: skip
"""What an end user may set."""
USER_READS = (
    "id", "agent", "status", "partial_result", "result", "error_code", "error_message", "error_details", "attempt", "created_at",
    "claimed_at", "finished_at", "updated_at",
)  # fmt: skip
"""What an end user may read, beside what it may set; not its pictures, which weigh megabytes. The view has these columns."""
USER_MAX_PENDING = 20
"""Where nobody has set a limit: without any, one INSERT of 10,000 rows is as many paid drafts."""
USER_READS_FEEDBACK = (
    "id", "request_id", "requester_id", "option", "sent_text", "outcome", "rating", "platform", "author", "drafted_text",
    "angle", "stance", "similarity", "created_at",
)  # fmt: skip
WORKER_RIGHTS = {
    "draft_requests": "SELECT, INSERT, UPDATE, DELETE",
    "draft_workers": "SELECT, INSERT, UPDATE, DELETE",
    "draft_holds": "SELECT, INSERT, UPDATE, DELETE",
    "draft_throttles": "SELECT, INSERT, UPDATE, DELETE",
    "draft_pauses": "SELECT, INSERT, UPDATE, DELETE",
    "draft_limits": "SELECT",
    "draft_usage": "SELECT, INSERT",
    "draft_pictures": "SELECT, INSERT, UPDATE",
    "draft_agents": "SELECT",
    "draft_models": "SELECT",
    "draft_settings": "SELECT",
    "draft_spending": "SELECT",
    "draft_feedback": f"SELECT, {FEEDBACK_INSERT}, UPDATE (score_at), DELETE",
    "draft_profiles": "SELECT",
    "draftd_alembic_version": "SELECT",
}
"""The rights that ``draftd run`` and the commands need. Only the owner may choose models, set limits and change
the fleet's settings."""
OWN_TABLES = ("draft_reservations", "draft_turnstiles")
"""Tables that only triggers and functions use."""
OWN_SEQUENCES = ("draft_feedback_id_seq", "draft_limits_epoch", "draft_usage_id_seq")
"""Whoever may set one can make inserts fail."""
TABLES = tuple(sorted({*CLIENT_RIGHTS, *WORKER_RIGHTS, *OWN_TABLES}))

_EVERY_ROW = {"all": "FOR ALL TO {role} USING (true) WITH CHECK (true)"}
_READ = {"read": "FOR SELECT TO {role} USING (true)"}
_NO_CHANGE_BUT_CANCEL = _READ | {
    "insert": "FOR INSERT TO {role} WITH CHECK (true)",
    "cancel": "FOR UPDATE TO {role} USING (status IN ('pending', 'processing')) WITH CHECK (status = 'cancelled')",
}
_DELETE = {"delete": "FOR DELETE TO {role} USING (status IN ('completed', 'failed', 'cancelled'))"}
_OWN = {
    "own": """AS RESTRICTIVE FOR ALL TO {role}
    USING (requester_id = (SELECT {home}.draft_current_requester()) AND requester_id <> '')"""
}
"""However many other policies, an app's own included, allow a role more rows."""
_PURPOSES = (*_EVERY_ROW, *_NO_CHANGE_BUT_CANCEL, *_DELETE, *_OWN)
_REVOKE_TRIGGERS = """
DECLARE
    one regprocedure;
BEGIN
    -- With one, a role could make a trigger on a table of its own that does there what it does here, with the owner's rights.
    FOR one IN
        SELECT p.oid FROM pg_proc AS p JOIN pg_class AS c ON c.oid = {requests}::regclass
         WHERE p.pronamespace = c.relnamespace AND p.proowner = c.relowner AND p.prorettype = 'trigger'::regtype
           AND starts_with(p.proname, 'draft')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', one, {losers});
    END LOOP;
END"""
_DROP_POLICIES = """
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT p.polname AS name, p.polrelid::regclass AS relation FROM pg_policy AS p
         WHERE p.polname IN ({names})
           AND p.polrelid IN ({tables})
    LOOP
        EXECUTE format('DROP POLICY %I ON %s', one.name, one.relation);
    END LOOP;
END"""


def backend(*, schema: str, client: str | None, worker: str | None, trusted: bool, identity: str | None = None) -> str:
    """Return the SQL for an app's server, and for daemons that do not connect as the owner.

    Args:
        schema: the schema of the tables.
        client: the app's role, or None.
        worker: the daemons' role, or None.
        trusted: whether the client may choose ids and priorities, and forget requesters.
        identity: an SQL expression for the requester that the client acts for; the client then is an end user, with that
            requester's rows only. None: it acts for all requesters.

    Raises:
        UsageError: a name or the expression is invalid, or both roles are the same.
    """
    if client == worker:
        raise UsageError("give --client, --worker or both, as two different roles")
    home = quoted(schema, "--schema")
    lines = [*everybodys_rights(home)]
    if client is not None and identity is None:
        lines += client_rights(Role(client, "--client", home), trusted=trusted)
    elif client is not None:
        lines += [*identity_function(home, identity), *user_rights(Role(client, "--client", home), home)]
    if worker is not None:
        lines += worker_rights(Role(worker, "--worker", home))
    return script(home, lines)


def script(home: str, lines: list[str]) -> str:
    """Return statements as one transaction."""
    return "\n".join(
        [
            "-- Exactly the rights that these roles need on draftd's tables. Replaces any rights they had on them.",
            "-- Apply as the owner of the tables. Applying it again changes nothing.",
            "BEGIN;",
            "SET LOCAL lock_timeout = '5s';",
            "SET LOCAL client_min_messages = warning;",
            f"SET LOCAL search_path = {home}, pg_temp;",
            "-- Policies lock their tables; daemons may be working.",
            lock_tables(TABLES).rstrip(),
            *lines,
            "",
            "COMMIT;",
            "",
        ]
    )


def everybodys_rights(home: str) -> Iterator[str]:
    """Yield the statements that leave roles without a grant of their own without rights."""
    yield ""
    yield "-- Whoever is not named below has no rights. A restore without privileges (pg_dump -x) gives everybody some."
    yield from _revoke_all(home, "PUBLIC")


def _revoke_all(home: str, losers: str) -> Iterator[str]:
    def all_of(*names: str) -> str:
        return ", ".join(f"{home}.{one}" for one in names)

    yield f"REVOKE ALL ON {all_of(*TABLES, VIEW)} FROM {losers};"
    yield f"REVOKE ALL ON SEQUENCE {all_of(*OWN_SEQUENCES)} FROM {losers};"
    yield f"REVOKE ALL ON FUNCTION {all_of(*ALL_FUNCTIONS)} FROM {losers};"
    yield f"REVOKE ALL ON TYPE {all_of(WORKER_TYPE, TRUSTED_TYPE)} FROM {losers};"
    requests, whose = (sql.Literal(one).as_string().strip() for one in (f"{home}.draft_requests", losers))
    yield f"DO {dollar_quoted(_REVOKE_TRIGGERS.format(requests=requests, losers=whose))};"


class Role:
    """Writes the statements that grant rights to one role; ``quoted`` is its name in SQL."""

    def __init__(self, name: str, option: str, home: str) -> None:
        if name in _NOT_A_ROLE or name.startswith("pg_"):
            raise UsageError(f"{option}: {name!r} is a reserved role")
        self.quoted = quoted(name, option)
        self._name = name
        self._home = home

    def revoke(self) -> Iterator[str]:
        """Revoke every earlier grant."""
        yield from _revoke_all(self._home, self.quoted)
        names = ", ".join(sql.Literal(self._policy_name(purpose)).as_string().strip() for purpose in _PURPOSES)
        tables = ", ".join(f"{sql.Literal(f'{self._home}.{table}').as_string().strip()}::regclass" for table in TABLES)
        yield f"DO {dollar_quoted(_DROP_POLICIES.format(names=names, tables=tables))};"

    def begin(self) -> Iterator[str]:
        """Revoke every earlier grant; grant access to the schema."""
        yield from self.revoke()
        yield f"GRANT USAGE ON SCHEMA {self._home} TO {self.quoted};"

    def table(self, table: str, rights: str, policies: Mapping[str, str] = _EVERY_ROW) -> Iterator[str]:
        """Grant rights on a table, and policies for the rows they apply to."""
        yield f"GRANT {rights} ON {self._home}.{table} TO {self.quoted};"
        for purpose, terms in policies.items():
            what = terms.format(role=self.quoted, home=self._home)
            yield f"CREATE POLICY {self.policy(purpose)} ON {self._home}.{table} {what};"

    def view(self, rights: str) -> str:
        """Grant rights on the view."""
        return f"GRANT {rights} ON {self._home}.{VIEW} TO {self.quoted};"

    def functions(self, names: Iterable[str]) -> str:
        """Grant functions."""
        functions = ", ".join(f"{self._home}.{one}" for one in names)
        return f"GRANT EXECUTE ON FUNCTION {functions} TO {self.quoted};"

    def marked(self, type_name: str) -> str:
        """Make the role a worker, or a trusted one."""
        return f"GRANT USAGE ON TYPE {self._home}.{type_name} TO {self.quoted};"

    def policy(self, purpose: str) -> str:
        """Return the name of the role's policy for a purpose, in SQL."""
        return sql.Identifier(self._policy_name(purpose)).as_string()

    def _policy_name(self, purpose: str) -> str:
        """Return a policy's name, distinct even for long role names with the same prefix."""
        name = f"draftd {purpose}: {self._name}"
        if len(name.encode()) > MAX_NAME_BYTES:
            name = f"draftd {purpose}: {hashlib.sha256(self._name.encode()).hexdigest()[:32]}"
        return name


def identity_function(home: str, identity: str | None) -> Iterator[str]:
    """Yield the statement that sets the requester a transaction acts for; None leaves it as it is.

    Raises:
        UsageError: the expression is empty, or has several lines.
    """
    if identity is None:
        return
    if not identity.strip() or not identity.isprintable():
        raise UsageError("--identity takes an SQL expression on one line, such as 'auth.uid()'")
    # On a line of its own, so that a comment in it ends there.
    body = dollar_quoted(f"SELECT coalesce((\n{identity}\n)::text, '')")
    yield ""
    yield "-- The requester that a transaction acts for. draftd migrate keeps this expression."
    yield f"CREATE OR REPLACE FUNCTION {home}.draft_current_requester() RETURNS text LANGUAGE sql STABLE"
    yield f"SET search_path = {home}, pg_temp AS {body};"


def user_rights(role: Role, home: str) -> Iterator[str]:
    """Yield the rights of an end user: those on the rows of its own requester."""
    yield ""
    yield f"-- A user may have {USER_MAX_PENDING} requests waiting, unless limits are set already (draftd limits)."
    yield "-- Requests without a requester, which are a server's, are not limited."
    yield f"INSERT INTO {home}.draft_limits (requester_id, max_pending) VALUES ('*', {USER_MAX_PENDING}), ('', NULL)"
    yield "ON CONFLICT (requester_id) DO NOTHING;"
    yield ""
    yield "-- An end user may insert, read, refine and cancel requests of its own, and delete finished ones with their"
    yield "-- conversation, rate its drafts and keep its profile. It never sees costs, models, workers or another's rows."
    yield from role.begin()
    reads = ", ".join((*USER_READS, *(one for one in USER_COLUMNS if one != "image_urls")))
    yield from role.table(
        "draft_requests",
        f"SELECT ({reads}),\n    INSERT ({', '.join(USER_COLUMNS)}),\n    UPDATE (status), DELETE",
        policies=_NO_CHANGE_BUT_CANCEL | _DELETE | _OWN,
    )
    yield role.view("SELECT, DELETE")
    feedback = (
        f"SELECT ({', '.join(USER_READS_FEEDBACK)}),\n    INSERT (request_id, option, sent_text, outcome, rating)"
    )
    yield from role.table("draft_feedback", feedback, policies=_EVERY_ROW | _OWN)
    yield from role.table("draft_profiles", CLIENT_RIGHTS["draft_profiles"], policies=_EVERY_ROW | _OWN)
    yield from role.table("draft_settings", "SELECT (schema_revision)", policies=_READ)
    yield role.functions(FUNCTIONS)


def client_rights(role: Role, *, trusted: bool) -> Iterator[str]:
    """Yield the rights of a server that acts for all requesters."""
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
    yield role.view("SELECT")
    for table, rights in CLIENT_RIGHTS.items():
        yield from role.table(table, rights)
    yield from role.table("draft_settings", "SELECT (schema_revision)", policies=_READ)
    yield role.functions(FUNCTIONS)
    if trusted:
        yield role.functions(TRUSTED_FUNCTIONS)
        yield role.marked(TRUSTED_TYPE)


def worker_rights(role: Role) -> Iterator[str]:
    """Yield the rights of a daemon and of the commands that are not the owner's."""
    yield ""
    yield "-- The worker runs draftd run and every command except the owner's: migrate, forget, and those that set and unset."
    yield from role.begin()
    yield "-- This makes it a worker: the guard on draft_requests lets it write what daemons write."
    yield role.marked(WORKER_TYPE)
    for table, rights in WORKER_RIGHTS.items():
        yield from role.table(table, rights)
    yield role.functions((*FUNCTIONS, *WORKER_FUNCTIONS))


def dollar_quoted(body: str) -> str:
    """Return a string of SQL that reads as it stands, whatever is in it."""
    tag = "$draftd$"
    while tag in body:
        tag = f"{tag[:-1]}_$"
    return f"{tag}{body} {tag}"


def quoted(name: str, option: str) -> str:
    """Return a name as an SQL identifier.

    Raises:
        UsageError: it is not a valid name in PostgreSQL, or not printable.
    """
    if not name.isprintable() or not 0 < len(name.encode()) <= MAX_NAME_BYTES:
        raise UsageError(f"{option}: {name!r} is not a valid name; PostgreSQL names have 1 to {MAX_NAME_BYTES} bytes")
    return sql.Identifier(name).as_string()
