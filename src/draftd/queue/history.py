"""How a row remembers what went wrong: one piece of SQL for every statement that ends an attempt."""

import json

from draftd.errors import RequestError, error_details

KEPT = 20
"""The last so many errors of a row are kept (section 1 of the contract)."""


def details_of(error: type[RequestError]) -> str:
    """Return ``error_details`` of an error of which nothing more is known, as SQL."""
    return f"jsonb '{json.dumps(error_details(error.code))}'"


def with_error(*, code: str, message: str, model: str) -> str:
    """Return the expression for ``draft_requests.errors`` (as ``r``) with one more entry; the arguments are SQL themselves.

    A row whose ``errors`` is no array, whoever wrote that, begins anew: it must not fail the statement that ends it.
    """
    return f"""
            CASE WHEN jsonb_typeof(r.errors) <> 'array' THEN '[]'
                 WHEN jsonb_array_length(r.errors) >= {KEPT} THEN r.errors - 0
                 ELSE r.errors END
            || jsonb_build_object('attempt', r.attempt, 'at', now(), 'code', {code}, 'message', {message}, 'model', {model})"""
