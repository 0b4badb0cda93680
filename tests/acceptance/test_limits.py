"""Limits and pauses with real daemons: what the model server counts is what counts."""

import pytest

from draftd.daemon.gauges import INTERVAL_S
from draftd.stand_in.threaded import ThreadedStandIn
from fix_daemon import DIRECTLY, Call, Client, Fleet, draftd, environment, free_port, wait_until

REQUESTS = 24


def finished(client: Client, requester_id: str) -> int:
    rows = client.query(
        "SELECT count(*) AS n FROM draft_requests WHERE status = 'completed' AND requester_id = %s", requester_id
    )
    return int(rows[0]["n"])


def refinable(client: Client, requester_id: str) -> str:
    """Make a completed request; refinements of it need no picture."""
    request_id = client.insert("https://images.example/shot.png", requester_id=requester_id)
    client.query(
        """UPDATE draft_requests SET status = 'completed',
                  result = '{"options": [{"length": "short", "angle": "thanks", "text": "Thank you, Friday it is."}]}',
                  reading = '[{"author": "Ann", "text": "Do we ship on Friday?"}]' WHERE id = %s""",
        request_id,
    )
    return request_id


def enqueue(client: Client, requester_id: str, count: int) -> None:
    parent_id = refinable(client, requester_id)
    for number in range(count):
        client.query(
            "INSERT INTO draft_requests (parent_id, requester_id, context) VALUES (%s, %s, %s)",
            parent_id, requester_id, f"<{requester_id} {number}>",
        )  # fmt: skip


@pytest.mark.timeout(300)
def test_a_flood_of_one_requester_never_exceeds_its_limit_on_a_fleet(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    client.query("INSERT INTO draft_limits (requester_id, max_in_flight) VALUES ('flood', 2)")
    enqueue(client, "flood", REQUESTS)
    stand_in.script([{"hang": True}] * 2, default={"latency_s": 0.1})
    daemons = [fleet.start(environment(database, stand_in), "--concurrency", "8", wait=False) for _ in range(3)]
    for daemon in daemons:
        daemon.wait_for('"started"')
    stand_in.wait_for_calls(2)
    stand_in.release()
    wait_until(lambda: finished(client, "flood") == REQUESTS + 1, 120, what=lambda: daemons[0].log)
    peaks = [call["in_flight"] for call in stand_in.log]
    assert max(peaks) == 2, "neither more nor less than the limit"
    stand_in.reset()
    enqueue(client, "another", 8)
    stand_in.script(default={"latency_s": 0.5})
    wait_until(lambda: finished(client, "another") == 9, 60)


@pytest.mark.timeout(300)
def test_a_drain_works_through_what_waits_for_its_requesters_others(
    database: str, client: Client, stand_in: ThreadedStandIn
) -> None:
    client.query("INSERT INTO draft_limits (requester_id, max_in_flight) VALUES ('ann', 1)")
    enqueue(client, "ann", 4)
    assert draftd("run", "--drain", env=environment(database, stand_in)).returncode == 0
    assert finished(client, "ann") == 5
    assert max(call["in_flight"] for call in stand_in.log) == 1


@pytest.mark.timeout(300)
def test_a_pause_lets_running_requests_end_and_a_resume_goes_on(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet, call: Call
) -> None:
    env = environment(database, stand_in)
    stand_in.script(default={"hang": True})
    daemon = fleet.start(env, "--concurrency", "2")
    enqueue(client, "ann", 6)
    stand_in.wait_for_calls(2)
    assert call("pause", "--reason", "test", env=env).returncode == 0
    stand_in.script(default={})
    stand_in.release()
    wait_until(lambda: finished(client, "ann") == 3, 60, what=lambda: daemon.log)
    wait_until(lambda: daemon.log.count('"settled"') == 2, 60, what=lambda: daemon.log)
    assert len(stand_in.log) == 2, "nothing is begun once a pause has returned"
    assert call("status", env=env).stdout.startswith("everything is paused")
    assert call("resume", env=env).returncode == 0
    wait_until(lambda: finished(client, "ann") == 7, 60, what=lambda: daemon.log)


@pytest.mark.timeout(300)
def test_a_paused_model_is_left_out_and_an_agents_other_one_answers(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet, call: Call
) -> None:
    env = environment(database, stand_in, DRAFTD_MODEL="openai/first", DRAFTD_FALLBACK_MODELS="openai/second")
    fleet.start(env)
    assert call("pause", "--model", "openai/first", env=env).returncode == 0
    enqueue(client, "ann", 3)
    wait_until(lambda: finished(client, "ann") == 4, 60)
    assert {one["model"] for one in stand_in.log} == {"second"}
    assert call("pause", "--model", "openai/second", env=env).returncode == 0
    enqueue(client, "bob", 1)
    wait_until(lambda: call("status", env=env).stdout.startswith("the model openai/first is paused"), 30)
    assert call("resume", "--model", "openai/first", env=env).returncode == 0
    wait_until(lambda: finished(client, "bob") == 2, 60)
    assert stand_in.log[-1]["model"] == "first"


@pytest.mark.timeout(300)
def test_a_daemon_publishes_its_models_and_counts_by_state(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    port = free_port()
    client.query("INSERT INTO draft_pauses (what, name) VALUES ('requester', 'ann')")
    enqueue(client, "ann", 3)
    client.query(
        "SELECT create_draft_request(%s)", '{"image_urls": ["https://a.example/b.png"], "available_at": "2100-01-01"}'
    )
    fleet.start(environment(database, stand_in, DRAFTD_METRICS_PORT=str(port)))
    wait_until(lambda: client.query("SELECT models FROM draft_workers")[0]["models"] != {}, 30)
    assert client.query("SELECT models FROM draft_workers") == [
        {"models": {"comment_generator": {"openai/stand-in": True}}}
    ]

    def served() -> str:
        with DIRECTLY.open(f"http://127.0.0.1:{port}/metrics") as answer:
            return str(answer.read().decode())

    wait_until(lambda: 'draftd_pending{state="limited"} 3.0' in served(), INTERVAL_S + 15, what=served)
    assert 'draftd_pending{state="later"} 1.0' in served()
    assert 'draftd_pending{state="due"} 0.0' in served()
