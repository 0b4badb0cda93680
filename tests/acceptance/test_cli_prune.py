"""Keeping the table small: ``draftd prune``, and the daemon's hourly pass."""

import json

import pytest

from draftd.stand_in.threaded import ThreadedStandIn
from fix_daemon import Call, Client, Fleet, environment, wait_until

USAGE, AWAY_CODE = 2, 69


def ended(client: Client, *, days_ago: int) -> str:
    """Make a request that ended so many days ago."""
    request_id = client.insert("https://images.example/a.png")
    client.query("SELECT cancel_draft_request(%s)", request_id)
    client.query(
        """UPDATE draft_requests SET created_at = created_at - make_interval(days => %s),
                  finished_at = finished_at - make_interval(days => %s) WHERE id = %s""",
        days_ago,
        days_ago,
        request_id,
    )
    return request_id


def standing(client: Client) -> set[str]:
    return {str(row["id"]) for row in client.query("SELECT id FROM draft_requests")}


def test_prune_deletes_what_is_older(call: Call, client: Client, database: str) -> None:
    old, young = ended(client, days_ago=40), ended(client, days_ago=20)
    env = environment(database)
    rehearsed = call("prune", "--older-than", "30d", "--dry-run", "--json", env=env)
    assert json.loads(rehearsed.stdout) == {"pruned": 1, "dry_run": True}
    assert standing(client) == {old, young}
    done = call("prune", "--older-than", "30d", env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "1 request finished more than 30 d ago deleted\n")
    assert standing(client) == {young}
    again = call("prune", "--older-than", "30d", "--json", env=env)
    assert json.loads(again.stdout) == {"pruned": 0, "dry_run": False}


def test_prune_takes_its_default_from_the_fleet(call: Call, client: Client, database: str) -> None:
    ended(client, days_ago=40)
    client.query("UPDATE draft_settings SET retention_days = 30")
    assert json.loads(call("prune", "--json", env=environment(database)).stdout)["pruned"] == 1


def test_prune_has_no_default_of_its_own(call: Call, client: Client, database: str) -> None:
    kept = ended(client, days_ago=400)
    refused = call("prune", env=environment(database))
    assert refused.returncode == USAGE
    assert "--older-than" in refused.stderr
    assert standing(client) == {kept}


def test_prune_refuses_what_is_no_age(call: Call, database: str) -> None:
    refused = call("prune", "--older-than", "soon", env=environment(database))
    assert refused.returncode == USAGE
    assert "7d" in refused.stderr


@pytest.mark.parametrize("how", [[], ["--dry-run"]])
def test_prune_without_a_database_says_so(call: Call, how: list[str]) -> None:
    away = call("prune", "--older-than", "30d", *how, env=environment("postgresql://127.0.0.1:1/app"))
    assert away.returncode == AWAY_CODE
    assert "127.0.0.1:1/app" in away.stderr


def test_prune_without_a_schema_names_the_remedy(call: Call, empty_database: str) -> None:
    refused = call("prune", "--older-than", "30d", env=environment(empty_database))
    assert "draftd migrate" in refused.stderr


def test_a_daemon_prunes_when_it_is_told_for_how_long_to_keep(
    fleet: Fleet, client: Client, database: str, stand_in: ThreadedStandIn
) -> None:
    ended(client, days_ago=8)
    young = ended(client, days_ago=6)
    client.query("UPDATE draft_settings SET retention_days = 7")
    daemon = fleet.start(environment(database, stand_in))
    daemon.wait_for('"pruned"')
    assert standing(client) == {young}
    wait_until(
        lambda: not client.query("SELECT FROM pg_stat_activity WHERE application_name = 'draftd prune'"), time_s=60
    )


def test_a_daemon_keeps_everything_unless_it_is_told(
    fleet: Fleet, client: Client, database: str, stand_in: ThreadedStandIn
) -> None:
    old = ended(client, days_ago=4000)
    daemon = fleet.start(environment(database, stand_in), "--drain")
    assert daemon.wait() == 0
    assert standing(client) == {old}
