"""The SQL by which migrations describe the objects they create."""

from collections.abc import Mapping

from psycopg import sql


def comment_on(texts: Mapping[str, str | None]) -> str:
    """Return the SQL that describes objects.

    Args:
        texts: by the object as ``COMMENT ON`` names it, such as ``"FUNCTION cancel_draft_request(uuid)"``; None removes its text.
    """
    return "\n".join(
        f"COMMENT ON {one} IS {'NULL' if text is None else sql.Literal(text).as_string()};"
        for one, text in texts.items()
    )
