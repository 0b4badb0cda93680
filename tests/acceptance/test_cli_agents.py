"""agents list, set, unset."""

import json

import pytest

from fix_daemon import Call, Client, environment

AGENT = "comment_generator"


def test_an_agents_models_are_set_listed_and_unset(call: Call, database: str) -> None:
    env = environment(database)
    chosen = [
        "agents", "set", AGENT, "openai/a", "--fallback", "openai/b", "--fallback", "c",
        "--param", "temperature=0.2", "--param", "user=draftd",
    ]  # fmt: skip
    result = call(*chosen, env=env)
    assert (result.returncode, result.stdout) == (0, "")
    (row,) = json.loads(call("agents", "list", "--json", env=env).stdout)["agents"]
    assert (row["agent"], row["model"], row["fallback_models"]) == (AGENT, "openai/a", ["openai/b", "c"])
    assert row["params"] == {"temperature": 0.2, "user": "draftd"}
    assert call("agents", "list", env=env).stdout.startswith(f'{AGENT}\topenai/a\topenai/b, c\tuser="draftd" ')
    assert call("agents", "set", AGENT, "openai/a", env=env).returncode == 0
    (row,) = json.loads(call("agents", "list", "--json", env=env).stdout)["agents"]
    assert (row["fallback_models"], row["params"]) == ([], {}), "what is not given is reset"
    assert call("agents", "unset", AGENT, env=env).returncode == 0
    assert call("agents", "unset", AGENT, env=env).returncode == 1
    assert json.loads(call("agents", "list", "--json", env=env).stdout) == {"agents": []}


def test_an_agent_without_a_prompt_anywhere_is_mentioned(call: Call, database: str) -> None:
    result = call("agents", "set", "comment_genrator", "openai/a", "--json", env=environment(database))
    assert (result.returncode, json.loads(result.stdout)["model"]) == (0, "openai/a")
    assert "'comment_genrator'" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["", "openai/a"],
        [AGENT, ""],
        [AGENT, "a\nb"],
        [AGENT, "openai/a", "--fallback", ""],
        [AGENT, "huggingface/https://hunter2.example/x"],
        [AGENT, "openai/a", "--fallback", "github_copilot/gpt-4o"],
        [AGENT, "openai/a", "--param", "api_base=http://hunter2"],
    ],
)
def test_what_no_agent_can_have_is_refused(call: Call, client: Client, database: str, arguments: list[str]) -> None:
    result = call("agents", "set", *arguments, env=environment(database))
    assert (result.returncode, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr
    assert client.query("SELECT FROM draft_agents") == []


def test_a_name_with_a_meaning_of_its_own_may_be_any_text(call: Call, database: str) -> None:
    env = environment(database)
    assert call("agents", "set", AGENT, "the cheap one", env=env).returncode == 2
    assert call("models", "set", "the cheap one", "--model", "openai/a", env=env).returncode == 0
    assert call("agents", "set", AGENT, "the cheap one", env=env).returncode == 0


def test_a_new_choice_is_tried_at_once_whatever_was_wrong_before(call: Call, client: Client, database: str) -> None:
    client.query(
        "INSERT INTO draft_holds (model, code) SELECT m, 'model_misconfigured' FROM unnest(ARRAY['a', 'b', 'c']) AS m"
    )
    client.query("INSERT INTO draft_throttles (model) VALUES ('a'), ('c')")
    assert call("agents", "set", AGENT, "a", "--fallback", "b", env=environment(database)).returncode == 0
    assert [row["model"] for row in client.query("SELECT model FROM draft_holds")] == ["c"]
    assert [row["model"] for row in client.query("SELECT model FROM draft_throttles")] == ["c"]


def test_what_an_agent_uses_no_more_is_not_on_hold(call: Call, client: Client, database: str) -> None:
    env = environment(database)
    for then in (["set", AGENT, "right"], ["unset", AGENT]):
        call("agents", "set", AGENT, "typo", env=env)
        client.query("INSERT INTO draft_holds (model, code) VALUES ('typo', 'model_misconfigured')")
        assert call("agents", *then, env=env).returncode == 0
        assert client.query("SELECT model FROM draft_holds") == []
