"""The fleet's settings: ``draftd settings``."""

import json

import pytest

from draftd.queue.fleet_settings import SETTINGS, Kind
from fix_daemon import Call, Client, environment
from fix_roles import Roles

USAGE, CONFIGURATION = 2, 78
DEFAULTS = {
    "default_expiry_s": 21_600,
    "retention_days": 0,
    "feedback_retention_days": 0,
    "usd_per_day": None,
    "voice_learning": False,
}


def test_settings_are_listed_and_set_together(call: Call, client: Client, database: str) -> None:
    env = environment(database)
    listed = call("settings", "list", "--json", env=env)
    assert json.loads(listed.stdout) == {"settings": DEFAULTS}
    done = call("settings", "set", "default_expiry_s=10m", "retention_days=30", "--json", env=env)
    assert json.loads(done.stdout) == {"settings": DEFAULTS | {"default_expiry_s": 600, "retention_days": 30}}
    one = call("settings", "set", "default_expiry_s=90", env=env)
    assert (one.returncode, one.stdout, one.stderr) == (0, "", "default_expiry_s is 90\n")
    lines = [line.split("\t")[:2] for line in call("settings", "list", env=env).stdout.splitlines()]
    assert lines == [
        ["default_expiry_s", "90"],
        ["retention_days", "30"],
        ["feedback_retention_days", "0"],
        ["usd_per_day", "none"],
        ["voice_learning", "off"],
    ]
    assert client.query("SELECT default_expiry_s, retention_days FROM draft_settings") == [
        {"default_expiry_s": 90, "retention_days": 30}
    ]


def test_the_defaults_of_the_code_are_those_of_the_table(client: Client) -> None:
    (row,) = client.query("SELECT * FROM draft_settings")
    assert {name: row[name] for name in SETTINGS} == {name: setting.default for name, setting in SETTINGS.items()}
    for name, setting in SETTINGS.items():
        client.query(f"UPDATE draft_settings SET {name} = {True if setting.kind is Kind.SWITCH else setting.maximum}")


def test_a_switch_is_on_or_off(call: Call, client: Client, database: str) -> None:
    env = environment(database)
    done = call("settings", "set", "voice_learning=on", env=env)
    assert (done.returncode, done.stderr) == (0, "voice_learning is on\n")
    assert client.query("SELECT voice_learning FROM draft_settings") == [{"voice_learning": True}]
    off = call("settings", "set", "voice_learning=off", "--json", env=env)
    assert json.loads(off.stdout) == {"settings": DEFAULTS}


@pytest.mark.parametrize(
    "given",
    [
        "usd_per_hour=20", "usd_per_day=-1", "usd_per_day=", "usd_per_day=1e9", "usd_per_day=nan", "usd_per_day=inf",
        "usd_per_day=1e-30", "usd_per_day=0.0000001", "usd_per_day=1000000.000001", "usd_per_day=.",
        "retention_days", "=3", "id=false", "retention_days=", "retention_days=-1", "retention_days=soon",
        "voice_learning=1", "voice_learning=", "voice_learning=On",
        "retention_days=12h", "retention_days=36501", "default_expiry_s=3651d", f"default_expiry_s={'9' * 400}",
    ],
)  # fmt: skip
def test_what_is_no_setting_is_refused_and_nothing_is_set(
    call: Call, client: Client, database: str, given: str
) -> None:
    refused = call("settings", "set", "default_expiry_s=1", given, env=environment(database))
    assert refused.returncode == USAGE
    assert refused.stderr.count("\n") == 1
    assert client.query("SELECT default_expiry_s FROM draft_settings") == [{"default_expiry_s": 21_600}]


@pytest.mark.parametrize(
    ("given", "value", "told"),
    [
        ("20", 20.0, "20"),
        (".5", 0.5, "0.5"),
        ("0.015625", 0.015625, "0.015625"),
        ("0", 0.0, "0"),
        ("none", None, "none"),
    ],
)
def test_a_budget_is_an_amount_or_none(
    call: Call, client: Client, database: str, given: str, value: float | None, told: str
) -> None:
    """Nothing at all is not the same as no budget."""
    env = environment(database)
    call("settings", "set", "usd_per_day=7", env=env)
    done = call("settings", "set", f"usd_per_day={given}", env=env)
    assert done.stderr == f"usd_per_day is {told}\n"
    assert json.loads(call("settings", "list", "--json", env=env).stdout)["settings"]["usd_per_day"] == value
    assert client.query("SELECT usd_per_day FROM draft_settings") == [{"usd_per_day": value}]


def test_a_lost_row_is_made_again(call: Call, client: Client, database: str) -> None:
    client.query("DELETE FROM draft_settings")
    done = call("settings", "set", "retention_days=7d", "--json", env=environment(database))
    assert json.loads(done.stdout) == {"settings": DEFAULTS | {"retention_days": 7}}


def test_a_worker_reads_the_settings_and_does_not_change_them(call: Call, roles: Roles) -> None:
    env = environment(roles.url(roles.worker()))
    assert call("settings", "list", env=env).returncode == 0
    refused = call("settings", "set", "retention_days=1", env=env)
    assert refused.returncode == CONFIGURATION
    assert "draft_settings" in refused.stderr
