"""What every migration repeats for what it creates: private by default.

Owns the SQL for it; which objects it is about stands in the migrations.
"""

from collections.abc import Sequence

# PUBLIC holds EXECUTE on new functions; hosts such as Supabase give anon and authenticated everything on new tables. Of a type,
# whose USAGE makes a worker, nobody's default privileges may leave anything.
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
    """Return the SQL that closes new objects: row security on, no right for strangers, the functions' search_path their own.

    Args:
        tables: by name, like the other objects.
        sequences: likewise.
        functions: with the types of their parameters: ``"cancel_draft_request(uuid)"``.
        types: nobody but the owner keeps a right on them.
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
