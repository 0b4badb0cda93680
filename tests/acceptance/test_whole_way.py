"""A row inserted by any client becomes a draft: real daemons, a real server, the stand-in model server."""

import json
import re
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from draftd.demo.samples import EMAIL, LINKEDIN_POST, PHONE_CHAT
from draftd.reply.result import Result
from draftd.stand_in.threaded import ThreadedStandIn
from fix_daemon import DIRECTLY, Client, Fleet, draftd, environment, free_port, in_flight, sample_url, wait_until
from fix_otlp import otlp_receiver

WORDS = re.compile(r"\w+")


def until_final(listener: psycopg.Connection) -> Iterator[psycopg.Notify]:
    """Yield what the channel says until a request is final."""
    for notice in listener.notifies(timeout=60):
        yield notice
        if json.loads(notice.payload)["status"] == "completed":
            return


def test_a_row_becomes_a_draft_and_the_channel_says_so(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    fleet.start(environment(database, stand_in))
    with psycopg.connect(database, autocommit=True) as listener:
        listener.execute("LISTEN draft_results")
        request_id = client.insert(sample_url(stand_in), context="we use a log")
        said = [json.loads(notice.payload) for notice in until_final(listener)]
    assert said[-1] == {"id": request_id, "status": "completed", "options_ready": 3}
    # Those in between are hints of progress: how many there are is the machine's affair.
    assert all(one["id"] == request_id and one["status"] == "processing" for one in said[:-1])
    row = client.row(request_id)
    result = Result.model_validate(row["result"])
    assert result.platform == "linkedin"
    assert [option.length for option in result.options] == ["short", "medium", "detailed"]
    assert row["model"] == "openai/stand-in"
    assert row["prompt_version"]
    assert row["input_tokens"] > 0
    assert row["images"][0] | {"sha256": ""} == {
        "host": "127.0.0.1",
        "sha256": "",
        "width": LINKEDIN_POST.width_px,
        "height": LINKEDIN_POST.height_px,
        "parts": 1,
    }
    assert row["error_code"] is row["lease_until"] is None
    usage = client.query("SELECT * FROM draft_usage WHERE request_id = %s", request_id)
    assert [(one["model"], one["code"], one["call"]) for one in usage] == [("openai/stand-in", None, 1)]


def test_drafts_appear_one_after_the_other(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    # No renewal meanwhile: progress that meets one at the row gives way.
    fleet.start(environment(database, stand_in, DRAFTD_LEASE_S="120"))

    def options_of(request_id: str) -> list[dict[str, Any]]:
        options: list[dict[str, Any]] = (client.row(request_id)["partial_result"] or {}).get("options", [])
        return options

    for ready, begun in enumerate(['"medium"', '"detailed"'], start=1):
        # The model says no more until this has been seen.
        stand_in.script({"stall_after": begun})
        request_id = client.insert(sample_url(stand_in, PHONE_CHAT.name))
        wait_until(partial(lambda which, count: len(options_of(which)) >= count, request_id, ready), 60)
        shown = options_of(request_id)
        assert (len(shown), client.row(request_id)["status"]) == (ready, "processing")
        stand_in.release()
        assert client.wait_for(request_id, "completed")["result"]["options"][:ready] == shown


@pytest.mark.timeout(240)
@pytest.mark.parametrize("count", [60, pytest.param(500, marks=pytest.mark.long)])
def test_two_daemons_draft_each_of_many_requests_exactly_once(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet, count: int
) -> None:
    env = environment(database, stand_in)
    url = sample_url(stand_in, EMAIL.name)
    daemons = [fleet.start(env, "--concurrency", "8", wait=False) for _ in range(2)]
    for daemon in daemons:
        daemon.wait_for('"started"')
    client.query(
        "INSERT INTO draft_requests (image_urls, context, requester_id) "
        "SELECT ARRAY[%s], 'request number ' || n || ' of many', 'r' || n %% 7 FROM generate_series(1, %s) AS n",
        url,
        count,
    )
    wait_until(
        lambda: client.query("SELECT count(*) AS n FROM draft_requests WHERE status = 'completed'")[0]["n"] == count,
        220,
        what=lambda: client.query("SELECT status, count(*) FROM draft_requests GROUP BY status"),
    )
    asked = [re.findall(r"request number (\d+) of many", call["prompt"]) for call in stand_in.log]
    numbers = [int(found[0]) for found in asked]
    assert sorted(numbers) == list(range(1, count + 1))
    rows = client.query("SELECT max(attempt) AS attempts, count(DISTINCT worker_id) AS workers FROM draft_requests")
    assert rows == [{"attempts": 1, "workers": 2}]


def test_sigterm_gives_the_attempt_back_and_another_daemon_goes_on(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    env = environment(database, stand_in, DRAFTD_SHUTDOWN_GRACE_S="0.2")
    first, request_id = in_flight(fleet, client, stand_in, env)
    second = fleet.start(env)
    assert first.stop() == 0
    row = client.wait_for(request_id, "completed")
    assert (row["attempt"], row["lease_token"], row["errors"]) == (1, 2, [])
    assert second.stop() == 0
    states = client.query("SELECT state FROM draft_workers")
    assert states == [{"state": "stopped"}] * 2


def test_a_drain_waits_for_the_attempt_in_flight(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    daemon, request_id = in_flight(fleet, client, stand_in, environment(database, stand_in))
    daemon.process.send_signal(signal.SIGINT)
    daemon.wait_for("waiting for attempts")
    later = client.insert(sample_url(stand_in))
    stand_in.release()
    assert daemon.wait() == 0
    assert client.row(request_id)["status"] == "completed"
    assert client.row(later)["status"] == "pending"


def test_a_second_signal_ends_it_at_once(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    daemon, request_id = in_flight(fleet, client, stand_in, environment(database, stand_in))
    daemon.process.send_signal(signal.SIGTERM)
    daemon.wait_for("waiting for attempts")
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.wait() == 128 + signal.SIGTERM
    assert client.row(request_id)["status"] == "processing"


def test_a_request_stranded_by_a_crash_is_picked_up_at_start(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    stand_in.script({"hang": True})
    env = environment(database, stand_in, DRAFTD_LEASE_S="4", DRAFTD_REAP_INTERVAL_S="0.5")
    first = fleet.start(env)
    request_id = client.insert(sample_url(stand_in))
    stand_in.wait_for_calls(1)
    first.stop(signal.SIGKILL)
    fleet.start(env)
    row = client.wait_for(request_id, "completed")
    assert (row["attempt"], row["errors"][0]["code"]) == (2, "worker_lost")


def test_a_cancel_aborts_the_model_call(database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet) -> None:
    stand_in.script({"hang": True})
    daemon = fleet.start(environment(database, stand_in, DRAFTD_LEASE_S="1.5"))
    request_id = client.insert(sample_url(stand_in))
    stand_in.wait_for_calls(1)
    assert client.query("SELECT cancel_draft_request(%s) AS done", request_id)[0]["done"]
    stand_in.wait_for_calls(1, outcome="client_gone")
    daemon.wait_for("request cancelled")
    assert "lease lost" not in daemon.log
    row = client.row(request_id)
    assert (row["status"], row["result"]) == ("cancelled", None)


def test_an_operator_changes_the_model_without_a_restart(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    own = {"DRAFTD_MODEL_API_BASES": stand_in.root_url, "DRAFTD_MODEL_KEY_VARIABLES": "GATEWAY_KEY", "GATEWAY_KEY": "g"}
    env = environment(database, stand_in, **own, DRAFTD_LEASE_S="3")
    daemon = fleet.start(env)
    address = ["--api-base", stand_in.url, "--api-key-env", "GATEWAY_KEY"]
    for command in (
        ["models", "set", "other", "--model", "openai/other", *address],
        ["agents", "set", "comment_generator", "other"],
    ):
        changed = draftd(*command, env=env)
        assert changed.returncode == 0, changed.stderr
    daemon.wait_for("model changed")
    request_id = client.insert(sample_url(stand_in))
    assert client.wait_for(request_id, "completed")["model"] == "other"
    assert stand_in.log[-1]["model"] == "other"


FINAL_BEHAVIOURS: dict[str, dict[str, Any]] = {
    "model_refused": {"refusal": True},
    "context_too_long": {"error": "context_length_exceeded"},
    "nothing_to_reply_to": {"nothing": True},
    "output_invalid": {"garbage": True},
}


def test_failures_get_the_codes_of_the_contract(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    stand_in.script(default=[behaviour | {"when": f"case {code}"} for code, behaviour in FINAL_BEHAVIOURS.items()])
    request_ids = {
        code: client.insert(sample_url(stand_in), context=f"case {code}", max_attempts=1) for code in FINAL_BEHAVIOURS
    }
    daemon = fleet.start(environment(database, stand_in), "--drain", wait=False)
    assert daemon.wait() == 0, daemon.log
    for code, request_id in request_ids.items():
        row = client.row(request_id)
        assert (row["status"], row["error_code"]) == ("failed", code), row["error_message"]
        assert client.query("SELECT * FROM draft_usage WHERE request_id = %s", request_id), "every call is recorded"


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        ({"disconnect": True}, "model_unavailable"),
        ({"status": 401}, "model_misconfigured"),
        ({"error": "insufficient_quota"}, "model_rate_limited"),
    ],
)
def test_an_outage_holds_the_model_and_gives_the_attempt_back(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet, behaviour: dict[str, Any], code: str
) -> None:
    stand_in.script(default=behaviour)
    request_id = client.insert(sample_url(stand_in), max_attempts=1)
    daemon = fleet.start(environment(database, stand_in), "--drain", wait=False)
    assert daemon.wait() == 75, daemon.log
    row = client.row(request_id)
    assert (row["status"], row["error_code"], row["attempt"]) == ("pending", code, 0)
    assert client.query("SELECT model, code FROM draft_holds") == [{"model": "openai/stand-in", "code": code}]


def test_a_hold_ends_by_a_probe(database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet) -> None:
    stand_in.script(default={"status": 500})
    daemon = fleet.start(environment(database, stand_in, DRAFTD_LEASE_S="4"))
    request_ids = [client.insert(sample_url(stand_in)) for _ in range(3)]
    wait_until(lambda: bool(client.query("SELECT * FROM draft_holds")), 60)
    wait_until(lambda: not client.query("SELECT * FROM draft_requests WHERE status = 'processing'"), 60)
    stand_in.script(default={})
    for request_id in request_ids:
        assert client.wait_for(request_id, "completed")["attempt"] == 1
    daemon.wait_for("hold ended")
    assert client.query("SELECT * FROM draft_holds") == []


def test_a_bad_answer_is_repaired_once(database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet) -> None:
    stand_in.script({"placeholder": True})
    request_id = client.insert(sample_url(stand_in))
    daemon = fleet.start(environment(database, stand_in), "--drain", wait=False)
    assert daemon.wait() == 0, daemon.log
    row = client.row(request_id)
    assert row["status"] == "completed"
    assert len(stand_in.log) == 2
    assert "[" not in "".join(option["text"] for option in row["result"]["options"])
    usage = client.query("SELECT input_tokens FROM draft_usage ORDER BY call")
    assert row["input_tokens"] == sum(one["input_tokens"] for one in usage)


def test_a_refinement_reads_no_picture_again(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    fleet.start(environment(database, stand_in))
    parent = client.insert(sample_url(stand_in, EMAIL.name))
    parent_row = client.wait_for(parent, "completed")
    child = str(
        client.query("INSERT INTO draft_requests (parent_id, context) VALUES (%s, 'shorter') RETURNING id", parent)[0][
            "id"
        ]
    )
    row = client.wait_for(child, "completed", "failed")
    assert row["status"] == "completed", row["errors"]
    asked = stand_in.log[-1]
    assert asked["images"] == []
    assert parent_row["result"]["options"][0]["text"] in asked["prompt"]


def test_a_blocked_address_is_never_asked(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    env = environment(database, stand_in)
    del env["DRAFTD_ALLOW_PRIVATE_IMAGE_HOSTS"]
    request_id = client.insert(sample_url(stand_in) + "?signature=secret")
    daemon = fleet.start(env, "--drain", wait=False)
    assert daemon.wait() == 0
    row = client.row(request_id)
    assert (row["status"], row["error_code"]) == ("failed", "image_blocked")
    assert "secret" not in json.dumps(row, default=str).replace(json.dumps(row["image_urls"]), "")
    assert "secret" not in daemon.log


def test_an_expired_request_costs_no_model_call(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    request_id = client.insert(sample_url(stand_in), expires_at="2020-01-01")
    daemon = fleet.start(environment(database, stand_in), "--drain", wait=False)
    assert daemon.wait() == 0, daemon.log
    assert client.row(request_id)["error_code"] == "expired"
    assert stand_in.log == []


def test_pictures_that_were_dropped_are_gone(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    request_id = client.insert("data:image/png;base64,aGVsbG8=")
    env = environment(database, stand_in)
    assert fleet.start(env, "--drain", wait=False).wait() == 0
    assert client.row(request_id)["error_code"] == "image_invalid"
    assert draftd("retry", request_id, env=env).returncode == 0
    assert fleet.start(env, "--drain", wait=False).wait() == 0
    assert client.row(request_id)["error_code"] == "image_gone"


def test_a_daemon_refuses_a_database_without_schema(empty_database: str, stand_in: ThreadedStandIn) -> None:
    done = draftd("run", env=environment(empty_database, stand_in))
    assert done.returncode == 78
    assert "draftd migrate" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_daemon_without_a_model_says_so(database: str, tmp_path: Path) -> None:
    done = draftd("run", env=environment(database), cwd=tmp_path)
    assert done.returncode == 78
    assert "DRAFTD_MODEL" in done.stderr
    assert not WORDS.findall(done.stdout)


def test_a_part_that_dies_stops_the_daemon_with_an_error(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    daemon = fleet.start(environment(database, stand_in, DRAFTD_LEASE_S="1.5"))
    client.query("ALTER TABLE draft_workers RENAME TO somewhere_else")
    assert daemon.wait() == 1
    assert "a daemon task died" in daemon.log


def test_an_attempt_is_a_trace(database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet) -> None:
    with otlp_receiver() as langfuse:
        keys = {"LANGFUSE_PUBLIC_KEY": "pk", "LANGFUSE_SECRET_KEY": "sk", "LANGFUSE_BASE_URL": langfuse.url}
        request_id = client.insert(sample_url(stand_in), context="we use a log")
        # Before the daemon starts: it looks for feedback at its start, and then every 15 s.
        client.query("INSERT INTO draft_feedback (request_id, rating) VALUES (%s, 1)", request_id)
        daemon = fleet.start(environment(database, stand_in, **keys))
        row = client.wait_for(request_id, "completed")
        langfuse.wait_for_scores(1)
        assert daemon.stop() == 0
        generation = langfuse.named("draft")
    (score,) = langfuse.scores.values()
    assert (score["name"], score["value"]) == ("rating", 1.0)
    assert score["traceId"] == generation.trace_id == row["trace_id"]
    assert b"image/jpeg" not in langfuse.raw


def test_a_langfuse_that_is_away_changes_nothing(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    keys = {"LANGFUSE_PUBLIC_KEY": "pk", "LANGFUSE_SECRET_KEY": "sk", "LANGFUSE_BASE_URL": "http://127.0.0.1:9"}
    daemon = fleet.start(environment(database, stand_in, **keys))
    request_id = client.insert(sample_url(stand_in))
    client.wait_for(request_id, "completed")
    began = time.monotonic()
    assert daemon.stop() == 0
    # The SDK's own end waits for a minute and more.
    assert time.monotonic() - began < 30


def test_metrics_are_served_under_the_names_of_the_contract(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    port = free_port()
    fleet.start(environment(database, stand_in, DRAFTD_METRICS_PORT=str(port)))
    client.wait_for(client.insert(sample_url(stand_in)), "completed")

    def page() -> str:
        with DIRECTLY.open(f"http://127.0.0.1:{port}/metrics", timeout=20) as response:
            return str(response.read().decode())

    wait_until(lambda: 'draftd_requests_total{code="",status="completed"} 1.0' in page(), 60, what=page)
    text = page()
    for name in ("oldest_pending_seconds", "first_option_seconds_count", "request_seconds_count", "in_flight"):
        assert f"draftd_{name}" in text
    assert 'draftd_tokens_total{kind="output",model="openai/stand-in"}' in text
