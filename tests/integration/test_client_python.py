"""The Python client, with the rights of a backend, against a database in which the test plays the daemon."""

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from draftd_client import AsyncClient, Client, DraftdError, DraftFailed, NotFound, Refused
from fix_database import URL
from fix_roles import Roles

TEXTS = {"short": "Yes.", "medium": "Yes, Friday is fine.", "detailed": "Yes, Friday is fine. See you at ten."}


class Daemon:
    """Writes what a daemon writes, past its protocol."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)

    def claim(self, request_id: UUID) -> None:
        self._write("status = 'processing', attempt = attempt + 1, lease_token = lease_token + 1", [], request_id)

    def publish(self, request_id: UUID, *lengths: str) -> None:
        self._write("partial_result = %s", [Jsonb(_result(*lengths))], request_id)

    def complete(self, request_id: UUID) -> None:
        self._write("status = 'completed', result = %s", [Jsonb(_result(*TEXTS))], request_id)

    def fail(self, request_id: UUID) -> None:
        what = "status = 'failed', error_code = 'image_gone', error_message = 'The picture is gone.'"
        self._write(what, [], request_id)

    def _write(self, assignments: str, params: list[Any], request_id: UUID) -> None:
        statement = f"UPDATE draft_requests SET {assignments} WHERE id = %s"
        self._connection.execute(statement.encode(), [*params, request_id])

    def close(self) -> None:
        self._connection.close()


def _result(*lengths: str) -> dict[str, Any]:
    options = [{"length": length, "angle": "agrees", "text": TEXTS[length], "unsupported": []} for length in lengths]
    return {"schema_version": 1, "options": options}


@pytest.fixture
def daemon(database: str) -> Iterator[Daemon]:
    playing = Daemon(database)
    yield playing
    playing.close()


@pytest.fixture
def url(roles: Roles) -> str:
    return roles.url(roles.client())


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as opened:
        yield opened


def test_a_request_is_created_once_however_often_it_is_sent(client: Client) -> None:
    first = client.create([URL], requester_id="u", context="yes", options={"tone": "warm"}, idempotency_key="k")
    second = client.create([URL], requester_id="u", idempotency_key="k")
    assert (first.created, second.created) == (True, False)
    assert first.id == second.id
    assert client.get(first.id).status == "pending"


def test_a_row_that_the_database_does_not_take_is_refused_with_its_reason(client: Client) -> None:
    with pytest.raises(Refused, match="1 to 8 entries"):
        client.create([])


def test_a_time_without_a_time_zone_is_refused_before_anything_is_sent(client: Client) -> None:
    naive, aware = datetime(2030, 1, 1), datetime(2030, 1, 1, tzinfo=UTC)  # noqa: DTZ001 - the mistake that is meant
    with pytest.raises(ValueError, match="2030-01-01 00:00:00 has no time zone"):
        client.create([URL], available_at=naive)
    with pytest.raises(ValueError, match="2030-01-01 00:00:00 has no time zone"):
        client.create([URL], expires_at=naive)
    assert client.get(client.create([URL], available_at=aware, expires_at=aware).id).status == "pending"


def test_a_wait_ends_with_the_final_reply(client: Client, daemon: Daemon) -> None:
    made = client.create([URL])
    daemon.claim(made.id)
    timer = threading.Timer(0.1, daemon.complete, [made.id])
    timer.start()
    reply = client.wait(made.id, timeout_s=30)
    timer.join()
    assert reply.is_final
    assert [option["text"] for option in reply.options] == list(TEXTS.values())


def test_a_wait_gives_up_in_time(client: Client) -> None:
    made = client.create([URL])
    with pytest.raises(TimeoutError, match="still pending"):
        client.wait(made.id, timeout_s=0.05)


def test_options_are_streamed_as_they_become_ready(client: Client, daemon: Daemon) -> None:
    made = client.create([URL])
    daemon.claim(made.id)
    daemon.publish(made.id, "short")
    stream = client.stream(made.id, timeout_s=30)
    assert next(stream)["length"] == "short"
    daemon.publish(made.id, "short", "medium")
    assert next(stream)["length"] == "medium"
    daemon.complete(made.id)
    assert [option["length"] for option in stream] == ["detailed"]


def test_a_stream_of_a_failed_request_ends_with_what_its_user_is_told(client: Client, daemon: Daemon) -> None:
    made = client.create([URL])
    daemon.claim(made.id)
    daemon.publish(made.id, "short")
    daemon.fail(made.id)
    stream = client.stream(made.id, timeout_s=30)
    assert next(stream)["length"] == "short"
    with pytest.raises(DraftFailed, match="The picture is gone") as failure:
        next(stream)
    assert failure.value.reply.error_code == "image_gone"


def test_a_pending_request_can_be_cancelled_and_a_final_one_cannot(client: Client) -> None:
    made = client.create([URL])
    assert client.cancel(made.id)
    assert not client.cancel(made.id)


def test_a_refinement_belongs_to_the_requester_of_its_parent(client: Client, daemon: Daemon) -> None:
    parent = client.create([URL], requester_id="u")
    daemon.claim(parent.id)
    daemon.complete(parent.id)
    child = client.refine(parent.id, context="shorter")
    assert client.get(child.id).status == "pending"
    with pytest.raises(NotFound):
        client.refine(uuid4(), context="shorter")


def test_feedback_is_kept_and_a_wrong_one_refused(client: Client, daemon: Daemon) -> None:
    made = client.create([URL])
    daemon.claim(made.id)
    daemon.complete(made.id)
    client.feedback(made.id, option="short", sent_text="Yes!", outcome="edited", rating=1)
    with pytest.raises(Refused):
        client.feedback(made.id, option="short", rating=5)


def test_a_profile_keeps_what_is_not_changed(client: Client) -> None:
    client.profile("u", facts=["my course was CS"], me="Ana")
    assert client.profile("u", me="Ana B.").facts == ("my course was CS",)
    assert client.profile("u").me == "Ana B."
    assert client.profile("nobody").facts == ()
    with pytest.raises(TypeError, match="no hobby"):
        client.profile("u", hobby="chess")  # type: ignore[call-arg]  # what the test is about


def test_a_lost_connection_is_made_again(client: Client, daemon: Daemon, database: str) -> None:
    made = client.create([URL])
    _end_clients(database)
    daemon.claim(made.id)
    daemon.complete(made.id)
    assert client.wait(made.id, timeout_s=30).status == "completed"


async def test_many_tasks_wait_with_one_connection_between_them(url: str, daemon: Daemon, database: str) -> None:
    async with AsyncClient(url) as client:
        made = [await client.create([URL], idempotency_key=str(number)) for number in range(20)]
        waits = [asyncio.create_task(client.wait(one.id, timeout_s=30)) for one in made]
        await asyncio.sleep(0)
        for one in made:
            daemon.claim(one.id)
            daemon.complete(one.id)
        replies = await asyncio.gather(*waits)
        assert {reply.status for reply in replies} == {"completed"}
        assert _clients(database) <= 2


async def test_an_async_stream_yields_options_and_outlives_a_lost_connection(
    url: str, daemon: Daemon, database: str
) -> None:
    async with AsyncClient(url) as client:
        made = await client.create([URL])
        daemon.claim(made.id)
        daemon.publish(made.id, "short")
        stream = client.stream(made.id, timeout_s=60)
        assert (await anext(stream))["length"] == "short"
        _end_clients(database)
        daemon.complete(made.id)
        assert [option["length"] async for option in stream] == ["medium", "detailed"]


async def test_an_async_wait_gives_up_in_time_and_knows_no_strangers(url: str) -> None:
    async with AsyncClient(url) as client:
        made = await client.create([URL])
        with pytest.raises(TimeoutError):
            await client.wait(made.id, timeout_s=0.05)
        with pytest.raises(NotFound):
            await client.wait(uuid4())
        assert await client.cancel(made.id)
        with pytest.raises(DraftFailed, match="cancelled"):
            _ = [option async for option in client.stream(made.id)]


def _clients(database: str) -> int:
    with psycopg.connect(database) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'draftd-client' AND datname = current_database()"
        ).fetchone()
    return int(row[0]) if row else 0


def _end_clients(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'draftd-client' "
            "AND datname = current_database()"
        )


@pytest.mark.parametrize("payload", ['{"id": 5}', "[" * 5000, "{", ""])
async def test_a_forged_notification_ends_no_wait(url: str, daemon: Daemon, database: str, payload: str) -> None:
    """Any database user can send one."""
    async with AsyncClient(url) as client:
        made = await client.create([URL])
        waiting = asyncio.create_task(client.wait(made.id))
        await listening(database)
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as stranger:
            await stranger.execute("SELECT pg_notify('draft_results', %s)", [payload])
        daemon.claim(made.id)
        daemon.complete(made.id)
        assert (await asyncio.wait_for(waiting, 30)).status == "completed"


async def test_a_wait_ends_with_the_error_that_no_reading_will_mend(url: str, database: str) -> None:
    async with AsyncClient(url) as client:
        made = await client.create([URL])
        waiting = asyncio.create_task(client.wait(made.id))
        await listening(database)
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as owner:
            await owner.execute("ALTER TABLE draft_requests RENAME TO gone")
        with pytest.raises(psycopg.errors.UndefinedTable):
            await asyncio.wait_for(waiting, 30)


async def test_closing_a_client_ends_the_waits_of_its_other_tasks(url: str, database: str) -> None:
    async with AsyncClient(url) as client:
        made = await client.create([URL])
        waiting = asyncio.create_task(client.wait(made.id))
        await listening(database)
    with pytest.raises(DraftdError, match="closed"):
        await asyncio.wait_for(waiting, 30)


async def listening(database: str) -> None:
    """Wait until a client listens, and has read its requests once."""
    listens = (
        "SELECT 1 FROM pg_stat_activity WHERE application_name = 'draftd-client' AND query LIKE '%ANY%' AND pid IN "
    )
    listens += "(SELECT pid FROM pg_stat_activity WHERE application_name = 'draftd-client' ORDER BY backend_start DESC LIMIT 1)"
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as observer:
        while not await (await observer.execute(listens.encode())).fetchall():  # noqa: ASYNC110  # no event tells of another's connection
            await asyncio.sleep(0.01)
