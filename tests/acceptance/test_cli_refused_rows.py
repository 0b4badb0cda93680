"""Commands over many requests go on without those that the database refuses to change, and name them."""

import json

import pytest

from fix_daemon import Call, Client, environment
from fix_refusals import RETURN, refusing

URL = "https://images.example/shot.png"


def insert_many(client: Client, count: int, settings: str) -> list[str]:
    ids = [client.insert(URL, available_at="2100-01-01") for _ in range(count)]
    client.query(f"UPDATE draft_requests SET {settings}")
    return ids


@pytest.mark.parametrize(("verb", "settings"), [("cancel", "status = 'pending'"), ("retry", "status = 'failed'")])
def test_a_bulk_change_names_what_is_refused_and_changes_the_rest(
    database: str, client: Client, call: Call, verb: str, settings: str
) -> None:
    ids = insert_many(client, 3, settings)
    client.query(refusing([ids[1]]))
    done = call(verb, "--requester", "", "--json", env=environment(database))
    answer = json.loads(done.stdout)
    assert {row["id"] for row in answer["requests"]} == {ids[0], ids[2]}
    assert (answer["matched"], answer["changed"]) == (3, 2)
    assert f"refused to {verb} {ids[1]} (SQLSTATE P0001)" in done.stderr
    assert done.returncode == 1


def test_one_request_that_is_refused_is_told_in_one_line(database: str, client: Client, call: Call) -> None:
    ids = insert_many(client, 1, "status = 'pending'")
    client.query(refusing(ids))
    done = call("cancel", ids[0], env=environment(database))
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "not this one" in done.stderr


def test_prune_names_what_is_refused_and_deletes_the_rest(database: str, client: Client, call: Call) -> None:
    ids = insert_many(client, 3, "status = 'failed'")
    client.query("UPDATE draft_requests SET created_at = now() - interval '2 d', finished_at = now() - interval '2 d'")
    client.query("CREATE TABLE tickets (draft uuid REFERENCES draft_requests (id))")
    client.query("INSERT INTO tickets VALUES (%s)", ids[1])
    done = call("prune", "--older-than", "1d", "--json", env=environment(database))
    assert json.loads(done.stdout) == {"pruned": 2, "dry_run": False}
    assert f"refused to prune {ids[1]} (SQLSTATE 23503)" in done.stderr
    assert done.returncode == 1


def test_reap_stale_ends_what_cannot_be_given_back(database: str, client: Client, call: Call) -> None:
    lost = "status = 'processing', lease_until = now() - interval '1 h'"
    ids = insert_many(client, 3, lost)
    client.query(refusing([ids[1]], when=RETURN))
    env = environment(database, DRAFTD_LEASE_S="1")
    done = call("reap-stale", "--older-than", "1", "--json", env=env)
    assert json.loads(done.stdout) == {"requeued": 2, "failed": 1, "dry_run": False}
    assert f"refused to reap {ids[1]} (SQLSTATE P0001); it has failed" in done.stderr
    assert done.returncode == 0
