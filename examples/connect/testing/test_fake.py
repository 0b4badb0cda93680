"""Tests of an app against a PostgreSQL with draftd's schema: no daemon, no model.

createdb app_test
draftd migrate --sql | psql -v ON_ERROR_STOP=1 app_test
draftd stand-in --sql | psql -v ON_ERROR_STOP=1 app_test
TEST_DATABASE_URL=postgresql:///app_test pytest test_fake.py
"""

import os
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

SHOT = "https://cdn.example.com/shot.png"


@pytest.fixture
def database() -> Iterator[psycopg.Connection[Any]]:
    """Connect as the owner of the tables, and undo everything at the end of a test."""
    with psycopg.connect(os.environ["TEST_DATABASE_URL"]) as connection:
        yield connection
        connection.rollback()


def insert(database: psycopg.Connection[Any], **request: Any) -> str:
    """Insert a request as the app does, and return its id."""
    row = database.execute(
        "SELECT create_draft_request(%s) ->> 'id'", [Jsonb({"image_urls": [SHOT], **request})]
    ).fetchone()
    assert row is not None
    return str(row[0])


def test_the_app_shows_what_is_ready_and_then_everything(database: psycopg.Connection[Any]) -> None:
    """The drafts arrive one by one."""
    request_id = insert(database, context="Yes")
    ready = "SELECT jsonb_array_length(coalesce(result, partial_result) -> 'options') FROM draft_requests WHERE id = %s"
    database.execute("SELECT fake_draft(%s, options_ready => 1)", [request_id])
    assert database.execute(ready, [request_id]).fetchone() == (1,)
    database.execute("SELECT fake_draft(%s)", [request_id])
    assert database.execute(ready, [request_id]).fetchone() == (3,)


def test_the_app_asks_for_another_picture(database: psycopg.Connection[Any]) -> None:
    """The request fails with a code that the app knows."""
    request_id = insert(database)
    database.execute("SELECT fake_draft(%s, error_code => 'image_too_large')", [request_id])
    row = database.execute(
        "SELECT status, error_code, error_details ->> 'action' FROM draft_requests WHERE id = %s", [request_id]
    ).fetchone()
    assert row == ("failed", "image_too_large", "shorten")
