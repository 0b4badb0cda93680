"""Whether this role sees draftd's tables, and if not, which role does.

To a role without rights, an empty, a hidden and a missing queue look the same. The system catalog, which every role may read,
tells them apart. Owns that query and its messages; ``draftd grants`` decides which rights a role gets.
"""

from collections.abc import Collection, Mapping
from typing import Any

from draftd.errors import ConfigurationError

# A policy applies if this role has the privileges of one of its roles, as in PostgreSQL's own check.
_POLICY = """
    (NOT row_security_active(t.oid) OR EXISTS (
        SELECT FROM pg_policy AS p
         WHERE p.polrelid = t.oid AND p.polpermissive AND p.polcmd IN ('*', '{kind}')
           AND EXISTS (SELECT FROM unnest(p.polroles) AS r(oid) WHERE r.oid = 0 OR pg_has_role(r.oid, 'USAGE'))))"""

_TABLES = """
    SELECT DISTINCT quote_ident(n.nspname) AS schema, quote_ident(pg_get_userbyid(c.relowner)) AS owner,
           has_schema_privilege(n.oid, 'USAGE') AS open
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE c.relname = 'draft_requests' AND c.relkind = 'r'"""

# Tables that look empty: this role may read them, but no policy shows it a row. Without the right, the server reports an error.
_HIDDEN = f"""
    SELECT other.relname::text FROM pg_class AS other CROSS JOIN LATERAL (SELECT other.oid, other.relname) AS t
     WHERE other.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('draft_requests'))
       AND other.relkind = 'r' AND other.relname ~ '^draftd?_'
       AND has_any_column_privilege(t.oid, 'SELECT') AND NOT {_POLICY.format(kind="r")}
     ORDER BY other.relname"""

ACCESS_QUERY = f"""
WITH tables AS ({_TABLES})
SELECT quote_ident(current_user) AS me, current_schema() IS NULL AS lost, current_setting('search_path') AS search_path,
       (SELECT coalesce(array_agg(schema ORDER BY schema), '{{}}') FROM tables WHERE open) AS elsewhere,
       (SELECT min(ARRAY[schema, owner]) FROM tables WHERE NOT open) AS closed,
       seen.*
  FROM (SELECT) AS one LEFT JOIN LATERAL (
    SELECT quote_ident(pg_get_userbyid(t.relowner)) AS owner,
           has_any_column_privilege(t.oid, 'SELECT') AS may_read,
           has_any_column_privilege(t.oid, 'UPDATE') AS may_change, {_POLICY.format(kind="w")} AS changes,
           ARRAY({_HIDDEN}) AS hidden
      FROM pg_class AS t WHERE t.oid = to_regclass('draft_requests')) AS seen ON true
"""


def check(
    row: Mapping[str, Any],
    *,
    where: str,
    migrated: bool = True,
    works: bool = False,
    reads: Collection[str] = ("draft_requests",),
) -> None:
    """Raise if draftd's tables are missing or hidden.

    Args:
        row: the result of ``ACCESS_QUERY``.
        where: the database, for the message.
        migrated: whether the tables must exist.
        works: whether this role must be able to change every row and read every table, as a daemon does.
        reads: otherwise, the tables that it must be able to read.

    Raises:
        ConfigurationError: they are missing or hidden; the message says why, and which role to use.
    """
    problem = _missing(row) if row["owner"] is None else _hidden(row, works=works, reads=reads)
    if problem and (migrated or row["owner"] is not None):
        raise ConfigurationError(f"{where}: {problem}")


def elsewhere(row: Mapping[str, Any]) -> str | None:
    """Return where in this database draftd's tables are, if not in the search path."""
    return _elsewhere(row) if row["owner"] is None else None


def who_can(row: Mapping[str, Any]) -> str:
    """Return the advice to connect as the role that owns the tables."""
    return f"connect as {row['owner']}, who owns the tables, or as a member of it"


def denied(row: Mapping[str, Any], said: str) -> ConfigurationError:
    """Return the error for a statement that this role may not execute.

    Args:
        row: the result of ``ACCESS_QUERY``.
        said: the server's message.
    """
    return ConfigurationError(
        f"this role, {row['me']}, may not do that: {said}; {who_can(row)}, or see `draftd grants`"
    )


def _missing(row: Mapping[str, Any]) -> str:
    if found := _elsewhere(row):
        return found
    if row["lost"]:
        return f"no schema of the search_path ({row['search_path']}) exists, or this role, {row['me']}, may not use it"
    return "the database has no draftd tables; run `draftd migrate`"


def _elsewhere(row: Mapping[str, Any]) -> str | None:
    if row["elsewhere"]:
        schema = row["elsewhere"][0]
        return (
            f"draftd's tables are in the schema {', '.join(row['elsewhere'])}, which is not in the search_path "
            f"({row['search_path']}); ALTER ROLE {row['me']} SET search_path = {schema}"
        )
    if row["closed"]:
        schema, owner = row["closed"]
        return (
            f"draftd's tables are in the schema {schema}, which this role, {row['me']}, may not use; connect as {owner}, who "
            "owns them, or as a member of it"
        )
    return None


def _hidden(row: Mapping[str, Any], *, works: bool, reads: Collection[str]) -> str | None:
    me, help_ = row["me"], f"{who_can(row)}, or see `draftd grants`"
    if not row["may_read"] or (works and not row["may_change"]):
        return f"permission denied: this role, {me}, may not use draft_requests; {help_}"
    hidden = [table for table in row["hidden"] if works or table in reads]
    if works and not row["changes"]:
        hidden = ["draft_requests"]
    if "draft_requests" in hidden:
        hidden = ["draft_requests"]
    return f"row security hides every row of {', '.join(hidden)} from this role, {me}; {help_}" if hidden else None
