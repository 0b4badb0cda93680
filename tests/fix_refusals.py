"""Triggers that refuse, as an app's own may."""

from collections.abc import Sequence
from uuid import UUID

import pytest

from draftd import db

SQLSTATES = [
    *("P0001", "40001", "53100", "55P03"),
    *(pytest.param(one, marks=pytest.mark.long) for one in ("23514", "57014", "08006")),
]
"""What an app's trigger may say, whatever it means."""
ALWAYS = "true"
CLAIM = "OLD.status = 'pending' AND NEW.status = 'processing'"
RENEWAL = "OLD.status = 'processing' AND NEW.status = 'processing' AND NEW.lease_until <> OLD.lease_until"
PROGRESS = "OLD.status = 'processing' AND NEW.status = 'processing' AND NEW.partial_result IS NOT NULL"
COMPLETION = "NEW.status = 'completed'"
RETURN = "OLD.status = 'processing' AND NEW.status = 'pending'"
EXPIRY = "NEW.status = 'failed' AND NEW.error_code <> 'internal_error'"


def refusing(ids: Sequence[UUID | str] | None = None, *, when: str = ALWAYS, sqlstate: str = "P0001") -> str:
    """Return the SQL of a trigger that refuses some updates of these rows, or of all."""
    listed = ", ".join(f"'{one}'" for one in ids or ())
    which = "true" if ids is None else f"OLD.id IN ({listed})"
    return f"""
CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = '{sqlstate}'; END $$;
CREATE OR REPLACE TRIGGER refuse BEFORE UPDATE ON draft_requests FOR EACH ROW WHEN ({which} AND {when})
    EXECUTE FUNCTION refuse()"""


COUNTED = """
CREATE SEQUENCE refused_claims MINVALUE 0;
CREATE SEQUENCE refused_endings MINVALUE 0;
SELECT nextval('refused_claims'), nextval('refused_endings');
CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM nextval(CASE NEW.status WHEN 'processing' THEN 'refused_claims' ELSE 'refused_endings' END);
    RAISE EXCEPTION 'not this one';
END $$"""
"""After ``refusing``: let the trigger count what it refuses, in sequences, which keep what a rollback takes back."""
COUNTS = "SELECT c.last_value AS claims, e.last_value AS endings FROM refused_claims AS c, refused_endings AS e"


async def refuse(
    connection: db.Connection, ids: Sequence[UUID | str] | None = None, *, when: str = ALWAYS, sqlstate: str = "P0001"
) -> None:
    """Let the database refuse some updates of these rows, or of all."""
    await connection.execute(refusing(ids, when=when, sqlstate=sqlstate).encode())


async def accept(connection: db.Connection) -> None:
    """Let the database refuse nothing any more."""
    await connection.execute("DROP TRIGGER refuse ON draft_requests")
