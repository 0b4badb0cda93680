"""Pictures between two attempts: what is left is found again, and what cannot be kept harms nobody."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

import pytest

from draftd import db
from draftd.errors import ImageFetchFailed
from draftd.images import ByteBudget, Fetcher, ImageLoader, Picture, Preparer
from draftd.queue import pictures
from draftd.queue.outcome import Fail, GiveBack
from draftd.queue.refused_rows import Quarantine
from draftd.queue.settlements import Settler
from draftd.reply import kept_pictures
from draftd.reply.agents import load_agents, packaged_directory
from draftd.reply.kept_pictures import AttemptPictures, PictureStore
from draftd.reply.prompts import render
from draftd.request import Claim, Options, Request
from fix_database import claim_one, make_request
from fix_extremes import VALUES
from fix_images import Server, data_url, make_png, response

BUDGET_BYTES = 100_000_000
GONE = response(status="403 Forbidden")
HOLD = GiveBack(code="model_unavailable", message="", model="m")


@pytest.fixture
def budget() -> ByteBudget:
    return ByteBudget(BUDGET_BYTES)


@pytest.fixture
async def loader(budget: ByteBudget) -> AsyncIterator[ImageLoader]:
    running = ImageLoader(
        fetcher=Fetcher(max_bytes=1_000_000, allow_private=["127.0.0.1"]),
        preparer=Preparer(max_pixels=40_000_000),
        budget=budget,
        retry_wait_s=0.01,
    )
    yield running
    await running.aclose()


@pytest.fixture
def store(link: db.Link) -> PictureStore:
    return PictureStore(link=link)


class Attempts:
    """Attempts at the one request of a test, one after the other."""

    def __init__(self, *, loader: ImageLoader, store: PictureStore, link: db.Link) -> None:
        self.link = link
        self._loader = loader
        self._store = store
        self._settler = Settler(link=link, quarantine=Quarantine())

    async def fetch(self, claim: Claim, urls: Sequence[str]) -> tuple[AttemptPictures, list[Picture]]:
        attempt_pictures = self._store.for_attempt(claim)
        attempt_pictures.set_urls(urls)
        async with AsyncExitStack() as reservations:
            return attempt_pictures, await self._loader.load(
                urls, kept=attempt_pictures, reservations=reservations, time_s=20
            )

    async def hold(self, urls: Sequence[str]) -> list[Picture]:
        """Carry out an attempt that ends in a hold."""
        claim = await claim_one(self.link)
        attempt_pictures, loaded = await self.fetch(claim, urls)
        await attempt_pictures.keep()
        await self._settler.settle(claim, HOLD)
        return loaded

    async def kept(self) -> list[int]:
        return [row["position"] for row in await self.link.run("SELECT position FROM draft_pictures ORDER BY 1")]


@pytest.fixture
def attempts(loader: ImageLoader, store: PictureStore, link: db.Link) -> Attempts:
    return Attempts(loader=loader, store=store, link=link)


async def test_the_next_attempt_fetches_nothing_and_shows_the_same(
    server: Server, attempts: Attempts, connection: db.Connection, budget: ByteBudget
) -> None:
    tall = make_png(400, 4_000)
    urls = [
        server.on("/a", response(tall), GONE),
        data_url(make_png(50, 50)),
        server.on("/b", response(make_png(60, 60)), GONE),
    ]
    await make_request(connection, image_urls=urls)
    first = await attempts.hold(urls)
    assert await attempts.kept() == [1, 3]
    assert await attempts.hold(urls) == first
    assert await attempts.hold(urls) == first
    assert len(first[0].parts) > 1
    assert len(server.requests) == 2
    assert budget._free_bytes == BUDGET_BYTES


async def test_what_a_message_shows_is_kept_like_what_was_fetched(
    server: Server, attempts: Attempts, connection: db.Connection
) -> None:
    tall = make_png(400, 4_000)
    urls = [data_url(make_png(50, 50)), server.on("/a", response(tall), GONE), server.on("/b", response(tall), GONE)]
    await make_request(connection, image_urls=urls)
    claim = await claim_one(attempts.link)
    attempt_pictures, loaded = await attempts.fetch(claim, urls)
    request = Request(image_urls=tuple(urls), context=None, options={}, parent=None)
    agent = load_agents(packaged_directory())["comment_generator"]
    messages = render(agent, request=request, options=Options(), pictures=loaded)
    attempt_pictures.move_to_messages(loaded, messages)
    await attempt_pictures.keep()
    await Settler(link=attempts.link, quarantine=Quarantine()).settle(claim, HOLD)
    assert await attempts.hold(urls) == loaded


async def test_another_url_in_the_same_place_is_fetched(
    server: Server, attempts: Attempts, connection: db.Connection
) -> None:
    old, new = server.on("/a", response(make_png(40, 40))), server.on("/b", response(make_png(60, 60)))
    await make_request(connection, image_urls=[old])
    await attempts.hold([old])
    (picture,) = await attempts.hold([new])
    assert picture.width_px == 60
    (again,) = await attempts.hold([new])
    assert again == picture
    assert len(server.requests) == 2, "the newest attempt's pictures have replaced those before"


async def test_what_is_ready_is_kept_when_another_picture_fails(
    server: Server, attempts: Attempts, connection: db.Connection
) -> None:
    urls = [server.on("/a", response(make_png(40, 40)), GONE), server.on("/away", response(status="503 Away"))]
    await make_request(connection, image_urls=urls)
    claim = await claim_one(attempts.link)
    attempt_pictures = attempts._store.for_attempt(claim)
    attempt_pictures.set_urls(urls)
    ready = asyncio.Event()
    add = attempt_pictures.add

    def added(index: int, picture: Picture) -> None:
        add(index, picture)
        ready.set()

    attempt_pictures.add = added  # type: ignore[method-assign]  # to know when the first one is there
    server.on("/away", after(ready))
    with pytest.raises(ImageFetchFailed):
        async with AsyncExitStack() as reservations:
            await attempts._loader.load(urls, kept=attempt_pictures, reservations=reservations, time_s=20)
    await attempt_pictures.keep()
    assert await attempts.kept() == [1]


def after(ready: asyncio.Event) -> Any:
    async def handle(writer: asyncio.StreamWriter) -> None:
        await ready.wait()
        await response(status="503 Away")(writer)

    return handle


@pytest.mark.parametrize(
    ("where", "limit"),
    [(kept_pictures, "MAX_ROW_BYTES"), (pictures, "MAX_TOTAL_BYTES")],
    ids=["of a row", "of all"],
)
async def test_over_a_limit_nothing_is_kept_and_the_next_attempt_fetches(
    server: Server,
    attempts: Attempts,
    connection: db.Connection,
    monkeypatch: pytest.MonkeyPatch,
    where: Any,
    limit: str,
) -> None:
    urls = [server.on("/a", response(make_png()))]
    await make_request(connection, image_urls=urls)
    monkeypatch.setattr(where, limit, 0)
    await attempts.hold(urls)
    assert await attempts.kept() == []
    await attempts.hold(urls)
    assert len(server.requests) == 2


async def test_the_limit_of_all_rows_counts_the_pictures_of_every_request(
    server: Server, attempts: Attempts, connection: db.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each row counts as ``MIN_COUNTED_BYTES`` at least; what is full is opened by the end of any request."""
    monkeypatch.setattr(pictures, "MIN_COUNTED_BYTES", 1_000_000)
    monkeypatch.setattr(pictures, "MAX_TOTAL_BYTES", 1_500_000)
    urls = [server.on(path, response(make_png())) for path in ("/a", "/b", "/c")]

    async def hold_another(index: int) -> UUID:
        """Make a request, carry out an attempt at it that ends in a hold, and leave the row for later."""
        made = await make_request(connection, image_urls=[urls[index]], priority=index)
        await attempts.hold([urls[index]])
        await connection.execute("UPDATE draft_requests SET available_at = now() + interval '1 h'")
        return made

    async def kept() -> set[UUID]:
        rows = await attempts.link.run("SELECT DISTINCT request_id FROM draft_pictures")
        return {row["request_id"] for row in rows}

    first = await hold_another(0)
    assert await kept() == {first}
    second = await hold_another(1)
    assert await kept() == {first, second}, "below the limit before it"
    third = await hold_another(2)
    assert await kept() == {first, second}, "two rows of other requests fill it"
    await connection.execute("SELECT cancel_draft_request(%s)", [first])
    await connection.execute("UPDATE draft_requests SET available_at = now() WHERE id = %s", [third])
    await attempts.hold([urls[2]])
    assert await kept() == {second, third}
    assert len(server.requests) == 4


async def test_the_bytes_of_pictures_are_stored_as_they_are(connection: db.Connection) -> None:
    """JPEG does not compress: EXTERNAL storage."""
    rows = await (
        await connection.execute(
            """SELECT attname, attstorage::text AS storage FROM pg_attribute
                WHERE (attrelid = 'draft_pictures'::regclass AND attname = 'data')
                   OR (attrelid = 'draft_requests'::regclass AND attname = 'image_urls') ORDER BY attname"""
        )
    ).fetchall()
    assert {row["attname"]: row["storage"] for row in rows} == {"data": "e", "image_urls": "e"}


async def test_who_lost_the_row_leaves_nothing(server: Server, attempts: Attempts, connection: db.Connection) -> None:
    urls = [server.on("/a", response(make_png()))]
    await make_request(connection, image_urls=urls)
    attempt_pictures, _ = await attempts.fetch(await claim_one(attempts.link), urls)
    await connection.execute("SELECT cancel_draft_request(id) FROM draft_requests")
    await attempt_pictures.keep()
    assert await attempts.kept() == []


async def test_a_row_that_is_locked_for_a_moment_is_waited_for(
    server: Server, attempts: Attempts, connection: db.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_pictures, "KEEP_PICTURES_S", 60)
    urls = [server.on("/a", response(make_png()))]
    await make_request(connection, image_urls=urls)
    attempt_pictures, _ = await attempts.fetch(await claim_one(attempts.link), urls)
    busy = asyncio.Event()
    keep = pictures.keep_pictures

    async def watched(*args: Any) -> pictures.Kept:
        kept = await keep(*args)
        if kept is pictures.Kept.BUSY:
            busy.set()
        return kept

    monkeypatch.setattr(kept_pictures, "keep_pictures", watched)
    async with connection.transaction():
        await connection.execute("SELECT FROM draft_requests FOR UPDATE")
        leaving = asyncio.create_task(attempt_pictures.keep())
        await asyncio.wait_for(busy.wait(), 20)
    await leaving
    assert await attempts.kept() == [1]


async def test_pictures_that_the_server_refuses_fail_no_settlement(
    server: Server, attempts: Attempts, connection: db.Connection
) -> None:
    urls = [server.on("/a", response(make_png()))]
    await make_request(connection, image_urls=urls)
    await connection.execute("ALTER TABLE draft_pictures ADD CONSTRAINT none CHECK (false)")
    await attempts.hold(urls)
    assert await attempts.kept() == []


async def test_no_attempt_waits_for_kept_pictures_while_others_use_the_connection(
    attempts: Attempts, connection: db.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_pictures, "KEEP_PICTURES_S", 0.05)
    await make_request(connection)
    claim = await claim_one(attempts.link)
    uses, over = asyncio.Event(), asyncio.Event()

    async def use(_execute: db.Execute) -> None:
        uses.set()
        await over.wait()

    using = asyncio.create_task(attempts.link.run_rolled_back(use))
    await uses.wait()
    store = kept_pictures.PictureStore(link=attempts.link)
    for found in await asyncio.wait_for(asyncio.gather(store.find(claim), store.find(claim)), 20):
        assert found == []
    assert not using.done()
    over.set()
    await using


async def test_pictures_that_cannot_be_read_in_time_are_fetched_again_and_block_no_input(
    server: Server,
    attempts: Attempts,
    connection: db.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kept_pictures, "KEEP_PICTURES_S", 0.3)
    urls = [server.on("/a", response(make_png()))]
    await make_request(connection, image_urls=urls)
    loaded = await attempts.hold(urls)
    claim = await claim_one(attempts.link)
    looks = 0
    find = pictures.find_pictures

    async def counted(*args: Any, **over: Any) -> Any:
        nonlocal looks
        looks += 1
        return await find(*args, **over)

    monkeypatch.setattr(kept_pictures, "find_pictures", counted)
    async with connection.transaction():
        await connection.execute("LOCK TABLE draft_pictures")
        fetching = [asyncio.create_task(attempts.fetch(claim, urls)) for _ in range(4)]
        # The server would give the lock up after 10 s, and the link the server a little later.
        done = await asyncio.wait_for(asyncio.gather(*fetching), 9)
        assert [pictures for _, pictures in done] == [loaded] * 4
        assert looks == 1, "others do not stand behind it one after the other"
        assert await attempts.link.run("SELECT 1 AS n") == [{"n": 1}]
    assert len(server.requests) == 5


async def test_pictures_are_looked_for_again_after_a_rest(
    server: Server, attempts: Attempts, connection: db.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_pictures, "READ_COOLDOWN_S", 0.0)
    urls = [server.on("/a", response(make_png()))]
    await make_request(connection, image_urls=urls)
    await attempts.hold(urls)
    claim = await claim_one(attempts.link)
    await connection.execute("ALTER TABLE draft_pictures RENAME TO elsewhere")
    await attempts.fetch(claim, urls)
    assert len(server.requests) == 2
    await connection.execute("ALTER TABLE elsewhere RENAME TO draft_pictures")
    await attempts.fetch(claim, urls)
    assert len(server.requests) == 2


async def test_a_connection_that_breaks_while_pictures_are_read_costs_a_fetch_only(
    server: Server, attempts: Attempts, connection: db.Connection
) -> None:
    urls = [server.on("/a", response(make_png()))]
    await make_request(connection, image_urls=urls)
    await attempts.hold(urls)
    claim = await claim_one(attempts.link)
    (own,) = await attempts.link.run("SELECT pg_backend_pid() AS pid")
    await connection.execute("SELECT pg_terminate_backend(%s, 5000)", [own["pid"]])
    await attempts.fetch(claim, urls)
    assert len(server.requests) == 2


async def test_pictures_that_cannot_be_written_in_time_hold_no_settlement_up(
    server: Server,
    attempts: Attempts,
    connection: db.Connection,
    monkeypatch: pytest.MonkeyPatch,
    database: str,
) -> None:
    monkeypatch.setattr(kept_pictures, "KEEP_PICTURES_S", 0.05)
    urls = [server.on("/a", response(make_png()))]
    await make_request(connection, image_urls=urls)
    claim = await claim_one(attempts.link)
    attempt_pictures, _ = await attempts.fetch(claim, urls)
    settling = db.Link(url=database, name="draftd settle")
    async with connection.transaction():
        await connection.execute("LOCK TABLE draft_pictures")
        await asyncio.wait_for(attempt_pictures.keep(), 20)
        assert (await Settler(link=settling, quarantine=Quarantine()).settle(claim, HOLD)).status == "pending"
    await settling.close()
    assert await attempts.kept() == [], "what comes too late is refused by the fence"


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled", "deleted"])
async def test_the_end_of_a_request_takes_its_pictures_along(
    server: Server, attempts: Attempts, connection: db.Connection, end: str
) -> None:
    urls = [server.on("/a", response(make_png()))]
    await make_request(connection, image_urls=urls)
    await attempts.hold(urls)
    claim = await claim_one(attempts.link)
    assert await attempts.kept() == [1]
    match end:
        case "completed":
            await connection.execute("UPDATE draft_requests SET status = 'completed', result = '{}'")
        case "failed":
            await Settler(link=attempts.link, quarantine=Quarantine()).settle(claim, Fail(code="expired", message=""))
        case "cancelled":
            await connection.execute("SELECT cancel_draft_request(id) FROM draft_requests")
        case "deleted":
            await connection.execute("DELETE FROM draft_requests")
    assert await attempts.kept() == []


async def test_a_request_that_ends_at_its_first_attempt_keeps_nothing_either(
    server: Server, attempts: Attempts, connection: db.Connection
) -> None:
    """The last attempt does not know that it was the last one."""
    urls = [server.on("/a", response(make_png()))]
    await make_request(connection, image_urls=urls, max_attempts=1)
    claim = await claim_one(attempts.link)
    attempt_pictures, _ = await attempts.fetch(claim, urls)
    await attempt_pictures.keep()
    assert await attempts.kept() == [1]
    await Settler(link=attempts.link, quarantine=Quarantine()).settle(claim, Fail(code="expired", message=""))
    assert await attempts.kept() == []


async def test_an_end_that_meets_pictures_on_their_way_waits_for_them_and_takes_them_along(
    attempts: Attempts, connection: db.Connection, database: str
) -> None:
    await make_request(connection)
    claim = await claim_one(attempts.link)
    params = {"id": claim.id, "lease_token": claim.lease_token, "positions": [1], "url_sha256s": [b"u"]}
    params |= {"facts": ["{}"], "data": [b"canary"], "min_bytes": 1, "max_bytes": 10}
    async with db.connected(database) as client:
        async with connection.transaction():
            await connection.execute(pictures.KEEP_PICTURES.encode(), params)
            cancelling = asyncio.create_task(client.execute("SELECT cancel_draft_request(id) FROM draft_requests"))
            await waits(attempts.link)
        await cancelling
    assert await attempts.kept() == []


async def waits(link: db.Link) -> None:
    """Wait until a session of this database waits for a lock."""
    waiting: list[Any] = []
    while not waiting:
        await asyncio.sleep(0.01)
        waiting = await link.run(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )


async def test_a_first_attempt_asks_for_nothing(server: Server, loader: ImageLoader, connection: db.Connection) -> None:
    urls = [server.on("/a", response(make_png()))]
    await make_request(connection, image_urls=urls)
    async with AsyncExitStack() as stack:
        link = db.Link(url="postgresql://127.0.0.1:1/nowhere", name="never opened")
        stack.push_async_callback(link.close)
        claim_link = db.Link(url=connection.info.dsn, name="draftd test")
        stack.push_async_callback(claim_link.close)
        attempt_pictures = PictureStore(link=link).for_attempt(await claim_one(claim_link))
        attempt_pictures.set_urls(urls)
        assert attempt_pictures.max_found_bytes == 0
        async with AsyncExitStack() as reservations:
            assert len(await loader.load(urls, kept=attempt_pictures, reservations=reservations, time_s=20)) == 1


async def test_pictures_of_another_form_are_fetched_again(
    server: Server, attempts: Attempts, connection: db.Connection
) -> None:
    urls = [server.on("/a", response(make_png()))]
    await make_request(connection, image_urls=urls)
    (picture,) = await attempts.hold(urls)
    for facts in VALUES["jsonb"] + [
        f"'{text}'" for text in ("[1]", '{"parts": [[1, 2, 3]]}', '{"parts": [["a", 1, 1]]}')
    ]:
        await connection.execute(f"UPDATE draft_pictures SET facts = {facts}".encode())
        assert await attempts.hold(urls) == [picture]
