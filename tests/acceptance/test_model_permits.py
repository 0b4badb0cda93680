"""Whoever may write the tables chooses models, and gets neither the daemon's secrets nor anybody's pictures."""

import socketserver
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from draftd.stand_in.threaded import ThreadedStandIn
from fix_daemon import Client, Fleet, environment, sample_url


class Thief:
    """A server of an attacker's that keeps whatever it is sent."""

    def __init__(self) -> None:
        caught: list[bytes] = []

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                caught.append(self.request.recv(1_000_000))

        self.caught = caught
        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def thief() -> Iterator[Thief]:
    made = Thief()
    yield made
    made.server.shutdown()
    made.server.server_close()


def define(client: Client, name: str, **columns: Any) -> None:
    names, values = ", ".join(["name", *columns]), ", ".join(["%s"] * (len(columns) + 1))
    client.query(f"INSERT INTO draft_models ({names}) VALUES ({values})", name, *columns.values())


def test_a_hostile_row_gets_no_secret_and_no_picture_and_its_fallback_answers(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet, thief: Thief
) -> None:
    define(client, "base", model="openai/m", api_base=thief.url, api_key_env="DRAFTD_DATABASE_URL")
    define(client, "own key", model="openai/m", api_base=thief.url)
    define(client, "params", model="openai/m", params=Jsonb({"base_url": thief.url, "api_base": thief.url}))
    define(client, "name", model=f"huggingface/{thief.url}")
    define(client, "good", model="openai/stand-in", api_base=stand_in.url, input_usd_per_mtok=1, output_usd_per_mtok=1)
    client.query(
        "INSERT INTO draft_agents (agent, model, fallback_models) "
        "VALUES ('comment_generator', 'base', ARRAY['own key', 'params', 'name', 'good'])"
    )
    daemon = fleet.start(environment(database, stand_in))
    request_id = client.insert(sample_url(stand_in))
    row = client.wait_for(request_id, "completed", "failed")
    assert (row["status"], row["model"]) == ("completed", "good")
    assert row["cost_usd"] > 0
    assert [one["model"] for one in client.query("SELECT model FROM draft_usage")] == ["good"]
    assert thief.caught == []
    log = daemon.log
    assert log.count('"model skipped"') == 4
    assert log.count("model_misconfigured") == 4
    assert "DRAFTD_MODEL_API_BASES" in log


def test_an_agent_with_no_other_model_is_not_claimed_until_it_has_one(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet, thief: Thief
) -> None:
    define(client, "openai/stand-in", api_base=thief.url)
    daemon = fleet.start(environment(database, stand_in))
    daemon.wait_for('"model skipped"')
    request_id = client.insert(sample_url(stand_in))
    client.query("UPDATE draft_models SET api_base = %s", stand_in.url)
    row = client.wait_for(request_id, "completed", "failed")
    assert (row["status"], row["attempt"]) == ("completed", 1)
    assert thief.caught == []
