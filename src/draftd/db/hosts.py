"""The SQL that ``draftd grants`` prints for hosts whose clients come through PostgREST: Supabase and InsForge.

Owns their roles, and push where Supabase's Realtime is. What each role gets is in ``grants``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from draftd.db.grants import (
    Role,
    client_rights,
    dollar_quoted,
    everybodys_rights,
    identity_function,
    quoted,
    script,
    user_rights,
    worker_rights,
)
from draftd.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """The roles of a host whose clients come through PostgREST."""

    anon: str
    users: str
    server: str
    exposes: str
    """The schemas that its PostgREST exposes by default."""


PLATFORMS: Mapping[str, Platform] = {
    "supabase": Platform(anon="anon", users="authenticated", server="service_role", exposes="public, graphql_public"),
    "insforge": Platform(anon="anon", users="authenticated", server="project_admin", exposes="public"),
}

_PUSH = """
BEGIN
    IF to_regprocedure('realtime.send(jsonb,text,text,boolean)') IS NULL THEN
        RETURN;
    END IF;
    CREATE OR REPLACE TRIGGER draft_requests_95_broadcast AFTER UPDATE ON {home}.draft_requests
        FOR EACH ROW WHEN (NEW.requester_id <> '' AND NEW.status IN ('completed', 'failed', 'cancelled')
                           AND OLD.status IN ('pending', 'processing'))
        EXECUTE FUNCTION {home}.draft_requests_broadcast();
    CREATE OR REPLACE TRIGGER draft_requests_95_broadcast_progress AFTER UPDATE OF partial_result ON {home}.draft_requests
        FOR EACH ROW WHEN (NEW.requester_id <> '' AND NEW.status = 'processing' AND NEW.partial_result IS NOT NULL)
        EXECUTE FUNCTION {home}.draft_requests_broadcast();
    DROP POLICY IF EXISTS {policy} ON realtime.messages;
    CREATE POLICY {policy} ON realtime.messages FOR SELECT TO {role}
        USING (extension = 'broadcast' AND (SELECT {home}.draft_current_requester()) <> ''
               AND (SELECT realtime.topic()) = 'draftd:' || (SELECT {home}.draft_current_requester()));
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'draftd: no push, clients poll: %', SQLERRM;
END"""


def platform(
    name: str, *, schema: str, client: str | None, worker: str | None, trusted: bool, identity: str | None
) -> str:
    """Return the SQL for a host whose clients come through PostgREST: its end users, its server, and nothing for anybody else.

    Args:
        name: one of ``PLATFORMS``.
        schema: the schema of the tables.
        client: the end users' role; None for the host's own.
        worker: the daemons' role, or None.
        trusted: whether the server may choose ids and priorities, and forget requesters.
        identity: an SQL expression for the requester that a transaction acts for; None leaves it: by default, the JWT's subject.

    Raises:
        UsageError: a name or the expression is invalid, or two roles are the same.
    """
    host = PLATFORMS[name]
    names = [host.anon, client or host.users, host.server, *filter(None, [worker])]
    if len({*names}) < len(names):
        raise UsageError(f"--client and --worker are two roles that are not {host.anon} or {host.server}")
    home = quoted(schema, "--schema")
    users = Role(client or host.users, "--client", home)
    lines = [
        *_exposed(schema, host),
        *identity_function(home, identity),
        *everybodys_rights(home),
        *Role(host.anon, "--client", home).revoke(),
        *user_rights(users, home),
        *client_rights(Role(host.server, "--client", home), trusted=trusted),
    ]
    if worker is not None:
        lines += worker_rights(Role(worker, "--worker", home))
    return script(home, [*lines, *_push(users, home), "", "NOTIFY pgrst, 'reload schema';"])


def _exposed(schema: str, host: Platform) -> Iterator[str]:
    yield ""
    if schema in host.exposes.split(", "):
        yield f"-- PostgREST has to expose the schema {schema}, which it does by default."
        return
    schemas = f"{host.exposes}, {schema}"
    yield "-- PostgREST has to expose the schema. On Supabase: Project Settings, Data API, Exposed schemas. Elsewhere:"
    yield f"--   PGRST_DB_SCHEMAS={schemas}"


def _push(users: Role, home: str) -> Iterator[str]:
    yield ""
    yield "-- Where Supabase's Realtime is, a user hears of its own requests on the private channel draftd:<requester_id>."
    policy = users.policy("push")
    yield f"DO {dollar_quoted(_PUSH.format(role=users.quoted, policy=policy, home=home))};"
