"""What people do with many requests at a time."""

from typing import Any, cast

import pytest

from draftd import db
from draftd.queue import desk
from fix_database import make_request


class FailingAgain:
    """A connection beside which a daemon fails what the first statement retried, before the second one."""

    def __init__(self, connection: db.Connection) -> None:
        self._connection = connection
        self._statements = 0

    async def execute(self, statement: bytes, params: dict[str, Any]) -> Any:
        cursor = await self._connection.execute(statement, params)
        self._statements += 1
        if self._statements == 1:
            await self._connection.execute(
                "UPDATE draft_requests SET status = 'failed', error_code = 'image_gone' WHERE status = 'pending'"
            )
        return cursor


async def test_a_request_that_fails_again_between_two_batches_is_retried_once(
    connection: db.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "BATCH", 2)
    failed = [await make_request(connection, status="failed", error_code="image_gone") for _ in range(5)]
    beside = cast("db.Connection", FailingAgain(connection))
    changed = await desk.change(beside, desk.RETRY, code="image_gone")
    assert sorted(row["id"] for row in changed.rows) == sorted(failed)
    rows = await (await connection.execute("SELECT status, count(*) AS n FROM draft_requests GROUP BY 1")).fetchall()
    assert {row["status"]: row["n"] for row in rows} == {"failed": 2, "pending": 3}
