"""The SQL of ``fake_draft``, which plays the daemon for one request in an app's test database."""

import json
from importlib.resources import files

from draftd.errors import request_errors


def fake_draft_sql() -> str:
    """Return the SQL that creates the function, with the codes and sentences of this version."""
    codes = {
        error.code: {"user_message": error.user_message, "action": error.user_action.value}
        for error in request_errors()
    }
    template = files(__package__).joinpath("fake_draft.sql").read_text(encoding="utf-8")
    return template.replace("'{codes}'", _literal(json.dumps(codes)))


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
