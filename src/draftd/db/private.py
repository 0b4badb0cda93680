"""The SQL by which migrations make the objects they create private to their owner."""

from collections.abc import Sequence

# By default PUBLIC may execute new functions, and hosts such as Supabase grant anon and authenticated everything on new tables.
# On a type, where USAGE makes a role a worker, no default privilege of any role may remain.
_KEEP_PRIVATE = """
DO $$
DECLARE
    object text;
    stranger text;
BEGIN
    FOREACH object IN ARRAY ARRAY[{tables}]::text[] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', object);
    END LOOP;
    FOREACH object IN ARRAY ARRAY[{functions}]::text[] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', object, current_schema());
    END LOOP;
    FOR stranger IN
        SELECT 'public' UNION ALL SELECT quote_ident(rolname) FROM pg_roles WHERE rolname IN ('anon', 'authenticated')
    LOOP
        FOREACH object IN ARRAY ARRAY[{objects}]::text[] LOOP
            EXECUTE format('REVOKE ALL ON %s FROM %s', object, stranger);
        END LOOP;
    END LOOP;
    FOREACH object IN ARRAY ARRAY[{types}]::text[] LOOP
        FOR stranger IN
            SELECT DISTINCT CASE g.grantee WHEN 0 THEN 'public' ELSE quote_ident(pg_get_userbyid(g.grantee)) END
              FROM pg_type AS t, aclexplode(t.typacl) AS g WHERE t.oid = object::regtype AND g.grantee <> t.typowner
        LOOP
            EXECUTE format('REVOKE ALL ON TYPE %I FROM %s', object, stranger);
        END LOOP;
    END LOOP;
END $$;
"""


def keep_private(
    *,
    tables: Sequence[str] = (),
    sequences: Sequence[str] = (),
    functions: Sequence[str] = (),
    types: Sequence[str] = (),
) -> str:
    """Return the SQL that makes new objects private: row security, no default rights, a fixed search_path for functions.

    Args:
        tables: their names.
        sequences: their names.
        functions: with parameter types, such as ``"cancel_draft_request(uuid)"``.
        types: their names; all rights on them are revoked except the owner's.
    """
    kinds = {"TABLE": tables, "SEQUENCE": sequences, "FUNCTION": functions, "TYPE": types}
    return _KEEP_PRIVATE.format(
        tables=_texts(tables),
        functions=_texts(functions),
        types=_texts(types),
        objects=_texts([f"{kind} {name}" for kind, names in kinds.items() for name in names]),
    )


def _texts(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
