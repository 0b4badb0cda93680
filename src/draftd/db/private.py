"""The SQL by which migrations make the objects they create private to their owner."""

from collections.abc import Sequence

# By default PUBLIC may execute new functions, and hosts such as Supabase and InsForge give their roles everything on new tables.
# Of what is new, no role keeps a right that it was not given on purpose.
_KEEP_PRIVATE = """
DO $$
DECLARE
    object text;
    stranger text;
BEGIN
    FOREACH object IN ARRAY ARRAY[{tables}]::text[] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', object);
    END LOOP;
    FOR object, stranger IN
        SELECT o.kind || ' ' || o.name, s.grantee
          FROM (SELECT 'TABLE' AS kind, name, relacl AS acl, relowner AS owner
                  FROM unnest(ARRAY[{relations}]::text[]) AS name JOIN pg_class AS c ON c.oid = name::regclass
                 WHERE c.relkind <> 'S'
                UNION ALL
                SELECT 'SEQUENCE', name, relacl, relowner
                  FROM unnest(ARRAY[{relations}]::text[]) AS name JOIN pg_class AS c ON c.oid = name::regclass
                 WHERE c.relkind = 'S'
                UNION ALL
                SELECT 'FUNCTION', name, proacl, proowner
                  FROM unnest(ARRAY[{functions}]::text[]) AS name JOIN pg_proc AS p ON p.oid = name::regprocedure
                UNION ALL
                SELECT 'TYPE', name, typacl, typowner
                  FROM unnest(ARRAY[{types}]::text[]) AS name JOIN pg_type AS t ON t.oid = name::regtype) AS o,
               LATERAL (SELECT 'public' AS grantee
                        UNION
                        SELECT quote_ident(pg_get_userbyid(g.grantee)) FROM aclexplode(o.acl) AS g
                         WHERE g.grantee NOT IN (0, o.owner)) AS s
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s', object, stranger);
    END LOOP;
END $$;
"""
_REPLACED = """
DO $$
DECLARE
    object text;
BEGIN
    FOREACH object IN ARRAY ARRAY[{functions}]::text[] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', object, current_schema());
    END LOOP;
END $$;
"""


def keep_private(
    *,
    tables: Sequence[str] = (),
    views: Sequence[str] = (),
    sequences: Sequence[str] = (),
    functions: Sequence[str] = (),
    types: Sequence[str] = (),
) -> str:
    """Return the SQL that makes new objects private: row security, no rights but the owner's, a fixed search_path for functions.

    Args:
        tables: their names.
        views: their names.
        sequences: their names.
        functions: with parameter types, such as ``"cancel_draft_request(uuid)"``.
        types: their names.
    """
    private = _KEEP_PRIVATE.format(
        tables=_texts(tables),
        relations=_texts((*tables, *views, *sequences)),
        functions=_texts(functions),
        types=_texts(types),
    )
    return replaced(functions) + private


def replaced(functions: Sequence[str]) -> str:
    """Return the SQL that fixes the search_path of functions, which a replacement loses; who may execute them stays.

    Args:
        functions: with parameter types.
    """
    return _REPLACED.format(functions=_texts(functions))


def _texts(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
