"""Whoever looks at the schema with any tool reads what each object is, and who sets it."""

import re

from draftd import db

UNDESCRIBED = """
SELECT 'TABLE ' || c.relname AS object FROM pg_class AS c
 WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
   AND obj_description(c.oid, 'pg_class') IS NULL
UNION ALL
SELECT format('COLUMN %s.%s', c.relname, a.attname) FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
 WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'c')
   AND a.attnum > 0 AND NOT a.attisdropped AND col_description(c.oid, a.attnum) IS NULL
UNION ALL
SELECT 'FUNCTION ' || p.oid::regprocedure FROM pg_proc AS p
 WHERE p.pronamespace = current_schema()::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL
UNION ALL
SELECT 'TYPE ' || t.typname FROM pg_type AS t
 WHERE t.typnamespace = current_schema()::regnamespace AND t.typtype IN ('d', 'e', 'r')
   AND obj_description(t.oid, 'pg_type') IS NULL
"""
COLUMNS = """
SELECT c.relname, a.attname, col_description(c.oid, a.attnum) AS text
  FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
 WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
   AND a.attnum > 0 AND NOT a.attisdropped
"""
FUNCTIONS = """
SELECT p.oid::regprocedure::text AS name, p.prorettype = 'trigger'::regtype AS is_trigger,
       obj_description(p.oid, 'pg_proc') AS text
  FROM pg_proc AS p WHERE p.pronamespace = current_schema()::regnamespace
"""
SETTER = re.compile(r"(trusted client|client|operator|draftd|database): \S")


async def test_every_table_column_function_and_type_is_described(connection: db.Connection) -> None:
    rows = await (await connection.execute(UNDESCRIBED.encode())).fetchall()
    assert [row["object"] for row in rows] == []


async def test_every_column_says_who_sets_it(connection: db.Connection) -> None:
    rows = await (await connection.execute(COLUMNS.encode())).fetchall()
    assert [(row["relname"], row["attname"]) for row in rows if not SETTER.match(row["text"])] == []


async def test_every_function_says_whom_it_is_for(connection: db.Connection) -> None:
    rows = await (await connection.execute(FUNCTIONS.encode())).fetchall()
    for row in rows:
        assert row["text"].startswith("Trigger: " if row["is_trigger"] else "For "), row["name"]
