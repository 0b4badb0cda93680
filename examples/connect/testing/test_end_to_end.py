"""Tests of an app against a real daemon whose model is `draftd stand-in`.

DRAFTD_DATABASE_URL and OPENAI_BASE_URL are those of the daemon; workflow.yml starts everything.
"""

import json
import os
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

STAND_IN = os.environ["OPENAI_BASE_URL"].removesuffix("/v1")
SHOT = f"{STAND_IN}/samples/email.png"
FINAL = ("completed", "failed", "cancelled")


def ask_stand_in(path: str, body: Any = None) -> Any:
    """Read from the stand-in, or post JSON to it."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(STAND_IN + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as response:
        return json.load(response)


@pytest.fixture
def database() -> Iterator[psycopg.Connection[Any]]:
    """Connect to the app's database, with a stand-in that behaves."""
    ask_stand_in("/reset", {})
    with psycopg.connect(os.environ["DRAFTD_DATABASE_URL"], autocommit=True) as connection:
        yield connection


def draft(database: psycopg.Connection[tuple[Any, ...]], **request: Any) -> tuple[Any, ...]:
    """Insert a request as the app does; return its status, result and error code when it is final."""
    made = database.execute(
        "SELECT create_draft_request(%s) ->> 'id'", [Jsonb({"image_urls": [SHOT], **request})]
    ).fetchone()
    assert made is not None
    ends_at = time.monotonic() + 60
    while time.monotonic() < ends_at:
        row = database.execute("SELECT status, result, error_code FROM draft_requests WHERE id = %s", made).fetchone()
        if row is not None and row[0] in FINAL:
            return row
        time.sleep(0.2)
    raise TimeoutError


def test_a_screenshot_becomes_three_replies(database: psycopg.Connection[Any]) -> None:
    """The picture is fetched, the model is asked, the result is stored."""
    status, result, _ = draft(database, context="Thursday works")
    assert status == "completed"
    assert [option["length"] for option in result["options"]] == ["short", "medium", "detailed"]
    (call,) = ask_stand_in("/log")
    assert "Thursday works" in call["prompt"]


def test_a_refusal_of_the_model_reaches_the_user(database: psycopg.Connection[Any]) -> None:
    """The next calls do as they are told."""
    ask_stand_in("/script", {"default": {"refusal": True}})
    assert draft(database)[::2] == ("failed", "model_refused")


def test_a_screenshot_without_a_message_is_said_to_have_none(database: psycopg.Connection[Any]) -> None:
    """One call does as it is told, the later ones as ever."""
    ask_stand_in("/script", [{"nothing": True}])
    assert draft(database)[::2] == ("failed", "nothing_to_reply_to")
    assert draft(database)[0] == "completed"
