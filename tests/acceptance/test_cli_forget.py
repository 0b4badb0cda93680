"""Forgotten means forgotten: a byte search finds nothing of a requester, also when a model call was in flight."""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from draftd.queue.forgetting import forget
from draftd.stand_in.threaded import ThreadedStandIn
from fix_daemon import DIRECTLY, Call, Client, Daemon, Fleet, environment, free_port, sample_url, wait_until
from fix_dump import dumped
from fix_otlp import OtlpReceiver, otlp_receiver

CANARY = "canary-7d31"
ANSWER = f"answer {CANARY}"


@pytest.fixture
def langfuse() -> Iterator[OtlpReceiver]:
    """A local Langfuse."""
    with otlp_receiver() as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def no_long_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """What daemons still have to send is waited for here by looking."""
    monkeypatch.setattr("draftd.telemetry.trace_deletion.SENT_AFTER_S", 0.01)


def keys(langfuse: OtlpReceiver) -> dict[str, str]:
    """Return the settings with which traces reach it, twice in a second."""
    names = {"LANGFUSE_PUBLIC_KEY": "pk", "LANGFUSE_SECRET_KEY": "sk", "LANGFUSE_BASE_URL": langfuse.url}
    return {**names, "LANGFUSE_FLUSH_INTERVAL": "0.5"}


def request(number: int) -> dict[str, Any]:
    """Return a request with the canary wherever a client may write."""
    return {
        "requester_id": CANARY,
        "context": f"context {CANARY}",
        "options": json.dumps({"me": CANARY, "facts": [CANARY], "voice_samples": [CANARY], "answer_to": CANARY}),
        "metadata": json.dumps({"of": CANARY}),
        "idempotency_key": f"{CANARY} {number}",
    }


def metrics(port: int) -> str:
    """Return what a scrape returns."""
    with DIRECTLY.open(f"http://127.0.0.1:{port}/metrics", timeout=20) as response:
        return str(response.read().decode())


def store_everything(client: Client, stand_in: ThreadedStandIn) -> None:
    """Let a requester have drafts, a failed request, one with kept pictures, feedback and a profile."""
    address = f"{sample_url(stand_in)}?{CANARY}"
    stand_in.script({"fields": {"summary": ANSWER, "platform_name": ANSWER}})
    drafted = client.insert(address, **request(1))
    assert CANARY in str(client.wait_for(drafted, "completed")["result"])
    failed = client.insert(f"{stand_in.root_url}/{CANARY}.png", **request(2))
    client.wait_for(failed, "failed")
    stand_in.script({"garbage": True}, default={"garbage": True})
    retried = client.insert(address, **request(3))
    wait_until(lambda: client.row(retried)["error_code"] == "output_invalid", 60)
    client.query("UPDATE draft_requests SET available_at = now() + interval '1 hour' WHERE id = %s", retried)
    client.query(
        "INSERT INTO draft_feedback (request_id, option, sent_text) VALUES (%s, 'short', %s)", drafted, f"sent {CANARY}"
    )
    client.query(
        "INSERT INTO draft_profiles (requester_id, me, about, facts, signature, voice_samples) "
        "VALUES (%s, %s, %s, ARRAY[%s], %s, ARRAY[%s])",
        *[CANARY] * 6,
    )  # fmt: skip


def begin_a_call(client: Client, stand_in: ThreadedStandIn) -> str:
    """Insert a request, and wait until its model call has published some of its answer and hangs."""
    stand_in.script({"stall": True, "fields": {"summary": ANSWER}})
    calls = len(stand_in.log)
    request_id = client.insert(sample_url(stand_in), **request(4))
    stand_in.wait_for_calls(calls + 1)
    return request_id


def interrupt(*_: Any, **__: Any) -> None:
    """Do as Ctrl-C."""
    raise KeyboardInterrupt


def terminate(*_: Any, **__: Any) -> None:
    """Do as ``systemctl stop``."""
    signal.raise_signal(signal.SIGTERM)


def forgotten(
    call: Call, env: dict[str, str], *arguments: str
) -> tuple[dict[str, Any], subprocess.CompletedProcess[str]]:
    """Forget the canary; return what was printed, and the whole."""
    ended = call("forget", "--requester", CANARY, "--json", *arguments, env=env)
    return json.loads(ended.stdout), ended


def until_aborted(daemon: Daemon) -> None:
    """Wait until the daemon has discarded the attempt: it sees the cancellation, or a moment later that the row is gone."""
    wait_until(lambda: '"lease lost"' in daemon.log or '"request cancelled"' in daemon.log, 60, what=lambda: daemon.log)


def test_a_byte_search_finds_nothing_of_a_forgotten_requester(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet, call: Call, langfuse: OtlpReceiver
) -> None:
    port = free_port()
    env = environment(database, stand_in, **keys(langfuse), DRAFTD_LEASE_S="3")
    daemon = fleet.start(env | {"DRAFTD_METRICS_PORT": str(port), "DRAFTD_LOG_LEVEL": "debug"})
    store_everything(client, stand_in)
    wait_until(lambda: len({span.trace_id for span in langfuse.spans}) == 3, 60, what=lambda: langfuse.spans)
    assert CANARY in str(langfuse.spans)
    begin_a_call(client, stand_in)
    assert CANARY.encode() in dumped(database)

    told, ended = forgotten(call, env)

    assert ended.returncode == 0, ended.stderr
    assert (told["requests"], told["feedback"], told["profiles"]) == (4, 1, 1)
    assert told["traces"] == {"deleted": 3, "left": []}
    until_aborted(daemon)
    wait_until(lambda: client.query("SELECT id FROM draft_usage WHERE code = 'aborted'") != [], 60)
    scraped = metrics(port)
    assert daemon.stop() == 0
    assert CANARY.encode() not in dumped(database)
    assert CANARY not in daemon.log
    assert CANARY not in scraped
    assert CANARY not in str(langfuse.spans)
    assert not langfuse.spans
    assert client.query("SELECT DISTINCT requester_id FROM draft_usage") == [{"requester_id": ""}]


def test_a_dry_run_says_what_would_be_forgotten_and_forgets_nothing(
    database: str, client: Client, stand_in: ThreadedStandIn, call: Call
) -> None:
    client.insert(sample_url(stand_in), **request(1))
    told, ended = forgotten(call, environment(database), "--dry-run")
    assert told == {
        "requests": 1, "feedback": 0, "profiles": 0, "usage": 0, "traces": {"deleted": 0, "left": []}, "dry_run": True,
    }  # fmt: skip
    assert ended.returncode == 0
    assert CANARY.encode() in dumped(database)


def test_without_the_keys_of_langfuse_the_traces_that_are_left_are_printed(
    database: str, client: Client, stand_in: ThreadedStandIn, call: Call
) -> None:
    request_id = client.insert(sample_url(stand_in), **request(1))
    client.query("UPDATE draft_requests SET trace_id = 'abc123' WHERE id = %s", request_id)
    ended = call("forget", "--requester", CANARY, env=environment(database))
    assert ended.returncode == 1
    assert ended.stdout == "abc123\n"
    assert "1 trace left in Langfuse: LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY are not set" in ended.stderr
    assert f"delete those of the user '{CANARY}' there" in ended.stderr
    assert CANARY.encode() not in dumped(database)


def test_a_langfuse_that_refuses_is_told(
    database: str, client: Client, stand_in: ThreadedStandIn, call: Call, langfuse: OtlpReceiver
) -> None:
    langfuse.mood = "refusing"
    request_id = client.insert(sample_url(stand_in), **request(1))
    client.query("UPDATE draft_requests SET trace_id = 'abc123' WHERE id = %s", request_id)
    told, ended = forgotten(call, environment(database, None, **keys(langfuse)))
    assert ended.returncode == 1
    assert told["traces"] == {"deleted": 0, "left": ["abc123"]}
    assert "Langfuse answered 403" in ended.stderr


@pytest.mark.parametrize("as_json", [True, False])
def test_an_interrupted_run_prints_the_traces_of_what_it_has_deleted(
    database: str,
    client: Client,
    stand_in: ThreadedStandIn,
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    *,
    as_json: bool,
) -> None:
    async def forget_one_batch(*args: Any, **_: Any) -> None:
        await forget(*args, on_batch=interrupt)

    request_id = client.insert(sample_url(stand_in), **request(1))
    client.query("UPDATE draft_requests SET trace_id = 'abc123' WHERE id = %s", request_id)
    monkeypatch.setattr("draftd.queue.forgetting.forget", forget_one_batch)
    ended = call("forget", "--requester", CANARY, *["--json"] * as_json, env=environment(database))
    assert ended.returncode == 130
    if as_json:
        told = json.loads(ended.stdout)
        assert (told["requests"], told["traces"]) == (1, {"deleted": 0, "left": ["abc123"]})
    else:
        assert ended.stdout == "abc123\n"


@pytest.mark.parametrize("end", [interrupt, terminate])
def test_traces_are_printed_if_their_deletion_is_interrupted(
    database: str,
    client: Client,
    stand_in: ThreadedStandIn,
    call: Call,
    langfuse: OtlpReceiver,
    monkeypatch: pytest.MonkeyPatch,
    end: Callable[..., None],
) -> None:
    monkeypatch.setattr("draftd.telemetry.trace_deletion.delete_traces", end)
    request_id = client.insert(sample_url(stand_in), **request(1))
    client.query("UPDATE draft_requests SET trace_id = 'abc123' WHERE id = %s", request_id)
    told, ended = forgotten(call, environment(database, None, **keys(langfuse)))
    assert (ended.returncode, told["traces"]) == (1, {"deleted": 0, "left": ["abc123"]})
    assert "1 trace left in Langfuse: interrupted" in ended.stderr


def test_a_second_run_finds_nothing(database: str, client: Client, stand_in: ThreadedStandIn, call: Call) -> None:
    client.insert(sample_url(stand_in), **request(1))
    assert forgotten(call, environment(database))[0]["requests"] == 1
    told, ended = forgotten(call, environment(database))
    assert (told["requests"], ended.returncode) == (0, 0)
