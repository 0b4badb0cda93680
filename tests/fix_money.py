"""Requests and prices for tests of budgets and ceilings."""

import time
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from fix_daemon import Client

MODEL = "openai/stand-in"
TODAY = (
    "least(now() + interval '1 h', date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + interval '1 day')"
)
TOMORROW = "now() + interval '2 days'"
DAY_S = 86_400
LONGEST_S = 100
"""What a test of today's budget may take. To wait and to test stays within pytest's timeout."""


@pytest.fixture
def same_day() -> None:
    """Wait for the next day in UTC if this one may end before the test does."""
    left_s = DAY_S - time.time() % DAY_S
    if left_s < LONGEST_S:
        time.sleep(left_s + 1)


def make_parent(client: Client, requester_id: str = "") -> str:
    """Make a completed request to refine: refinements fetch no picture."""
    (row,) = client.query(
        "INSERT INTO draft_requests (image_urls, requester_id) VALUES ('{https://a.example/a.png}', %s) RETURNING id",
        requester_id,
    )
    client.query(
        "UPDATE draft_requests SET status = 'completed', result = %s, reading = %s WHERE id = %s",
        Jsonb({"options": [{"length": "short", "angle": "thanks", "text": "Thank you, Friday it is."}]}),
        Jsonb(["Do we ship on Friday?"]),
        row["id"],
    )
    return str(row["id"])


def enqueue(client: Client, count: int, *, expires: str = TOMORROW, requester_id: str = "") -> list[str]:
    """Insert requests and return their ids."""
    parents = client.query(
        "SELECT id FROM draft_requests WHERE status = 'completed' AND parent_id IS NULL AND requester_id = %s",
        requester_id,
    )
    parent_id = parents[0]["id"] if parents else make_parent(client, requester_id)
    rows = client.query(
        "INSERT INTO draft_requests (parent_id, image_urls, context, expires_at, requester_id) "
        f"SELECT %s, '{{}}', 'shorter ' || n, {expires}, %s FROM generate_series(1, %s) AS n RETURNING id",
        parent_id,
        requester_id,
        count,
    )
    return [str(row["id"]) for row in rows]


def set_price(client: Client, output_usd: int = 1000, **columns: Any) -> None:
    """Set a price at which a call may cost up to 4.10 USD, and costs about a tenth of that."""
    columns = {"input_usd_per_mtok": 0, "output_usd_per_mtok": output_usd} | columns
    names, values = ", ".join(columns), ", ".join(["%s"] * len(columns))
    client.query(f"INSERT INTO draft_models (name, {names}) VALUES (%s, {values})", MODEL, *columns.values())
