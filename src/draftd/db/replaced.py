"""The SQL by which migrations change parts of long functions."""

from collections.abc import Sequence

_REPLACE = """
DO $change$
DECLARE
    definition text := pg_get_functiondef('{function}'::regprocedure);
    part text[];
BEGIN
    FOREACH part SLICE 1 IN ARRAY ARRAY[{parts}] LOOP
        IF strpos(definition, part[1]) = 0 THEN
            RAISE EXCEPTION '{function} is not that of revision {revision}';
        END IF;
        definition := replace(definition, part[1], part[2]);
    END LOOP;
    EXECUTE definition;
END $change$;
"""


def replace_parts(function: str, parts: Sequence[tuple[str, str]], *, revision: str) -> str:
    """Return the SQL that replaces parts of a function; its other lines, its rights, its settings and its owner stay.

    Args:
        function: with parameter types, such as ``"cancel_draft_request(uuid)"``.
        parts: what is replaced, by what, in this order; refused if a part is not there.
        revision: the one whose function is changed, for the message.
    """
    pairs = ", ".join(f"ARRAY[$part${old}$part$, $part${new}$part$]" for old, new in parts)
    return _REPLACE.format(function=function, parts=pairs, revision=revision)
