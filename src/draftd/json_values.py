"""JSON read from rows, whose owner may have written anything: a value of another kind counts as an empty one."""

from typing import Any


def json_object(value: Any) -> dict[str, Any]:
    """Return a JSON object; an empty one for any other value."""
    return value if isinstance(value, dict) else {}


def json_list(value: Any) -> list[Any]:
    """Return a JSON array; an empty one for any other value."""
    return value if isinstance(value, list) else []


def json_objects(value: Any) -> list[dict[str, Any]]:
    """Return the objects in a JSON array; none for any other value."""
    return [one for one in json_list(value) if isinstance(one, dict)]
