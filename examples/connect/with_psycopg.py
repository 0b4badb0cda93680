"""Draft replies to a screenshot with psycopg: DATABASE_URL=… python with_psycopg.py IMAGE_URL [WHAT_TO_SAY]."""

import json
import os
import sys
import uuid

import psycopg
from psycopg.types.json import Jsonb

FINAL = ("completed", "failed", "cancelled")
CREATE = "SELECT create_draft_request(%s)"
SELECT = "SELECT status, partial_result, result, error_message FROM draft_requests WHERE id = %s"


def main(image_url: str, context: str | None = None) -> None:
    """Insert a request, print each reply as soon as it is ready, and exit with 1 if there is no result."""
    # The key makes the insert safe to repeat after a network error.
    request = {"image_urls": [image_url], "context": context, "idempotency_key": str(uuid.uuid4())}
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("LISTEN draft_results")  # before the insert, or a quick end is missed
        (made,) = connection.execute(CREATE, [Jsonb(request)]).fetchone()  # type: ignore[misc]  # it returns a row
        shown = 0
        while True:
            row = connection.execute(SELECT, [made["id"]]).fetchone()
            status, partial, result, message = row or ("gone", None, None, None)
            options = (result or partial or {}).get("options", [])
            for option in options[shown:]:
                print(f"{option['length']}: {option['text']}\n")
            shown = max(shown, len(options))
            if row is None or status in FINAL:
                break
            # Until this request is notified, or for a second: notifications are hints.
            for heard in connection.notifies(timeout=1, stop_after=1):
                if json.loads(heard.payload)["id"] == made["id"]:
                    break
    if result is None:
        sys.exit(f"{status}: {message}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
