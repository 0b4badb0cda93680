"""How a daemon starts, and when it should not: all of it in this process, except litellm."""

import asyncio
import gc
import os
import signal
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from draftd import db
from draftd.daemon import composition, hold_cleaner, liveness, parts, plan
from draftd.daemon.hold_cleaner import HoldCleaner
from draftd.daemon.lifecycle import Daemon
from draftd.errors import ConfigurationError
from draftd.providers.holds import Holds
from draftd.providers.llm import Llm
from draftd.reply import language
from draftd.reply.drafter import Drafter
from draftd.request import Claim
from draftd.settings import Settings, load_settings
from fix_database import make_request, read_row


class NoModels:
    """Stands for litellm, which nothing here asks."""

    async def aclose(self) -> None:
        pass


def interrupted() -> NoModels:
    """Load it, with a SIGTERM meanwhile."""
    os.kill(os.getpid(), signal.SIGTERM)
    return NoModels()


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith(("DRAFTD_", "LANGFUSE_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Llm, "load", NoModels)
    yield
    gc.unfreeze()


def make_settings(monkeypatch: pytest.MonkeyPatch, database: str, **over: str) -> Settings:
    for name, value in {"DRAFTD_DATABASE_URL": database, "DRAFTD_MODEL": "openai/m", **over}.items():
        monkeypatch.setenv(name, value)
    return load_settings()[0]


async def states(connection: db.Connection) -> list[str]:
    rows = await (await connection.execute("SELECT state FROM draft_workers")).fetchall()
    return [row["state"] for row in rows]


async def test_the_collector_leaves_alone_what_was_loaded(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gc.get_freeze_count() == 0
    assert await composition.serve(make_settings(monkeypatch, database), concurrency=1, drain=True) == 0
    assert gc.get_freeze_count() > 10_000


async def test_the_detector_of_languages_is_loaded_at_the_start_and_off_the_event_loop(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    monkeypatch.setattr(language, "load", lambda: threads.append(threading.current_thread()))
    assert await composition.serve(make_settings(monkeypatch, database), concurrency=1, drain=True) == 0
    assert threads
    assert threading.main_thread() not in threads


async def test_a_signal_during_the_start_is_obeyed_before_anything_is_claimed(
    database: str, connection: db.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    request_id = await make_request(connection)
    monkeypatch.setattr(Llm, "load", interrupted)
    name = f"draftd-test-{uuid.uuid4()}"
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(f"\0{name}")
        supervisor.setblocking(False)
        assert await composition.serve(make_settings(monkeypatch, database), concurrency=2, drain=False) == 0
        with pytest.raises(BlockingIOError):
            supervisor.recv(100)
    row = await read_row(connection, request_id)
    assert (row["status"], row["lease_token"]) == ("pending", 0)
    assert await states(connection) == ["stopped"]


async def test_a_daemon_can_be_asked_when_it_says_that_it_has_started(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = []

    async def ask_itself(daemon: Daemon, _stop: asyncio.Event, *, started: Callable[[], None]) -> None:
        started()
        own = [name for name in liveness.daemons() if name.partition(".")[0] == str(os.getpid())]
        answers.extend([await liveness.ask(name) for name in own])
        for close in daemon.closers:
            await close()

    monkeypatch.setattr(Daemon, "run", ask_itself)
    assert await composition.serve(make_settings(monkeypatch, database), concurrency=1, drain=False) == 0
    assert [answer["in_flight"] for answer in answers] == [0]


async def test_a_daemon_without_a_model_is_no_worker(
    database: str, connection: db.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(monkeypatch, database, DRAFTD_MODEL="")
    with pytest.raises(ConfigurationError, match="no model is configured"):
        await composition.serve(settings, concurrency=2, drain=False)
    assert await states(connection) == ["stopped"]


async def test_a_daemon_whose_metrics_port_is_taken_is_no_worker(
    database: str, connection: db.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = make_settings(monkeypatch, database, DRAFTD_METRICS_PORT=str(taken.getsockname()[1]))
        with pytest.raises(ConfigurationError, match="DRAFTD_METRICS_PORT"):
            await composition.serve(settings, concurrency=2, drain=False)
    assert await states(connection) == ["stopped"]


async def test_the_metrics_are_served_on_the_host_that_is_set(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = {"DRAFTD_METRICS_HOST": "192.0.2.1", "DRAFTD_METRICS_PORT": "9464"}
    with pytest.raises(ConfigurationError, match=r"DRAFTD_METRICS_HOST: cannot listen on port 9464 of 192\.0\.2\.1"):
        await composition.serve(make_settings(monkeypatch, database, **elsewhere), concurrency=2, drain=False)


async def test_a_daemon_forgets_the_holds_that_nobody_uses_and_keeps_its_own(
    database: str, connection: db.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hold_cleaner, "KEEP_INTERVAL_S", 0.05)
    monkeypatch.setattr(hold_cleaner, "UNUSED_S", 0.0)
    await connection.execute(
        "INSERT INTO draft_holds (model, code, until, used_at) "
        "SELECT m, 'model_unavailable', now() + interval '1 h', now() - interval '1 h' "
        "FROM unnest(ARRAY['openai/m', 'typo']) AS m"
    )

    async def held() -> list[str]:
        rows = await (await connection.execute("SELECT model FROM draft_holds ORDER BY model")).fetchall()
        return [row["model"] for row in rows]

    keep, gone = HoldCleaner.clean, asyncio.Event()

    async def watched(cleaner: HoldCleaner, now: float) -> None:
        await keep(cleaner, now)
        if "typo" not in await held():
            gone.set()

    monkeypatch.setattr(HoldCleaner, "clean", watched)
    serving = asyncio.create_task(composition.serve(make_settings(monkeypatch, database), concurrency=1, drain=False))
    await asyncio.wait_for(gone.wait(), 60)
    assert await held() == ["openai/m"]
    os.kill(os.getpid(), signal.SIGTERM)
    assert await serving == 0


@pytest.mark.parametrize(("attempt_s", "model_s", "probe_s"), [(120, 60, 80), (120, 119, 120), (10, 60, 10)])
def test_a_probe_lasts_as_long_as_a_call_may_take_within_its_attempt(
    monkeypatch: pytest.MonkeyPatch, attempt_s: float, model_s: float, probe_s: float
) -> None:
    over = {"DRAFTD_ATTEMPT_TIMEOUT_S": str(attempt_s), "DRAFTD_MODEL_TIMEOUT_S": str(model_s)}
    assert parts.probe_s(make_settings(monkeypatch, "postgresql://x/y", **over)) == probe_s


async def test_a_probe_of_a_daemon_has_the_time_that_its_settings_give_a_call(
    database: str, connection: db.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await connection.execute("INSERT INTO draft_holds (model, code, until) VALUES ('openai/m', 'model_timeout', now())")
    await make_request(connection)
    probed: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    take_probe = Holds.take_probe

    async def watched(holds: Holds, link: db.Link, model: str, agents: Sequence[str]) -> bool:
        taken = await take_probe(holds, link, model, agents)
        if taken and not probed.done():
            (row,) = await link.run("SELECT extract(epoch FROM until - now())::float8 AS left_s FROM draft_holds")
            probed.set_result(row["left_s"])
        return taken

    monkeypatch.setattr(Holds, "take_probe", watched)
    settings = make_settings(monkeypatch, database, DRAFTD_ATTEMPT_TIMEOUT_S="300", DRAFTD_MODEL_TIMEOUT_S="130")
    serving = asyncio.create_task(composition.serve(settings, concurrency=1, drain=False))
    assert await asyncio.wait_for(probed, 60) == pytest.approx(parts.probe_s(settings), abs=20)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await serving == 0


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("SELECT cancel_draft_request(id) FROM draft_requests", id="cancelled"),
        pytest.param("UPDATE draft_requests SET lease_token = lease_token + 1", id="lost"),
    ],
)
async def test_the_next_beat_aborts_an_attempt_whose_row_is_no_longer_its_own(
    database: str, connection: db.Connection, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    begun, aborted = asyncio.Event(), asyncio.Event()

    async def hang(_drafter: Drafter, _claim: Claim) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            aborted.set()

    monkeypatch.setattr(Drafter, "draft", hang)
    await make_request(connection)
    settings = make_settings(monkeypatch, database, DRAFTD_LEASE_S="1", DRAFTD_SHUTDOWN_GRACE_S="0")
    serving = asyncio.create_task(composition.serve(settings, concurrency=1, drain=False))
    try:
        await asyncio.wait_for(begun.wait(), 20)
        await connection.execute(change.encode())
        await asyncio.wait_for(aborted.wait(), 20)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        assert await serving == 0


async def test_a_base_that_is_no_address_is_told_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make_settings(monkeypatch, "postgresql://127.0.0.1:1/app", DRAFTD_MODEL_API_BASES="gpu1:8000")
    with pytest.raises(ConfigurationError, match="DRAFTD_MODEL_API_BASES"):
        await composition.serve(settings, concurrency=2, drain=False)


async def test_a_host_that_cannot_be_allowed_is_told_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    away = "postgresql://127.0.0.1:1/app"
    settings = make_settings(monkeypatch, away, DRAFTD_ALLOW_PRIVATE_IMAGE_HOSTS="nas:0")
    with pytest.raises(ConfigurationError, match="DRAFTD_ALLOW_PRIVATE_IMAGE_HOSTS"):
        await composition.serve(settings, concurrency=2, drain=False)


async def test_a_statement_that_hangs_holds_up_no_end_for_longer_than_its_share(
    database: str, connection: db.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "CLOSE_TIME_S", 0.05)
    settings = make_settings(monkeypatch, database)
    links = await plan.open_links(plan.Plan(settings=settings, agents={}, concurrency=1, drain=False, listens=True))
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(1)")
        hanging = asyncio.create_task(links.settle.run("SELECT pg_advisory_lock_shared(1)"))
        await asyncio.sleep(0)
        await links.close()
        assert not hanging.done()
        assert links.settle.is_open
        assert not links.read.is_open
    await hanging
    await links.close()
