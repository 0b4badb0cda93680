"""Requests with drafts, and feedback on them, for tests."""

from typing import Any
from uuid import UUID

from draftd import db
from draftd.queue.outcome import Done, Draft
from draftd.queue.refused_rows import Quarantine
from draftd.queue.settlements import Settler
from fix_database import claim_all, make_request

TEXTS = {
    "short": "Thursday at 14:00 works.",
    "medium": "Thursday at 14:00 works for me. I will bring the list.",
    "detailed": "Thursday at 14:00 works for me. I will bring the list, and the samples that you asked for last week.",
}
OPTIONS = [
    {"length": length, "text": text, "angle": f"confirms, {length}", "stance": "accept", "unsupported": []}
    for length, text in TEXTS.items()
]
RESULT = {
    "schema_version": 1,
    "platform": "slack",
    "platform_name": "Slack",
    "replying_to": {"author": "Bo", "gist": "asks for Thursday", "expects": "decision"},
    "summary": "Bo asks for Thursday.",
    "options": OPTIONS,
}


async def make_completed(
    connection: db.Connection, link: db.Link, *, prompt_version: str = "1", result: dict[str, Any] = RESULT, **over: Any
) -> UUID:
    """Insert a request and complete it as a daemon does."""
    request_id = await make_request(connection, **{"requester_id": "ada"} | over)
    finished = Done(draft=Draft(result=result, reading=[]), model="m", prompt_version=prompt_version)
    (claimed,) = await claim_all(link, agents=[over.get("agent", "comment_generator")], limit=1)
    await Settler(link=link, quarantine=Quarantine()).settle(claimed, finished)
    return request_id


async def give_feedback(connection: db.Connection, request_id: UUID, **given: Any) -> dict[str, Any]:
    """Insert feedback as a client does; return the row."""
    columns = ", ".join(["request_id", *given])
    statement = f"INSERT INTO draft_feedback ({columns}) VALUES ({', '.join(['%s'] * (len(given) + 1))}) RETURNING *"
    row = await (await connection.execute(statement.encode(), [request_id, *given.values()])).fetchone()
    assert row is not None
    return row
