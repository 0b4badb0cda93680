"""The SQL that locks all tables before a transaction changes several of them, while daemons and clients work."""

from collections.abc import Iterable

# CREATE POLICY, ALTER TABLE and the like lock one table after another, in an order that others do not follow.
_LOCK_TABLES = """
DO $$
DECLARE
    others text := (SELECT string_agg(name, ', ') FROM unnest(ARRAY[{names}]) AS name
                     WHERE name <> 'draft_requests' AND to_regclass(name) IS NOT NULL);
BEGIN
    IF to_regclass('draft_requests') IS NULL THEN
        RETURN;
    END IF;
    LOOP
        -- Whoever waits here holds no lock, and whoever holds one does not wait: there is no deadlock.
        BEGIN
            LOCK TABLE draft_requests IN ACCESS EXCLUSIVE MODE;
            IF others IS NOT NULL THEN
                EXECUTE 'LOCK TABLE ' || others || ' IN ACCESS EXCLUSIVE MODE NOWAIT';
            END IF;
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            IF clock_timestamp() > statement_timestamp() + interval '5 s' THEN
                RAISE;
            END IF;
        END;
        PERFORM pg_sleep(0.02);
    END LOOP;
END $$;
"""


def lock_tables(names: Iterable[str]) -> str:
    """Return the SQL that locks tables until the transaction ends, or fails after 5 to 10 s; a deadlock is impossible.

    Needs a ``lock_timeout`` of 5 s. Tables that do not exist are left out.

    Args:
        names: the tables, in the search path.
    """
    return _LOCK_TABLES.format(names=", ".join(f"'{name}'" for name in sorted(names))).lstrip()
